"""Apache Kafka 3.9 with ZooKeeper on loopback, from Maven Central, as child processes of whoever uses it."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
JARS = HERE / ".kafka" / "jars"
LOG4J = ("log4j.rootLogger={level}, stderr\n"
         "log4j.appender.stderr=org.apache.log4j.ConsoleAppender\n"
         "log4j.appender.stderr.target=System.err\n"
         "log4j.appender.stderr.layout=org.apache.log4j.PatternLayout\n"
         "log4j.appender.stderr.layout.ConversionPattern=[%d] %p %m (%c)%n\n")


def missing():
    """Say what Apache Kafka lacks on this machine, or None where it can run."""
    absent = [tool for tool in ("java", "mvn") if not shutil.which(tool)]
    return f"Apache Kafka needs {' and '.join(absent)} on the PATH" if absent else None


def fetchJars():
    """Copy the jars next to the tests, once a checkout. Raise RuntimeError with Maven's words when it fails."""
    done = JARS / ".done"
    if not done.exists():
        command = ["mvn", "-q", "-B", "-f", str(HERE / "kafka-pom.xml"), "dependency:copy-dependencies",
                   f"-DoutputDirectory={JARS}"]
        maven = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900)
        if maven.returncode:
            raise RuntimeError(f"{' '.join(command)}: {maven.stdout[-2000:]}{maven.stderr[-2000:]}")
        done.touch()
    return JARS


def java(main, *arguments, heap="256M", options=(), level="WARN"):
    """Return the command line that runs a class, or a .java file, of Apache Kafka with its jars."""
    config = JARS.parent / f"log4j-{level}.properties"
    if not config.exists():
        config.write_text(LOG4J.format(level=level))
    return ["java", f"-Xmx{heap}", *options, f"-Dlog4j.configuration=file:{config}", "-cp", f"{fetchJars()}/*", str(main),
            *map(str, arguments)]


def freePort():
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def waitFor(condition, what, seconds=60):
    """Call condition until it is true and return its value; raise TimeoutError that names what was awaited."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Server:
    """One Java server, its port and its log."""

    def __init__(self, folder, name, main, port, heap="512M"):
        self.name, self.main, self.port, self.heap = name, main, port, heap
        self.config, self.log = Path(folder) / f"{name}.properties", Path(folder) / f"{name}.log"
        self.process = None

    def start(self, ready, seconds=90):
        """Start it and wait until ready() holds; raise RuntimeError with the end of its log if it dies before."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(java(self.main, self.config, heap=self.heap, level="INFO"), stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

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

    def stop(self, number=signal.SIGTERM):
        """Send it a signal and wait for its end."""
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            os.kill(self.process.pid, number)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class ApacheKafka:
    """A ZooKeeper and a broker; properties are added to the broker's own."""

    def __init__(self, folder=None, **properties):
        fetchJars()
        self.folder = Path(folder or tempfile.mkdtemp(prefix="kafka-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.zookeeper = Server(self.folder, "zookeeper", "org.apache.zookeeper.server.quorum.QuorumPeerMain", freePort())
        self.broker = Server(self.folder, "broker", "kafka.Kafka", freePort(), heap="1G")
        self.bootstrap = f"127.0.0.1:{self.broker.port}"
        self.properties = {
            "broker.id": 1, "zookeeper.connect": f"127.0.0.1:{self.zookeeper.port}", "log.dirs": self.folder / "data",
            "listeners": f"PLAINTEXT://{self.bootstrap}", "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "num.partitions": 4, "offsets.topic.replication.factor": 1, "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4, "group.initial.rebalance.delay.ms": 0,
            "zookeeper.session.timeout.ms": 6000, "auto.create.topics.enable": "true",
            **{key.replace("_", "."): value for key, value in properties.items()}}

    def write(self):
        """Write both configurations."""
        self.zookeeper.config.write_text(
            f"dataDir={self.folder}/zookeeper\nclientPort={self.zookeeper.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\nmaxClientCnxns=0\ntickTime=2000\n")
        self.broker.config.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))

    def __enter__(self):
        self.write()
        try:
            self.zookeeper.start(self.zookeeper.answers)
            self.startBroker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.broker.stop(signal.SIGKILL)
        self.zookeeper.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def startBroker(self):
        """Start the broker, again while the session of a killed one still holds its name, and wait until it serves."""
        started = self.broker.log.stat().st_size if self.broker.log.exists() else 0

        def serves():
            with open(self.broker.log, "rb") as log:
                log.seek(started)
                return b"started (kafka.server.KafkaServer)" in log.read()
        end = time.monotonic() + 60
        while True:
            try:
                return self.broker.start(serves)
            except RuntimeError as error:
                if "NodeExists" not in str(error) or time.monotonic() > end:
                    raise

    def pause(self):
        """Stop the broker in its tracks, its connections open."""
        os.kill(self.broker.process.pid, signal.SIGSTOP)

    def resume(self):
        """Let a paused broker run on."""
        os.kill(self.broker.process.pid, signal.SIGCONT)

    def tool(self, main, *arguments, **options):
        """Run one of Kafka's command line tools to its end; return what it printed, raise CalledProcessError."""
        return subprocess.run(java(main, *arguments), check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, **options).stdout
