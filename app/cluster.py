"""The cluster: the client, its topic, and what becomes of the connection to the brokers."""
import contextlib
import logging
import re
import time

# Consumer and Producer: for the scripts, which import the library through this module alone.
from confluent_kafka import (OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Producer,
                             TopicPartition)

from console import Failure, Stopped
from watch import Watch

CONNECT_SECONDS = 10
TOPIC_SECONDS = 3  # a topic that is just being created is unknown for a moment
GONE_SECONDS = 10  # a broker that starts does not know its topics for a while
DEFAULTS = {
    "log_level": 0,                    # off: onError() is told what matters
    "socket.timeout.ms": 10000,        # then a hung broker is left; 60 s by default
    "socket.connection.setup.timeout.ms": 10000,  # likewise an address where nobody is; 30 s
    "reconnect.backoff.max.ms": 1000}  # then a broker that is back is found; 10 s by default
CONNECTION = re.compile(  # what a connection needs; other properties belong to producer or consumer
    r"(bootstrap|broker|client|api|security|ssl|sasl|https|enable\.(ssl|sasl)|socket|reconnect"
    r"|log_level)\b.*")


class Cluster:
    """A client of confluent_kafka, its topic, and the state of its connection."""

    def __init__(self, kind, conf, topic, console):
        """Make a client of a kind, Producer or Consumer. Raise ValueError if it refuses conf."""
        self.kind, self.conf, self.topic, self.console = kind, {**DEFAULTS, **conf}, topic, console
        self.servers = conf.get("bootstrap.servers")
        self.watch = Watch(topic)
        self.away = frozenset()   # brokers that the user knows to be away; None: all of them
        self.awaySince = 0        # since when; this and the next two by time.monotonic()
        self.progressAt = 0       # when an event was last acknowledged or came in
        self.missingSince = None  # since when the topic has been unknown
        self.partitions = 0       # how many the topic has, as far as the user knows
        try:
            self.makeClient()
        except KafkaException as error:
            raise ValueError(error.args[0].str())

    def makeClient(self):
        """Make the client, or another in its place. Raise KafkaException if it refuses conf."""
        more = {"error_cb": self.onError}
        if self.conf["log_level"] == 0 and "debug" not in self.conf:
            # Fatal errors are logged at any level, to standard error unless a logger takes them.
            more["logger"] = logging.Logger("librdkafka", logging.CRITICAL + 1)
        self.client = self.kind({**self.conf, **more})
        self.error = None  # the connection's last one; a fatal one stays

    def onError(self, error):
        """Keep an error of the connection: librdkafka's error_cb."""
        if error.code() != error._ALL_BROKERS_DOWN and not (self.error and self.error.fatal()):
            self.error = error

    def serve(self, wait, seconds):
        """Call the client's poll() or flush(), which raise fatal errors themselves."""
        try:
            wait(seconds)
        except (KafkaException, SystemError) as error:  # flush() wraps it in a SystemError
            self.onError((error.__cause__ or error).args[0])

    def connect(self):
        """Return when the cluster has the topic; from then on it is watched.

        Raise Failure if no broker answers, or if there is no such topic. Raise Stopped after a
        signal.
        """
        start, missingSince, patience = time.monotonic(), None, 1
        while not self.console.signals:
            with contextlib.suppress(KafkaException):
                error = self.askForTopic(patience)
                if error is None:
                    self.askForTopic(patience)  # the first connection closes: open the next one
                    self.error = None           # what was tried in vain before
                    self.startWatch()
                    return
                missingSince = missingSince or time.monotonic()
                self.checkTopic(error, missingSince)
            patience = min(patience + 1, 3)  # for a slow broker; Ctrl-C has to wait so long
            self.serve(self.client.poll, 0.05)
            self.checkConnection(start)
        raise Stopped

    def askForTopic(self, seconds):
        """Return what is wrong with the topic, or None. Raise KafkaException without an answer.

        A broker that creates topics by itself creates this one for a producer.
        """
        return self.client.list_topics(self.topic, timeout=seconds).topics[self.topic].error

    def checkTopic(self, error, since):
        """Raise Failure for a topic that is not coming."""
        coming = error.code() in (error.UNKNOWN_TOPIC_OR_PART, error.LEADER_NOT_AVAILABLE)
        if not coming or time.monotonic() > since + TOPIC_SECONDS:
            raise Failure(f"topic {self.topic} at {self.servers}: {error.str()}\n"
                          "create it, ask for access to it, or name another with -t")

    def checkConnection(self, since):
        """Raise Failure if access is refused, or if nothing has answered for too long."""
        error = self.error
        if error and error.code() in (error._AUTHENTICATION, error._SSL):
            raise Failure(f"no access to {self.servers}: {error.str()}\n"
                          "check security.protocol, sasl.* and ssl.* in the file of -F")
        if time.monotonic() > since + CONNECT_SECONDS:
            why = error.str() if error else (
                "nothing answers as Kafka does; it may want TLS or SASL (security.protocol)")
            raise Failure(f"no Kafka broker at {self.servers}: {why}\n"
                          "is it running (docker ps), and is that its address from here "
                          "(-b, -X, -F)?")

    def startWatch(self):
        """Watch the cluster until the program ends."""
        conf = {key: value for key, value in self.conf.items() if CONNECTION.fullmatch(key)}
        self.watch.start({**conf, "bootstrap.servers": self.servers})

    def progress(self):
        """Note that an event was acknowledged or came in: something answers."""
        self.progressAt = time.monotonic()
        if self.error and not self.error.fatal():
            self.error = None

    def report(self):
        """Tell the user what has changed. Return a reason if waiting is pointless."""
        view, now = self.watch.view, time.monotonic()
        away = view.away
        if view.error or (away is None and self.answers()):
            away = self.away or frozenset()  # something answers: that says nothing of one broker
        if away != self.away:
            self.reportAway(away, now)
        if view.partitions:
            if view.partitions < self.partitions:
                self.console.note(f"topic {self.topic} was deleted and made anew: it has "
                                  f"{view.partitions} partitions now, {self.partitions} before")
            self.partitions = view.partitions
        if not view.error:
            self.missingSince = None
        elif not self.missingSince:
            self.missingSince = now
        elif now > self.missingSince + GONE_SECONDS:
            return f"topic {self.topic}: {view.error.str()}"
        return None

    def reportAway(self, away, now):
        """Tell the user of brokers that went away or came back."""
        before, self.away = self.away, away
        if not before and before is not None:
            self.awaySince = now
        seconds = f"{now - self.awaySince:.0f} s"
        if before is None:
            self.console.note(f"the broker is back after {seconds}")
        if away is None:
            why = self.error.str() if self.error else "no answer"
            self.console.note(f"the broker is gone: {why}")
        elif away - (before or frozenset()):
            self.console.note(self.watch.view.trouble)
        elif before and not away:
            self.console.note(f"all brokers are back after {seconds}")

    def why(self):
        """Return what is wrong right now, or None; tell the user what has changed."""
        if self.answers() and not self.away:
            self.watch.lookAgain()
            self.report()
        error = self.error.str() if self.error else None
        if self.error and self.error.fatal():
            return error
        if not self.answers():
            return error or "no answer"
        return self.watch.view.trouble or error

    def answers(self):
        """Tell whether any broker answers."""
        view = self.watch.view
        return view.away is not None or self.progressAt >= view.start

    def partition(self, number, offset=OFFSET_END):
        """Return a partition and an offset as the client wants them."""
        return TopicPartition(self.topic, number, offset)

    def offsetRange(self, number):
        """Return the first offset of a partition and its end: symbols if no broker answers."""
        with contextlib.suppress(KafkaException):
            return self.client.get_watermark_offsets(self.partition(number), timeout=5)
        return OFFSET_BEGINNING, OFFSET_END

    def storedOffsets(self, partitions):
        """Return {partition: what the group has stored, below 0 for nothing}; {} for no answer."""
        with contextlib.suppress(KafkaException):
            answers = self.client.committed(partitions, timeout=5)
            return {answer.partition: answer.offset for answer in answers}
        return {}

    def commit(self, offsets):
        """Have the group store {partition: next offset}. Return its error, or None."""
        parts = [self.partition(number, offset) for number, offset in offsets.items()]
        try:
            answers = self.client.commit(offsets=parts, asynchronous=False)
            errors = [answer.error for answer in answers if answer.error]
        except KafkaException as error:
            errors = [error.args[0]]
        # A partition that was deleted needs no offset.
        lasting = [error for error in errors if error.code() != error.UNKNOWN_TOPIC_OR_PART]
        return lasting[0] if lasting else None

    def leaveGroup(self):
        """Leave the group. By close() alone a client with a group.instance.id stays in it."""
        with contextlib.suppress(KafkaException):  # a fenced client has left
            self.client.unsubscribe()
            while self.client.memberid():
                self.client.poll(0.01)

    def embeddedServer(self):
        """Return HOST:PORT of the broker inside the client."""
        try:
            broker = self.client.list_topics(timeout=5).brokers[1]
        except KafkaException as error:
            raise Failure(f"the embedded broker does not answer: {error.args[0].str()}\n"
                          "leave out -X and -F")
        return f"{broker.host}:{broker.port}"
