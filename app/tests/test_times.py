"""The times that the pages promise, by the test's own clock where the machine can only make them longer."""
import re
import time

import pytest
from confluent_kafka import KafkaError
from support.forwarder import Forwarder
from support.kafka import waitFor
from support.mockCluster import PRODUCE
from support.pairs import BACK, GONE, MUTE, loopOn, pair
from support.processes import LIMIT, Process


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


def lost(way, _cluster):
    way.close()


def mute(_way, cluster):
    cluster.refuse(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS)


@pytest.mark.waits
@pytest.mark.parametrize("fault, words, least, most", [(lost, GONE, 0, 3.5), (mute, MUTE, 4, 10)])
def test_anOutageIsToldInTime(faultyMock, way, fault, words, least, most):
    """A lost broker after a second, one that acknowledges nothing after five: by the fastest of several on a busy machine."""
    producers = [Process(*loopOn(way, "topic")) for _ in range(4)]
    for producer in producers:
        producer.until("Message produced")
    begun = time.monotonic()
    fault(way, faultyMock.cluster)
    waitFor(lambda: any(words in line for producer in producers for line in producer.err), "what is said of it", LIMIT)
    assert least < time.monotonic() - begun < most
    for producer in producers:
        producer.kill()
