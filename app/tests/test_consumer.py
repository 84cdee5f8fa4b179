"""The consumer: what it shows, where it goes on, and when it stops."""
import json
import random
import signal
from collections import Counter

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition
from support.grounds import Ground
from support.kafka import waitFor
from support.mockCluster import MockCluster
from support.processes import LIMIT, Process, byPlayer, environment, events, run

from terminal.console import printable

HOSTILE = {
    b"": "", b"plain": "plain", b"\xff\xfe": "\\xff\\xfe", b"\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    b"one\r\ntwo\x85three": "one\\r\\ntwo\\x85three", "a\u2028b\u2029c\u202ed".encode(): "a\\u2028b\\u2029c\\u202ed",
    "z\u00fcrich \u4e2d \U0001f3b0".encode(): "z\u00fcrich \u4e2d \U0001f3b0", b"NaN": "NaN", b"\x00\x7f\t": "\\x00\\x7f\\t",
    b"[" * 200000: "[" * 200000, b"9" * 5000: "9" * 5000, b"z\xfcrich \\n": "z\\xfcrich \\n",
    "\u6771\u4eac".encode() + b"\xe5\xa4 \n": "\u6771\u4eac\\xe5\\xa4 \\n", "a\u2066b\u2069c\x9bd".encode(): "a\\u2066b\\u2069c\\x9bd",
    **{text.encode(): text for text in ("\u6771\u4eac\u3000\u5927\u962a", "1\u00a0000", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f680",
                                        "C:\\new", "\ufeffa")}}


@pytest.mark.parametrize("value, text", [*HOSTILE.items(), (None, "null")], ids=lambda value: repr(value)[:20])
def test_printable(value, text):
    assert printable(value) == text


def consume(ground, topic, *arguments, **options):
    """Run a consumer in a group of its topic's name."""
    return run("runConsumer", "-t", topic, "-b", ground.bootstrap, "-g", topic, *arguments, **options)


def test_eachMessageIsOneLine(ground):
    topic = ground.topic(partitions=1)
    ground.publish(topic, *HOSTILE, None)
    ended = consume(ground, topic, "-e", len(HOSTILE) + 1)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(events(ended.stdout)) == sorted([*HOSTILE.values(), "null"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminalThatKnowsFewerCharacters(mock, encoding):
    topic = mock.topic()
    mock.publish(topic, "z\u00fcrich \u4e2d")
    ended = consume(mock, topic, "-e", 1, env=environment(PYTHONIOENCODING=encoding), encoding="latin-1")
    assert ended.returncode == 0
    assert events(ended.stdout) == ["z\\xfcrich \\u4e2d" if encoding == "ascii" else "z\u00fcrich \\u4e2d"]


def test_everyNth(mock):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(1, 26)), partition=0)
    assert events(consume(mock, topic, "-e", 25, "-p", 10).stdout) == ["1", "10", "20"]


def test_eventsAreExactAndTheNextStartGoesOn(kafka):
    ground, topic = kafka, kafka.topic()
    ground.publish(topic, *map(str, range(3000)), partition=2)
    first, second = (consume(ground, topic, "-e", count) for count in (1001, 5))
    assert events(first.stdout) == [str(number) for number in range(1001)]
    assert events(second.stdout) == [str(number) for number in range(1001, 1006)]
    rest = consume(ground, topic, "--timeout", 5)
    assert events(rest.stdout) == [str(number) for number in range(1006, 3000)]
    assert [ended.returncode for ended in (first, second, rest)] == [0, 0, 0]


def test_tooFewInTime(ground):
    topic = ground.topic()
    ground.publish(topic, "one", "two")
    ended = consume(ground, topic, "-e", 3, "--timeout", 6)
    assert ended.returncode == 1 and len(events(ended.stdout)) == 2
    assert ended.stderr == "runConsumer: 2 of 3 events arrived, then none for 6 s\n"


def test_timeoutCountsFromTheAnswerOfTheGroup():
    with MockCluster() as cluster:
        cluster.topic("topic")
        cluster.hesitate(3000)
        ground = Ground("mock", cluster.bootstrap)
        ground.publish("topic", *map(str, range(20)))
        ended = consume(ground, "topic", "--timeout", 1)
    assert (ended.returncode, len(events(ended.stdout)), ended.stderr) == (0, 20, "")


def test_binaryValueIsEscaped():
    value = random.Random(1).randbytes(1000000).replace(b"\\", b"")
    assert printable(value).encode().decode("unicode_escape").encode("latin-1") == value


def test_checkOfAPipeline(kafka):
    """What the README gives as the check of a pipeline."""
    topic = kafka.topic()
    arguments = "-t", topic, "-b", kafka.bootstrap
    assert run("runProducer", *arguments, "-l", "-e", 1000, "-m", 0, "-x", 0).returncode == 0
    ended = run("runConsumer", *arguments, "-g", "check", "-e", 1000, "--timeout", 20)
    assert ended.returncode == 0 and len(events(ended.stdout)) == 1000
    ended = run("runConsumer", *arguments, "-g", "recheck", "-e", 1001, "--timeout", 5)
    assert ended.returncode == 1 and len(events(ended.stdout)) == 1000


@pytest.mark.parametrize("unbuffered", ["", "1"])  # Python drops half-written output where it is unbuffered
def test_interruptedAgainAndAgainItShowsEveryEventOnce(kafka, unbuffered):
    env = environment(PYTHONUNBUFFERED=unbuffered)
    topic, total, shown, starts = kafka.topic(), 150000, [], 0
    assert run("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", total, "-m", 0, "-x", 0).returncode == 0
    while len(shown) < total:
        starts += 1
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[starts % 3]
        with Process("runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic, "--timeout", 30, env=env) as consumer:
            consumer.until("Received message")
            consumer.send(number)
            assert consumer.end() == (0 if number == signal.SIGINT else 128 + number)
            assert consumer.err == []
            shown += consumer.shown()
    assert starts > 3
    assert Counter(shown) == Counter(kafka.values(topic))


def test_twoOfOneGroupShareTheTopic(kafka):
    topic = kafka.topic()
    arguments = "runConsumer", "-t", topic, "-b", kafka.bootstrap, "-g", topic
    with Process(*arguments) as first, Process("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", 8000,
                                               "-m", 1, "-x", 1) as producer:
        first.until("Received message")
        with Process(*arguments) as second:  # joins, and takes partitions over from the first
            second.until("Received message")
            first.until("2 of 4 partitions: other consumers of group")
            second.send(signal.SIGINT)
            assert second.end() == 0
        first.until("all 4 partitions")
        assert producer.end() == 0
        with Process(*arguments) as third:
            third.until("Listening")
            total = kafka.count(topic)
            waitFor(lambda: sum(len(each.shown()) for each in (first, second, third)) >= total, "the rest")
            first.send(signal.SIGTERM)
            third.send(signal.SIGTERM)
            assert (first.end(), third.end()) == (143, 143), (first.err, third.err)
        shown = [*first.shown(), *second.shown(), *third.shown()]
        share = "runConsumer: 2 of 4 partitions: other consumers of group {} have the rest\n".format(topic)
        assert {*first.err, *second.err, *third.err} <= {share, "runConsumer: all 4 partitions\n"}
    assert Counter(shown) == Counter(kafka.values(topic))
    assert all(sorted(texts) == texts for texts in ([json.loads(text)["eventTime"] for text in texts]
               for texts in byPlayer(second.shown()).values()))


@pytest.mark.parametrize("value, stored", [("true", True), ("1", True), ("false", False), ("False", False), ("0", False)])
def test_storesOffsetsOnlyIfItMay(mock, value, stored):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    ended = consume(mock, topic, "-e", 1, "-X", f"enable.auto.commit={value}")
    assert (ended.returncode, ended.stderr, events(ended.stdout)) == (0, "", ["one"])
    asks = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": topic})
    [found] = asks.committed([TopicPartition(topic, 0)], timeout=LIMIT)
    asks.close()
    assert found.offset == (1 if stored else OFFSET_INVALID)
