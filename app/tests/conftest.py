"""The grounds that the tests stand on, and what they use to run the scripts as a user does."""
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pexpect
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

APP = Path(__file__).parent.parent
sys.path.insert(0, str(APP))
import apacheKafka  # noqa: E402
import console  # noqa: E402
import gameplay  # noqa: E402

LIMIT = 120  # seconds after which whatever a test waits for will not come any more


def pytest_configure(config):
    """Print the reason of every skip."""
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


def environment(**changes):
    """Return this process's environment without BOOTSTRAP_SERVERS, with the changes."""
    return {**{key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}, **changes}


def command(script, *arguments):
    """Return the command line of one of the scripts."""
    return [sys.executable, f"{script}.py", *map(str, arguments)]


def run(script, *arguments, env=None, **options):
    """Run a script to its end without a terminal."""
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": LIMIT, **options}
    return subprocess.run(command(script, *arguments), cwd=APP, env=env or environment(), **options)


def runHere(script, *arguments):
    """Run a script's main() in this process. Return its exit status; leave signals as they were."""
    module = importlib.import_module(script)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {number: signal.getsignal(number) for number in console.SIGNALS}
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
    return pexpect.spawn(name, rest, cwd=str(APP), env=env or environment(), encoding="utf-8", timeout=LIMIT,
                         dimensions=(50, 300), **options)


class Process:
    """A script that runs in the background without a terminal; its lines are collected as they come."""

    def __init__(self, script, *arguments, env=None):
        self.process = subprocess.Popen(command(script, *arguments), cwd=APP, env=env or environment(), text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def events(output):
    """Return the events that a script printed, as JSON text."""
    starts = "Message produced: ", "Received message: "
    return [line[len(starts[0]):] for line in output.replace("\r", "").split("\n") if line.startswith(starts)]


def finished(output):
    """Return N of the line "Finished publishing: N messages."."""
    return next(int(line.split()[2]) for line in output if line.startswith("Finished publishing: "))


class Ground:
    """A broker with four partitions a topic, and what is on it."""

    def __init__(self, name, bootstrap):
        self.name, self.bootstrap = name, bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topic(self, partitions=4, replicas=1, **config):
        """Make a topic with a name of its own and return that."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        if self.name == "apache":
            config = {key.replace("_", "."): value for key, value in config.items()}

            def make():  # a broker that was away refuses it for a moment
                with contextlib.suppress(KafkaException):
                    self.admin.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(LIMIT)
                return name in self.admin.list_topics(timeout=LIMIT).topics
            apacheKafka.waitFor(make, f"topic {name}", LIMIT)
        else:
            self.admin.list_topics(name, timeout=LIMIT)
        return name

    def messages(self, topic):
        """Return all that is on a topic, partition after partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False,
                             "log_level": 0})
        found = []
        for partition in range(len(consumer.list_topics(topic, timeout=LIMIT).topics[topic].partitions)):
            end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=LIMIT)[1]
            consumer.assign([TopicPartition(topic, partition, 0)])
            while len([message for message in found if message.partition() == partition]) < end:
                batch = consumer.consume(min(end, 10000), 1)
                found += [message for message in batch if not message.error()]
        consumer.close()
        return found

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


def byPlayer(texts):
    """Return {player: its events in order}."""
    players = {}
    for text in texts:
        players.setdefault(json.loads(text)["playerId"], []).append(text)
    return players


@pytest.fixture(scope="session")
def mock():
    """librdkafka's own broker, in this process."""
    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = holder.list_topics(timeout=LIMIT).brokers[1]
    yield Ground("mock", f"{broker.host}:{broker.port}")


def requireKafka():
    """Skip where Apache Kafka cannot run, and say why."""
    reason = apacheKafka.missing()
    if reason:
        pytest.skip(reason)


@contextlib.contextmanager
def apache(**properties):
    """Run an Apache Kafka for the tests in the block."""
    requireKafka()
    with apacheKafka.ApacheKafka(**properties) as cluster:
        ground = Ground("apache", cluster.bootstrap)
        ground.cluster = cluster
        yield ground


@pytest.fixture(scope="session")
def kafka():
    """Apache Kafka; the tests that stop it bring their own."""
    with apache() as ground:
        yield ground


@pytest.fixture(params=["mock", "kafka"])
def ground(request):
    """Each of the two grounds in turn."""
    return request.getfixturevalue(request.param)
