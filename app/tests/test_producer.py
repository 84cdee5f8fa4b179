"""The producer: what it publishes, what it says of it, and when."""
import json
import random
import signal

import pytest
from confluent_kafka import KafkaException
from conftest import Process, environment, events, finished, run

import common
import gameplay
import runProducer


class FakeTime:
    """A clock that only the waits of the code under test move, each a little late."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + 0.0002


class FakeClient:
    """Takes events and acknowledges them when a test says so."""

    def __init__(self, clock=None, wait=0.0):
        self.clock, self.wait, self.queue, self.times = clock, wait, [], []

    def __len__(self):
        return len(self.queue)

    def produce_batch(self, topic, messages, on_delivery):
        self.queue += [(message.get("callback", on_delivery), FakeMessage(message["value"])) for message in messages]
        self.times += [self.clock.now if self.clock else 0] * len(messages)
        return len(messages)

    def acknowledge(self, index, err=None):
        callback, message = self.queue.pop(index)
        callback(err, message)

    def flush(self, seconds):
        self.poll(seconds)

    def list_topics(self, topic, timeout):
        raise KafkaException("no answer")

    def poll(self, seconds):
        if self.clock:
            self.clock.sleep(int(seconds * 1000) / 1000 + self.wait)
            while self.queue:
                self.acknowledge(0)


class FakeMessage:
    """A message as a delivery report has it."""

    def __init__(self, text):
        self.text = text

    def value(self):
        return self.text.encode()


class FakeError:
    """An error as a delivery report has it."""

    _FATAL = -150

    def code(self):
        return 29

    def str(self):
        return "Broker: refused"


def produce(client, capsys, nthMsg=1, **options):
    """Return a Produce with numbered events."""
    numbers = iter(range(1, 10 ** 9))
    return runProducer.Produce("t", client, common.Console("test"), lambda: (1, f"event {next(numbers)}"), nthMsg, **options)


def test_shownAfterTheirAcknowledgementInOrderOfGeneration(capsys):
    client = FakeClient()
    producer = produce(client, capsys)
    producer.generateAndPublish(4)
    for index, shown in ((3, ""), (1, ""), (0, "12"), (0, "34")):  # events 4, 2, 1, 3
        client.acknowledge(index)
        producer.serve(0)
        assert capsys.readouterr().out == "".join(f"Message produced: event {number}\n" for number in shown)
    assert (producer.produced, producer.delivered, producer.failed) == (4, 4, 0)


def test_failedEventIsCountedAndNotShown(capsys):
    client = FakeClient()
    producer = produce(client, capsys)
    producer.generateAndPublish(3)
    client.acknowledge(0)
    client.acknowledge(0, FakeError())
    client.acknowledge(0)
    assert not producer.finish(True)
    out, err = capsys.readouterr()
    assert out == "Message produced: event 1\nMessage produced: event 3\nFinished publishing: 2 messages.\n"
    assert err == "test: 3 produced, 2 delivered, 1 failed: Broker: refused\n"


@pytest.mark.parametrize("nth", [1, 3, 7, 1000, 2500])
def test_firstAndEveryNthAreShown(capsys, nth):
    client = FakeClient()
    producer = produce(client, capsys, nth)
    for count in (1, 999, 1000, 13, 987):
        producer.generateAndPublish(count)
    while client.queue:
        client.acknowledge(random.randrange(len(client.queue)))
    producer.serve(0)
    expected = [1, *(number for number in range(2, 3001) if number % nth == 0)]
    assert capsys.readouterr().out == "".join(f"Message produced: event {number}\n" for number in expected)


@pytest.mark.parametrize("least, longest", [(1, 1), (1, 3), (5, 5), (10, 50), (0, 1), (700, 800)])
@pytest.mark.parametrize("wait", [0.0, 0.0004, 0.02])
def test_pausesAddUpWhateverDelaysAnEvent(monkeypatch, capsys, least, longest, wait):
    clock = FakeTime()
    monkeypatch.setattr(runProducer, "time", clock)
    client = FakeClient(clock, wait)
    producer = produce(client, capsys, 10 ** 9)
    producer.loop(500, least, longest, random.Random(5))
    pauses, due = random.Random(5), 100.0
    for time in client.times:
        assert due <= time <= due + wait + 0.003  # late by no more than one wait, never later and later
        due += pauses.uniform(least, longest) / 1000


def test_afterAnOutageTheLoopCatchesUp(monkeypatch, capsys):
    clock = FakeTime()
    monkeypatch.setattr(runProducer, "time", clock)
    client = FakeClient(clock)
    poll, polls = client.poll, []

    def stuck(seconds):  # nothing is acknowledged before the clock says 110
        polls.append(seconds)
        clock.sleep(seconds) if clock.now < 110 else poll(seconds)
    client.poll = stuck
    producer = produce(client, capsys, 10 ** 9, window=50)
    producer.loop(2000, 10, 10, random.Random())
    assert max(index for index, time in enumerate(client.times) if time < 110) == 49  # the queue was full
    assert client.times[-1] < 100 + 1999 * 0.01 + 0.1
    assert "the broker is gone" in capsys.readouterr().err


def test_orderAndCountsAtFullSpeed(ground):
    topic = ground.topic()
    ended = run("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 20000, "-m", 0, "-x", 0, "-p", 1)
    shown = events(ended.stdout)
    times = [json.loads(text)["eventTime"] for text in shown]
    assert len(shown) == 20000 == finished(ended.stdout.split("\n")) and times == sorted(times)
    assert sorted(shown) == sorted(ground.values(topic))
    assert (ended.stderr, ended.returncode) == ("", 0)


@pytest.mark.parametrize("limit", ["queue.buffering.max.messages=7", "queue.buffering.max.kbytes=2"])
def test_fullQueueLosesNothingAndKeepsOrder(kafka, limit):
    topic = kafka.topic()
    ended = run("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", 3000, "-m", 0, "-x", 0, "-p", 1, "-X", limit)
    assert (ended.stderr, ended.returncode) == ("", 0)
    shown = events(ended.stdout)
    assert len(shown) == 3000
    for partition in range(4):
        here = [message.value().decode() for message in kafka.messages(topic) if message.partition() == partition]
        assert here == [text for text in shown if text in set(here)]


def test_keyIsThePlayer(ground):
    topic = ground.topic()
    run("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 50, "-m", 0, "-x", 0)
    assert all(message.key().decode() == str(json.loads(message.value())["playerId"]) for message in ground.messages(topic))


def test_seedGivesTheSameGameWhateverThePauses():
    def game(*arguments):
        ended = run("runProducer", "-t", "t", "--embedded", "-l", "-e", 60, "-p", 1, *arguments)
        return [text.split(', "eventTime"')[0] for text in events(ended.stdout)]
    first = game("--seed", 42, "-m", 0, "-x", 0)
    assert len(first) == 60
    assert first == game("--seed", 42, "-m", 1, "-x", 3) == game("--seed", 42, "-m", 2, "-x", 2)
    assert first != game("--seed", 43, "-m", 0, "-x", 0) != game("-m", 0, "-x", 0)


def test_seedGivesTheSamePauses(monkeypatch, capsys):
    def times(seed):
        monkeypatch.setattr(runProducer, "time", FakeTime())
        client = FakeClient(runProducer.time)
        produce(client, capsys, 10 ** 9).loop(100, 10, 50, random.Random(seed))
        return client.times
    assert times(1) == times(1) != times(2)


def test_endlessLoopEndsWithItsSignal(ground):
    topic = ground.topic()
    with Process("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 0, "-m", 0, "-x", 0, "-n", 100) as producer:
        producer.until("Number loops: endless")
        producer.until("Message produced")
        producer.send(signal.SIGTERM)
        assert producer.end() == 143
        count = finished(producer.out)
        assert producer.err == [f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by SIGTERM\n"]
        assert ground.name == "mock" or count == ground.count(topic)  # the mock drops what is old


SET = "BOOTSTRAP_SERVERS environment variable not set"


@pytest.mark.parametrize("variable, arguments, lost", [
    ("GOOD", [], False), ("GOOD", ["-b", "localhost:1"], True), ("", ["-b", "GOOD"], False), (None, ["-b", "GOOD"], False),
    ("bad:1", ["-X", "bootstrap.servers=GOOD"], False), ("bad:1", ["-b", "bad:2", "-X", "bootstrap.servers=GOOD"], True),
    ("bad:1", ["-F", "FILE"], False), ("bad:1", ["-F", "BADFILE", "-X", "metadata.broker.list=GOOD"], False)])
@pytest.mark.parametrize("script", ["runProducer", "runConsumer"])
def test_whichServer(mock, tmp_path, script, variable, arguments, lost):
    for name, server in (("FILE", mock.bootstrap), ("BADFILE", "bad:3")):
        (tmp_path / name).write_text(f"# a comment\n\n bootstrap.servers = {server}\nsocket.keepalive.enable=true\n")
    topic = mock.topic()
    mock.publish(topic, "one")
    arguments = [text.replace("GOOD", mock.bootstrap).replace("BADFILE", f"{tmp_path}/BADFILE") if "FILE" != text
                 else f"{tmp_path}/FILE" for text in arguments]
    env = environment() if variable is None else environment(BOOTSTRAP_SERVERS=variable.replace("GOOD", mock.bootstrap))
    more = ["-g", topic, "-e", 1] if script == "runConsumer" else []
    ended = run(script, "-t", topic, *arguments, *more, env=env)
    assert f"Bootstrap servers: {mock.bootstrap}\n" in ended.stdout and ended.returncode == 0
    assert (SET in ended.stdout) == (not variable)
    typed = arguments[1] if lost else None
    assert ended.stderr == (f"{script}: -b {typed} is not used: -X, -F or BOOTSTRAP_SERVERS names the server\n" if lost else "")


def test_wrongBoundsAreToldBeforeAnythingIsAsked(monkeypatch, capsys):
    monkeypatch.setattr(gameplay, "minStake", 500)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {number: signal.getsignal(number) for number in common.SIGNALS}
    try:
        assert runProducer.main(["-t", "t", "--embedded"]) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("runProducer: error: gameplay.py: minStake 500 to maxStake 300 is no range of whole numbers\n")


def test_noRoomIsNoEvents(capsys):
    client = FakeClient()
    producer = produce(client, capsys, window=3)
    producer.generateAndPublish(3)
    client.queue += [None] * 4  # the client counts its requests too
    assert producer.room() == 0
