"""The compose stack under names and ports of its own, driven by docker and docker compose."""
import json
import os
import re
import shlex
import shutil
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import OFFSET_END, TopicPartition
from support.kafka import freePort
from support.processes import LIMIT, Terminal, run

TOP = Path(__file__).parents[3]
COMPOSE = TOP / "docker" / "docker-compose.yml"
DOCKERFILE = TOP / "docker" / "build" / "Dockerfile"
CHECKED = {"zookeeper", "broker", "kafka-ui"}
SERVICES = CHECKED | {"kafka-init-topics", "event-gen"}
PROMPT = "app@event-gen:/app$ "
START = 300  # seconds for a start with its builds and health checks


def done(*arguments, **options):
    """Run a docker command that has to succeed, and return what it printed."""
    ended = run("docker", *arguments, **options)
    assert ended.returncode == 0, (arguments, ended.stdout[-2000:], ended.stderr[-4000:])
    return ended.stdout


def missing():
    """Say what the stack lacks on this machine, or None where it can run."""
    if not shutil.which("docker"):
        return "the stack needs Docker: no docker on the PATH"
    for command in (["info"], ["compose", "version"]):
        ended = run("docker", *command)
        if ended.returncode:
            return f"the stack needs Docker: docker {' '.join(command)}: {' '.join(ended.stderr.split())[-300:]}"
    base = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    pulled = [line.split()[-1] for line in done("compose", "-f", COMPOSE, "config").split("\n") if " image: " in line]
    for image in {*pulled, *base}:
        if run("docker", "image", "inspect", image).returncode:
            ended = run("docker", "pull", "-q", image, timeout=600)
            if ended.returncode and not re.search("not found|manifest unknown", ended.stderr):  # such a tag is a fault
                return f"the stack needs the image {image}: {' '.join(ended.stderr.split())[-300:]}"
    return None


class Stack:
    """The repository's stack under a project, container names and ports of its own."""
    server = "broker:29092"  # for its containers

    def __init__(self, folder, makeGround):
        """folder: an empty one; makeGround(HOST:PORT) returns what reads and writes its topics."""
        self.project = f"test-{uuid.uuid4().hex[:8]}"
        self.image = f"{self.project}-event-gen"
        self.port, self.uiPort = freePort(), freePort()
        self.ground = makeGround(f"localhost:{self.port}")
        self.override = folder / "override.yml"
        names = (f"  {service}:\n    container_name: {self.name(service)}\n" for service in SERVICES)
        self.override.write_text("services:\n" + "".join(names))
        self.env = {**os.environ, "BROKER_PORT": str(self.port), "UI_PORT": str(self.uiPort),
                    "ZOOKEEPER_PORT": str(freePort())}

    def __enter__(self):
        # A shell waits for the end of its input, which is also ours, however we end. Then it takes the stack down.
        self.end = subprocess.Popen(["sh", "-c", 'cat; exec "$@"', "sh", *self.command("down", "-v", "--rmi", "local")],
                                    env=self.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, start_new_session=True)
        try:
            self.compose("up", "-d", "--build", "--wait")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        _, said = self.end.communicate(timeout=START)
        assert self.end.returncode == 0, said

    def name(self, service):
        """Return the name of a service's container."""
        return f"{self.project}-{service}"

    def command(self, *arguments):
        """Return the command line of docker compose for it."""
        return ["docker", "compose", "-p", self.project, "-f", str(COMPOSE), "-f", str(self.override), *arguments]

    def compose(self, *arguments):
        """Run a docker compose command on it, and return what it printed."""
        return done(*self.command(*arguments)[1:], timeout=START, env=self.env)

    def own(self, lines):
        """Return lines that a reader types at the top of the checkout as they are for this stack."""
        options = f"-p {self.project} -f docker/docker-compose.yml -f {self.override}"
        lines = lines.replace("docker compose -f docker/docker-compose.yml", f"docker compose {options}")
        lines = re.sub(r"\bdocker (exec|restart)((?: -\w+)*) event-gen\b", rf"docker \1\2 {self.name('event-gen')}", lines)
        lines = lines.replace("leaderboard-prelude_default", f"{self.project}_default")
        lines = lines.replace("leaderboard-prelude-event-gen", self.image)
        # What is meant for this stack must not reach another one of this machine.
        assert all(self.project in line for line in lines.split("\n") if "docker " in line), lines
        return lines

    def shell(self, line="docker exec -it event-gen bash"):
        """Type a reader's line that opens a shell in event-gen. Return that Shell."""
        return Shell(self.own(line))

    def execute(self, *command):
        """Run a command in event-gen by docker exec without a terminal."""
        return run("docker", "exec", self.name("event-gen"), *command)

    def containers(self):
        """Return {service: what docker inspect tells of its container}."""
        found = json.loads(done("inspect", *map(self.name, SERVICES)))
        return dict(zip(SERVICES, found))

    def whole(self):
        """Tell whether four containers run, in good health where that is checked, and the fifth has done its work."""
        states = {service: container["State"] for service, container in self.containers().items()}
        ended = states.pop("kafka-init-topics")
        return ((ended["Status"], ended["ExitCode"]) == ("exited", 0)
                and all(state["Status"] == "running" for state in states.values())
                and all(states[service]["Health"]["Status"] == "healthy" for service in CHECKED))

    def count(self):
        """Return how many events are on the topic, once the broker leads its partitions."""
        return self.ground.count("gameplay")

    def clear(self):
        """Remove the events from the topic, and the groups that have read them."""
        admin = self.ground.admin
        ends = [TopicPartition("gameplay", number, OFFSET_END) for number in range(4)]
        groups = [group.group_id for group in admin.list_consumer_groups().result(LIMIT).valid]
        removed = [admin.delete_records(ends), admin.delete_consumer_groups(groups) if groups else {}]
        for future in [future for futures in removed for future in futures.values()]:
            future.result(LIMIT)


class Shell:
    """A shell in event-gen, or one with its prompt, in a pseudo-terminal."""

    def __init__(self, line, env=None):
        self.child = Terminal(*shlex.split(line), env=env)
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
        text = re.sub(r"\x1b\[\?2004[hl]\r?|\x1b\[K|\x1b\][^\a]*\a|\^C", "", self.child.session.getvalue())
        return [line.rstrip("\r").split("\r")[-1] for line in text.split(PROMPT)[-2].split("\n")[1:-1]]

    def consume(self, count):
        """Wait for so many events of runConsumer.py, end it as a reader does, and return its lines."""
        for _ in range(count):
            self.child.expect_exact("Received message: ")
        self.child.expect_exact("\n")
        self.child.sendintr()
        self.child.expect_exact("Press the enter key to exit the consume application.")
        self.type("")
        return self.lines()
