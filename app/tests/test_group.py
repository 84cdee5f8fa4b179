"""The group: where a consumer goes on, what it has stored, and what it says of its share."""
import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from support.processes import FakeTime, events

import runConsumer
from cluster.group import Group, Share
from terminal.console import Console
from terminal.stopping import Failure, Stopping


class FakeMessage:
    """A message, or an error, as the client hands it over."""

    def __init__(self, partition, offset, error=None):
        self.values = {"partition": partition, "offset": offset, "error": error, "value": b"%d" % offset}

    def __getattr__(self, name):
        return lambda: self.values[name]

    def __len__(self):
        return len(self.values["value"])


class FakeClient:
    """A client whose group has stored some offsets, or does not answer."""

    def __init__(self, stored=None):
        self.answer, self.assigned, self.stored = stored, {}, {}
        self.calls, self.answers = [], []  # what was called; how the group answers to commits, one after the other

    def subscribe(self, topics, **callbacks):
        pass

    def committed(self, partitions, timeout):
        if self.answer is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition("topic", part.partition, self.answer.get(part.partition, OFFSET_INVALID)) for part in partitions]

    def assign(self, partitions):
        self.assigned = {part.partition: part.offset for part in partitions}

    def store_offsets(self, message):
        self.stored[message.partition()] = message.offset() + 1

    def commit(self, offsets, asynchronous):
        self.calls.append({part.partition: part.offset for part in offsets})
        self.offsets = offsets

    def poll(self, seconds):
        if self.answers:
            code = self.answers.pop(0)
            self.group.onCommit(code and KafkaError(code, "why"), self.offsets)

    def unsubscribe(self):
        self.calls.append("unsubscribe")

    def close(self):
        self.calls.append("close")

    def memberid(self):
        return "" if "unsubscribe" in self.calls else "member"


class FakeConnection:
    """A connection with a client of ours, to a topic of four partitions."""
    topic = "topic"

    def __init__(self, client):
        self.client, self.stop, self.leaders = client, Stopping(), dict.fromkeys(range(4))
        self.console = Console("test", self.stop)

    def serve(self, wait, seconds):
        wait(seconds)

    def askForTopic(self, seconds):
        pass

    def progress(self):
        pass

    @property
    def outage(self):
        return self

    def report(self):
        pass


def consumer(conf=(), **client):
    """Return a Consume on a FakeClient, which has joined."""
    group = Group({"group.id": "group", **dict(conf)}, "topic")
    connection = FakeConnection(FakeClient(**client))
    connection.client.group = group
    group.join(connection)
    return runConsumer.Consume(connection, group, Share(group, connection), connection.console, connection.stop)


def partitions(*numbers):
    """Return these partitions as a callback of the group has them."""
    return [TopicPartition("topic", number) for number in numbers]


def assign(consume, *numbers):
    consume.group.onAssign(consume.group.client, partitions(*numbers))


def lose(consume, *numbers):
    consume.group.onLost(consume.group.client, partitions(*numbers))


def test_lostPartitionsGoOnAfterWhatWasShown():
    consume = consumer()  # its group does not answer
    assign(consume, 0, 1)
    consume.show([FakeMessage(0, 6), FakeMessage(1, 8)])
    lose(consume, 0, 1)
    assign(consume, 0, 2)
    assert consume.group.client.assigned == {0: 7, 2: OFFSET_INVALID}  # which stands for what the group has stored


@pytest.mark.parametrize("reset, start", [("earliest", OFFSET_BEGINNING), ("latest", OFFSET_INVALID)])
def test_newGroupBeginsAsConfigured(reset, start):
    """OFFSET_INVALID leaves it to the library."""
    consume = consumer({"auto.offset.reset": reset}, stored={1: 7})
    assign(consume, 0, 1)
    assert consume.group.client.assigned == {0: start, 1: OFFSET_INVALID}


def revoke(consume, *numbers):
    consume.group.onRevoke(consume.group.client, partitions(*numbers))


@pytest.mark.parametrize("take", [lose, revoke])
@pytest.mark.parametrize("stored, start", [(12, OFFSET_INVALID), (5, 7)])
def test_whoIsAheadWins(take, stored, start):
    consume = consumer(stored={0: stored})
    assign(consume, 0)
    consume.show([FakeMessage(0, 6)])
    take(consume, 0)
    assign(consume, 0)
    assert consume.group.client.assigned == {0: start}


def test_groupHasTheLastWordOnWhatItHasStored():
    """As where the topic was made anew, or where somebody has set the group back."""
    consume = consumer(stored={})
    assign(consume, 0)
    consume.show([FakeMessage(0, 6)])
    consume.group.onCommit(None, [TopicPartition("topic", 0, 7)])
    revoke(consume, 0)
    assign(consume, 0)
    assert consume.group.client.assigned == {0: OFFSET_INVALID}


def test_anotherConsumerHasBeenThereSince():
    consume = consumer(stored={0: 5})
    assign(consume, 0)
    consume.show([FakeMessage(0, 6)])
    revoke(consume, 0)
    assign(consume, 1)
    assign(consume, 0)
    assert consume.group.client.assigned == {0: OFFSET_INVALID}


def test_partitionsThatOthersHaveAreNotShown(capfd):
    consume = consumer(stored={})
    assign(consume, 0, 1)
    revoke(consume, 1)
    assert consume.show([FakeMessage(0, 5), FakeMessage(1, 5), FakeMessage(0, 6)]) == 2
    assert events(capfd.readouterr().out) == ["5", "6"] and consume.group.client.stored == {0: 7}


def test_logThatWasMadeAnew(capfd):
    consume = consumer(stored={})
    assign(consume, 0)
    for offset in 10, 0, 1:
        assert consume.show([FakeMessage(0, offset)]) == 1
    out, err = capfd.readouterr()
    assert events(out) == ["10", "0", "1"] and consume.group.client.stored == {0: 2}
    assert err == "test: partition 0: its log was made anew: offset 0 comes after 10\n"


def test_largeValuesMakeSmallBatches():
    """Else a batch of them would hold up a stop."""
    consume = consumer(stored={})
    assign(consume, 0)
    for offset, (size, batch) in enumerate(((500000, 1), (10000, 99), (90, 1000))):
        message = FakeMessage(0, offset)
        message.values["value"] = b"x" * size
        consume.show([message])
        assert consume.batch == batch


def test_nothingIsStoredOnceStandardOutputIsGone():
    consume = consumer(stored={})
    assign(consume, 0)
    consume.console.gone = True
    consume.show([FakeMessage(0, 5)])
    assert consume.group.client.stored == {} and consume.group.unstored() == {}


@pytest.mark.parametrize("answers, commits, said", [
    ([None], 1, ""), ([KafkaError.ILLEGAL_GENERATION, None], 2, ""), ([KafkaError.UNKNOWN_TOPIC_OR_PART], 1, ""),
    ([KafkaError.GROUP_AUTHORIZATION_FAILED], 1, "test: why: the events shown last may be shown again by the next start\n")])
def test_leaveStoresFirst(capfd, answers, commits, said):
    consume = consumer(stored={})
    assign(consume, 0, 1)
    consume.show([FakeMessage(0, 6)])
    consume.group.client.answers = answers
    consume.group.leave()
    assert consume.group.client.calls == [{0: 7}] * commits + ["unsubscribe", "close"]
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("conf, calls", [
    ({"enable.auto.commit": "false"}, ["unsubscribe", "close"]),
    ({"group.instance.id": "one", "enable.auto.commit": "0"}, ["close"])])
def test_leaveStoresOnlyWhatItMay(conf, calls):
    consume = consumer(conf, stored={})
    assign(consume, 0)
    consume.show([FakeMessage(0, 6)])
    consume.group.leave()
    assert consume.group.client.calls == calls


def test_whatOthersHaveByNowIsNotStored():
    consume = consumer(stored={})
    assign(consume, 0)
    consume.show([FakeMessage(0, 6)])
    lose(consume, 0)
    assert consume.group.unstored() == {0: 7}
    assign(consume, 1)
    assert consume.group.unstored() == {}


def test_shareIsToldOnceAChange(capfd):
    consume = consumer(stored={})

    def told(*numbers):
        assign(consume, *numbers)
        consume.share.report()
        assert capfd.readouterr().err == ""  # it may change again
        consume.group.changedAt -= 2
        consume.share.report()
        consume.share.report()
        return capfd.readouterr().err
    rest = "other consumers of group group have the rest\n"
    assert told(0, 1, 2, 3) == ""
    assert told(0, 1) == f"test: 2 of 4 partitions: {rest}"
    assert told() == f"test: 0 of 4 partitions: {rest}"
    assert told(0, 1, 2, 3) == "test: all 4 partitions\n"
    assert told(0, 1, 2, 3) == ""


@pytest.mark.parametrize("patient, reasons", [(True, []), (False, ["no partitions from group group in 60 s"])])
def test_groupThatGivesNothing(capfd, patient, reasons):
    share = consumer().share
    share.report(patient)
    assert capfd.readouterr().err == ""
    share.group.joinedAt -= 6
    share.report(patient)
    share.report(patient)
    assert capfd.readouterr().err.count("no partitions from group group so far") == 1 and not share.connection.stop.reasons
    share.group.joinedAt -= 60
    share.report(patient)
    assert share.connection.stop.failures == reasons


@pytest.mark.parametrize("name", ["INCONSISTENT_GROUP_PROTOCOL", "GROUP_MAX_SIZE_REACHED", "INVALID_SESSION_TIMEOUT",
                                  "GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"])
def test_refusalThatWaitingDoesNotMend(name):
    with pytest.raises(Failure, match="group: why\n"):
        consumer().show([FakeMessage(0, 0, KafkaError(getattr(KafkaError, name), "why"))])


def test_timeoutCountsFromTheAnswerOfTheGroup(monkeypatch):
    """The group answers after 3 s, and the first event comes 0.8 s later."""
    consume, clock, arriving = consumer(stored={}), FakeTime(), [FakeMessage(0, 5)]
    for module in "runConsumer", "cluster.group":
        monkeypatch.setattr(f"{module}.time", clock)

    def poll(seconds):
        clock.now += seconds
        if clock.now > 103 and not consume.group.ours:
            assign(consume, 0, 1, 2, 3)
        return arriving.pop() if arriving and clock.now > 103.8 else None
    consume.group.client.poll, consume.group.client.consume = poll, lambda most, seconds: []
    consume.run(timeout=1)
    assert consume.received == 1 and 104.8 < clock.now < 105.3


def test_otherErrorsAreToldOnce(capfd):
    consume = consumer()
    for text in "one", "two", "one":
        consume.show([FakeMessage(0, 0, KafkaError(KafkaError.REBALANCE_IN_PROGRESS, text))])
    assert capfd.readouterr().err == "test: one\ntest: two\n"
