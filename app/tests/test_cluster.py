"""Clusters of several brokers, in part away, hung, moved or started anew: nothing lost or twice."""
import contextlib
import datetime
import json
import signal
import socket
import threading
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic
from support.kafka import waitFor
from support.mockCluster import MockCluster
from support.processes import LIMIT, Process, byPlayer, events, finished, outlast, run

LOOP = "-l", "-e", 0, "-m", 1, "-x", 1, "-p", 1
MISSING = "no answer for 1 of 4 partitions: "


def properties(*pairs):
    """Return the flags that set properties."""
    return [word for pair in pairs for word in ("-X", pair)]


def utc():
    """Return this moment as an eventTime has it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")


@contextlib.contextmanager
def pair(bootstrap, topic, more=()):
    """Run an endless producer and a consumer, both of which have shown something. more: flags of the consumer."""
    arguments = "-t", topic, "-b", bootstrap
    with Process("runProducer", *arguments, *LOOP) as producer, \
            Process("runConsumer", *arguments, "-g", topic, *more) as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        yield producer, consumer


def goOn(*processes, within=LIMIT):
    """Wait until each of the processes has shown an event that was generated after this moment.

    A producer shows events in order: all that were queued before are then acknowledged, of all partitions.
    """
    now = utc()

    def isSilent(process):
        newest = events("".join(process.out[-1:]))
        return not newest or json.loads(newest[0])["eventTime"] <= now

    def silent():
        return [(process.process.args, process.err) for process in processes if isSilent(process)]
    with contextlib.suppress(TimeoutError):
        waitFor(lambda: not silent(), "more events", within)
    assert silent() == []


def reconcile(ground, topic, producer, consumer):
    """End both, and require all that was shown and stored to be the same, each event once."""
    producer.send(signal.SIGINT)
    assert producer.end() == 130, producer.err
    count = finished(producer.out)
    waitFor(lambda: len(consumer.shown()) >= count, "the rest", LIMIT)
    consumer.send(signal.SIGINT)
    assert consumer.end() == 0, consumer.err

    def values():  # a broker that has just become the leader shows only what it knows that others have
        found = ground.values(topic)
        return found if len(found) >= count else None
    shown, stored, received = producer.shown(), waitFor(values, "all of the topic", LIMIT), consumer.shown()
    assert len(shown) == count and Counter(shown) == Counter(stored) == Counter(received)
    assert byPlayer(shown) == byPlayer(stored) == byPlayer(received)


def leaderless(ground, topic):
    """Return how many partitions of a topic have no leader."""
    parts = ground.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions.values()
    return sum(part.leader < 0 for part in parts)


@pytest.mark.parametrize("age, lost", [(1000, False), (900000, True)])
def test_startingBrokerThatDoesNotKnowTheTopic(age, lost):
    """The run is older than the time after which librdkafka gives up: 4 s here, 2,000 s by default.

    What saves it is that the library's knowledge of the topic grows old: without that it is lost.
    """
    limits = properties("topic.metadata.propagation.max.ms=4000", f"metadata.max.age.ms={age}")
    with MockCluster() as cluster:
        cluster.topic("topic")
        with Process("runProducer", "-t", "topic", "-b", cluster.bootstrap, *LOOP, *limits) as producer:
            waitFor(lambda: len(producer.out) > 5000, "5 s of events", LIMIT)
            cluster.down(1)
            cluster.forget("topic")
            cluster.up(1)
            if not lost:
                outlast(producer, 2)  # in which the library asks for the topic
                cluster.remember("topic")
                goOn(producer)
                producer.send(signal.SIGINT)
            assert producer.end() == (1 if lost else 130), producer.err
        count = finished(producer.out)
    assert count == len(producer.shown())
    if lost:
        assert "Unknown topic" in producer.err[-1]
    else:
        assert producer.err[-1].startswith(f"runProducer: {count} produced, {count} delivered, 0 failed")


def test_brokerOfThreeAway(mockCluster):
    mockCluster.topic("topic", replicas=3)
    with pair(mockCluster.bootstrap, "topic") as (producer, consumer):
        mockCluster.down(2)
        for process in producer, consumer:
            process.until(MISSING)
        mockCluster.up(2)
        for process in producer, consumer:
            process.until("all partitions answer again after")
        goOn(producer, consumer)
        for process in producer, consumer:
            process.send(signal.SIGTERM)
            assert process.end() == 143
    assert len(producer.err) == 3 and len(consumer.err) == 2


def test_allOfThreeAway(mockCluster):
    mockCluster.topic("topic", replicas=3)
    with pair(mockCluster.bootstrap, "topic") as (producer, consumer):
        for broker in (1, 2, 3):
            mockCluster.down(broker)
        for process in producer, consumer:
            process.until("the broker is gone: ")
        for broker in (1, 2, 3):
            mockCluster.up(broker)
        for process in producer, consumer:
            process.until("the broker is back after")
        goOn(producer, consumer)


def test_slowBrokerIsABroker():
    with MockCluster() as cluster:
        cluster.topic("topic")
        cluster.delay(1, 1200)
        with pair(cluster.bootstrap, "topic") as (producer, consumer):
            for process, status in ((producer, 130), (consumer, 0)):
                process.send(signal.SIGINT)
                assert process.end() == status
    assert not any("gone" in line or "away" in line for line in [*producer.err, *consumer.err])


def test_reasonIsNotOneOfAnOutageThatIsOver():
    with MockCluster() as cluster:
        cluster.topic("topic")
        with pair(cluster.bootstrap, "topic") as (producer, consumer):
            cluster.down(1)
            for process in producer, consumer:
                process.until("the broker is gone: ")
                assert "no answer" not in process.err[0]
            cluster.up(1)
            for process in producer, consumer:
                process.until("the broker is back after")
            goOn(producer, consumer)
            cluster.delay(1, 60000)
            for process in producer, consumer:
                process.until("the broker is gone: no answer")


@pytest.mark.parametrize("setting", [
    "group.protocol=classic", "partition.assignment.strategy=cooperative-sticky",
    "partition.assignment.strategy=roundrobin", "group.instance.id=one", "enable.partition.eof=true",
    "enable.auto.commit=false", "allow.auto.create.topics=true", "statistics.interval.ms=100",
    "isolation.level=read_uncommitted"])
def test_consumerProperty(mock, setting):
    topic = mock.topic()
    mock.publish(topic, "one")
    ended = run("runConsumer", "-t", topic, "-b", mock.bootstrap, "-g", topic, "-e", 1, "-X", setting)
    assert (ended.returncode, ended.stderr, events(ended.stdout)) == (0, "", ["one"])


@pytest.mark.parametrize("setting", [
    "enable.idempotence=false", "message.timeout.ms=0", "compression.codec=gzip", "acks=all",
    "statistics.interval.ms=100"])
def test_producerProperty(mock, setting):
    topic = mock.topic()
    ended = run("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 100, "-m", 0, "-x", 0,
                "-p", 1, "-X", setting)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(events(ended.stdout)) == sorted(mock.values(topic))


def startAll(ground):
    """Start all brokers, side by side."""
    threads = [threading.Thread(target=broker.start) for broker in ground.cluster.brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def describe(ground, group):
    """Return what the cluster knows of a group."""
    return ground.admin.describe_consumer_groups([group])[group].result(LIMIT)


def test_allThreeKilled(threeBrokers):
    topic = threeBrokers.topic(replicas=3)
    with pair(threeBrokers.bootstrap, topic) as (producer, consumer):
        for broker in threeBrokers.cluster.brokers:
            broker.stop(signal.SIGKILL)
        producer.until("the broker is gone")
        consumer.until("the broker is gone")
        startAll(threeBrokers)
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)
    assert len(producer.err) < 10 and len(consumer.err) < 10


@pytest.mark.parametrize("coordinates", [False, True])
def test_brokerOfThreeHangs(threeBrokers, coordinates):
    """All goes on while it hangs. By default the library would wait 60 s for its answers."""
    topic = threeBrokers.topic(replicas=3)
    with pair(threeBrokers.bootstrap, topic) as (producer, consumer):
        number = describe(threeBrokers, topic).coordinator.id
        number = number if coordinates else number % 3 + 1
        broker = threeBrokers.cluster.brokers[number - 1]
        broker.pause()
        for process in producer, consumer:
            process.until("no answer for ")
        goOn(producer, within=30)
        count = len(producer.shown())  # of all partitions, also those that it led
        waitFor(lambda: len(consumer.shown()) >= count, "the consumer to leave it", 30)
        broker.resume()
        for process in producer, consumer:
            process.until("all partitions answer again after")
        reconcile(threeBrokers, topic, producer, consumer)
    assert not any("gone" in line for line in [*producer.err, *consumer.err])


def test_brokerThatIsAwayFromTheStart(threeBrokers):
    """Its partitions have no leader, so nobody asks it."""
    topic = threeBrokers.topic(partitions=6, min_insync_replicas=1)
    threeBrokers.cluster.brokers[2].stop(signal.SIGKILL)
    waitFor(lambda: leaderless(threeBrokers, topic) == 2, "the cluster to notice", LIMIT)
    arguments = "-t", topic, "-b", threeBrokers.bootstrap
    with Process("runProducer", *arguments, *LOOP) as producer, \
            Process("runConsumer", *arguments, "-g", topic) as consumer:
        for process in producer, consumer:
            process.until("no answer for 2 of 6 partitions: ")
        threeBrokers.cluster.brokers[2].start()
        for process in producer, consumer:
            process.until("all partitions answer again after")
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)


def test_partitionsThatAreAdded(kafka):
    topic = kafka.topic()
    with Process("runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic) as consumer:
        consumer.until("Listening")
        added = kafka.admin.create_partitions([NewPartitions(topic, 8)])
        added[topic].result(LIMIT)
        waitFor(lambda: len(kafka.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions) == 8, "eight", LIMIT)
        kafka.publish(topic, "one", partition=7)
        consumer.until("Received message: one")
        consumer.send(signal.SIGINT)
        assert consumer.end() == 0
    assert consumer.err == []


def test_rollingRestart(threeBrokers):
    topic = threeBrokers.topic(replicas=3)
    with pair(threeBrokers.bootstrap, topic) as (producer, consumer):
        for broker in threeBrokers.cluster.brokers:
            broker.stop(signal.SIGTERM)
            broker.start()
            goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)


class Forwarder:
    """A TCP port that leads to another one, which may change."""

    def __init__(self, port):
        self.target, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.bootstrap = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_clusterThatMoves(threeBrokers):
    topic, brokers = threeBrokers.topic(replicas=3), threeBrokers.cluster.brokers
    forwarder = Forwarder(brokers[0].port)
    with pair(forwarder.bootstrap, topic) as (producer, consumer):
        for broker in brokers:
            broker.stop(signal.SIGKILL)
        producer.until("the broker is gone")
        for broker in brokers:
            broker.move()
        startAll(threeBrokers)
        forwarder.target = brokers[0].port
        threeBrokers.connect(threeBrokers.cluster.bootstrap)
        goOn(producer, consumer)
        reconcile(threeBrokers, topic, producer, consumer)
    assert len(producer.err) < 10 and len(consumer.err) < 10


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_membersComeAndGo(threeBrokers, strategy):
    topic = threeBrokers.topic(replicas=3, partitions=12)
    consume = ("runConsumer", "-t", topic, "-b", threeBrokers.bootstrap, "-g", topic,
               *properties(f"partition.assignment.strategy={strategy}"))
    with Process("runProducer", "-t", topic, "-b", threeBrokers.bootstrap, *LOOP) as producer, \
            Process(*consume) as staying:
        staying.until("Received message")
        members = [staying]
        for stop in [signal.SIGINT, signal.SIGTERM] * 5:
            with Process(*consume) as first, Process(*consume) as second:
                first.until("Listening")
                second.until("Listening")
                first.send(stop)
                second.send(stop)
                first.end()
                second.end()
            members += [first, second]
            assert len(describe(threeBrokers, topic).members) == 1  # no dead one that the others wait for
        producer.send(signal.SIGTERM)
        assert producer.end() == 143
        total = finished(producer.out)

        def received():
            return [text for member in members for text in member.shown()]
        waitFor(lambda: len(received()) >= total, "all events", LIMIT)
        staying.send(signal.SIGINT)
        assert staying.end() == 0
    assert Counter(received()) == Counter(producer.shown())


def create(ground, topic, partitions):
    """Create a topic; tell whether that went well, which takes a moment after its deletion."""
    with contextlib.suppress(KafkaException):
        ground.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(LIMIT)
        return True


def test_logThatStartsAnewUnderAConsumer(faultyKafka):
    topic = faultyKafka.topic(partitions=1)
    faultyKafka.publish(topic, *map(str, range(100)))
    with Process("runConsumer", "-t", topic, "-b", faultyKafka.bootstrap, "-g", topic) as consumer:
        waitFor(lambda: len(consumer.shown()) == 100, "the first 100", LIMIT)
        faultyKafka.admin.delete_topics([topic])[topic].result(LIMIT)
        waitFor(lambda: create(faultyKafka, topic, 1), "the topic anew", LIMIT)
        faultyKafka.publish(topic, "new 1", "new 2")
        waitFor(lambda: consumer.shown()[100:] == ["new 1", "new 2"], "the new ones", LIMIT)
        consumer.send(signal.SIGINT)
        assert consumer.end() == 0
    assert any("its log was made anew" in line for line in consumer.err)


def test_topicMadeAnewUnderAPair(faultyKafka):
    """The broker makes it anew for the producer, with as many partitions. None of them is left out."""
    topic, many = faultyKafka.topic(), 20000
    run("runProducer", "-t", topic, "-b", faultyKafka.bootstrap, "-l", "-e", many, "-m", 0, "-x", 0)
    with pair(faultyKafka.bootstrap, topic) as (producer, consumer):
        waitFor(lambda: len(consumer.shown()) > many, "the consumer to come so far", LIMIT)
        faultyKafka.admin.delete_topics([topic])[topic].result(LIMIT)
        consumer.until("its log was made anew")
        producer.send(signal.SIGINT)
        assert producer.end() == 130
        stored = faultyKafka.values(topic)
        waitFor(lambda: set(stored) <= set(consumer.shown()), "all of the new log", LIMIT)
        consumer.send(signal.SIGINT)
        assert consumer.end() == 0
    assert set(Counter(consumer.shown()).values()) == {1}


def test_storedOffsetBeyondTheLog(kafka):
    topic = kafka.topic(partitions=1)
    kafka.publish(topic, "one", "two")
    store = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    store.commit(offsets=[TopicPartition(topic, 0, 5000)], asynchronous=False)
    store.close()
    ended = run("runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic, "-e", 2, "--timeout", 30)
    assert (ended.returncode, events(ended.stdout)) == (0, ["one", "two"])
    assert ended.stderr == ""


@pytest.mark.parametrize("reset, shown", [("earliest", ["50"]), ("error", [])])
def test_deletedBeforeTheyWereShown(kafka, reset, shown):
    topic = kafka.topic(partitions=1)
    kafka.publish(topic, *map(str, range(100)))
    arguments = "runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic, "--timeout", 30
    assert run(*arguments, "-e", 10).returncode == 0
    deleted = kafka.admin.delete_records([TopicPartition(topic, 0, 50)])
    assert all(future.result(LIMIT) for future in deleted.values())
    ended = run(*arguments, "-e", 50, "-X", f"auto.offset.reset={reset}")
    assert (ended.returncode, events(ended.stdout)[:1]) == (0 if shown else 1, shown)
    assert bool(ended.stderr) != bool(shown)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_kafka4(kafka4, protocol, fault):
    topic, broker = kafka4.topic(), kafka4.cluster.broker
    arguments = "-t", topic, "-b", kafka4.bootstrap
    with Process("runProducer", *arguments, *LOOP) as producer, \
            Process("runConsumer", *arguments, "-g", topic, "-X", f"group.protocol={protocol}") as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        if fault == "kill":
            broker.stop(signal.SIGKILL)
            producer.until("the broker is gone")
            broker.start()
        else:
            broker.pause()
            outlast(producer, 10)  # its own cluster gives it up after 9 s
            broker.resume()
        goOn(producer, consumer)
        reconcile(kafka4, topic, producer, consumer)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_kafka4BrokerKilledAfterASecondConsumerJoined(kafka4, protocol):
    """Its offsets are stored and its partitions handed over while the broker goes: nothing is shown twice."""
    topic, broker = kafka4.topic(), kafka4.cluster.broker
    arguments = "-t", topic, "-b", kafka4.bootstrap
    consume = "runConsumer", *arguments, "-g", topic, *properties(f"group.protocol={protocol}")
    with Process("runProducer", *arguments, *LOOP) as producer, Process(*consume) as first, Process(*consume) as second:
        first.until("Received message")
        second.until("Received message")
        outlast(producer, 1)
        broker.stop(signal.SIGKILL)
        producer.until("the broker is gone")
        broker.start()
        goOn(producer, first, second)
        producer.send(signal.SIGINT)
        assert producer.end() == 130
        waitFor(lambda: len(first.shown()) + len(second.shown()) >= finished(producer.out), "all events", LIMIT)
        for process in first, second:
            process.send(signal.SIGINT)
            assert process.end() == 0, process.err
    assert Counter(first.shown() + second.shown()) == Counter(kafka4.values(topic))
