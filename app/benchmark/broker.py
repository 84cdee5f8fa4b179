"""A broker of Apache Kafka 3.9 on this machine, and Kafka's own tools, from Maven Central."""
import contextlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
# The Java options of Kafka's own scripts.
OPTIONS = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
           "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
           "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true", "-Dcom.sun.management.jmxremote",
           "-Dcom.sun.management.jmxremote.authenticate=false",
           "-Dcom.sun.management.jmxremote.ssl=false")
CONFIG = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
log.segment.delete.delay.ms=1000
num.partitions=4
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
log4j.rootLogger=ERROR, stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.target=System.err
log4j.appender.stderr.layout=org.apache.log4j.SimpleLayout
"""


class Broker:
    """Where the broker is, and how to run Kafka's programs."""

    def __init__(self, folder, port):
        self.folder, self.bootstrap = Path(folder), f"127.0.0.1:{port}"
        self.config = self.folder / "config"  # of the broker, and of every program's log
        self.config.write_text(CONFIG.format(port=port, controller=freePort(), folder=folder))
        classpath = self.folder / "classpath"
        call("mvn", "-q", "-B", "-f", POM, "dependency:build-classpath",
             f"-Dmdep.outputFile={classpath}")
        os.environ["CLASSPATH"] = classpath.read_text()

    def java(self, program, *arguments, heap="512M"):
        """Return the command line that runs a program of Kafka as Kafka's own scripts do."""
        return ["java", f"-Xmx{heap}", *OPTIONS, f"-Dlog4j.configuration=file:{self.config}",
                program, *arguments]

    def topic(self, action, name):
        """Create a topic, or delete those that a pattern matches, as soon as the broker is up."""
        call(*self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server",
                        self.bootstrap, action, "--topic", name))


@contextlib.contextmanager
def startBroker(port=0):
    """Start a broker for a with statement, on any port if none is named. Its files go with it."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        broker = Broker(folder, freePort(port))
        call(*broker.java("kafka.tools.StorageTool", "format", "-c", broker.config,
                          "-t", "one-broker-of-benchmark"))
        process = subprocess.Popen(broker.java("kafka.Kafka", broker.config, heap="1G"),
                                   stdin=subprocess.DEVNULL)
        try:
            yield broker
        finally:
            process.kill()
            process.wait()


def call(*command):
    """Run a command that has to succeed. Raise RuntimeError with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")


def freePort(port=0):
    """Return this port, or any, that is free now. Raise OSError if it is not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return probe.getsockname()[1]
