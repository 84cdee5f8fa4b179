"""An outage, of a broker or of all: what is said of it, and nothing lost or twice."""
import signal
import threading
from collections import Counter

import pytest
from confluent_kafka import KafkaError, Producer
from support.faults import away, killed
from support.forwarder import wayTo
from support.kafka import waitFor
from support.mockCluster import PRODUCE
from support.pairs import BACK, GONE, HEARD, MUTE, SLOW, goOn, loopOn, pair, said
from support.processes import LIMIT, Process, byPlayer, complaints, consumerOf, finished, run, runHere


def test_brokerOfThreeAway(mockCluster):
    """The partitions of the others go on."""
    mockCluster.topic("topic", replicas=3)
    with pair(mockCluster, "topic") as (producer, consumer):
        mockCluster.down(2)
        goOn(consumer)
        mockCluster.up(2)
        goOn(producer, consumer)
        for process in producer, consumer:
            process.send_signal(signal.SIGTERM)
            assert process.end() == 143
    assert said(producer) == said(consumer) == []


@pytest.mark.waits
def test_slowBrokerIsABroker(faultyMock):
    """Also at the start, which takes six answers one after the other."""
    with pair(faultyMock, "topic", loop=SLOW) as processes:
        faultyMock.cluster.delay(1, 800)
        with Process(*loopOn(faultyMock, "topic", "-e", 5)) as late:
            assert late.end() == 0, late.err
        faultyMock.cluster.delay(1, 1200)
        goOn(*processes)
    assert [said(process) for process in (late, *processes)] == [[], [], []]


@pytest.mark.waits
def test_restIsNoOutage(faultyMock):
    """As after Ctrl-Z and fg."""
    with pair(faultyMock, "topic") as (producer, consumer):
        for process in producer, consumer:
            process.send_signal(signal.SIGSTOP)
        producer.outlast(8)
        for process in producer, consumer:
            process.send_signal(signal.SIGCONT)
        goOn(producer, consumer)
    assert said(producer) == said(consumer) == []


@pytest.mark.waits
def test_pauseWithoutEventsIsNoOutage(faultyMock):
    """Nothing waits for a broker then."""
    ended = run(*loopOn(faultyMock, "topic", "-m", 8000, "-x", 8000, "-e", 2))
    assert (ended.returncode, complaints(ended.stderr)) == (0, [])


@pytest.mark.waits
def test_twoOutages(faultyMock):
    """What is said of the second one is not the reason of the first one."""
    cluster = faultyMock.cluster  # of one broker: librdkafka does not always notice that it has lost the last of several
    with pair(faultyMock, "topic", loop=SLOW) as processes:
        for change, words in (cluster.down, GONE), (cluster.up, BACK):
            change(1)
            for process in processes:
                process.until(words)
        goOn(*processes)
        cluster.delay(1, 60000)
        for process in processes:
            waitFor(lambda: len(said(process)) > 2, "the next outage", LIMIT)  # noqa: B023
            assert "refused" not in process.err[-1] and "Disconnected" not in process.err[-1]
            assert said(process)[:2] == [GONE, BACK]


@pytest.mark.waits
def test_backWithoutAnyEvent(faultyMock):
    """The consumer asks."""
    faultyMock.publish("topic", "one")
    with Process(*consumerOf(faultyMock, "topic")) as consumer:
        consumer.until("Received message")
        faultyMock.cluster.down(1)
        consumer.until(GONE)
        faultyMock.cluster.up(1)
        consumer.until(BACK)
        assert consumer.shown() == ["one"]


class TellsOnce(Producer):
    """A client that tells only once that it has lost its last connection, as librdkafka sometimes does."""

    def __init__(self, conf):
        told = set()

        def tell(error):
            if error.code() != KafkaError._ALL_BROKERS_DOWN or error.code() not in told:
                conf["error_cb"](error)
            told.add(error.code())
        super().__init__({**conf, "error_cb": tell})


@pytest.mark.waits
def test_lostWhileNothingWaits(faultyMock, monkeypatch, capfd):
    """What comes next waits for a broker that is known to be gone."""
    monkeypatch.setattr("runProducer.Producer", TellsOnce)
    loss = threading.Timer(0.3, faultyMock.cluster.down, [1])

    def generate():
        if not loss.ident:
            loss.start()
        return 1, "one"
    words = loopOn(faultyMock, "topic", *SLOW, "-e", 2, "-X", "message.timeout.ms=8000")
    assert runHere(*words, generate=generate) == 1
    told = complaints(capfd.readouterr().err)
    assert len(told) > 1 and all(GONE in line for line in told), told  # also at the end


def refusing(ground, _topic, producer, *_):
    """The broker takes no events."""
    ground.cluster.refuse(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS)
    producer.until(MUTE)
    ground.cluster.accept(PRODUCE)


def swallowing(ground, _topic, producer, *_):
    """Large packets get lost on the way to the broker."""
    ground.forwarder.most = 1400
    producer.until(MUTE)
    ground.forwarder.most = 65536


@pytest.mark.waits
def test_requestThatIsRefused(faultyMock):
    """The next one waits for it. Out of order, it would cost librdkafka its epoch, and events might be stored twice."""
    faultyMock.cluster.delay(1, 20)  # longer than linger.ms: the next one is due before the answer
    with Process(*loopOn(faultyMock, "topic", "-X", "linger.ms=1")) as producer:
        for _ in range(4):
            faultyMock.cluster.refuse(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS, 1)
            goOn(producer)
        producer.send_signal(signal.SIGINT)
        assert producer.end() == 130
    assert byPlayer(faultyMock.values("topic")) == byPlayer(producer.shown())


@pytest.mark.waits
@pytest.mark.parametrize("fault", [refusing, swallowing])
def test_brokerThatTakesNothing(faultyMock, fault):
    """It answers all else."""
    faultyMock.forwarder = wayTo(faultyMock.cluster)
    with pair(faultyMock.forwarder, "topic") as (producer, consumer):
        fault(faultyMock, "topic", producer, consumer)
        producer.until(HEARD)
        goOn(producer, consumer)
        producer.send_signal(signal.SIGINT)
        assert producer.end() == 130
    assert said(producer) == [MUTE, HEARD]
    assert said(consumer) in ([], [GONE, BACK])  # its own large packets may be lost, too


@pytest.mark.parametrize("age, lost", [(1000, False), (900000, True)])
def test_startingBrokerThatDoesNotKnowTheTopic(faultyMock, age, lost):
    """The run is older than the time after which librdkafka gives up: 4 s here, 2,000 s by default.

    What saves it is that the library's knowledge of the topic grows old: without that it is lost.
    """
    cluster = faultyMock.cluster
    limits = "-X", "topic.metadata.propagation.max.ms=4000", "-X", f"metadata.max.age.ms={age}"
    with Process(*loopOn(cluster, "topic", *limits)) as producer:
        waitFor(lambda: len(producer.out) > 5000, "5 s of events", LIMIT)
        cluster.down(1)
        cluster.forget("topic")
        cluster.up(1)
        if not lost:
            producer.outlast(2)  # in which the library asks for the topic
            cluster.remember("topic")
            goOn(producer)
            producer.send_signal(signal.SIGINT)
        assert producer.end() == (1 if lost else 130), producer.err
    count = finished(producer.out)
    assert count == len(producer.shown())
    if lost:
        assert "Local: Unknown " in producer.err[-1]
    else:
        assert producer.err[-1].startswith(f"runProducer: {count} produced, {count} delivered, 0 failed")


def test_outForAMinuteAtTheEnd(faultyKafka):
    """By default the group would keep the place of its lost member for 45 s more."""
    topic, total = faultyKafka.topic(), ("-e", 8000)
    with pair(faultyKafka, topic, *total, "-X", "session.timeout.ms=6000", loop=total) as (producer, consumer):
        with away(faultyKafka.cluster):
            producer.outlast(60)
        assert (producer.end(), consumer.end()) == (0, 0), (producer.err, consumer.err)
    shown, received = producer.shown(), consumer.shown()
    assert finished(producer.out) == len(shown) == 8000 and Counter(shown) == Counter(faultyKafka.values(topic))
    assert byPlayer(shown) == byPlayer(received)
    assert said(producer) == [GONE, BACK] and said(consumer) in ([], [GONE, BACK])


def test_outForGoodEndsWithTheMessageTimeout(faultyKafka):
    topic = faultyKafka.topic()
    with Process(*loopOn(faultyKafka, topic, "-e", 3000, "-X", "message.timeout.ms=4000")) as producer:
        producer.until("Message produced")
        with away(faultyKafka.cluster):
            assert producer.end() == 1
    count = finished(producer.out)
    waitFor(lambda: faultyKafka.count(topic) >= count, "the broker to have its log again")
    shown, stored = producer.shown(), faultyKafka.values(topic)
    assert count == len(shown) and len(stored) == len(set(stored))
    players = byPlayer(stored)  # at their end, what the broker wrote and died before acknowledging it
    assert all(players[player][:len(texts)] == texts for player, texts in byPlayer(shown).items())
    assert f"{count} delivered, " in producer.err[-1] and "Local: Message timed out" in producer.err[-1]
    assert not any(BACK in line for line in producer.err)


def test_topicDeletedUnderWay(faultyKafka):
    topic = faultyKafka.topic()
    with pair(faultyKafka, topic, loop=("-X", "allow.auto.create.topics=false")) as (producer, consumer):
        faultyKafka.admin.delete_topics([topic])[topic].result(LIMIT)
        producer.until(MUTE)
        for process, status in ((producer, 1), (consumer, 0)):
            process.send_signal(signal.SIGINT)
            assert process.end() == status
    count, *more = [int(word) for word in producer.err[-1].split() if word.isdigit()]
    assert more[0] == finished(producer.out) and more[1] == count - more[0] > 0


@pytest.mark.parametrize("longest, fault", [(0, lambda *_: None), (1, killed)])
def test_topicOfSmallBatches(faultyKafka, longest, fault):
    """The second time, some thousand events wait for a broker that takes seconds to start."""
    topic = faultyKafka.topic(max_message_bytes=262144)
    with Process(*loopOn(faultyKafka, topic, "-e", 20000, "-m", 0, "-x", longest)) as producer:
        producer.until("Message produced")
        fault(faultyKafka, topic, producer)
        assert producer.end() == 0 and finished(producer.out) == 20000
    shown = producer.shown()  # at full speed two events of one microsecond may be alike
    assert len(shown) == 20000 and Counter(shown) == Counter(faultyKafka.values(topic))
