"""Apache Kafka on loopback, from Maven Central: 3.9 with ZooKeeper, and 4 without it."""
import base64
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from support.reaper import reaper

HERE = Path(__file__).parent
FILES = HERE.parent / ".kafka"
POMS = {3: HERE / "kafka-pom.xml", 4: HERE / "kafka4-pom.xml"}
LOG4J = ("log4j.rootLogger={level}, stderr\nlog4j.appender.stderr=org.apache.log4j.ConsoleAppender\n"
         "log4j.appender.stderr.target=System.err\n"
         "log4j.appender.stderr.layout=org.apache.log4j.PatternLayout\n"
         "log4j.appender.stderr.layout.ConversionPattern=[%d] %p %m (%c)%n\n")
STARTED = b"started (kafka.server.KafkaServer)", b"Recorded new ZK controller"
# Of Linux: what ends with us, however we end. Elsewhere it has to end by itself.
DIES_WITH_US = [shutil.which("setpriv"), "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
QUICK = "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"  # of a server that starts fast and runs slower


def missing():
    """Say what Apache Kafka lacks on this machine, or None where it can run."""
    absent = [tool for tool in ("java", "mvn") if not shutil.which(tool)]
    return f"Apache Kafka needs {' and '.join(absent)} on the PATH" if absent else None


def fetchJars(release=3):
    """Return the folder with the jars of a release; fetch them once a checkout.

    Raise RuntimeError with Maven's words when it fails.
    """
    jars = FILES / f"jars{release}"
    if not jars.exists():
        FILES.mkdir(exist_ok=True)
        unfinished = tempfile.mkdtemp(dir=FILES)  # others may fetch them at the same time
        command = ["mvn", "-q", "-B", "-f", str(POMS[release]), "dependency:copy-dependencies",
                   f"-DoutputDirectory={unfinished}"]
        maven = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900)
        if maven.returncode:
            raise RuntimeError(f"{' '.join(command)}: {maven.stdout[-2000:]}{maven.stderr[-2000:]}")
        try:
            os.rename(unfinished, jars)
        except OSError:  # one of the others was faster
            shutil.rmtree(unfinished)
    return jars


def java(main, *arguments, heap="256M", options=(), level="WARN", release=3):
    """Return the command line that runs a class, or a .java file, of Apache Kafka with its jars."""
    jars = fetchJars(release)
    config = FILES / f"log4j-{level}.properties"
    if not config.exists():
        config.write_text(LOG4J.format(level=level))
    return ["java", f"-Xmx{heap}", *options, f"-Dlog4j.configuration=file:{config}",
            "-cp", f"{jars}/*", str(main), *map(str, arguments)]


def freePort():
    """Return a TCP port of 127.0.0.1 that was free a moment ago.

    It is below those that outgoing connections are given.
    """
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def waitFor(condition, what, seconds=60):
    """Call condition until it is true and return its value.

    Raise TimeoutError that names what was awaited.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Server:
    """A Java server, its configuration, its port and its log."""

    def __init__(self, folder, name, main, **java):
        """java: see java()."""
        self.folder, self.name, self.main, self.java = folder, name, main, java
        self.port = freePort()
        self.properties = {}
        self.log = folder / f"{name}.log"
        self.process = None

    def start(self, ready, seconds=90):
        """Start it and wait until ready() holds; raise RuntimeError with its log if it dies."""
        config = self.folder / f"{self.name}.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(java(self.main, config, level="INFO", **self.java), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        reaper.process(self.process.pid)

        def up():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            return ready()
        waitFor(up, f"{self.name} to come up (log: {self.log})", seconds)

    def answers(self):
        """Tell whether its port takes connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def running(self):
        """Tell whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, number=signal.SIGTERM):
        """Send it a signal and wait for its end."""
        if self.running():
            self.resume()
            os.kill(self.process.pid, number)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def pause(self):
        """Stop it in its tracks, its connections open."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        """Let it run on."""
        os.kill(self.process.pid, signal.SIGCONT)


class Broker(Server):
    """A broker of a cluster."""

    def __init__(self, folder, number, properties, **java):
        super().__init__(folder, f"broker-{number}", "kafka.Kafka", **java)
        self.number = number
        self.properties = {"num.partitions": 4, "offsets.topic.num.partitions": 4, "transaction.state.log.num.partitions": 4,
                           "group.initial.rebalance.delay.ms": 0, "auto.create.topics.enable": "true",
                           "auto.leader.rebalance.enable": "false",  # nothing moves that a test does not move
                           "log.dirs": folder / f"data-{number}", **properties}
        self.listen()

    def listen(self):
        """Have it listen on its port, from the next start on."""
        self.bootstrap = f"127.0.0.1:{self.port}"
        for key in ("listeners", "advertised.listeners"):
            self.properties[key] = f"PLAINTEXT://{self.bootstrap}"

    def mislead(self, address):
        """Have it listen on one more port, which sends its clients to another address. Return HOST:PORT."""
        port = freePort()
        name, bootstrap = f"ELSEWHERE{port}", f"127.0.0.1:{port}"
        self.properties["listeners"] += f",{name}://{bootstrap}"
        self.properties["advertised.listeners"] += f",{name}://{address}"
        protocols = self.properties.get("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT")
        self.properties["listener.security.protocol.map"] = f"{protocols},{name}:PLAINTEXT"
        return bootstrap

    def move(self):
        """Have it listen on another port from the next start on."""
        self.port = freePort()
        self.listen()

    def start(self):
        """Start it and wait until it serves.

        As long as the session of a killed one holds its name, or where ZooKeeper was too busy to
        keep its own session, try again.
        """
        size = self.log.stat().st_size if self.log.exists() else 0

        def serves():
            with open(self.log, "rb") as log:
                log.seek(size)
                said = log.read()
            return all(text in said for text in STARTED)
        end = time.monotonic() + 60
        while True:
            try:
                return super().start(serves)
            except RuntimeError as error:
                if not re.search("NodeExists|SessionExpired", str(error)) or time.monotonic() > end:
                    raise


class Cluster:
    """Servers on loopback that are gone, with their files, at the end of a with statement."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        reaper.folder(self.folder)
        self.brokers = []

    @property
    def broker(self):
        """The first broker."""
        return self.brokers[0]

    @property
    def bootstrap(self):
        """HOST:PORT of each broker."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def servers(self):
        """Return all servers in the order of their start."""
        return self.brokers

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers()):
            server.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class ApacheKafka(Cluster):
    """A ZooKeeper and brokers of 3.9. Properties are added to those of each broker."""

    def __init__(self, brokers=1, options=(), **properties):
        """options: of the Java machine; properties have underscores for dots."""
        super().__init__()
        fetchJars()
        self.zookeeper = Server(self.folder, "zookeeper", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                                heap="128M", options=QUICK)
        self.zookeeper.properties = {
            "dataDir": self.folder / "zookeeper", "clientPort": self.zookeeper.port, "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false", "maxClientCnxns": 0, "tickTime": 2000}
        replicas = {key: min(brokers, 3) for key in ("default.replication.factor", "offsets.topic.replication.factor",
                                                     "transaction.state.log.replication.factor")}
        least = {key: min(brokers, 2) for key in ("min.insync.replicas", "transaction.state.log.min.isr")}
        given = {key.replace("_", "."): value for key, value in properties.items()}
        self.brokers = [Broker(self.folder, number, {
            "broker.id": number, "zookeeper.connect": f"127.0.0.1:{self.zookeeper.port}",
            "zookeeper.session.timeout.ms": 6000, **replicas, **least, **given},
            heap="1G" if brokers == 1 else "384M", options=options)
            for number in range(1, brokers + 1)]

    def servers(self):
        return [self.zookeeper, *self.brokers]

    def start(self):
        """Start all of it."""
        self.zookeeper.start(self.zookeeper.answers)
        for broker in self.brokers:
            broker.start()


class Broker4(Broker):
    """A broker of Kafka 4, which is its own controller."""

    def start(self):
        """Start it and wait until it takes connections; its log says nothing."""
        Server.start(self, self.answers)


class ApacheKafka4(Cluster):
    """One broker of Kafka 4."""

    def __init__(self):
        super().__init__()
        fetchJars(4)
        controller = freePort()
        self.brokers = [Broker4(self.folder, 1, {
            "process.roles": "broker,controller", "node.id": 1, "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1}, heap="1G", options=QUICK, release=4)]
        self.broker.properties["listeners"] += f",CONTROLLER://127.0.0.1:{controller}"

    def start(self):
        """Format its log and start it."""
        config = self.folder / "format.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self.broker.properties.items()))
        # "_" for "-": at its beginning that would be taken for a flag.
        clusterId = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        subprocess.run(java("kafka.tools.StorageTool", "format", "-t", clusterId, "-c", config, release=4),
                       check=True, capture_output=True, stdin=subprocess.DEVNULL)
        self.broker.start()
