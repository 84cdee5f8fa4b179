"""The consumer: what it shows, where it goes on, and when it stops."""
import contextlib
import os
import random
import re
import signal
import sys
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic
from support.kafka import waitFor
from support.mockCluster import OFFSET_COMMIT
from support.processes import LIMIT, SIGNALS, Process, complaints, consumerOf, environment, events, run

HOSTILE = {
    b"": "", b"plain": "plain", b"\xff\xfe": "\\xff\\xfe", b"\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    b"one\r\ntwo\x85three": "one\\r\\ntwo\\x85three", "a\u2028b\u2029c\u202ed".encode(): "a\\u2028b\\u2029c\\u202ed",
    "z\u00fcrich \u4e2d \U0001f3b0".encode(): "z\u00fcrich \u4e2d \U0001f3b0", b"NaN": "NaN", b"\x00\x7f\t": "\\x00\\x7f\\t",
    b"[" * 200000: "[" * 200000, b"9" * 5000: "9" * 5000, b"z\xfcrich \\n": "z\\xfcrich \\n",
    "\u6771\u4eac".encode() + b"\xe5\xa4 \n": "\u6771\u4eac\\xe5\\xa4 \\n", "a\u2066b\u2069c\x9bd".encode(): "a\\u2066b\\u2069c\\x9bd",
    **{text.encode(): text for text in ("\u6771\u4eac\u3000\u5927\u962a", "1\u00a0000", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f680",
                                        "C:\\new", "\ufeffa")}}
BROKEN = """
import sys
import confluent_kafka

class Broken(confluent_kafka.Consumer):
    def store_offsets(self, *_args, **_options):
        raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE, "why"))
confluent_kafka.Consumer = Broken
import runConsumer
sys.exit(runConsumer.main(sys.argv[1:]))
"""


def consume(ground, topic, *arguments, **options):
    """Run a consumer in a group of its topic's name."""
    return run(*consumerOf(ground, topic, *arguments), **options)


def test_eachMessageIsOneLineThatTheTerminalDoesNotObey(mock):
    topic = mock.topic()
    mock.publish(topic, *HOSTILE, None, partition=0)
    ended = consume(mock, topic, "-e", len(HOSTILE) + 1)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert events(ended.stdout) == [*HOSTILE.values(), "null"]


def test_binaryValueIsOneLineThatTheTerminalDoesNotObey(mock):
    topic, value = mock.topic(), random.Random(1).randbytes(900000).replace(b"\\", b"")
    mock.publish(topic, value)
    [shown] = events(consume(mock, topic, "-e", 1).stdout)
    assert not re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)
    plain = re.sub(r"\\(x..|u....|[rnt])|[^ -~]", "", shown)  # without the escapes, and what is no ASCII
    assert plain.encode() == bytes(byte for byte in value if 0x20 <= byte < 0x7f)


@pytest.mark.parametrize("encoding, shown", [("ascii", "z\\xfcrich \\u4e2d"), ("latin-1", "z\u00fcrich \\u4e2d")])
def test_terminalThatKnowsFewerCharacters(mock, encoding, shown):
    topic = mock.topic()
    mock.publish(topic, "z\u00fcrich \u4e2d")
    ended = consume(mock, topic, "-e", 1, env=environment(PYTHONIOENCODING=encoding), encoding="latin-1")
    assert (ended.returncode, events(ended.stdout)) == (0, [shown])


def test_everyNth(mock):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(1, 26)), partition=0)
    assert events(consume(mock, topic, "-e", 25, "-p", 10).stdout) == ["1", "10", "20"]


def test_eventsAreExactAndTheNextStartGoesOn(kafka):
    topic = kafka.topic()
    kafka.publish(topic, *map(str, range(3000)), partition=2)
    first, second = (consume(kafka, topic, "-e", count) for count in (1001, 5))
    rest = consume(kafka, topic, "--timeout", 5)
    shown = [events(ended.stdout) for ended in (first, second, rest)]
    assert list(map(len, shown)) == [1001, 5, 1994] and sum(shown, []) == list(map(str, range(3000)))
    assert [ended.returncode for ended in (first, second, rest)] == [0, 0, 0]


def test_tooFewInTime(mock):
    topic = mock.topic()
    mock.publish(topic, "one", "two")
    ended = consume(mock, topic, "-e", 3, "--timeout", 4)
    assert ended.returncode == 1 and len(events(ended.stdout)) == 2
    assert ended.stderr == "runConsumer: 2 of 3 events arrived, then none for 4 s\n"


def test_noneInTime(mock):
    """Without -e that is no failure."""
    topic = mock.topic()
    ended = consume(mock, topic, "--timeout", 1)
    assert (ended.returncode, events(ended.stdout), complaints(ended.stderr.splitlines())) == (0, [], [])


def test_timeoutCountsFromTheLastEvent(mock):
    """Each of the pauses is shorter, all of them are longer."""
    topic = mock.topic()
    mock.publish(topic, "0", partition=0)
    with Process(*consumerOf(mock, topic, "--timeout", 4)) as consumer:
        consumer.until("Received message: 0")
        for number in range(1, 11):
            consumer.outlast(0.5)
            mock.publish(topic, str(number), partition=0)
            consumer.until(f"Received message: {number}\n")
        assert consumer.end() == 0


def test_interruptedAgainAndAgainItShowsEveryEventOnce(kafka):
    """Also where Python buffers no output: it then drops what is half written."""
    topic, total, shown, starts = kafka.topic(), 400000, [], 0
    assert run("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", total, "-m", 0, "-x", 0).returncode == 0
    while len(shown) < total:
        starts += 1
        number, env = SIGNALS[starts % 3], environment(PYTHONUNBUFFERED="1" if starts % 2 else "")
        with Process(*consumerOf(kafka, topic, "--timeout", 30), env=env) as consumer:
            consumer.until("Received message")
            consumer.send_signal(number)
            assert consumer.end() == (0 if number == signal.SIGINT else 128 + number)
            assert consumer.err == []
            shown += consumer.shown()
    assert starts > 3
    assert Counter(shown) == Counter(kafka.values(topic))


def test_leavingManyEventsBehindCostsLittle(faultyMock):
    """Such as no flood of commits while the group takes its time for one."""
    for _ in range(4):
        faultyMock.publish("topic", *["event"] * 50000)
    faultyMock.cluster.linger(OFFSET_COMMIT, 2000)
    before = os.times()
    ended = consume(faultyMock, "topic", "-e", 100)
    after = os.times()
    assert (ended.returncode, len(events(ended.stdout)), ended.stderr) == (0, 100, "")
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full not found")
def test_whatNobodyCouldReadIsShownByTheNextStart(mock):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    with open("/dev/full", "w") as full:
        ended = consume(mock, topic, "-e", 1, stdout=full)
    assert ended.returncode == 1 and "standard output is gone" in ended.stderr
    assert mock.stored(topic, topic) is None


def test_errorOfTheLibraryIsOneLine(mock):
    topic = mock.topic()
    mock.publish(topic, "one")
    ended = run(sys.executable, "-c", BROKEN, *consumerOf(mock, topic)[1:])
    assert (ended.returncode, ended.stderr) == (1, "runConsumer: why\n")


def test_newGroupBeginsAtTheEndIfAsked(mock):
    topic = mock.topic()
    mock.publish(topic, "old")
    with Process(*consumerOf(mock, topic, "-X", "auto.offset.reset=latest")) as consumer:
        waitFor(lambda: mock.publish(topic, "new") or consumer.shown(), "a new one", LIMIT)
    assert set(consumer.shown()) == {"new"}


def test_storedOffsetBeyondTheLog(kafka):
    topic = kafka.topic(partitions=1)
    kafka.publish(topic, "one", "two")
    store = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    store.commit(offsets=[TopicPartition(topic, 0, 5000)], asynchronous=False)
    store.close()
    ended = consume(kafka, topic, "-e", 2, "--timeout", 30)
    assert (ended.returncode, events(ended.stdout), ended.stderr) == (0, ["one", "two"], "")


@pytest.mark.parametrize("reset, shown", [("earliest", ["50"]), ("error", [])])
def test_deletedBeforeTheyWereShown(kafka, reset, shown):
    topic = kafka.topic(partitions=1)
    kafka.publish(topic, *map(str, range(100)))
    assert consume(kafka, topic, "-e", 10).returncode == 0
    deleted = kafka.admin.delete_records([TopicPartition(topic, 0, 50)])
    assert all(future.result(LIMIT) for future in deleted.values())
    ended = consume(kafka, topic, "-e", 50, "--timeout", 30, "-X", f"auto.offset.reset={reset}")
    assert (ended.returncode, events(ended.stdout)[:1]) == (0 if shown else 1, shown)
    assert bool(ended.stderr) != bool(shown)


def test_logThatStartsAnew(kafka):
    topic = kafka.topic(partitions=1)

    def create():
        with contextlib.suppress(KafkaException):
            kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(LIMIT)
            return True
    kafka.publish(topic, *map(str, range(100)))
    with Process(*consumerOf(kafka, topic)) as consumer:
        waitFor(lambda: len(consumer.shown()) == 100, "the first 100", LIMIT)
        kafka.admin.delete_topics([topic])[topic].result(LIMIT)
        waitFor(create, "the topic anew", LIMIT)
        kafka.publish(topic, "new 1", "new 2")
        waitFor(lambda: consumer.shown()[100:] == ["new 1", "new 2"], "the new ones", LIMIT)
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0


def test_partitionsThatAreAdded(kafka):
    topic = kafka.topic()
    with Process(*consumerOf(kafka, topic)) as consumer:
        consumer.until("Listening")
        kafka.admin.create_partitions([NewPartitions(topic, 8)])[topic].result(LIMIT)
        waitFor(lambda: len(kafka.admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions) == 8, "eight", LIMIT)
        kafka.publish(topic, "one", partition=7)
        consumer.until("Received message: one")
        consumer.send_signal(signal.SIGINT)
        assert (consumer.end(), consumer.err) == (0, [])
