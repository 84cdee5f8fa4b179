"""Apache Kafka on loopback, from Maven Central: any release that needs no ZooKeeper."""
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
FILES = HERE.parent / ".kafka"
RELEASE, RELEASE4 = "3.9.1", "4.1.0"
# Of Linux: what ends with us, however we end. Elsewhere it has to end by itself.
DIES_WITH_US = [shutil.which("setpriv"), "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
LOG4J = ("log4j.rootLogger={level}, stderr\nlog4j.appender.stderr=org.apache.log4j.ConsoleAppender\n"
         "log4j.appender.stderr.target=System.err\n"
         "log4j.appender.stderr.layout=org.apache.log4j.PatternLayout\n"
         "log4j.appender.stderr.layout.ConversionPattern=[%d] %p %m (%c)%n\n")
QUICK = "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"  # of a server that starts fast and runs slower


def missing():
    """Say what Apache Kafka lacks on this machine, or None where it can run."""
    absent = [tool for tool in ("java", "mvn") if not shutil.which(tool)]
    return f"Apache Kafka needs {' and '.join(absent)} on the PATH" if absent else None


def fetchJars(release=RELEASE):
    """Return the folder with the jars of a release; fetch them once a checkout. Raise RuntimeError with Maven's words."""
    jars = FILES / release
    if not jars.exists():
        FILES.mkdir(exist_ok=True)
        unfinished = tempfile.mkdtemp(dir=FILES)  # others may fetch them at the same time
        call("mvn", "-q", "-B", "-f", HERE / "kafka-pom.xml", f"-Dkafka.version={release}",
             "dependency:copy-dependencies", f"-DoutputDirectory={unfinished}")
        try:
            os.rename(unfinished, jars)
        except OSError:  # one of the others was faster
            shutil.rmtree(unfinished)
    return jars


def java(main, *arguments, heap="256M", options=(), level="WARN", release=RELEASE):
    """Return the command line that runs a class, or a .java file, of Apache Kafka with its jars."""
    jars = fetchJars(release)
    config = FILES / f"log4j-{level}.properties"
    if not config.exists():
        config.write_text(LOG4J.format(level=level))
    return ["java", f"-Xmx{heap}", *options, f"-Dlog4j.configuration=file:{config}",
            "-cp", f"{jars}/*", str(main), *map(str, arguments)]


def call(*command):
    """Run a command that has to succeed. Raise RuntimeError with what it said."""
    ended = subprocess.run([*DIES_WITH_US, *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=900)
    if ended.returncode:
        raise RuntimeError(f"{ended.args} ended with {ended.returncode}: {ended.stdout[-3000:]}")


def freePort():
    """Return a TCP port of 127.0.0.1 that was free a moment ago, below those that outgoing connections are given."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def waitFor(condition, what, seconds=60):
    """Call condition until it is true and return its value. Raise TimeoutError that names what was awaited."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Server:
    """A Java server of a cluster: a broker, the controller, or both; its port and its log."""

    def __init__(self, cluster, number, roles, port=None, **java):
        """java: see java()."""
        self.number, self.roles, self.java, self.process = number, roles, java, None
        self.config, self.log = (cluster.folder / f"server-{number}.{kind}" for kind in ("properties", "log"))
        self.controller = freePort()
        self.properties = {"node.id": number, "process.roles": roles, "log.dirs": cluster.folder / f"data-{number}"}
        self.listen(port or freePort())

    def listen(self, port):
        """Have it listen on a port, from the next start on."""
        self.port = port if "broker" in self.roles else self.controller
        self.bootstrap = f"127.0.0.1:{port}"
        listeners = {"broker": f"PLAINTEXT://{self.bootstrap}", "controller": f"CONTROLLER://127.0.0.1:{self.controller}"}
        self.properties["listeners"] = ",".join(listeners[role] for role in self.roles.split(","))
        if "broker" in self.roles:
            self.properties["advertised.listeners"] = listeners["broker"]

    def addListener(self, name, address, advertised=None):
        """Have it listen on an address more, which sends its clients to another one where that is given."""
        self.properties["listeners"] += f",{name}://{address}"
        self.properties["advertised.listeners"] += f",{name}://{advertised or address}"

    def format(self):
        """Write its configuration, and what its first start needs."""
        self.configure()
        call(*java("kafka.tools.StorageTool", "format", "-c", self.config, "-t", "ClusterOfTheTestsOnly1", **self.java))

    def configure(self):
        """Write its configuration."""
        self.config.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))

    def launch(self):
        """Have it start, if it does not run."""
        if not self.running():
            self.configure()
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen([*DIES_WITH_US, *java("kafka.Kafka", self.config, level="INFO", **self.java)],
                                                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def start(self):
        """Start it and wait until it serves; raise RuntimeError with its log if it dies."""
        self.launch()

        def up():
            if not self.running():
                raise RuntimeError(f"server {self.number} ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        waitFor(up, f"server {self.number} to come up (log: {self.log})", 90)

    def running(self):
        """Tell whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, number=signal.SIGTERM):
        """Send it a signal and wait for its end."""
        if self.running():
            self.resume()
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.process.kill()  # does nothing to one that has ended
            self.process.wait()

    def pause(self):
        """Stop it in its tracks, its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Let it run on, if it has not ended."""
        self.process.send_signal(signal.SIGCONT)


class ApacheKafka:
    """Servers that run for the block of a with statement. One broker is its own controller; several have one apart."""

    def __init__(self, folder, brokers=1, release=RELEASE, options=QUICK, port=None, **properties):
        """folder: for their files. options: of the Java machine. properties: of each server, with underscores for dots."""
        self.folder = Path(folder)
        alone = brokers == 1
        self.brokers = [Server(self, number, "broker,controller" if alone else "broker", port, options=options,
                               heap="1G" if alone else "384M", release=release) for number in range(1, brokers + 1)]
        controller = self.broker if alone else Server(self, 100, "controller", options=options, release=release)
        self.servers = self.brokers if alone else [controller, *self.brokers]
        for server in self.servers:
            server.properties.update({
                "controller.quorum.voters": f"{controller.number}@127.0.0.1:{controller.controller}",
                "controller.listener.names": "CONTROLLER",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,ELSEWHERE:PLAINTEXT,NOWHERE:PLAINTEXT,"
                                                  "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
                "num.partitions": 4, "default.replication.factor": brokers, "min.insync.replicas": min(brokers, 2),
                "offsets.topic.num.partitions": 4, "offsets.topic.replication.factor": brokers,
                "group.initial.rebalance.delay.ms": 0, "auto.create.topics.enable": "true",
                "auto.leader.rebalance.enable": "false",  # nothing moves that a test does not move
                "broker.heartbeat.interval.ms": 500,
                **{key.replace("_", "."): value for key, value in properties.items()}})

    @property
    def broker(self):
        """The first broker."""
        return self.brokers[0]

    @property
    def bootstrap(self):
        """HOST:PORT of each broker."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self):
        """Have all servers run, and wait until they serve."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.start()

    def __enter__(self):
        try:
            for server in self.servers:
                server.format()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop(signal.SIGKILL)
