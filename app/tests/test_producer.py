"""The producer: what it publishes, in which order, what it prints of that, and what it counts."""
import itertools
import json
import os
import re
import signal

import pytest
from confluent_kafka import KafkaError
from support.mockCluster import INIT_PRODUCER_ID, PRODUCE
from support.pairs import loopOn
from support.processes import Process, complaints, events, finished, run, runHere

FULL_SPEED = ["-m", 0, "-x", 0]


def counts(line):
    """Return how many events were produced, delivered and failed, by the line that ends a run on standard error."""
    return [int(word) for word in line.split(" failed: ")[0].split() if word.isdigit()]


@pytest.mark.parametrize("ground, count, limits", [
    ("mock", 20000, []), ("kafka", 20000, []),
    ("kafka", 3000, ["-X", "queue.buffering.max.messages=7"]), ("kafka", 3000, ["-X", "queue.buffering.max.kbytes=2"]),
    ("mock", 100, ["-X", "queue.buffering.max.messages=7", "-X", "linger.ms=60000"])], indirect=["ground"])
def test_orderAndCountsAtFullSpeed(ground, count, limits):
    """Also where the queue is always full: that does not wait for linger.ms."""
    topic = ground.topic()
    ended = run(*loopOn(ground, topic, *FULL_SPEED, "-e", count, *limits))
    assert (complaints(ended.stderr), ended.returncode) == ([], 0)
    shown = events(ended.stdout)
    times = [json.loads(text)["eventTime"] for text in shown]
    assert len(shown) == count == finished(ended.stdout.split("\n")) and times == sorted(times)
    messages = ground.messages(topic)
    partitions = {message.value().decode(): message.partition() for message in messages}
    inEachPartition = sorted(shown, key=partitions.get)  # in the order in which they were shown
    assert inEachPartition == [message.value().decode() for message in messages]
    assert all(message.key().decode() == str(json.loads(message.value())["playerId"]) for message in messages)


def test_playersAreWhereJavaExpectsThem(mock):
    """By Kafka's murmur2."""
    topic, places = mock.topic(), {}
    assert run(*loopOn(mock, topic, *FULL_SPEED, "-e", 500)).returncode == 0
    for message in mock.messages(topic):
        places.setdefault(message.partition(), set()).add(int(message.key()))
    assert places == {0: {103}, 1: {100, 102, 107, 109}, 2: {101, 106, 110}, 3: {104, 105, 108}}


def test_fatalErrorEndsTheRun(faultyMock):
    """Such as no right to publish without duplicates."""
    faultyMock.cluster.refuse(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    ended = run(*loopOn(faultyMock, "topic"))
    assert ended.returncode == 1 and "Message produced" not in ended.stdout
    assert re.fullmatch(r"runProducer: (\d+) produced, 0 delivered, \1 failed: .*Cluster authorization failed.*\n", ended.stderr)


def numbered(players=range(100, 111)):
    """Return a generate() of numbered events; the players take turns."""
    return map(lambda number: (players[number % len(players)], str(number)), itertools.count(1)).__next__


@pytest.mark.parametrize("nth", [1, 3, 7, 1000, 2500])
def test_firstAndEveryNthAreShown(mock, capfd, nth):
    assert runHere(*loopOn(mock, mock.topic(), *FULL_SPEED, "-e", 3000, "-p", nth), generate=numbered()) == 0
    expected = [number for number in range(1, 3001) if number == 1 or number % nth == 0]
    assert events(capfd.readouterr().out) == list(map(str, expected))


def test_slowBrokerHoldsBackWhatComesAfter(mockCluster, capfd):
    """Shown in order of generation, not of acknowledgement; and what waits to be shown stays within the queue's limit."""
    mockCluster.topic("topic", replicas=3)
    generate, ahead = numbered(), []

    def watched():
        player, number = generate()
        if number in ("300", "450"):
            mockCluster.delay(2, 1500 if number == "300" else 0)
        ahead.append(int(number) - os.pread(1, 10 ** 6, 0).count(b"Message produced: "))
        return player, number
    limit = "-X", "queue.buffering.max.messages=100"
    assert runHere(*loopOn(mockCluster, "topic", *FULL_SPEED, "-e", 900, *limit), generate=watched) == 0
    assert events(capfd.readouterr().out) == list(map(str, range(1, 901)))
    assert 50 < max(ahead) <= 100


def test_refusedEventsAreCountedAndNotShown(faultyMock):
    with Process(*loopOn(faultyMock, "topic")) as producer:
        producer.until("Message produced")
        faultyMock.cluster.refuse(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE, 1)
        assert producer.end() == 1
    [line] = complaints(producer.err)
    produced, delivered, failed = counts(line)
    assert failed and produced == delivered + failed and delivered == len(producer.shown()) == finished(producer.out)
    assert line.endswith(" failed: Broker: Message size too large")


def test_eventsThatAreGivenUpHoldNothingBack(mockCluster):
    mockCluster.topic("topic", replicas=3)
    with Process(*loopOn(mockCluster, "topic", "-e", 300, "-m", 5, "-x", 5, "-X", "linger.ms=300")) as producer:
        producer.until("Message produced")
        mockCluster.delay(2, 60000)
        producer.until("acknowledgements; Ctrl-C gives up")
        for _ in range(2):
            producer.send_signal(signal.SIGINT)
        assert producer.end() == 1
    produced, delivered, failed = counts(producer.err[-1])
    assert (produced, failed) == (300, 300 - delivered) and 0 < delivered == len(producer.shown()) == finished(producer.out) < 300
    assert producer.err[-1].startswith("runProducer: ") and "failed: stopped by SIGINT" in producer.err[-1]
