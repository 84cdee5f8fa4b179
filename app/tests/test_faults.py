"""What goes wrong with a broker, on Apache Kafka: nothing lost, nothing twice, and the truth told."""
import contextlib
import signal
from collections import Counter

import pytest
from support.kafka import waitFor
from support.processes import LIMIT, Process, byPlayer, finished, outlast, run

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def pause(cluster, producer):
    with paused(cluster):
        outlast(producer, 8)
        producer.until("the broker is gone")


@contextlib.contextmanager
def paused(cluster):
    """Stop a broker in its tracks for the block."""
    cluster.broker.pause()
    try:
        yield
    finally:
        cluster.broker.resume()


def restart(cluster, producer, number):
    """End a broker by a signal, and start it again when the producer has noticed."""
    cluster.broker.stop(number)
    producer.until("the broker is gone")
    cluster.broker.start()


def killAndStart(cluster, producer):
    restart(cluster, producer, signal.SIGKILL)


def stopAndStart(cluster, producer):
    restart(cluster, producer, signal.SIGTERM)


def outForAMinute(cluster, producer):
    cluster.broker.stop(signal.SIGKILL)
    outlast(producer, 60)
    cluster.broker.start()


@pytest.mark.parametrize("fault", [pause, killAndStart, stopAndStart, outForAMinute])
def test_faultUnderALoop(faultyKafka, fault):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 8000, "-m", 1, "-x", 1, "-p", 1) as producer, \
            Process("runConsumer", "-t", topic, "-b", faultyKafka.bootstrap, "-g", topic, "-e", 8000) as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        fault(faultyKafka.cluster, producer)
        assert producer.end() == 0 and finished(producer.out) == 8000
        assert consumer.end() == 0, consumer.err
    shown, stored, received = producer.shown(), faultyKafka.values(topic), consumer.shown()
    assert len(shown) == 8000 and Counter(shown) == Counter(stored) == Counter(received)
    assert byPlayer(shown) == byPlayer(stored) == byPlayer(received)
    said = [sum(text in line for line in producer.err) for text in ("the broker is gone", "the broker is back")]
    assert said == [1, 1], producer.err
    for process in producer, consumer:
        lines = [line.split(":")[1].split(" after")[0] for line in process.err if "acknowledgements" not in line]
        assert lines in ([" the broker is gone", " the broker is back"], []), process.err


@pytest.mark.parametrize("number, status", STOPS)
@pytest.mark.parametrize("pauses", [(0, 0), (60000, 60000), (1, 1)])
def test_stopDeliversWhatWasGenerated(faultyKafka, number, status, pauses):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 0, "-m", pauses[0], "-x", pauses[1]) as producer:
        producer.until("Message produced")
        producer.send(number)
        assert producer.end() == status
    count = finished(producer.out)
    assert count == faultyKafka.count(topic) >= 1
    name = signal.Signals(number).name
    *more, last = producer.err
    assert last == f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by {name}\n"
    assert all("acknowledgements; Ctrl-C gives up" in line for line in more)  # where the broker takes over 1 s


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("again", [False, True])
def test_stopWithoutABroker(faultyKafka, number, again):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 0, "-m", 1, "-x", 1, "-p", 1) as producer:
        producer.until("Message produced")
        with paused(faultyKafka.cluster):
            producer.until("the broker is gone")
            producer.send(number)
            if again:
                producer.send(number)
            assert producer.end() == 1
    count = finished(producer.out)
    assert count == len(producer.shown())
    produced, delivered, failed = [int(word) for word in producer.err[-1].split() if word.isdigit()]
    assert delivered == count and produced == delivered + failed and failed > 0
    assert f"stopped by {signal.Signals(number).name}" in producer.err[-1]


def test_givingUpTheLastAcknowledgements(faultyKafka):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 3000, "-m", 1, "-x", 1, "-p", 1) as producer:
        producer.until("Message produced")
        with paused(faultyKafka.cluster):
            producer.until("acknowledgements; Ctrl-C gives up")
            producer.send(signal.SIGINT)
            assert producer.end() == 1
    assert producer.err[-1].startswith(f"runProducer: 3000 produced, {len(producer.shown())} delivered, ")


def test_outForGoodEndsWithTheMessageTimeout(faultyKafka):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 3000, "-m", 1, "-x", 1, "-p", 1,
                 "-X", "message.timeout.ms=4000") as producer:
        producer.until("Message produced")
        faultyKafka.cluster.broker.stop(signal.SIGKILL)
        try:
            assert producer.end() == 1
        finally:
            faultyKafka.cluster.broker.start()
    count = finished(producer.out)
    waitFor(lambda: faultyKafka.count(topic) >= count, "the broker to have its log again")
    shown, stored = producer.shown(), faultyKafka.values(topic)
    assert count == len(shown) and len(stored) == len(set(stored))
    players = byPlayer(stored)  # at their end, what the broker wrote and died before acknowledging it
    assert all(players[player][:len(texts)] == texts for player, texts in byPlayer(shown).items())
    assert f"{count} delivered, " in producer.err[-1] and "Local: Message timed out" in producer.err[-1]
    assert not any("broker is back" in line for line in producer.err)


def test_consumerStopsWithoutABroker(faultyKafka):
    topic = faultyKafka.topic()
    faultyKafka.publish(topic, "one")
    with Process("runConsumer", "-t", topic, "-b", faultyKafka.bootstrap, "-g", topic) as consumer:
        consumer.until("Received message")
        faultyKafka.cluster.broker.stop(signal.SIGKILL)
        try:
            consumer.until("the broker is gone")
            consumer.send(signal.SIGTERM)
            assert consumer.end() == 143
        finally:
            faultyKafka.cluster.broker.start()
    assert "may be shown again" in consumer.err[-1] and len(consumer.err) == 2


def test_tooLarge(faultyKafka):
    topic = faultyKafka.topic(max_message_bytes=100)
    ended = run("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 100, "-m", 0, "-x", 0)
    assert ended.returncode == 1 and faultyKafka.count(topic) == 0
    assert ended.stderr == "runProducer: 100 produced, 0 delivered, 100 failed: Broker: Message size too large\n"
    assert "Finished publishing: 0 messages." in ended.stdout and "Message produced" not in ended.stdout


def test_tooFewReplicas(threeBrokers):
    topic = threeBrokers.topic(replicas=3, partitions=1)
    for broker in threeBrokers.cluster.brokers[1:]:
        broker.stop(signal.SIGKILL)
    waitFor(lambda: threeBrokers.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions[0].leader == 1,
            "the one that is left to lead", LIMIT)
    ended = run("runProducer", "-t", topic, "-b", threeBrokers.bootstrap, "-l", "-e", 10, "-m", 0, "-x", 0,
                "-X", "message.timeout.ms=12000")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "runProducer: 10 produced, 0 delivered, 10 failed: Local: Message timed out"


def test_topicDeletedUnderWay(faultyKafka):
    topic = faultyKafka.topic()
    with Process("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", 0, "-m", 1, "-x", 1,
                 "-X", "allow.auto.create.topics=false") as producer, \
            Process("runConsumer", "-t", topic, "-b", faultyKafka.bootstrap, "-g", topic) as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        faultyKafka.admin.delete_topics([topic])[topic].result(60)
        assert producer.end() == 1 and consumer.end() == 1
    assert f"{finished(producer.out)} delivered" in producer.err[-1] and "nknown" in producer.err[-1]
    assert f"runConsumer: topic {topic}: Broker: Unknown topic or partition\n" in consumer.err
