"""The grounds that the tests stand on, and what they use to run the scripts as a user does."""
import contextlib
import ctypes
import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pexpect
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

APP = Path(__file__).parent.parent
sys.path.insert(0, str(APP))
import apacheKafka  # noqa: E402
import composeStack  # noqa: E402
import gameplay  # noqa: E402
from apacheKafka import QUICK, ApacheKafka, ApacheKafka4  # noqa: E402
from mockCluster import MockCluster  # noqa: E402
from reaper import reaper  # noqa: E402
from terminal.stopping import SIGNALS  # noqa: E402

PR_SET_PDEATHSIG = 1  # of Linux: the signal to get when the parent dies
LIMIT = 120  # seconds after which whatever a test waits for will not come any more


SERVERS = ("stack", "packageIndex", "threeBrokers", "faultyKafka", "secured", "elsewhere", "strict", "kafka4", "kafka")
EVENT = r'\{"playerId": \d+, "gameId": \d+, "stake": \d+, "win": \d+, "eventTime": "[^"]+"\}'
NOT_SET = ("BOOTSTRAP_SERVERS environment variable not set. "
           "Using commandline argument for bootstrap server.")
READY = "We are ready, press the enter key to continue"
QUESTION = "Press 'Y' to continue, 'N' to exit."
EXIT = "Press the enter key to exit"


def pytest_configure(config):
    """Print the reason of every skip; end each worker with its pytest, for the reaper to see.

    Let no script inherit that a signal is ignored, as it is under nohup and in the background.
    """
    if hasattr(config, "workerinput") and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in signal.SIGHUP, signal.SIGINT:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


def pytest_xdist_auto_num_workers(config):
    """Return how many workers there are: quick tests mostly wait, servers need the two cores."""
    return 8 if config.option.markexpr == "quick" else 4


def serverOf(item):
    """Return the server that a test needs, None for none."""
    names = set(item.fixturenames)
    if "ground" in names:
        names.add(item.callspec.params["ground"])
    return next((name for name in SERVERS if name in names), None)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups next
def pytest_collection_modifyitems(items):
    """Mark as quick what needs no server. Run the tests of a server first, one after the other."""
    for item in items:
        server = serverOf(item)
        item.add_marker(pytest.mark.xdist_group(server) if server else pytest.mark.quick)
    items.sort(key=lambda item: SERVERS.index(serverOf(item)) if serverOf(item) else len(SERVERS))


def environment(**changes):
    """Return this process's environment without BOOTSTRAP_SERVERS, with the changes."""
    return {**{key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}, **changes}


def command(script, *arguments):
    """Return the command line of one of the scripts."""
    return [sys.executable, f"{script}.py", *map(str, arguments)]


def start(words, env=None, **options):
    """Start a process in the folder of the scripts, or in that of cwd=, without a terminal."""
    options = {"cwd": APP, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               "text": True, **options}
    process = subprocess.Popen(words, env=env or environment(), **options)
    reaper.process(process.pid)
    return process


def finish(process):
    """Wait for the end of a process, and return that."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()  # does nothing to one that has ended
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script, *arguments, **options):
    """Run a script to its end without a terminal."""
    return finish(start(command(script, *arguments), **options))


def runHere(script, *arguments):
    """Run a script's main() in this process. Return its exit status; leave signals as they were."""
    module = importlib.import_module(script)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    bounds = {name: getattr(gameplay, name) for name in gameplay.BOUNDS}
    try:
        return module.main(list(map(str, arguments)))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in bounds.items():
            setattr(gameplay, name, value)


def terminal(script, *arguments, env=None, **options):
    """Run a script in a pseudo-terminal."""
    name, *rest = command(script, *arguments)
    child = pexpect.spawn(name, rest, cwd=str(APP), env=env or environment(), encoding="utf-8",
                          timeout=LIMIT, dimensions=(50, 300), **options)
    reaper.process(child.pid)
    return child


class FakeTime:
    """A clock that only the waits of the code under test move, each a little late."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + 0.0002


class Process:
    """A script that runs in the background without a terminal; its lines are collected as they come."""

    def __init__(self, script, *arguments, env=None):
        self.process = start(command(script, *arguments), env=env)
        self.out, self.err = [], []
        self.threads = [threading.Thread(target=lines.extend, args=(stream,), daemon=True) for lines, stream in
                        ((self.out, self.process.stdout), (self.err, self.process.stderr))]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def until(self, text):
        """Wait until a line with the text was printed, on either stream."""
        apacheKafka.waitFor(lambda: any(text in line for line in [*self.out, *self.err]) or self.process.poll() is not None,
                            f"{text!r} from {self.process.args}", LIMIT)
        assert any(text in line for line in [*self.out, *self.err]), (text, self.out[-5:], self.err)

    def send(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self):
        """Wait for its end and return the exit status."""
        status = self.process.wait(LIMIT)
        for thread in self.threads:
            thread.join(LIMIT)
        return status

    def shown(self):
        """Return the events that it printed, as JSON text."""
        return events("".join(self.out))


def outlast(process, seconds):
    """Require that a process goes on for so many seconds."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.process.wait(seconds)


def events(output):
    """Return the events that a script printed, as JSON text."""
    starts = "Message produced: ", "Received message: "
    return [line[len(starts[0]):] for line in output.replace("\r", "").split("\n") if line.startswith(starts)]


def finished(output):
    """Return N of the line "Finished publishing: N messages."."""
    return next(int(line.split()[2]) for line in output if line.startswith("Finished publishing: "))


def topicsOf(broker):
    """Return the names of the topics that a broker knows: one that has just started may know less."""
    return set(AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=LIMIT).topics)


class Ground:
    """A broker with four partitions a topic, and what is on it."""

    def __init__(self, name, bootstrap):
        self.name = name
        self.connect(bootstrap)

    def connect(self, bootstrap):
        """Use a broker at an address from here on."""
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topic(self, partitions=4, replicas=1, **config):
        """Make a topic with a name of its own and return that."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        if self.name == "apache":
            config = {key.replace("_", "."): value for key, value in config.items()}

            def make():  # a broker that was away refuses it for a moment
                self.admin.list_topics(timeout=LIMIT)  # it may have to learn who is the controller now
                with contextlib.suppress(KafkaException):
                    self.admin.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(LIMIT)
                return all(name in topicsOf(broker) for broker in self.cluster.brokers if broker.running())
            apacheKafka.waitFor(make, f"topic {name}", LIMIT)
        else:
            self.admin.list_topics(name, timeout=LIMIT)
        return name

    def messages(self, topic):
        """Return all that is on a topic, partition after partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test",
                             "enable.auto.commit": False, "enable.partition.eof": True,
                             "log_level": 0})
        partitions = consumer.list_topics(topic, timeout=LIMIT).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        found, ends = [], set()
        while ends != set(partitions):
            batch = consumer.consume(10000, 0.1) or [consumer.poll(LIMIT)]
            assert batch[0], f"no end of {topic} within {LIMIT} s"
            ends |= {message.partition() for message in batch if message.error()}  # told as an error
            found += [message for message in batch if not message.error()]
        consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def values(self, topic):
        """Return the values of all that is on a topic, as text."""
        return [message.value().decode() for message in self.messages(topic)]

    def count(self, topic):
        """Return how many messages are on a topic, once a broker leads its partitions."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "log_level": 0})

        def ask():
            with contextlib.suppress(KafkaException):
                found = consumer.list_topics(topic, timeout=LIMIT).topics[topic]
                if not found.error:
                    return [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=LIMIT)
                            for number in found.partitions]
            return None
        marks = apacheKafka.waitFor(ask, f"the broker to lead topic {topic}", LIMIT)
        consumer.close()
        return sum(high - low for low, high in marks)

    def publish(self, topic, *values, **message):
        """Publish values as they are."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for value in values:
            producer.produce(topic, value, **message)
        assert producer.flush(LIMIT) == 0


def matches(lines, expected):
    """Compare lines with literal text, in which EVENT stands for an event."""
    assert len(lines) == len(expected), lines
    for line, text in zip(lines, expected):
        assert re.fullmatch(re.escape(text).replace("EVENT", EVENT), line), (line, text)


def byPlayer(texts):
    """Return {player: its events in order}."""
    players = {}
    for text in texts:
        players.setdefault(json.loads(text)["playerId"], []).append(text)
    return players


@pytest.fixture(scope="session")
def mock():
    """librdkafka's own broker, in this process."""
    with MockCluster() as cluster:
        ground = Ground("mock", cluster.bootstrap)
        ground.cluster = cluster
        yield ground


@pytest.fixture
def mockCluster():
    """Three brokers of librdkafka's own, for one test."""
    with MockCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The compose stack, started."""
    reason = composeStack.missing()
    if reason:
        pytest.skip(reason)
    stack = composeStack.Stack(tmp_path_factory.mktemp("stack"), functools.partial(Ground, "stack"))
    try:
        stack.compose("up", "-d", "--build", "--wait")
        yield stack
    finally:
        stack.compose("down", "-v", "--rmi", "local")


@pytest.fixture(scope="session")
def packageIndex():
    """The index that pip installs from; skip where it does not answer."""
    ended = finish(start([sys.executable, "-m", "pip", "--retries", "1", "index", "versions", "confluent-kafka"]))
    if ended.returncode:
        pytest.skip(f"no package can be installed: {' '.join(ended.stderr.split())[-300:]}")


def requireKafka():
    """Skip where Apache Kafka cannot run, and say why."""
    reason = apacheKafka.missing()
    if reason:
        pytest.skip(reason)


@contextlib.contextmanager
def apache(kind=ApacheKafka, **options):
    """Run an Apache Kafka for the tests in the block."""
    requireKafka()
    with kind(**options) as cluster:
        ground = Ground("apache", cluster.bootstrap)
        ground.cluster = cluster
        yield ground


@pytest.fixture(scope="session")
def kafka():
    """Apache Kafka; the tests that stop it use another one."""
    with apache() as ground:
        yield ground


@pytest.fixture(scope="session")
def faultyKafka():
    """Apache Kafka, whose broker may be stopped and started."""
    with apache(options=QUICK) as ground:
        yield ground


@pytest.fixture(scope="session")
def strict():
    """Apache Kafka that creates no topic on demand."""
    with apache(options=QUICK, auto_create_topics_enable="false") as ground:
        yield ground


@pytest.fixture(scope="session")
def elsewhere():
    """Apache Kafka that sends clients to addresses where nobody is: {address: (HOST:PORT that leads to it, a topic)}."""
    requireKafka()
    cluster = ApacheKafka(options=QUICK)
    bootstraps = {address: cluster.broker.mislead(address) for address in ("broker.nowhere.invalid:21003", "127.0.0.1:7")}
    with apache(lambda: cluster) as ground:
        topic = ground.topic()
        yield {address: (bootstrap, topic) for address, bootstrap in bootstraps.items()}


@pytest.fixture(scope="session")
def kafka4():
    """Apache Kafka 4, which needs no ZooKeeper."""
    with apache(ApacheKafka4) as ground:
        yield ground


@pytest.fixture(scope="session")
def threeBrokersOfSession():
    """Apache Kafka with three brokers, which hold each topic three times."""
    with apache(brokers=3, options=QUICK) as ground:
        yield ground


@pytest.fixture
def threeBrokers(threeBrokersOfSession):
    """The same, whole again before each test."""
    for broker in threeBrokersOfSession.cluster.brokers:
        if broker.running():
            broker.resume()
        else:
            broker.start()
    return threeBrokersOfSession


@pytest.fixture(params=["mock", "kafka"])
def ground(request):
    """Each of the two grounds in turn."""
    return request.getfixturevalue(request.param)
