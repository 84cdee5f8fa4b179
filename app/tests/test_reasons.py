"""What is said of an outage: when, for which reasons, and how long it was.

Times are taken by the test's own clock, where the machine can only make them longer.
"""
import re
import signal
import time

import pytest
from confluent_kafka import KafkaError
from support.forwarder import wayTo
from support.kafka import waitFor
from support.mockCluster import PRODUCE
from support.pairs import BACK, GONE, HEARD, MUTE, goOn, loopOn, pair
from support.processes import LIMIT, Process
from support.servers import garbage, serve


def told(process, words):
    """Return the lines of a process that begin so."""
    return [line for line in process.err if f": {words}" in line]


def giveUp(producer):
    """End a producer whose broker is away, and return its last line."""
    producer.send_signal(signal.SIGINT)
    producer.until("acknowledgements; Ctrl-C gives up")
    producer.send_signal(signal.SIGINT)
    assert producer.end() == 1
    return producer.err[-1]


@pytest.mark.waits
def test_eachReasonIsToldOnce(faultyMock):
    """However often the library repeats it. Another one is told, too: such as another certificate of a broker that is back."""
    with pair(faultyMock, "topic") as processes:
        producer, consumer = processes
        faultyMock.cluster.down(1)
        for process in processes:
            process.until("Connection refused")
        producer.outlast(5)
        assert [len(told(process, GONE)) for process in processes] == [1, 1], (producer.err, consumer.err)
        with serve(garbage, int(faultyMock.bootstrap.split(":")[1])):
            for process in processes:
                waitFor(lambda: len(told(process, GONE)) > 1, "another reason", LIMIT)  # noqa: B023
            last = giveUp(producer)
    for process in processes:
        first, second, *_ = told(process, GONE)
        assert "Connection refused" in first and "Invalid response" in second
    assert re.search(f"failed: stopped by SIGINT; {GONE}: .*Invalid response", last) and "refused" not in last, last


@pytest.mark.waits
def test_brokerOfThreeThatHoldsUpTheOthers(mockCluster):
    """The queue is full of events for it. The others still say where it should be."""
    mockCluster.topic("topic", replicas=3)
    way = wayTo(mockCluster)
    with Process(*loopOn(mockCluster, "topic", "-X", "queue.buffering.max.messages=100")) as producer:
        producer.until("Message produced")
        for number in 1, 2:
            way.close()
            waitFor(lambda: len(told(producer, MUTE)) == number, "what is said of it", LIMIT)  # noqa: B023
            if number == 1:
                way.open()
                producer.until(HEARD)
                goOn(producer)
        last = giveUp(producer)
    assert all("Connection refused" in line for line in [*told(producer, MUTE), last]), producer.err
    assert re.search(f"[1-9][0-9]* failed: stopped by SIGINT; {MUTE}: ", last)


@pytest.mark.waits
def test_lengthOfAnOutage(faultyMock):
    """At least from what is said of it on, at most from its cause on, and not more exact than a second or two."""
    way = wayTo(faultyMock.cluster)
    with pair(way, "topic") as processes:
        begun, noticed = time.monotonic(), []
        way.close()
        for process in processes:
            process.until(GONE)
            noticed.append(time.monotonic())
        processes[0].outlast(4)
        least = [time.monotonic() - since for since in noticed]
        way.open()
        for process, seconds in zip(processes, least):
            process.until(BACK)
            [length] = [int(number) for number in re.findall(f"{BACK} ([0-9]+) s\n", "".join(process.err))]
            assert seconds - 1 < length < time.monotonic() - begun + 2, process.err


@pytest.mark.waits
@pytest.mark.parametrize("words, least, most", [(GONE, 0, 3.5), (MUTE, 4, 10)])
def test_anOutageIsToldInTime(faultyMock, words, least, most):
    """A lost broker after a second, one that acknowledges nothing after five: by the fastest of several on a busy machine."""
    way = wayTo(faultyMock.cluster)
    producers = [Process(*loopOn(way, "topic")) for _ in range(4)]
    for producer in producers:
        producer.until("Message produced")
    begun = time.monotonic()
    if words == GONE:
        way.close()
    else:
        faultyMock.cluster.refuse(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS)
    waitFor(lambda: any(told(producer, words) for producer in producers), "what is said of it", LIMIT)
    assert least < time.monotonic() - begun < most
    for producer in producers:
        producer.kill()
