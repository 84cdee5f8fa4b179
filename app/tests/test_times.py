"""The times that the pages promise, by the test's own clock where the machine can only make them longer."""
import re
import signal
import time

import pytest
from confluent_kafka import KafkaError
from support.forwarder import Forwarder
from support.kafka import waitFor
from support.mockCluster import PRODUCE
from support.pairs import BACK, GONE, MUTE, loopOn, pair
from support.processes import LIMIT, QUESTION, READY, SIGNALS, Process, Terminal, complaints


@pytest.fixture
def way(faultyMock):
    """The way to a broker, on which it can be refused."""
    forwarder = Forwarder(int(faultyMock.bootstrap.split(":")[1]))
    faultyMock.cluster.advertise(*forwarder.bootstrap.split(":"))
    return forwarder


@pytest.mark.waits
def test_lengthOfAnOutage(way):
    """At least from what is said of it on, at most from its cause on, and not more exact than a second or two."""
    with pair(way, "topic") as processes:
        begun, told = time.monotonic(), []
        way.close()
        for process in processes:
            process.until(GONE)
            told.append(time.monotonic())
        processes[0].outlast(4)
        least = [time.monotonic() - since for since in told]
        way.open()
        for process, seconds in zip(processes, least):
            process.until(BACK)
            [length] = [int(number) for number in re.findall(f"{BACK} ([0-9]+) s\n", "".join(process.err))]
            assert seconds - 1 < length < time.monotonic() - begun + 2, process.err


@pytest.mark.waits
def test_aLostBrokerIsToldAfterASecond(way):
    """By the fastest of several, because a busy machine holds up some of them."""
    producers = [Process(*loopOn(way, "topic")) for _ in range(4)]
    for producer in producers:
        producer.until("Message produced")
    begun = time.monotonic()
    way.close()
    waitFor(lambda: any(GONE in line for producer in producers for line in producer.err), "what is said of it", LIMIT)
    assert time.monotonic() - begun < 3.5
    for producer in producers:
        producer.kill()


@pytest.mark.waits
def test_aBrokerThatAcknowledgesNothingIsToldAfterFiveSeconds(faultyMock):
    """By the fastest of several, too."""
    producers = [Process(*loopOn(faultyMock, "topic")) for _ in range(4)]
    for producer in producers:
        producer.until("Message produced")
    begun = time.monotonic()
    faultyMock.cluster.refuse(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS)
    waitFor(lambda: any(MUTE in line for producer in producers for line in producer.err), "what is said of it", LIMIT)
    assert 4 < time.monotonic() - begun < 10
    for producer in producers:
        producer.kill()


def test_aSignalAtAQuestionEndsAtOnce(mock):
    """Not after the 4 s that it leaves for what is under way."""
    seconds = []
    for number in SIGNALS:
        child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
        child.converse((READY, ""))
        child.expect_exact(QUESTION)
        begun = time.monotonic()
        child.kill(number)
        child.read()
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 3


@pytest.mark.waits
def test_answersThatComeInTime(faultyMock):
    """After the first signal: it leaves 4 s."""
    with Process(*loopOn(faultyMock, "topic")) as producer:
        producer.until("Message produced")
        faultyMock.cluster.linger(PRODUCE, 2500)
        producer.send_signal(signal.SIGTERM)
        assert producer.end() == 143
    [line] = complaints(producer.err)
    assert re.fullmatch(r"runProducer: (\d+) produced, \1 delivered, 0 failed: stopped by SIGTERM\n", line)
