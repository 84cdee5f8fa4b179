"""A client that has lost its broker for good, though the broker is there: the consumer says so, and goes on with a new one.

librdkafka has left one so where a one-node Kafka 4 stood still for more than 9 s.
"""
import signal
import sys

import pytest
from support.kafka import waitFor
from support.processes import LIMIT, Process, complaints, consumerOf

# A stand-in for the first client: after two events it hears nothing any more, and cannot commit. The next one is real.
DEAF = """
import sys
import time
import runConsumer
from confluent_kafka import Consumer, KafkaError, KafkaException

class Deaf(Consumer):
    stored = 0

    def __init__(self, conf):
        super().__init__(conf)
        runConsumer.Consumer = Consumer

    def subscribe(self, topics, on_assign, on_revoke, on_lost):
        super().subscribe(topics, on_assign=on_assign, on_lost=on_lost)

    def consume(self, most, seconds):
        return super().consume(1, seconds) if self.stored < 2 else []

    def poll(self, seconds):
        if self.stored < 2:
            return super().poll(seconds)
        time.sleep(seconds)

    def store_offsets(self, message):
        self.stored += 1
        if self.stored == 2:
            self.close()

    def list_topics(self, *args, **options):
        if self.stored < 2:
            return super().list_topics(*args, **options)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
runConsumer.Consumer = Deaf
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
    assert faultyMock.stored("topic", "topic") == 5 and len(complaints(consumer.err)) == 3, consumer.err
