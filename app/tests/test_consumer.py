"""The consumer: what it shows, where it goes on, and when it stops."""
import contextlib
import os
import random
import re
import signal
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic
from support.kafka import waitFor
from support.mockCluster import OFFSET_COMMIT
from support.processes import LIMIT, SIGNALS, Process, complaints, consumerOf, environment, events, run, runHere

HOSTILE = {
    b"": "", b"plain": "plain", b"\xff\xfe": "\\xff\\xfe", b"\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    b"one\r\ntwo\x85three": "one\\r\\ntwo\\x85three", "a\u2028b\u2029c\u202ed".encode(): "a\\u2028b\\u2029c\\u202ed",
    "z\u00fcrich \u4e2d \U0001f3b0".encode(): "z\u00fcrich \u4e2d \U0001f3b0", b"NaN": "NaN", b"\x00\x7f\t": "\\x00\\x7f\\t",
    b"[" * 200000: "[" * 200000, b"9" * 5000: "9" * 5000, b"z\xfcrich \\n": "z\\xfcrich \\n",
    "\u6771\u4eac".encode() + b"\xe5\xa4 \n": "\u6771\u4eac\\xe5\\xa4 \\n", "a\u2066b\u2069c\x9bd".encode(): "a\\u2066b\\u2069c\\x9bd",
    **{text.encode(): text for text in ("\u6771\u4eac\u3000\u5927\u962a", "1\u00a0000", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f680",
                                        "C:\\new", "\ufeffa")}}


def topicOf(ground, *values, partition=0, **config):
    """Return a new topic with values on one of its partitions."""
    topic = ground.topic(**config)
    ground.publish(topic, *values, partition=partition)
    return topic


def consume(ground, topic, *arguments, **options):
    """Run a consumer to its end. Return its exit status, the events that it showed, and its complaints."""
    ended = run(*consumerOf(ground, topic, *arguments), **options)
    return ended.returncode, events(ended.stdout), complaints(ended.stderr)


def test_eachMessageIsOneLineThatTheTerminalDoesNotObey(mock):
    topic = topicOf(mock, *HOSTILE, None)
    assert consume(mock, topic, "-e", len(HOSTILE) + 1) == (0, [*HOSTILE.values(), "null"], [])


def test_binaryValueIsOneLineThatTheTerminalDoesNotObey(mock):
    value = random.Random(1).randbytes(900000).replace(b"\\", b"")
    _, [shown], _ = consume(mock, topicOf(mock, value), "-e", 1)
    assert not re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)
    plain = re.sub(r"\\(x..|u....|[rnt])|[^ -~]", "", shown)  # without the escapes, and what is no ASCII
    assert plain.encode() == bytes(byte for byte in value if 0x20 <= byte < 0x7f)


@pytest.mark.parametrize("encoding, shown", [("ascii", "z\\xfcrich \\u4e2d"), ("latin-1", "z\u00fcrich \\u4e2d")])
def test_terminalThatKnowsFewerCharacters(mock, encoding, shown):
    topic, options = topicOf(mock, "z\u00fcrich \u4e2d"), {"env": environment(PYTHONIOENCODING=encoding), "encoding": "latin-1"}
    assert consume(mock, topic, "-e", 1, **options) == (0, [shown], [])


def test_everyNth(mock):
    topic = topicOf(mock, *map(str, range(1, 26)))
    assert consume(mock, topic, "-e", 25, "-p", 10) == (0, ["1", "10", "20"], [])


def test_eventsAreExactAndTheNextStartGoesOn(kafka):
    numbers = list(map(str, range(3000)))
    topic = topicOf(kafka, *numbers, partition=2)
    for arguments, expected in (["-e", 1001], numbers[:1001]), (["-e", 5], numbers[1001:1006]), (["--timeout", 5], numbers[1006:]):
        assert consume(kafka, topic, *arguments) == (0, expected, [])


def test_tooFewInTime(mock):
    expected = 1, ["one", "two"], ["runConsumer: 2 of 3 events arrived, then none for 4.5 s"]
    assert consume(mock, topicOf(mock, "one", "two"), "-e", 3, "--timeout", 4.5) == expected


def test_noneInTime(mock):
    """Without -e that is no failure."""
    assert consume(mock, mock.topic(), "--timeout", 1) == (0, [], [])


def test_timeoutCountsFromTheLastEvent(mock):
    """Each of the pauses is shorter, all of them are longer."""
    topic = topicOf(mock, "0")
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
            assert complaints(consumer.err) == []
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
    assert ended == (0, ["event"] * 100, [])
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2


def test_errorOfTheLibraryIsOneLine(mock, monkeypatch, capfd):
    class Broken(Consumer):
        def store_offsets(self, _message):
            raise KafkaException(KafkaError(KafkaError._STATE, "why"))
    monkeypatch.setattr("runConsumer.Consumer", Broken)
    assert runHere(*consumerOf(mock, topicOf(mock, "one"))) == 1
    assert complaints(capfd.readouterr().err) == ["runConsumer: why"]


def test_newGroupBeginsAtTheEndIfAsked(mock):
    topic = topicOf(mock, "old")
    with Process(*consumerOf(mock, topic, "-X", "auto.offset.reset=latest")) as consumer:
        waitFor(lambda: mock.publish(topic, "new") or consumer.shown(), "a new one", LIMIT)
    assert set(consumer.shown()) == {"new"}


@pytest.mark.parametrize("stored", [10, 5000])
@pytest.mark.parametrize("properties, status", [([], 0), (["-X", "auto.offset.reset=error"], 1)])
def test_storedOffsetBeforeOrBeyondTheLog(kafka, stored, properties, status):
    """Where events were deleted before they were shown, or the log has lost its end."""
    numbers = list(map(str, range(100)))
    topic = topicOf(kafka, *numbers, partitions=1)
    store = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    store.commit(offsets=[TopicPartition(topic, 0, stored)], asynchronous=False)
    store.close()
    deleted = kafka.admin.delete_records([TopicPartition(topic, 0, 50)])
    assert all(future.result(LIMIT) for future in deleted.values())
    *ended, said = consume(kafka, topic, "-e", 50, "--timeout", 30, *properties)
    assert ended == [status, [] if status else numbers[50:]]
    assert bool(said) == bool(status)


def test_logThatStartsAnew(kafka):
    topic = topicOf(kafka, *map(str, range(100)), partitions=1)

    def create():
        with contextlib.suppress(KafkaException):
            kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(LIMIT)
            return True
    with Process(*consumerOf(kafka, topic)) as consumer:
        waitFor(lambda: len(consumer.shown()) == 100, "the first 100", LIMIT)
        kafka.admin.delete_topics([topic])[topic].result(LIMIT)
        waitFor(create, "the topic anew", LIMIT)
        kafka.publish(topic, "new 1", "new 2")
        waitFor(lambda: consumer.shown()[100:] == ["new 1", "new 2"], "the new ones", LIMIT)
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0
