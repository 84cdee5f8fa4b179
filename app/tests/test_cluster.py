"""Clusters of Apache Kafka, in part away, hung, moved or started anew: nothing lost or twice."""
import contextlib
import signal
from collections import Counter

import pytest
from confluent_kafka import KafkaException
from support.forwarder import Forwarder
from support.kafka import freePort, waitFor
from support.pairs import goOn, loopOn, pair, reconcile
from support.processes import LIMIT, Process, consumerOf, finished, run


def leaderless(ground, topic):
    """Return how many partitions of a topic have no leader."""
    parts = ground.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions.values()
    return sum(part.leader < 0 for part in parts)


def describe(ground, group):
    """Return what the cluster knows of a group, once it has a coordinator."""
    def ask():
        with contextlib.suppress(KafkaException):
            return ground.admin.describe_consumer_groups([group])[group].result(LIMIT)
    return waitFor(ask, f"group {group}", LIMIT)


@pytest.mark.parametrize("coordinates", [False, True])
def test_brokerOfThreeHangs(threeBrokers, coordinates):
    """All goes on while it hangs. By default the library would wait 60 s for its answers."""
    topic = threeBrokers.topic(replicas=3)
    with pair(threeBrokers, topic) as (producer, consumer):
        number = describe(threeBrokers, topic).coordinator.id
        number = number if coordinates else number % 3 + 1
        broker = threeBrokers.cluster.brokers[number - 1]
        broker.pause()
        goOn(producer, within=30)
        count = len(producer.shown())  # of all partitions, also those that it led
        waitFor(lambda: len(consumer.shown()) >= count, "the consumer to leave it", 30)
        broker.resume()
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)
    assert not any("gone" in line for line in [*producer.err, *consumer.err])


def test_brokerThatIsAwayFromTheStart(threeBrokers):
    """Its partitions have no leader, so nobody asks it."""
    topic = threeBrokers.topic(partitions=6, min_insync_replicas=1)
    threeBrokers.cluster.brokers[2].stop(signal.SIGKILL)
    waitFor(lambda: leaderless(threeBrokers, topic) == 2, "the cluster to notice", LIMIT)
    with Process(*loopOn(threeBrokers, topic)) as producer, \
            Process(*consumerOf(threeBrokers, topic)) as consumer:
        goOn(consumer)
        threeBrokers.cluster.brokers[2].start()
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)


def test_rollingRestart(threeBrokers):
    topic = threeBrokers.topic(replicas=3)
    with pair(threeBrokers, topic) as (producer, consumer):
        for broker in threeBrokers.cluster.brokers:
            broker.stop(signal.SIGTERM)
            broker.start()
            goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)


@pytest.mark.parametrize("moves", [False, True])
def test_allThreeKilled(threeBrokers, moves):
    """Moves: they come back on other ports, to which the first address leads."""
    topic, brokers = threeBrokers.topic(replicas=3), threeBrokers.cluster.brokers
    forwarder = Forwarder(brokers[0].port)
    with pair(forwarder if moves else threeBrokers, topic) as (producer, consumer):
        for broker in brokers:
            broker.stop(signal.SIGKILL)
        for process in producer, consumer:
            process.until("the broker is gone")
        for broker in brokers if moves else []:
            broker.listen(freePort())
        threeBrokers.cluster.start()
        forwarder.target = brokers[0].port
        threeBrokers.connect(threeBrokers.cluster.bootstrap)
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)
    assert len(producer.err) < 10 and len(consumer.err) < 10


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_membersComeAndGo(threeBrokers, strategy):
    topic = threeBrokers.topic(replicas=3, partitions=12)
    consume = consumerOf(threeBrokers, topic, "-X", f"partition.assignment.strategy={strategy}")
    with Process(*loopOn(threeBrokers, topic)) as producer, \
            Process(*consume) as staying:
        staying.until("Received message")
        members = [staying]
        for stop in [signal.SIGINT, signal.SIGTERM] * 5:
            with Process(*consume) as first, Process(*consume) as second:
                first.until("Listening")
                second.until("Listening")
                first.send_signal(stop)
                second.send_signal(stop)
                assert first.end() == second.end() == (0 if stop == signal.SIGINT else 143), (first.err, second.err)
            members += [first, second]
            left = len(describe(threeBrokers, topic).members)
            assert left == 1, (first.err, second.err)  # no dead one that the others wait for
        producer.send_signal(signal.SIGTERM)
        assert producer.end() == 143
        total = finished(producer.out)

        def received():
            return [text for member in members for text in member.shown()]
        waitFor(lambda: len(received()) >= total, "all events", LIMIT)
        staying.send_signal(signal.SIGINT)
        assert staying.end() == 0
    assert Counter(received()) == Counter(producer.shown())


def test_topicMadeAnewUnderAPair(faultyKafka):
    """The broker makes it anew for the producer, with as many partitions. None of them is left out."""
    topic, many = faultyKafka.topic(), 30000
    run("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", many, "-m", 0, "-x", 0,
        "--set", "maxPlayerId=2000000000")  # or two events of one microsecond may be alike
    with pair(faultyKafka, topic) as (producer, consumer):
        waitFor(lambda: len(consumer.shown()) > many, "the consumer to come so far", LIMIT)
        faultyKafka.admin.delete_topics([topic])[topic].result(LIMIT)
        waitFor(lambda: 0 < faultyKafka.count(topic) < many, "the topic anew", LIMIT)
        goOn(producer, consumer)
        producer.send_signal(signal.SIGINT)
        assert producer.end() == 130
        stored = faultyKafka.values(topic)
        waitFor(lambda: set(stored) <= set(consumer.shown()), "all of the new log", LIMIT)
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0
    assert set(Counter(consumer.shown()).values()) == {1}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_kafka4BrokerAwayAfterASecondConsumerJoined(kafka4, protocol, fault):
    """Its offsets are stored and its partitions handed over while the broker goes."""
    topic, broker = kafka4.topic(), kafka4.cluster.broker
    consume = consumerOf(kafka4, topic, "-X", f"group.protocol={protocol}")
    with Process(*loopOn(kafka4, topic)) as producer, \
            Process(*consume) as first, Process(*consume) as second:
        first.until("Received message")
        second.until("Received message")
        producer.outlast(1)
        if fault == "kill":
            broker.stop(signal.SIGKILL)
            producer.until("the broker is gone")
            broker.start()
        else:
            broker.pause()
            producer.outlast(8)  # after 9 s its own cluster gives it up: librdkafka may not recover
            broker.resume()
        goOn(producer, first, second)
        reconcile(kafka4, topic, producer, first, second)
