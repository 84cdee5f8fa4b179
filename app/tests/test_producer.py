"""The producer: what it publishes, what it says of it, and when."""
import json
import random
import signal

import pytest
from support.processes import NOT_SET, FakeTime, Process, environment, events, finished, run

import pace
import runProducer
from cluster import publisher, settings
from terminal.console import Console
from terminal.stopping import Stopping


class FakeClient:
    """Takes events, and acknowledges them whenever it is polled, unless it is told to be silent."""

    def __init__(self, clock, wait=0.0, silentUntil=0):
        self.clock, self.wait, self.silentUntil = clock, wait, silentUntil
        self.queue, self.times = [], []

    def __len__(self):
        return len(self.queue)

    def produce_batch(self, topic, messages, on_delivery):
        self.queue += [message.get("callback", on_delivery) for message in messages]
        self.times += [self.clock.now] * len(messages)
        return len(messages)

    def poll(self, seconds):
        self.clock.sleep(int(seconds * 1000) / 1000 + self.wait)
        while self.queue and self.clock.now >= self.silentUntil:
            self.queue.pop(0)(None, None)

    flush = poll


class FakeConnection:
    """A connection of which nothing is to be said."""
    topic = "topic"
    topicIsGone, trouble = False, None

    def __init__(self, client, window, stop):
        self.client, self.stop, self.outage, self.console = client, stop, self, Console("test", stop)
        self.conf = {settings.MESSAGES: str(window), settings.KBYTES: "1000000"}

    def serve(self, wait, seconds):
        wait(seconds)

    def progress(self):
        pass

    def report(self):
        pass


class FakeError:
    """An error as a delivery report has it."""

    def str(self):
        return "Broker: refused"


def enter(ledger, count):
    """Enter so many numbered events. Return {number: its delivery report}, a function of an error."""
    first = ledger.produced + 1
    messages = [{"value": f"event {number}"} for number in range(first, first + count)]
    ledger.enter(messages)
    reports = [message.get("callback", ledger.report) for message in messages]
    return {number: lambda error=None, call=call: call(error, None) for number, call in enumerate(reports, first)}


def test_shownAfterTheirAcknowledgementInOrderOfGeneration():
    ledger = publisher.Ledger(Stopping())
    reports = enter(ledger, 4)
    for number, shown in ((4, []), (2, []), (1, [1, 2]), (3, [3, 4])):
        reports[number]()
        assert ledger.shown() == [f"event {number}" for number in shown]
    assert (ledger.produced, ledger.delivered, ledger.failed, ledger.waiting()) == (4, 4, 0, 0)


def test_failedEventIsCountedAndNotShown():
    ledger = publisher.Ledger(Stopping())
    reports = enter(ledger, 3)
    reports[1]()
    reports[2](FakeError())
    reports[3]()
    assert ledger.shown() == ["event 1", "event 3"] and ledger.stop.reasons == ["Broker: refused"]
    assert ledger.summary(["why"]) == "3 produced, 2 delivered, 1 failed: why"


def test_givenUpEventHoldsNothingBack():
    ledger = publisher.Ledger(Stopping())
    reports = enter(ledger, 3)
    reports[3]()
    assert ledger.shown() == [] and ledger.waiting() == 2
    ledger.giveUp()
    assert ledger.shown() == ["event 3"]
    assert (ledger.delivered, ledger.failed, ledger.waiting()) == (1, 2, 0)


@pytest.mark.parametrize("nth", [1, 3, 7, 1000, 2500])
def test_firstAndEveryNthAreShown(nth):
    ledger, reports = publisher.Ledger(Stopping(), nth), {}
    for count in (1, 999, 1000, 13, 987):
        reports.update(enter(ledger, count))
    for number in random.sample(sorted(reports), len(reports)):
        reports[number]()
    expected = [1, *(number for number in range(2, 3001) if number % nth == 0)]
    assert ledger.shown() == [f"event {number}" for number in expected]


def produce(monkeypatch, window=100000, **behaviour):
    """Return a Produce of numbered events with a clock and a client of its own."""
    clock = FakeTime()
    for module in runProducer, pace, publisher:
        monkeypatch.setattr(module, "time", clock)
    stop, numbers = Stopping(), iter(range(1, 10 ** 9))
    connection = FakeConnection(FakeClient(clock, **behaviour), window, stop)
    return runProducer.Produce(publisher.Publisher(connection, 10 ** 9), Console("test", stop), stop,
                               lambda: (1, f"event {next(numbers)}"))


def loop(producer, events, least, longest, pauses):
    """Run a loop, and return when each event was published."""
    producer.loop(events, pace.Pace(least, longest, pauses))
    return producer.publisher.client.times


@pytest.mark.parametrize("least, longest", [(1, 1), (1, 3), (5, 5), (10, 50), (0, 1), (700, 800)])
@pytest.mark.parametrize("wait", [0.0, 0.0004, 0.02])
def test_pausesAddUpWhateverDelaysAnEvent(monkeypatch, least, longest, wait):
    producer = produce(monkeypatch, wait=wait)
    times = loop(producer, 500, least, longest, random.Random(5))
    pauses, due = random.Random(5), 100.0
    assert len(times) == 500
    for time in times:
        assert due <= time <= due + wait + 0.003  # late by at most one wait, never later and later
        due += pauses.uniform(least, longest) / 1000


def test_afterAnOutageTheLoopCatchesUp(monkeypatch):
    producer = produce(monkeypatch, window=50, silentUntil=110)
    times = loop(producer, 2000, 10, 10, random.Random())
    assert sum(time < 110 for time in times) == 50  # the queue was full
    assert len(times) == 2000 and times[-1] < 100 + 1999 * 0.01 + 0.1


def test_fullQueueDoesNotWaitForLinger(monkeypatch):
    producer = produce(monkeypatch, window=7)
    client, clock = producer.publisher.client, producer.publisher.client.clock
    client.poll = clock.sleep  # nothing is acknowledged before linger.ms, which flush() passes over
    client.flush = lambda seconds: FakeClient.poll(client, 0.001)
    assert len(loop(producer, 700, 0, 0, random.Random())) == 700 and clock.now - 100 < 100 * 0.002


def test_seedGivesTheSamePauses(monkeypatch):
    def times(seed):
        return loop(produce(monkeypatch), 100, 10, 50, random.Random(seed))
    assert times(1) == times(1) != times(2)


def test_noRoomIsNoEvents(monkeypatch):
    producer = produce(monkeypatch, window=3)
    producer.generateAndPublish(3)
    assert producer.publisher.room() == 0
    producer.publisher.client.queue += [None] * 4  # the client counts its requests too
    assert producer.publisher.room() == 0


def test_topicThatIsGoneIsNotWaitedFor(monkeypatch):
    producer = produce(monkeypatch, silentUntil=500)
    producer.generateAndPublish(3)
    producer.publisher.connection.topicIsGone = True
    assert not producer.publisher.finish(producer.acked)
    assert producer.publisher.ledger.failed == 3


@pytest.mark.parametrize("messages, kbytes, window", [("100", "1000", 100), ("100000", "1000", 4000)])
def test_windowFitsIntoTheQueue(messages, kbytes, window):
    assert settings.window({settings.MESSAGES: messages, settings.KBYTES: kbytes}) == window


def test_eventsThatWaitToBeShownTakeRoom(monkeypatch):
    producer = produce(monkeypatch, window=3)
    producer.publisher.ledger.nthMsg = 1
    producer.generateAndPublish(3)
    producer.publisher.client.queue.clear()  # the client has all reports but hands none of them over
    assert producer.publisher.room() == 0


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


@pytest.mark.parametrize("arguments, variable, file, typed", [
    ([], "{good}", None, None),
    (["-b", "localhost:1"], "{good}", None, "localhost:1"),
    (["-b", "{good}"], "", None, None),
    (["-b", "{good}"], None, None, None),
    (["-X", "bootstrap.servers={good}"], "bad:1", None, None),
    (["-b", "bad:2", "-X", "bootstrap.servers={good}"], "bad:1", None, "bad:2"),
    (["-F", "{file}"], "bad:1", "{good}", None),
    (["-F", "{file}", "-X", "metadata.broker.list={good}"], "bad:1", "bad:3", None)])
@pytest.mark.parametrize("script", ["runProducer", "runConsumer"])
def test_whichServer(mock, tmp_path, script, arguments, variable, file, typed):
    """typed: the server of a -b that is not used."""
    names = {"good": mock.bootstrap, "file": tmp_path / "kafka.properties"}
    if file:
        text = f"# a comment\n\n bootstrap.servers = {file}\nsocket.keepalive.enable=true\n"
        names["file"].write_text(text.format(**names))
    changes = {} if variable is None else {"BOOTSTRAP_SERVERS": variable.format(**names)}
    topic = mock.topic()
    mock.publish(topic, "one")
    more = ["-g", topic, "-e", 1] if script == "runConsumer" else []
    ended = run(script, "-t", topic, *(text.format(**names) for text in arguments), *more,
                env=environment(**changes))
    assert f"Bootstrap servers: {mock.bootstrap}\n" in ended.stdout and ended.returncode == 0
    assert (NOT_SET in ended.stdout) == (not variable)
    assert ended.stderr == (f"{script}: -b {typed} is not used: -X, -F or BOOTSTRAP_SERVERS "
                            "names the server\n" if typed else "")


def test_boundsForThisRun(mock):
    topic = mock.topic()
    ended = run("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 2000, "-m", 0, "-x", 0,
                "--set", "maxPlayerId=10000", "--set", "minStake=7", "--set", "maxStake=7")
    drawn = [json.loads(text) for text in mock.values(topic)]
    assert (ended.returncode, ended.stderr, len(drawn)) == (0, "", 2000)
    assert {event["stake"] for event in drawn} == {7}
    assert max(event["playerId"] for event in drawn) > 5000
