"""A client that is dead for good: a producer ends at once with the true count."""
import re
import signal

from confluent_kafka import KafkaError
from support.kafka import waitFor
from support.mockCluster import PRODUCE
from support.pairs import loopOn
from support.processes import LIMIT, Process, finished


def checkEnd(producer):
    """Require that a producer ends by itself, which it would otherwise do after 5 minutes, with one reason."""
    assert producer.end() == 1
    words = re.fullmatch(r"runProducer: (\d+) produced, (\d+) delivered, (\d+) failed: ([^;]*)\n", producer.err[-1])
    assert words, producer.err
    produced, delivered, failed = map(int, words.groups()[:3])
    assert produced == delivered + failed and failed > 0 and delivered == finished(producer.out) == len(producer.shown())
    return words[4]


def test_brokerThatDoesNotKnowTheLastWrites(mockCluster):
    mockCluster.topic("topic", replicas=3)
    with Process(*loopOn(mockCluster, "topic")) as producer:
        producer.until("Message produced")
        mockCluster.refuse(PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        reason = checkEnd(producer)
    assert "sequence" in reason and "waiting for" not in "".join(producer.err), producer.err


def test_brokerThatLostItsLastWrites(faultyKafka):
    """As after a power cut."""
    topic, broker = faultyKafka.topic(), faultyKafka.cluster.broker
    with Process(*loopOn(faultyKafka, topic)) as producer:
        waitFor(lambda: len(producer.out) > 3000, "some events", LIMIT)
        broker.stop(signal.SIGKILL)
        logs = [max(folder.glob("*.log")) for folder in (faultyKafka.cluster.folder / "data-1").glob(f"{topic}-*")]
        for log in logs:
            with open(log, "r+b") as file:
                file.truncate(max(log.stat().st_size - 600, 0))
        broker.start()
        reason = checkEnd(producer)
    assert len(logs) == 4 and "sequence" in reason
