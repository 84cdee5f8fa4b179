"""Brokers that the tests stand on, and what is on them."""
import contextlib
import uuid

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.kafka import missing, waitFor
from support.processes import LIMIT


def known(broker):
    """Return what a broker knows of topics and brokers: one that has just started may know less than others."""
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=LIMIT)


class Ground:
    """A broker with four partitions a topic, and what is on it."""

    def __init__(self, name, bootstrap, cluster=None):
        self.name, self.cluster = name, cluster
        self.connect(bootstrap)

    def connect(self, bootstrap):
        """Use a broker at an address from here on."""
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topic(self, partitions=4, replicas=1, **config):
        """Make a topic with a name of its own and return that."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        if self.name == "apache":
            config = {key.replace("_", "."): value for key, value in config.items()}

            def make():  # a broker that was away refuses it for a moment
                self.admin.list_topics(timeout=LIMIT)  # it may have to learn who is the controller now
                with contextlib.suppress(KafkaException):
                    self.admin.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(LIMIT)
                return all(name in known(broker).topics for broker in self.cluster.brokers if broker.running())
            waitFor(make, f"topic {name}", LIMIT)
        else:
            self.admin.list_topics(name, timeout=LIMIT)
        return name

    def messages(self, topic):
        """Return all that is on a topic, partition after partition."""
        total = self.count(topic)
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test",
                             "enable.auto.commit": False, "log_level": 0})
        partitions = consumer.list_topics(topic, timeout=LIMIT).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        found = consumer.consume(total, LIMIT)
        consumer.close()
        assert len(found) == total and not any(message.error() for message in found)
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def values(self, topic):
        """Return the values of all that is on a topic, as text."""
        return [message.value().decode() for message in self.messages(topic)]

    def count(self, topic):
        """Return how many messages are on a topic, once a broker leads its partitions."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "log_level": 0})

        def ask():
            with contextlib.suppress(KafkaException):
                found = consumer.list_topics(topic, timeout=LIMIT).topics[topic]
                if not found.error:
                    return [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=LIMIT)
                            for number in found.partitions]
            return None
        marks = waitFor(ask, f"the broker to lead topic {topic}", LIMIT)
        consumer.close()
        return sum(high - low for low, high in marks)

    def publish(self, topic, *values, **message):
        """Publish values as they are, in order."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "log_level": 0})
        for value in values:
            producer.produce(topic, value, **message)
        assert producer.flush(LIMIT) == 0

    def stored(self, topic, group, partition=0):
        """Return the offset that a group has stored, None for none."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        [found] = consumer.committed([TopicPartition(topic, partition)], timeout=LIMIT)
        consumer.close()
        return None if found.offset == OFFSET_INVALID else found.offset


def requireKafka():
    """Skip where Apache Kafka cannot run, and say why."""
    reason = missing()
    if reason:
        pytest.skip(reason)


@contextlib.contextmanager
def apache(cluster):
    """Run a cluster of Apache Kafka for the tests in the block."""
    requireKafka()
    with cluster:
        yield Ground("apache", cluster.bootstrap, cluster)
