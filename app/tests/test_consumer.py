"""The consumer: what it shows, where it goes on, and when it stops."""
import json
import signal
from collections import Counter

import apacheKafka
import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from conftest import LIMIT, Process, byPlayer, environment, events, run

import runConsumer
from cluster import Cluster
from console import Console, Failure

HOSTILE = {
    b"": "", b"plain": "plain", b"\xff\xfe": "\\xff\\xfe", b"\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    b"one\r\ntwo\x85three": "one\\r\\ntwo\\x85three", "a\u2028b\u2029c\u202ed".encode(): "a\\u2028b\\u2029c\\u202ed",
    "z\u00fcrich \u4e2d \U0001f3b0".encode(): "z\u00fcrich \u4e2d \U0001f3b0", b"NaN": "NaN", b"\x00\x7f\t": "\\x00\\x7f\\t",
    b"[" * 200000: "[" * 200000, b"9" * 5000: "9" * 5000}


@pytest.mark.parametrize("value, text", [*HOSTILE.items(), (None, "null")], ids=lambda value: repr(value)[:20])
def test_printable(value, text):
    assert runConsumer.printable(value) == text


def consume(ground, topic, *arguments, **options):
    """Run a consumer in a group of its topic's name."""
    return run("runConsumer", "-t", topic, "-b", ground.bootstrap, "-g", topic, *arguments, **options)


def test_eachMessageIsOneLine(ground):
    topic = ground.topic(partitions=1)
    ground.publish(topic, *HOSTILE, None)
    ended = consume(ground, topic, "-e", len(HOSTILE) + 1)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(events(ended.stdout)) == sorted([*HOSTILE.values(), "null"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminalThatKnowsFewerCharacters(mock, encoding):
    topic = mock.topic()
    mock.publish(topic, "z\u00fcrich \u4e2d")
    ended = consume(mock, topic, "-e", 1, env=environment(PYTHONIOENCODING=encoding), encoding="latin-1")
    assert ended.returncode == 0
    assert events(ended.stdout) == ["z\\xfcrich \\u4e2d" if encoding == "ascii" else "z\u00fcrich \\u4e2d"]


def test_everyNth(mock):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(1, 26)), partition=0)
    assert events(consume(mock, topic, "-e", 25, "-p", 10).stdout) == ["1", "10", "20"]


def test_eventsAreExactAndTheNextStartGoesOn(kafka):
    ground, topic = kafka, kafka.topic()
    ground.publish(topic, *map(str, range(3000)), partition=2)
    first, second = (consume(ground, topic, "-e", count) for count in (1001, 5))
    assert events(first.stdout) == [str(number) for number in range(1001)]
    assert events(second.stdout) == [str(number) for number in range(1001, 1006)]
    rest = consume(ground, topic, "--timeout", 5)
    assert events(rest.stdout) == [str(number) for number in range(1006, 3000)]
    assert [ended.returncode for ended in (first, second, rest)] == [0, 0, 0]


def test_tooFewInTime(ground):
    topic = ground.topic()
    ground.publish(topic, "one", "two")
    ended = consume(ground, topic, "-e", 3, "--timeout", 6)
    assert ended.returncode == 1 and len(events(ended.stdout)) == 2
    assert ended.stderr == "runConsumer: 2 of 3 events arrived, then none for 6 s\n"


def test_checkOfAPipeline(kafka):
    """What the README gives as the check of a pipeline."""
    topic = kafka.topic()
    arguments = "-t", topic, "-b", kafka.bootstrap
    assert run("runProducer", *arguments, "-l", "-e", 1000, "-m", 0, "-x", 0).returncode == 0
    ended = run("runConsumer", *arguments, "-g", "check", "-e", 1000, "--timeout", 20)
    assert ended.returncode == 0 and len(events(ended.stdout)) == 1000
    ended = run("runConsumer", *arguments, "-g", "recheck", "-e", 1001, "--timeout", 5)
    assert ended.returncode == 1 and len(events(ended.stdout)) == 1000


@pytest.mark.parametrize("unbuffered", ["", "1"])  # Python drops half-written output where it is unbuffered
def test_interruptedAgainAndAgainItShowsEveryEventOnce(kafka, unbuffered):
    env = environment(PYTHONUNBUFFERED=unbuffered)
    topic, total, shown, starts = kafka.topic(), 150000, [], 0
    assert run("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", total, "-m", 0, "-x", 0).returncode == 0
    while len(shown) < total:
        starts += 1
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[starts % 3]
        with Process("runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic, "--timeout", 30, env=env) as consumer:
            consumer.until("Received message")
            consumer.send(number)
            assert consumer.end() == (0 if number == signal.SIGINT else 128 + number)
            assert consumer.err == []
            shown += consumer.shown()
    assert starts > 3
    assert Counter(shown) == Counter(kafka.values(topic))


def test_twoOfOneGroupShareTheTopic(kafka):
    topic = kafka.topic()
    arguments = "runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic
    with Process(*arguments) as first, Process("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", 6000,
                                               "-m", 1, "-x", 1) as producer:
        first.until("Received message")
        with Process(*arguments) as second:  # joins, and takes partitions over from the first
            second.until("Received message")
            second.send(signal.SIGINT)
            assert second.end() == 0
        assert producer.end() == 0
        with Process(*arguments) as third:
            third.until("Listening")
            total = kafka.count(topic)
            apacheKafka.waitFor(lambda: sum(len(each.shown()) for each in (first, second, third)) >= total, "the rest")
            first.send(signal.SIGTERM)
            third.send(signal.SIGTERM)
            assert (first.end(), third.end()) == (143, 143)
        shown = [*first.shown(), *second.shown(), *third.shown()]
        assert first.err == second.err == third.err == []
    assert Counter(shown) == Counter(kafka.values(topic))
    assert all(sorted(texts) == texts for texts in ([json.loads(text)["eventTime"] for text in texts]
               for texts in byPlayer(second.shown()).values()))


@pytest.mark.parametrize("value, stored", [("true", True), ("1", True), ("false", False), ("False", False), ("0", False)])
def test_storesOffsetsOnlyIfItMay(mock, value, stored):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    ended = consume(mock, topic, "-e", 1, "-X", f"enable.auto.commit={value}")
    assert (ended.returncode, ended.stderr, events(ended.stdout)) == (0, "", ["one"])
    asks = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": topic})
    [found] = asks.committed([TopicPartition(topic, 0)], timeout=LIMIT)
    asks.close()
    assert found.offset == (1 if stored else OFFSET_INVALID)


class FakeMessage:
    """A message, or an error of a partition, as the client hands it over."""

    def __init__(self, partition, offset, error=None):
        self.values = {"partition": partition, "offset": offset, "error": error, "value": b"%d" % offset}

    def __getattr__(self, name):
        return lambda: self.values[name]


class FakeClient:
    """A client whose group has stored some offsets, or does not answer."""

    def __init__(self, stored=None, low=0, high=0):
        self.answer, self.marks, self.assigned, self.stored = stored, (low, high), {}, {}
        self.calls, self.refusal = [], None  # what was called; the error of a commit

    def committed(self, partitions, timeout):
        if self.answer is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition("topic", part.partition, self.answer.get(part.partition, OFFSET_INVALID)) for part in partitions]

    def commit(self, offsets, asynchronous):
        self.calls.append("commit")
        if self.refusal:
            raise KafkaException(self.refusal)
        return offsets

    def assign(self, partitions):
        self.calls.append("assign")
        self.assigned = {part.partition: part.offset for part in partitions}

    def get_watermark_offsets(self, partition, timeout):
        return self.marks

    def store_offsets(self, message):
        self.stored[message.partition()] = message.offset() + 1


class FakeCluster(Cluster):
    """A cluster with a client of ours."""

    def __init__(self, client):
        self.client, self.topic = client, "topic"


def consumer(reset="earliest", **client):
    """Return a Consume on a FakeClient."""
    return runConsumer.Consume(FakeCluster(FakeClient(**client)), Console("test"),
                               {"group.id": "group", "auto.offset.reset": reset})


def partitions(*numbers):
    """Return these partitions as a callback of the group has them."""
    return [TopicPartition("topic", number) for number in numbers]


def shown(capfd):
    """Return the offsets of the events shown since the last look."""
    return [int(text) for text in events(capfd.readouterr().out)]


@pytest.mark.parametrize("reset, start", [("earliest", OFFSET_BEGINNING), ("latest", OFFSET_END), ("error", OFFSET_INVALID)])
def test_assignmentBeginsWhereTheGroupStopped(reset, start):
    consume = consumer(reset, stored={0: 7})
    consume.onAssign(consume.client, partitions(0, 1))
    assert consume.client.assigned == {0: 7, 1: start} and consume.next == {0: 7, 1: -1}


def test_lostPartitionsGoOnAfterWhatWasShown():
    consume = consumer()  # its group does not answer
    consume.next = {0: 7, 1: 9}
    consume.onLost(consume.client, partitions(0, 1))
    consume.onAssign(consume.client, partitions(0, 2))
    assert consume.client.assigned == {0: 7, 2: OFFSET_INVALID}  # which stands for what the group has stored


def test_groupThatIsAheadWins():
    consume = consumer(stored={0: 12})
    consume.next = {0: 7}
    consume.onLost(consume.client, partitions(0))
    consume.onAssign(consume.client, partitions(0))
    assert consume.client.assigned == {0: 12}


def test_leftOverMessagesAreNotShown(capfd):
    consume = consumer(stored={0: 5, 1: 5})
    consume.onAssign(consume.client, partitions(0, 1))
    consume.onRevoke(consume.client, partitions(1))
    assert consume.show([FakeMessage(0, 3), FakeMessage(0, 5), FakeMessage(1, 5), FakeMessage(0, 6), FakeMessage(0, 5)]) == 2
    assert shown(capfd) == [5, 6] and consume.client.stored == {0: 7}


RESET = KafkaError(KafkaError._AUTO_OFFSET_RESET, "gone")


@pytest.mark.parametrize("low, high, said", [
    (50, 80, "test: partition 0: 40 offsets, 10 to 49, were deleted before they were shown; going on at 50\n"),
    (0, 4, "test: partition 0: the log ends at 4, before offset 10: it was made anew; going on at 0\n")])
def test_logThatDoesNotHoldTheNextOffset(capfd, low, high, said):
    consume = consumer(stored={0: 10, 1: 3}, low=low, high=high)
    consume.onAssign(consume.client, partitions(0, 1))
    consume.show([FakeMessage(0, 10, RESET), FakeMessage(1, 3)])
    assert consume.client.assigned == {0: low, 1: 4}
    assert consume.show([FakeMessage(0, low), FakeMessage(1, 3)]) == 1
    out, err = capfd.readouterr()
    assert events(out) == ["3", str(low)] and err == said


def test_errorOfAnOffsetThatWasLeftIsNotTold(capfd):
    consume = consumer(stored={0: 10, 1: 10}, low=0, high=4)
    consume.onAssign(consume.client, partitions(0, 1))
    consume.show([FakeMessage(0, 10, RESET), FakeMessage(1, 10, RESET), FakeMessage(0, 10, RESET), FakeMessage(2, 10, RESET)])
    err = capfd.readouterr().err
    assert [err.count(f"partition {number}: the log ends at 4") for number in (0, 1, 2)] == [1, 1, 0]
    assert consume.next == {0: 0, 1: 0}


def test_errorOfAnOffsetThatWasLeftStopsAPartition():
    consume = consumer(stored={0: 10, 1: 3}, low=0, high=4)
    consume.onAssign(consume.client, partitions(0, 1))
    consume.show([FakeMessage(0, 10, RESET)])
    consume.client.calls.clear()
    consume.show([FakeMessage(2, 10, RESET)])
    assert consume.client.calls == []
    consume.show([FakeMessage(0, 10, RESET)])
    assert consume.client.calls == ["assign"] and consume.client.assigned == {0: 0, 1: 3}


@pytest.mark.parametrize("toStore, calls", [(False, ["assign"]), (True, ["commit", "assign"])])
def test_lastOffsetsAreStoredBeforeTheNextJoin(toStore, calls):
    consume = consumer(stored={1: 3})
    consume.next, consume.toStore = {0: 7}, toStore
    consume.onAssign(consume.client, partitions(1))
    assert consume.client.calls == calls and not consume.toStore


def test_partitionsThatOthersHaveAreForgotten():
    consume = consumer()
    consume.next = {0: 7}
    consume.onLost(consume.client, partitions(0))
    consume.onAssign(consume.client, [])
    consume.toStore = True
    consume.store()
    assert not consume.toStore and consume.unstored is None and consume.client.calls == ["assign"]


@pytest.mark.parametrize("code, again, unstored", [
    (KafkaError.UNKNOWN_TOPIC_OR_PART, False, None), (KafkaError.ILLEGAL_GENERATION, True, "why"),
    (KafkaError.GROUP_AUTHORIZATION_FAILED, False, "why")])
def test_refusedCommit(code, again, unstored):
    consume = consumer()
    consume.next, consume.client.refusal, consume.toStore = {0: 7}, KafkaError(code, "why"), True
    consume.store()
    assert (consume.toStore, consume.unstored) == (again, unstored)


def test_resetThatIsAnError():
    consume = consumer("error", stored={0: 10}, low=50, high=80)
    consume.onAssign(consume.client, partitions(0))
    with pytest.raises(Failure, match="partition 0: 40 offsets, 10 to 49, were deleted before they were shown"):
        consume.show([FakeMessage(0, 10, RESET)])
