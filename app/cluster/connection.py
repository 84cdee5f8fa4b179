"""The connection: a client of confluent_kafka whose cluster has the topic."""
import contextlib
import logging
import re
import time

# Consumer and Producer: for the scripts, which know the library through this folder alone.
from confluent_kafka import Consumer, KafkaException, Producer  # noqa: F401
from confluent_kafka.admin import AdminClient

from cluster import settings
from cluster.outage import Outage
from terminal.stopping import Failure, Stopped

CONNECT_SECONDS = 9   # to find the cluster, and as long again for the answer of a leader
METADATA_SECONDS = 2  # a slow broker may take so long for an answer; Ctrl-C has to wait for it
TOPIC_SECONDS = 3     # a topic that is just being created is unknown for a moment


class Connection:
    """A client, its topic, and the last error of its connections."""

    def __init__(self, kind, conf, topic, console, stop, **callbacks):
        """Make a client of a kind, Producer or Consumer. Raise ValueError if it refuses conf.

        callbacks: those that only this kind of client has.
        """
        self.conf, self.topic, self.console, self.stop = conf, topic, console, stop
        self.servers = conf.get("bootstrap.servers")
        self.outage = Outage(topic, self)
        self.error = None      # the connections' last one; a fatal one stays
        self.progressAt = 0    # by time.monotonic(), when an event was last acknowledged or came in
        self.brokers = []      # HOST:PORT of each broker, as the cluster says
        self.leaders = {}      # {partition: the id of its leader}, likewise
        self.callbacks = {"error_cb": self.onError}
        if conf["log_level"] == 0 and "debug" not in conf:
            # Fatal errors are logged at any level, to standard error unless a logger takes them.
            self.callbacks["logger"] = logging.Logger("librdkafka", logging.CRITICAL + 1)
        try:
            self.client = kind({**conf, **self.callbacks, **callbacks})
        except KafkaException as error:
            raise ValueError(error.args[0].str())

    def onError(self, error):
        """Keep an error of a connection: librdkafka's error_cb."""
        if error.fatal():
            self.stop.fail(error.str())
        if error.code() != error._ALL_BROKERS_DOWN and not (self.error and self.error.fatal()):
            self.error = error

    def progress(self):
        """Note that an event was acknowledged or came in: something answers."""
        self.progressAt = time.monotonic()
        if self.error and not self.error.fatal():
            self.error = None

    def serve(self, wait, seconds):
        """Call the client's poll() or flush(), which raise fatal errors themselves."""
        try:
            wait(seconds)
        except (KafkaException, SystemError) as error:  # flush() wraps it in a SystemError
            self.onError((error.__cause__ or error).args[0])

    def connect(self):
        """Return when the leader of any partition answers; from then on the cluster is watched.

        Raise Failure if none does, or if there is no such topic. Raise Stopped after a signal.
        """
        end, missingSince = time.monotonic() + CONNECT_SECONDS, None
        self.outage.admin = AdminClient({**self.conf, **settings.OUTAGE, **self.callbacks,
                                         "bootstrap.servers": self.servers,
                                         "test.mock.num.brokers": 0})
        while not self.stop.signals:
            error = self.askForTopic(METADATA_SECONDS)
            if error:
                missingSince = missingSince or time.monotonic()
                self.checkTopic(error, missingSince)
            elif self.leaders and self.waitForLeader():
                # Ask twice: the bootstrap connection closes now, and the next request would wait
                # for another one.
                self.askForTopic(METADATA_SECONDS)
                self.error = None  # what was tried in vain before
                return
            self.serve(self.client.poll, 0.05)
            self.checkAccess()
            if time.monotonic() > end:
                raise Failure(self.nobody())
        raise Stopped

    def findEmbedded(self):
        """Find the broker inside the client. Raise Failure if it does not answer."""
        try:
            broker = self.client.list_topics(timeout=5).brokers[1]
        except KafkaException as error:
            raise Failure(f"the embedded broker does not answer: {error.args[0].str()}\n"
                          "leave out -X and -F")
        self.servers = f"{broker.host}:{broker.port}"

    def askForTopic(self, seconds):
        """Ask the cluster who leads the topic's partitions. Return what is wrong with the topic.

        A broker that creates topics by itself creates this one for a producer.
        """
        with contextlib.suppress(KafkaException):  # no answer
            found = self.client.list_topics(self.topic, timeout=seconds)
            self.brokers = [f"{broker.host}:{broker.port}" for broker in found.brokers.values()]
            topic = found.topics[self.topic]
            self.leaders = {number: part.leader for number, part in topic.partitions.items()}
            return topic.error
        return None

    def checkTopic(self, error, since):
        """Raise Failure for a topic that is not coming."""
        coming = error.code() in (error.UNKNOWN_TOPIC_OR_PART, error.LEADER_NOT_AVAILABLE)
        if not coming or time.monotonic() > since + TOPIC_SECONDS:
            raise Failure(f"topic {self.topic} at {self.servers}: {error.str()}\n"
                          "create it, ask for access to it, or name another with -t")

    def waitForLeader(self):
        """Ask the leaders of the partitions, and wait. Return whether any of them answered."""
        self.outage.look(self.leaders, CONNECT_SECONDS)
        while not (self.outage.isOver() or self.stop.signals):
            self.outage.admin.poll(0.01)
            self.checkAccess()
        return self.outage.isOver() and self.outage.anyLeader()

    def checkAccess(self):
        """Raise Failure if access is refused."""
        error = self.error
        # A broker that wants another certificate says so by an alert, while we wait for an answer.
        if error and (error.code() in (error._AUTHENTICATION, error._SSL)
                      or re.search(r"\balert\b", error.str())):
            raise Failure(f"no access to {self.servers}: {error.str()}\n"
                          "check security.protocol, sasl.* and ssl.* in the file of -F")

    def nobody(self):
        """Say that nobody answers, and what to do."""
        why = self.error.str() if self.error else (
            "nothing answers as Kafka does; it may want TLS or SASL (security.protocol)")
        if not self.brokers:
            return (f"no Kafka broker at {self.servers}: {why}\n"
                    "is it running (docker ps), and is that its address from here (-b, -X, -F)?")
        return (f"{self.servers} sent us on to {', '.join(self.brokers)}, where nobody answers for "
                f"topic {self.topic}: {why}\nthat address is the broker's advertised.listeners, "
                "not -b: does a broker run there, and can it be reached from here?")
