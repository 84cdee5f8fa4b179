"""The outage: what the user is told of partitions that nobody answers for."""
import concurrent.futures
import re

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ListOffsetsResultInfo

from cluster import outage
from terminal.console import Console
from terminal.stopping import Stopping

UNKNOWN = KafkaError.UNKNOWN_TOPIC_OR_PART
MISSING = "no answer for 1 of 2 partitions: no answer"


class FakeConnection:
    """A connection whose clients have no errors."""

    def __init__(self):
        self.stop, self.error, self.progressAt, self.said = Stopping(), None, 0, []
        self.console = Console("test", self.stop)
        self.console.note = self.said.append


def future(found):
    """Return the answer for a partition: an offset, or the code of an error."""
    answer = concurrent.futures.Future()
    if isinstance(found, KafkaError):
        answer.set_exception(KafkaException(found))
    else:
        answer.set_result(ListOffsetsResultInfo(found, -1, 0))
    return answer


@pytest.mark.parametrize("found, answered", [
    (0, True), (5, True), (-1001, False), (KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), True), (KafkaError(UNKNOWN), True),
    (KafkaError(KafkaError.LEADER_NOT_AVAILABLE), False), (KafkaError(KafkaError._TIMED_OUT), False)])
def test_whatIsAnAnswer(found, answered):
    assert outage.isAnswer(future(found)) == answered


class FakeAdmin:
    """An AdminClient that answers what it is told to."""

    def __init__(self):
        self.found, self.topicError, self.asked = [0, 0], None, 0

    def poll(self, seconds):
        pass

    def list_offsets(self, ends, request_timeout):
        self.asked += 1
        return {partition: future(self.found[partition.partition]) for partition in ends}

    def describe_topics(self, topics, request_timeout):
        return {"topic": future(self.topicError or 0)}


@pytest.fixture
def look(monkeypatch):
    """Return a function that has an outage report a look, and returns what is printed of it."""
    clock = FakeAdmin()
    clock.monotonic = lambda: clock.now
    clock.now, connection = 100.0, FakeConnection()
    monkeypatch.setattr(outage, "time", clock)
    watched = outage.Outage("topic", connection)
    watched.admin = clock
    watched.look(range(2))

    def look(*found, progress=False, seconds=1.5):
        connection.said.clear()
        clock.found = found
        watched.reportedAt = clock.now
        watched.look(watched.answers)
        connection.progressAt = clock.now + progress
        connection.progressAt -= not progress
        clock.now += seconds
        watched.report()
        return [re.sub(r"\d+ s$", "N s", line) for line in connection.said]
    look.outage, look.stop = watched, connection.stop
    return look


def test_eachChangeIsToldOnce(look):
    for found, lines in (
            ((0, 0), []), ((0, -1001), [MISSING]), ((0, -1001), []), ((0, 0), ["all partitions answer again after N s"]),
            ((-1001, -1001), ["the broker is gone: no answer"]), ((-1001, -1001), []),
            ((0, -1001), ["the broker is back after N s", MISSING]), ((0, 0), ["all partitions answer again after N s"])):
        assert look(*found) == lines


def test_progressIsAnAnswer(look):
    """Events are acknowledged while a look gets no answer."""
    assert look(0, -1001) == [MISSING]
    assert look(-1001, -1001, progress=True) == []
    assert look(-1001, -1001) == ["the broker is gone: no answer"]


def test_whatWasAskedBeforeARestSaysNothing(look):
    assert look(-1001, -1001, seconds=5) == []
    assert look(-1001, -1001) == ["the broker is gone: no answer"]


def test_questionForTheTopicHoldsUpNothing(look):
    """The broker that should answer it may be the one that is away."""
    look.outage.admin.describe_topics = lambda topics, request_timeout: {"topic": concurrent.futures.Future()}
    assert look(0, -1001) == [MISSING]


def test_topicThatIsGone(look):
    for number in range(20):
        look.outage.admin.topicError = KafkaError(UNKNOWN)
        assert look(-1001, -1001) == []  # nobody leads a partition that is not there
        assert look.outage.topicIsGone == (number > 7) and len(look.stop.failures) == (number > 7)
        if number == 0:
            look.outage.admin.topicError = None
            look(0, 0)  # a broker that starts does not know its topics for a while


def test_progressEndsAnOutage(look):
    look(-1001, -1001)
    look.outage.connection.said.clear()
    look.outage.connection.progressAt = look.outage.admin.now + 0.1
    look.outage.report()
    assert look.outage.connection.said == ["the broker is back after 0 s"]


def test_looksOnceASecond(look):
    admin, asked = look.outage.admin, look.outage.admin.asked
    for _ in range(100):
        admin.now += 0.1
        look.outage.report()
    assert admin.asked - asked in (9, 10)


def test_secondsOfAnOutage(look):
    look(0, -1001)
    look(-1001, -1001)
    look.outage.connection.said.clear()
    look.outage.tell(0, look.outage.silentSince + 7)
    assert look.outage.connection.said == ["the broker is back after 7 s"]
