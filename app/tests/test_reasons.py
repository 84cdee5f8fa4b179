"""The reason of an outage: the latest one that is known, each told once, also of a part of the brokers."""
import re
import signal

import pytest
from support.forwarder import Forwarder
from support.kafka import waitFor
from support.pairs import GONE, HEARD, MUTE, goOn, loopOn, pair
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
    forwarder = Forwarder(int(mockCluster.bootstrap.split(",")[0].split(":")[1]))
    mockCluster.advertise(*forwarder.bootstrap.split(":"))
    with Process(*loopOn(mockCluster, "topic", "-X", "queue.buffering.max.messages=100")) as producer:
        producer.until("Message produced")
        for number in 1, 2:
            forwarder.close()
            waitFor(lambda: len(told(producer, MUTE)) == number, "what is said of it", LIMIT)  # noqa: B023
            if number == 1:
                forwarder.open()
                producer.until(HEARD)
                goOn(producer)
        last = giveUp(producer)
    assert all("Connection refused" in line for line in [*told(producer, MUTE), last]), producer.err
    assert re.search(f"[1-9][0-9]* failed: stopped by SIGINT; {MUTE}: ", last)
