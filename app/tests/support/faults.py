"""Faults of a cluster. Each is made and mended by one call: fault(ground, topic, producer, consumer, ...)."""
import contextlib
import signal

from confluent_kafka import KafkaException

from support.kafka import freePort, waitFor
from support.pairs import goOn, said
from support.processes import LIMIT


def describe(ground, group):
    """Return what the cluster knows of a group, once it has a coordinator."""
    def ask():
        with contextlib.suppress(KafkaException):
            return ground.admin.describe_consumer_groups([group])[group].result(LIMIT)
    return waitFor(ask, f"group {group}", LIMIT)


@contextlib.contextmanager
def away(cluster, *processes):
    """Have no broker run in the block, which begins once the processes have told of it.

    None says goodbye: by that of its only one, librdkafka may lose a cluster for good.
    """
    for broker in cluster.brokers:
        broker.stop(signal.SIGKILL)
    try:
        waitFor(lambda: all(map(said, processes)), "all to notice", LIMIT)
        yield
    finally:
        cluster.start()


def killed(ground, _topic, producer, *_):
    """All brokers die."""
    with away(ground.cluster, producer):
        pass  # they come back at once


def paused(ground, _topic, producer, *_):
    """Its broker stands still, but not for the 9 s after which Kafka 4 gives itself up: librdkafka may not recover."""
    ground.cluster.broker.pause()
    try:
        producer.outlast(8)
    finally:
        ground.cluster.broker.resume()


def restarted(ground, topic, *processes):
    """One broker after the other is stopped and started."""
    for broker in ground.cluster.brokers:
        broker.stop()
        broker.start()
        goOn(*processes)


def moved(ground, _topic, *processes):
    """All brokers die, and come back on other ports, to which the first address leads."""
    with away(ground.cluster, *processes):
        for broker in ground.cluster.brokers:
            broker.listen(freePort())
        ground.forwarder.target = ground.cluster.broker.port
    ground.connect(ground.cluster.bootstrap)


def hanging(ground, topic, producer, consumer, place=0):
    """A broker of three hangs: the group's coordinator, or one of the others. By default the library would wait for 60 s."""
    number = describe(ground, topic).coordinator.id + place
    broker = ground.cluster.brokers[(number - 1) % 3]
    broker.pause()
    goOn(producer, within=30)
    count = len(producer.shown())  # of all partitions, also those that it led
    waitFor(lambda: len(consumer.shown()) >= count, "the consumer to leave it", 30)
    broker.resume()


def followerHanging(*arguments):
    hanging(*arguments, place=1)
