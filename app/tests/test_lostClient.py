"""A client that has lost its broker for good, though the broker is there: the consumer says so, and goes on with a new one.

librdkafka has left one so where a one-node Kafka 4 stood still for more than 9 s.
"""
import signal
import sys

import pytest
from support.kafka import waitFor
from support.processes import LIMIT, Process, consumerOf

# A stand-in for the first client: after two events it hears nothing any more, and cannot commit.
DEAF = """
import sys
import time
import confluent_kafka
from confluent_kafka import KafkaError, KafkaException
real = confluent_kafka.Consumer

class Deaf(real):
    made = 0

    def __init__(self, conf):
        super().__init__(conf)
        Deaf.made += 1
        self.isFirst, self.heard, self.isDeaf = Deaf.made == 1, 0, False

    def subscribe(self, topics, on_assign, on_revoke, on_lost):
        revoke = (lambda *_: None) if self.isFirst else on_revoke
        super().subscribe(topics, on_assign=on_assign, on_revoke=revoke, on_lost=on_lost)

    def consume(self, most, seconds):
        return [] if self.isDeaf else self.count(super().consume(1, seconds))

    def poll(self, seconds):
        if self.isDeaf:
            time.sleep(seconds)
        return None if self.isDeaf else (self.count([super().poll(seconds)]) or [None])[0]

    def count(self, messages):
        messages = [message for message in messages if message]
        self.heard += len(messages)
        return messages

    def store_offsets(self, message):
        if not self.isFirst:
            return super().store_offsets(message)
        if self.heard == 2:
            self.isDeaf = True
            self.close()

    def list_topics(self, *args, **options):
        if self.isDeaf:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return super().list_topics(*args, **options)
confluent_kafka.Consumer = Deaf
import runConsumer
sys.exit(runConsumer.main(sys.argv[1:]))
"""


@pytest.mark.waits
def test_goesOnWithANewClient(faultyMock):
    """After what was shown, though that was not committed."""
    faultyMock.publish("topic", "1", "2", partition=0)
    _, *arguments = consumerOf(faultyMock, "topic", "-X", "session.timeout.ms=4000")
    with Process(sys.executable, "-c", DEAF, *arguments) as consumer:
        consumer.until("Received message: 2")
        assert faultyMock.stored("topic", "topic") is None
        faultyMock.publish("topic", "3", "4", partition=0)
        consumer.until("the broker is gone")
        faultyMock.publish("topic", "5", partition=1)
        consumer.until("going on with a new one")
        waitFor(lambda: len(consumer.shown()) >= 5, "the rest", LIMIT)
        consumer.until("the broker is back after")
        faultyMock.publish("topic", "6", partition=0)
        consumer.until("Received message: 6")
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0
    assert sorted(consumer.shown()) == ["1", "2", "3", "4", "5", "6"]
    assert faultyMock.stored("topic", "topic") == 5 and len(consumer.err) == 3, consumer.err
