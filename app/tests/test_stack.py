"""The compose stack as the post's reader starts and uses it, beside any stack of the same machine."""
import io
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
import uuid

import pexpect
import pytest
import yaml
from apacheKafka import freePort, waitFor
from conftest import APP, LIMIT, QUESTION, READY, Ground, byPlayer, events, finished, matches, run
from confluent_kafka.admin import ConfigResource
from reaper import reaper

COMPOSE = APP.parent / "docker" / "docker-compose.yml"
DOCKERFILE = APP.parent / "docker" / "build" / "Dockerfile"
CHECKED = {"zookeeper", "broker", "kafka-ui"}
SERVICES = CHECKED | {"kafka-init-topics", "event-gen"}
PROMPT = "app@event-gen:/app$ "
SERVER = "Bootstrap servers: broker:29092"
EXIT = "Press the enter key to exit"
START = 300  # seconds for a start with its builds and health checks


def docker(*arguments, timeout=LIMIT, **options):
    """Run a docker command to its end without a terminal."""
    return subprocess.run(["docker", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, **options)


def done(*arguments, **options):
    """Run a docker command that has to succeed, and return what it printed."""
    ended = docker(*arguments, **options)
    assert ended.returncode == 0, (arguments, ended.stdout[-2000:], ended.stderr[-4000:])
    return ended.stdout


def missing():
    """Say what the stack lacks on this machine, or None where it can run."""
    if not shutil.which("docker"):
        return "the stack needs Docker: no docker on the PATH"
    for command in (["info"], ["compose", "version"]):
        ended = docker(*command)
        if ended.returncode:
            return f"the stack needs Docker: docker {' '.join(command)}: {' '.join(ended.stderr.split())[-300:]}"
    base = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    pulled = [line.split()[-1] for line in done("compose", "-f", COMPOSE, "config").split("\n") if " image: " in line]
    for image in {*pulled, *base}:
        if docker("image", "inspect", image).returncode:
            ended = docker("pull", "-q", image, timeout=600)
            if ended.returncode and not re.search("not found|manifest unknown", ended.stderr):  # such a tag is a fault
                return f"the stack needs the image {image}: {' '.join(ended.stderr.split())[-300:]}"
    return None


class Stack:
    """The repository's stack under a project, container names and ports of its own."""

    def __init__(self, folder):
        self.project = f"test-{uuid.uuid4().hex[:8]}"
        self.port, self.uiPort = freePort(), freePort()
        self.ground = Ground("stack", f"localhost:{self.port}")
        self.override = folder / "override.yml"
        names = (f"  {service}:\n    container_name: {self.name(service)}\n" for service in SERVICES)
        self.override.write_text("services:\n" + "".join(names))
        self.env = {**os.environ, "BROKER_PORT": str(self.port), "UI_PORT": str(self.uiPort),
                    "ZOOKEEPER_PORT": str(freePort())}
        reaper.command(*self.command("down", "-v", "--rmi", "local"))

    def name(self, service):
        """Return the name of a service's container."""
        return f"{self.project}-{service}"

    def command(self, *arguments):
        """Return the command line of docker compose for it."""
        return ["docker", "compose", "-p", self.project, "-f", str(COMPOSE), "-f", str(self.override), *arguments]

    def compose(self, *arguments):
        """Run a docker compose command on it, and return what it printed."""
        return done(*self.command(*arguments)[1:], timeout=START, env=self.env)

    def execute(self, *command):
        """Run a command in event-gen by docker exec without a terminal."""
        return docker("exec", self.name("event-gen"), *command)

    def containers(self):
        """Return {service: its container's state, id and volumes}."""
        found = json.loads(done("inspect", *map(self.name, sorted(SERVICES))))
        return {one["Name"][len(self.project) + 2:]: {
            **one["State"], "Id": one["Id"], "Volumes": [mount["Name"] for mount in one["Mounts"]]} for one in found}

    def whole(self):
        """Tell whether four containers run, in good health where that is checked, and the fifth has done its work."""
        states = self.containers()
        ended = states.pop("kafka-init-topics")
        return ((ended["Status"], ended["ExitCode"]) == ("exited", 0)
                and all(state["Status"] == "running" for state in states.values())
                and all(states[service]["Health"]["Status"] == "healthy" for service in CHECKED))

    def count(self):
        """Return how many events are on the topic, once the broker leads its partitions."""
        return self.ground.count("gameplay")


class Shell:
    """`docker exec -it event-gen bash` in a pseudo-terminal."""

    def __init__(self, container):
        self.log = io.StringIO()
        self.child = pexpect.spawn("docker", ["exec", "-it", container, "bash"], encoding="utf-8", timeout=LIMIT,
                                   dimensions=(50, 300))
        self.child.logfile_read = self.log
        self.child.expect_exact(PROMPT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.close(force=True)

    def type(self, line, *expected):
        """Type a line and Enter, and wait for texts."""
        self.child.sendline(line)
        for text in expected:
            self.child.expect_exact(text)

    def lines(self):
        """Return the lines that the last command has left on the screen, once the prompt is back."""
        self.child.expect_exact(PROMPT)
        text = re.sub(r"\x1b\[\?2004[hl]\r?|\x1b\][^\a]*\a|\^C", "", self.log.getvalue())
        return [line.rstrip("\r").split("\r")[-1] for line in text.split(PROMPT)[-2].split("\n")[1:-1]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """The stack, started."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.compose("up", "-d", "--build", "--wait")
        yield stack
    finally:
        stack.compose("down", "-v", "--rmi", "local")


@pytest.fixture(scope="module")
def written():
    """The compose file as it is written."""
    return yaml.safe_load(COMPOSE.read_text())


def test_writtenServices(written):
    services = written["services"]
    assert services.keys() == SERVICES and "version" not in written
    assert all(service["container_name"] == name for name, service in services.items())
    assert all(services.keys() >= service.get("depends_on", {}).keys() for service in services.values())
    assert all(services[name]["healthcheck"]["test"] for name in CHECKED)
    assert all(services[name]["restart"] == "unless-stopped" for name in ("zookeeper", "broker"))
    assert services["event-gen"]["init"] is True


def test_writtenImagesArePinned(written):
    images = {name: service["image"] for name, service in written["services"].items() if name != "event-gen"}
    base = re.findall(r"^FROM (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    pinned = r"[\w./-]+(:v?\d[\w.-]*|:\$\{\w+:-\d[\w.-]*\}|(:[\w.-]+)?@sha256:[0-9a-f]{64})"
    assert [image for image in [*images.values(), *base] if not re.fullmatch(pinned, image)] == []
    assert len(base) == 1
    assert len({image.partition(":")[2] for image in images.values() if image.startswith("confluentinc/")}) == 1
    assert set(re.findall(r"\$\{?(\w+)", COMPOSE.read_text())) == {
        "CONFLUENT_TAG", "BROKER_PORT", "UI_PORT", "ZOOKEEPER_PORT"}


def test_writtenPortsAreOnLoopback(written):
    ports = {name: service["ports"] for name, service in written["services"].items() if "ports" in service}
    assert ports == {"zookeeper": ["127.0.0.1:${ZOOKEEPER_PORT:-2181}:2181"],
                     "broker": ["127.0.0.1:${BROKER_PORT:-9092}:${BROKER_PORT:-9092}"],
                     "kafka-ui": ["127.0.0.1:${UI_PORT:-8080}:8080"]}


def test_writtenDockerfile():
    steps = [line.split() for line in DOCKERFILE.read_text().split("\n") if line[:1].isalpha()]
    assert [rest for step, *rest in steps if step == "WORKDIR"][-1] == ["/app"]
    assert steps[-1][0] == "USER" and steps[-1][1].split(":")[0] not in ("root", "0")


def test_fiveBecomeFour(stack):
    assert stack.whole(), stack.containers()
    before = stack.containers()
    stack.compose("up", "-d", "--wait")
    assert stack.whole(), stack.containers()
    assert {name: state["Id"] for name, state in stack.containers().items()} == {
        name: state["Id"] for name, state in before.items()}


def test_configHasNoWarning(stack):
    ended = docker("compose", "-f", COMPOSE, "config", "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_topic(stack):
    assert len(stack.ground.admin.list_topics("gameplay", timeout=LIMIT).topics["gameplay"].partitions) == 4
    topic = ConfigResource(ConfigResource.Type.TOPIC, "gameplay")
    assert stack.ground.admin.describe_configs([topic])[topic].result(LIMIT)["retention.ms"].value == "86400000"


def test_kafkaUi(stack):
    def get(path):
        return urllib.request.urlopen(f"http://localhost:{stack.uiPort}{path}", timeout=LIMIT)
    assert b"UP" in get("/actuator/health").read()
    clusters = get("/api/clusters")
    if clusters.headers.get_content_type() == "application/json":  # an image that only stands in for it has no API
        assert [cluster["name"] for cluster in json.load(clusters)] == ["local"]
        waitFor(lambda: b'"gameplay"' in get("/api/clusters/local/topics").read(), "the topic in Kafka UI", LIMIT)


def test_container(stack):
    listing = stack.execute("sh", "-c", "pwd; ls -A")
    assert listing.stdout.split() == ["/app", *sorted(path.name for path in APP.glob("*.py"))]
    assert stack.execute("id", "-u").stdout.strip() != "0"


def test_loop(stack):
    with Shell(stack.name("event-gen")) as consumer, Shell(stack.name("event-gen")) as producer:
        consumer.type("python runConsumer.py -t gameplay", READY)
        consumer.type("", "Listening for events")
        producer.type("python runProducer.py -t gameplay -l -e 1000 -m 0 -x 1 -p 100", READY)
        producer.type("", EXIT)
        producer.type("")
        published = producer.lines()
        for _ in range(1000):
            consumer.child.expect_exact("Received message: ")
        consumer.child.expect_exact("\n")
        consumer.child.sendintr()
        consumer.child.expect_exact("Press the enter key to exit the consume application.")
        consumer.type("")
        received = consumer.lines()
    matches(published, [
        "Running in a loop. Number loops: 1000 Min latency: 0 Max latency: 1 Printing every 100:th message.",
        READY, SERVER, "Generating and publishing event in loop", *["Message produced: EVENT"] * 11,
        "Finished publishing: 1000 messages.", EXIT])
    matches(received, [SERVER, READY, "Listening for events on topic: gameplay. Press Ctrl-C to exit.",
                       *["Received message: EVENT"] * 1000, "Press the enter key to exit the consume application."])
    received = events("\n".join(received))
    assert byPlayer(received) == byPlayer(stack.ground.values("gameplay"))
    assert set(events("\n".join(published))) <= set(received)


def test_oneByOne(stack):
    before = stack.count()
    with Shell(stack.name("event-gen")) as shell:
        shell.type("python runProducer.py -t gameplay", READY)
        shell.type("", QUESTION)
        shell.type("Y", "Message produced: ", QUESTION)
        shell.type("Y", "Message produced: ", QUESTION)
        shell.type("N", EXIT)
        shell.type("")
        produced = [QUESTION + "Y", "Generating and publishing event", "Message produced: EVENT"]
        matches(shell.lines(), [READY, SERVER, *produced, *produced, QUESTION + "N", EXIT])
    assert stack.count() == before + 2


def test_hostsAddressInTheContainerWithoutTerminal(stack):
    unused = "-b localhost:9092 is not used: -X, -F or BOOTSTRAP_SERVERS names the server\n"
    address = "-t", "gameplay", "-b", "localhost:9092"
    ended = stack.execute("python", "runProducer.py", *address, "-l", "-e", "5", "-m", "0", "-x", "0", "-p", "1")
    matches(ended.stdout.split("\n"), [
        "Running in a loop. Number loops: 5 Min latency: 0 Max latency: 0 Printing every 1:th message.",
        READY, SERVER, "Generating and publishing event in loop", *["Message produced: EVENT"] * 5,
        "Finished publishing: 5 messages.", EXIT, ""])
    assert (ended.stderr, ended.returncode) == ("runProducer: " + unused, 0)
    ended = stack.execute("python", "runConsumer.py", *address, "-g", "container", "-e", "5", "--timeout", "60")
    assert len(events(ended.stdout)) == 5 and f"{SERVER}\n" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("runConsumer: " + unused, 0)


def test_fromTheHost(stack):
    before, address = stack.count(), ("-t", "gameplay", "-b", stack.ground.bootstrap)
    produced = run("runProducer", *address, "-l", "-e", 10, "-m", 0, "-x", 0, "-p", 1)
    assert (produced.stderr, produced.returncode) == ("", 0) and stack.count() == before + 10
    consumed = run("runConsumer", *address, "-g", "host", "-e", before + 10, "--timeout", 60)
    assert (consumed.stderr, consumed.returncode) == ("", 0)
    assert set(events(produced.stdout)) <= set(events(consumed.stdout))


def test_stopOfTheContainerUnderALoop(stack):
    before = stack.count()
    command = "python", "runProducer.py", "-t", "gameplay", "-l", "-e", "0", "-m", "1", "-x", "1"
    producer = subprocess.Popen(["docker", "exec", stack.name("event-gen"), *command], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        waitFor(lambda: stack.count() > before, "the first events", LIMIT)
        done("stop", stack.name("event-gen"))
        out, err = producer.communicate(timeout=LIMIT)
    finally:
        producer.kill()
        done("start", stack.name("event-gen"))
    count = finished(out.split("\n"))
    assert count == stack.count() - before
    assert err == f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by SIGTERM\n"
    assert producer.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("commands", [["restart"], ["stop", "start"]], ids=" ".join)
def test_eventsSurvive(stack, commands):
    stack.ground.publish("gameplay", "one")
    before = stack.count()
    for command in commands:
        stack.compose(command)
    assert stack.count() == before > 0
    waitFor(stack.whole, "the stack to be whole again", LIMIT)


def test_downAndUpAgain(stack):
    stack.ground.publish("gameplay", "one")
    volumes = [name for state in stack.containers().values() for name in state["Volumes"]]
    stack.compose("down")
    assert stack.compose("ps", "-aq") == ""
    assert done("ps", "-aq", "--filter", f"name={stack.project}") == ""
    done("volume", "rm", *volumes)  # `down` without -v leaves the images' unnamed ones behind
    stack.compose("up", "-d", "--wait")
    assert stack.whole() and stack.count() == 0


def test_deletedTopicComesBack(stack):
    stack.ground.admin.delete_topics(["gameplay"])["gameplay"].result(LIMIT)
    stack.compose("up", "-d", "--wait")
    assert len(stack.ground.admin.list_topics("gameplay", timeout=LIMIT).topics["gameplay"].partitions) == 4


def test_rightsAndLogs(stack):
    [found] = json.loads(done("inspect", stack.name("event-gen")))
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    for service in SERVICES:
        [found] = json.loads(done("inspect", stack.name(service)))
        assert found["HostConfig"]["LogConfig"]["Config"]["max-size"] == "10m"
