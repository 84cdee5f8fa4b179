"""The group: how consumers share a topic, what it refuses, how long it is waited for, and how one leaves it."""
import re
import signal

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import NewPartitions
from support.kafka import waitFor
from support.mockCluster import FETCH, FIND_COORDINATOR, HEARTBEAT, JOIN_GROUP, OFFSET_COMMIT
from support.processes import LIMIT, Process, complaints, consumerOf, events, run

SHORT = "-X", "session.timeout.ms=2000"  # the mock's groups wait as long for a member before each change
AGAIN = ": the events shown last may be shown again by the next start"
SO_FAR = "runConsumer: no partitions from group topic so far: .*\n"


def refused(status, lines, text, topic="topic"):
    """Require that a consumer has ended with status 1, and with one line of reason and one of advice."""
    reason, advice, *more = complaints(lines)
    assert status == 1
    assert reason.startswith(f"runConsumer: topic {topic}, group {topic}: ") and text in reason
    assert advice.startswith("runConsumer: ") and all(line.endswith(AGAIN) for line in more)


@pytest.mark.parametrize("partitions, share", [(4, 2), (1, 0)])
def test_share(kafka, partitions, share):
    """It is told once a change, by whoever has less than all. Partitions that are added are found, and nothing is told."""
    topic = kafka.topic(partitions)
    rest = f"runConsumer: {share} of {partitions} partitions: other consumers of group {topic} have the rest\n"
    with Process(*consumerOf(kafka, topic)) as one, Process(*consumerOf(kafka, topic)) as other:
        waitFor(lambda: (rest in one.err) + (rest in other.err) == 1 + (share > 0), "those who have less", LIMIT)
        stays, leaves = (one, other) if rest in one.err else (other, one)
        leaves.send_signal(signal.SIGINT)
        assert leaves.end() == 0
        stays.until(f"all {partitions} partitions")
        more = partitions + 4
        kafka.admin.create_partitions([NewPartitions(topic, more)])[topic].result(LIMIT)
        waitFor(lambda: len(kafka.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions) == more, "more", LIMIT)
        kafka.publish(topic, "one", partition=more - 1)
        stays.until("Received message: one")
        stays.send_signal(signal.SIGINT)
        assert stays.end() == 0
    whole = [rest.rstrip(), f"runConsumer: all {partitions} partitions"]
    assert complaints(stays.err) == whole and complaints(leaves.err) in ([], whole[:1], whole)


def test_shareOfNothing(faultyMock):
    """More consumers than partitions."""
    faultyMock.cluster.topic("one", 1)
    rest = "runConsumer: 0 of 1 partitions: other consumers of group one have the rest\n"
    with Process(*consumerOf(faultyMock, "one", *SHORT)) as one, Process(*consumerOf(faultyMock, "one", *SHORT)) as other:
        waitFor(lambda: rest in [*one.err, *other.err], "the one that has nothing", LIMIT)
    assert not any("deleted" in line for line in [*one.err, *other.err])


def test_deletedTopic(kafka4):
    """Under Kafka 4's protocol the group takes its partitions away."""
    topic = kafka4.topic()
    kafka4.publish(topic, "one")
    with Process(*consumerOf(kafka4, topic, "-X", "group.protocol=consumer")) as consumer:
        consumer.until("Received message: one")
        kafka4.admin.delete_topics([topic])[topic].result(LIMIT)
        consumer.until("was deleted")
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0
    told = [line for line in complaints(consumer.err) if "partitions" in line]
    assert told == [f"runConsumer: topic {topic} has no partitions: it was deleted"], consumer.err


@pytest.mark.parametrize("error", ["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS"])
def test_outcastGoesOnAfterWhatItHasShown(faultyMock, error):
    """Also where the group could not store that."""
    cluster = faultyMock.cluster
    cluster.refuse(OFFSET_COMMIT, KafkaError.REQUEST_TIMED_OUT)
    faultyMock.publish("topic", "1", "2", "3", partition=0)
    with Process(*consumerOf(faultyMock, "topic", *SHORT)) as process:
        process.until("Received message: 3")
        cluster.refuse(HEARTBEAT, getattr(KafkaError, error), 1)
        process.outlast(3)
        cluster.accept(OFFSET_COMMIT)
        faultyMock.publish("topic", "4", partition=0)
        process.until("Received message: 4")
        process.send_signal(signal.SIGINT)
        assert (process.end(), complaints(process.err)) == (0, [])
    assert process.shown() == ["1", "2", "3", "4"] and faultyMock.stored("topic", "topic") == 4


def test_leavingStoresNothingOfWhatIsNoLongerOurs(faultyMock):
    """Whoever has that now may be further."""
    faultyMock.publish("topic", "1", partition=0)
    with Process(*consumerOf(faultyMock, "topic", *SHORT, "-X", "auto.commit.interval.ms=600000")) as process:
        process.until("Received message: 1")
        faultyMock.cluster.refuse(JOIN_GROUP, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
        faultyMock.cluster.refuse(HEARTBEAT, KafkaError.UNKNOWN_MEMBER_ID, 1)
        process.outlast(3)  # in which it learns that it is no longer a member
        process.send_signal(signal.SIGINT)
        assert (process.end(), complaints(process.err)) == (0, [])
    assert faultyMock.stored("topic", "topic") is None


def test_anotherConsumerHasBeenThereMeanwhile(faultyMock):
    faultyMock.publish("topic", "1", partition=0)
    with Process(*consumerOf(faultyMock, "topic", *SHORT)) as first:
        first.until("Received message: 1")
        waitFor(lambda: faultyMock.stored("topic", "topic") == 1, "its offset")
        first.send_signal(signal.SIGSTOP)
        faultyMock.publish("topic", "2", "3", partition=0)
        second = run(*consumerOf(faultyMock, "topic", *SHORT, "-e", 2))
        faultyMock.cluster.refuse(FETCH, KafkaError.LEADER_NOT_AVAILABLE)
        first.send_signal(signal.SIGCONT)
        first.outlast(3)  # in which it learns that it is no longer a member
        faultyMock.cluster.accept(FETCH)
        faultyMock.publish("topic", "4", partition=0)
        first.until("Received message: 4")
    assert (first.shown(), events(second.stdout)) == (["1", "4"], ["2", "3"])


@pytest.mark.parametrize("request_, error", [
    (JOIN_GROUP, "INCONSISTENT_GROUP_PROTOCOL"), (JOIN_GROUP, "GROUP_MAX_SIZE_REACHED"),
    (JOIN_GROUP, "INVALID_SESSION_TIMEOUT"), (FIND_COORDINATOR, "GROUP_AUTHORIZATION_FAILED"),
    (FETCH, "TOPIC_AUTHORIZATION_FAILED"), (OFFSET_COMMIT, "GROUP_AUTHORIZATION_FAILED"),
    *[(request_, "FENCED_INSTANCE_ID") for request_ in (JOIN_GROUP, HEARTBEAT, OFFSET_COMMIT)]])
def test_refusalThatWaitingDoesNotMend(faultyMock, request_, error):
    error = KafkaError(getattr(KafkaError, error))
    faultyMock.cluster.refuse(request_, error.code())
    faultyMock.publish("topic", "one", partition=0)
    with Process(*consumerOf(faultyMock, "topic")) as process:
        refused(process.end(), process.err, error.str())


def test_otherErrorsAreToldOnce(faultyMock):
    faultyMock.cluster.refuse(FETCH, KafkaError.INVALID_MSG, 5)
    faultyMock.publish("topic", "one", partition=0)
    ended = run(*consumerOf(faultyMock, "topic", "-e", 1))
    assert (ended.returncode, events(ended.stdout)) == (0, ["one"])
    lines = complaints(ended.stderr)
    assert 1 <= len(lines) == len(set(lines)) < 5 and all("Broker: Invalid message" in line for line in lines)


@pytest.mark.parametrize("milliseconds, count, status, said", [
    (3000, 20, 0, ""), (7000, 20, 0, SO_FAR),
    pytest.param(10 ** 6, 0, 1, f"{SO_FAR}runConsumer: no partitions from group topic in 60 s\n", marks=pytest.mark.waits)])
def test_timeoutCountsFromTheAnswerOfTheGroup(faultyMock, milliseconds, count, status, said):
    """That is waited for up to a minute."""
    faultyMock.cluster.hesitate(milliseconds)
    faultyMock.publish("topic", *map(str, range(20)), partition=0)
    ended = run(*consumerOf(faultyMock, "topic", "--timeout", 1.5))
    assert (ended.returncode, len(events(ended.stdout))) == (status, count)
    assert re.fullmatch(said, ended.stderr)


@pytest.mark.waits
def test_tooFewWhileTheGroupIsAway(faultyMock):
    faultyMock.publish("topic", "one", "two", partition=0)
    with Process(*consumerOf(faultyMock, "topic", "-e", 3, "--timeout", 4)) as process:
        process.until("Received message: two")
        faultyMock.cluster.down(1)
        assert process.end() == 1
    assert "runConsumer: 2 of 3 events arrived, then none for 4 s\n" in process.err


@pytest.mark.parametrize("error, times", [("REBALANCE_IN_PROGRESS", 1), ("COORDINATOR_LOAD_IN_PROGRESS", 2)])
def test_leavingStoresWhatWasShown(faultyMock, error, times):
    faultyMock.cluster.refuse(OFFSET_COMMIT, getattr(KafkaError, error), times)
    faultyMock.publish("topic", "1", "2", "3", partition=0)
    ended = run(*consumerOf(faultyMock, "topic", "-e", 2))
    assert (ended.returncode, events(ended.stdout), complaints(ended.stderr)) == (0, ["1", "2"], [])
    assert faultyMock.stored("topic", "topic") == 2


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_twoOfTheSameName(kafka4, protocol):
    topic = kafka4.topic()
    kafka4.publish(topic, "one")
    arguments = consumerOf(kafka4, topic, "-X", "group.instance.id=one", "-X", f"group.protocol={protocol}")
    with Process(*arguments) as first:
        first.until("Received message")
        with Process(*arguments) as second:
            waitFor(lambda: first.err or second.err, "a refusal")
            ends, stays = (first, second) if first.err else (second, first)
            refused(ends.end(), ends.err, "nstance", topic)
            stays.send_signal(signal.SIGINT)
            assert (stays.end(), complaints(stays.err)) == (0, [])


@pytest.mark.parametrize("protocol, text", [("classic", None), ("consumer", "nstance")])
def test_killedAndStartedAgainUnderItsName(kafka4, protocol, text):
    """Kafka 4 keeps its place for 45 s."""
    topic = kafka4.topic()
    kafka4.publish(topic, "one", partition=0)
    arguments = consumerOf(kafka4, topic, "-X", "group.instance.id=one", "-X", f"group.protocol={protocol}")
    with Process(*arguments) as killed:
        waitFor(lambda: kafka4.stored(topic, topic), "its offset", LIMIT)
    kafka4.publish(topic, "two", partition=0)
    with Process(*arguments, "-e", 1) as again:
        status = again.end()
    if text:
        refused(status, again.err, text, topic)
    else:
        assert (status, again.err, killed.shown() + again.shown()) == (0, [], ["one", "two"])


def test_assignorThatTheClusterDoesNotKnow(kafka4):
    topic = kafka4.topic()
    with Process(*consumerOf(kafka4, topic, "-X", "group.protocol=consumer", "-X", "group.remote.assignor=nosuch")) as process:
        refused(process.end(), process.err, "assignor", topic)
