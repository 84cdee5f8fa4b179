"""Clusters of Apache Kafka, in part away, hung, moved or started anew: nothing lost or twice."""
import signal
from collections import Counter

import pytest
from support.faults import describe, followerHanging, hanging, killed, moved, paused, restarted
from support.forwarder import Forwarder
from support.kafka import waitFor
from support.pairs import BACK, GONE, HEARD, MUTE, goOn, loopOn, pair, reconcile, said
from support.processes import LIMIT, Process, consumerOf, run

OUTAGE = [GONE, BACK], [MUTE, HEARD]


@pytest.mark.parametrize("ground, fault, consumers, protocol, words", [
    ("faultyKafka", killed, 1, "classic", OUTAGE),
    *[("kafka4", fault, 2, protocol, OUTAGE) for protocol in ("classic", "consumer") for fault in (killed, paused)],
    *[("threeBrokers", fault, 1, "classic", None) for fault in (killed, moved, restarted)],
    *[("threeBrokers", fault, 1, "classic", ([], [MUTE, HEARD])) for fault in (hanging, followerHanging)]],
    indirect=["ground"])
def test_faultUnderAPair(ground, fault, consumers, protocol, words):
    """words: what the producer may say of it."""
    brokers = ground.cluster.brokers
    topic, ground.forwarder = ground.topic(replicas=len(brokers)), Forwarder(brokers[0].port)
    with pair(ground.forwarder if fault == moved else ground, topic, "-X", f"group.protocol={protocol}",
              consumers=consumers) as processes:
        if consumers > 1:
            processes[0].outlast(1)  # then offsets are stored, and partitions handed over, while the broker goes
        fault(ground, topic, *processes)
        # By Kafka 4's protocol, a coordinator that is back may give the last member partitions before their owner is told.
        reconcile(ground, topic, *processes, once=(fault, protocol) != (killed, "consumer"))
    assert max(len(process.err) for process in processes) < 10
    if words:
        assert said(processes[0]) in words, processes[0].err
        for consumer in processes[1:]:
            assert said(consumer) in ([], [GONE, BACK][:len(words[0])]), consumer.err


def test_brokerThatIsAwayFromTheStart(threeBrokers):
    """Its partitions have no leader, so nobody asks it."""
    topic = threeBrokers.topic(partitions=6, min_insync_replicas=1)
    threeBrokers.cluster.brokers[2].stop(signal.SIGKILL)

    def noticed():
        partitions = threeBrokers.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions
        return sum(partition.leader < 0 for partition in partitions.values()) == 2
    waitFor(noticed, "the cluster to notice", LIMIT)
    with Process(*loopOn(threeBrokers, topic)) as producer, \
            Process(*consumerOf(threeBrokers, topic)) as consumer:
        goOn(consumer)
        threeBrokers.cluster.brokers[2].start()
        reconcile(threeBrokers, topic, producer, consumer)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_membersComeAndGo(threeBrokers, strategy):
    topic = threeBrokers.topic(replicas=3, partitions=12)
    consume = consumerOf(threeBrokers, topic, "-X", f"partition.assignment.strategy={strategy}")
    with Process(*loopOn(threeBrokers, topic)) as producer, Process(*consume) as staying:
        staying.until("Received message")
        ended = []
        for stop in [signal.SIGINT, signal.SIGTERM] * 5:
            with Process(*consume) as first, Process(*consume) as second:
                first.until("Listening")
                second.until("Listening")
                first.send_signal(stop)
                second.send_signal(stop)
                assert first.end() == second.end() == (0 if stop == signal.SIGINT else 143), (first.err, second.err)
            ended += [first, second]
            members = len(describe(threeBrokers, topic).members)
            assert members == 1, (first.err, second.err)  # no dead one that the others wait for
        reconcile(threeBrokers, topic, producer, staying, left=ended)


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
