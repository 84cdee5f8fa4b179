"""The cluster: the client, its topic, and what becomes of the connection to the brokers."""
import contextlib
import logging
import re
import time

from confluent_kafka import KafkaException

from console import Failure, Stopped
from watch import Watch

CONNECT_SECONDS = 10
TOPIC_SECONDS = 3  # a topic that is just being created is unknown for a moment
DEFAULTS = {
    "log_level": 0,                    # what matters of the log comes to onError() as well
    "socket.timeout.ms": 10000,        # then a hung broker is left; 60 s by default
    "socket.connection.setup.timeout.ms": 10000,  # likewise an address where nobody is; 30 s
    "reconnect.backoff.max.ms": 1000}  # then a broker that is back is found; 10 s by default
CONNECTION = re.compile(  # what a connection needs; other properties belong to producer or consumer
    r"(bootstrap|broker|client|api|security|ssl|sasl|https|enable\.s[sa]l|socket|reconnect|log_level)\b.*")


class Cluster:
    """A client of confluent_kafka, its topic, and the state of its connection."""

    def __init__(self, kind, conf, topic, note):
        """Make a client of a kind, Producer or Consumer. Raise ValueError if it refuses conf.

        note(text) prints a line for the user.
        """
        conf = {**DEFAULTS, **conf}
        if conf["log_level"] == 0 and "debug" not in conf:
            conf["logger"] = logging.getLogger("librdkafka")  # or it would go to standard error
            conf["logger"].addHandler(logging.NullHandler())
            conf["logger"].propagate = False
        self.conf, self.topic = conf, topic
        self.servers = conf.get("bootstrap.servers")
        self.error = None  # the connection's last error, or its fatal one
        self.watch = Watch(topic, note)
        try:
            self.client = kind({**conf, "error_cb": self.onError})
        except KafkaException as error:
            raise ValueError(error.args[0].str())
        except TypeError as error:
            raise ValueError(str(error))

    def onError(self, error):
        """Keep an error of the connection: librdkafka's error_cb."""
        if error.code() != error._ALL_BROKERS_DOWN and not (self.error and self.error.fatal()):
            self.error = error

    def serve(self, wait, seconds):
        """Call the client's poll() or flush(), which raise fatal errors themselves."""
        try:
            wait(seconds)
        except (KafkaException, SystemError) as error:  # flush() wraps it in a SystemError
            cause = error.__cause__ if isinstance(error, SystemError) else error
            if not isinstance(cause, KafkaException):
                raise
            self.onError(cause.args[0])

    def connect(self, stopped):
        """Return when the cluster has the topic; from then on it is watched.

        Raise Failure if no broker answers, or if there is no such topic. Raise Stopped as soon as
        stopped() is true.
        """
        start, missingSince, patience = time.monotonic(), None, 1
        while not stopped():
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
            raise Failure(f"no Kafka broker at {self.servers}: {why}\nis it running (docker "
                          "compose ps), and is that its address from here (-b, -X, -F)?")

    def startWatch(self):
        """Watch the cluster until the program ends."""
        conf = {key: value for key, value in self.conf.items() if CONNECTION.fullmatch(key)}
        self.watch.start({**conf, "bootstrap.servers": self.servers})

    def report(self):
        """Tell the user what has changed. Return why waiting is pointless, None while it is not."""
        return self.watch.report(self.error)

    def why(self):
        """Return what is wrong right now, or None; tell the user what has changed."""
        if not (self.watch.view.gone or self.watch.view.trouble):
            self.watch.lookAgain()
            self.report()
        if self.error and (self.error.fatal() or self.watch.view.gone):
            return self.error.str()
        return self.watch.view.trouble or None
