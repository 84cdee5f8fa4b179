"""An outage: whether a broker answers, and what the user is told where none does."""
import contextlib
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

DOWN_SECONDS = 1     # all connections must be lost for so long before we say so
SILENT_SECONDS = 5   # nothing must be acknowledged for so long, likewise
REST_SECONDS = 3     # a longer gap (a question, Ctrl-Z) says nothing about the broker
REPEAT_SECONDS = 40  # an older error is over: librdkafka repeats one that lasts every 30 s
IDLE_SECONDS = 5     # after which a consumer asks its broker whether it is there
LOST_SECONDS = 20    # after which a client is given up if a broker answers only another


class Outage:
    """Tells the user that no broker answers, and why, and when one does again."""

    GONE = "the broker is gone", "the broker is back"
    SILENT = "nothing is acknowledged", "acknowledged again"

    def __init__(self, terminal):
        self.terminal = terminal
        self.down = False  # whether the library lost its last connection, and nobody answered since
        self.error = None  # the last one of a connection
        self.errorAt = self.lostAt = self.wellAt = self.updatedAt = 0  # by time.monotonic()
        self.kind = None   # of the outage that the user knows: GONE, SILENT or None
        self.told = set()  # the reasons for it that the user knows

    @property
    def lasts(self):
        """Whether no broker answers, as far as is known."""
        return bool(self.down or self.kind)

    def onError(self, error):
        """Keep an error of a connection: librdkafka's error_cb."""
        if error.code() == error._ALL_BROKERS_DOWN:
            self.down, self.lostAt = True, time.monotonic()
        else:
            self.error, self.errorAt = error.str(), time.monotonic()

    def update(self, answered, waiting):
        """Tell the user what has changed. answered: whether a broker has, since the last call.

        waiting: whether anything waits for its answer.
        """
        now = time.monotonic()
        before, self.updatedAt = self.updatedAt, now
        if now > self.errorAt + REPEAT_SECONDS:
            self.error = None
        if answered or not (waiting or self.kind):
            if self.kind:
                self.terminal.tell(f"{self.kind[1]} after {now - self.wellAt:.0f} s")
            if answered and (self.kind or not waiting):
                self.error = None
            self.wellAt, self.kind, self.told = now, None, set()
            if answered and self.lostAt < before:  # else the loss may be later than the answer
                self.down = False
        elif now > before + REST_SECONDS and not self.kind:
            self.wellAt = now
        elif self.kind or now > self.wellAt + (DOWN_SECONDS if self.down else SILENT_SECONDS):
            self.tell(self.GONE if self.down else self.kind or self.SILENT)

    def tell(self, kind):
        """Tell the user of an outage, and of each reason for it, once."""
        # Of the text of an error only this is the same each time.
        reason = (self.error or "").split(" (")[0].split(": ")[-1]
        if kind != self.kind or reason and reason not in self.told:
            self.kind = kind
            self.told.add(reason)
            self.terminal.tell(self.words())

    def words(self):
        """Return what is known of an outage."""
        return ": ".join(filter(None, [self.kind and self.kind[0], self.error]))


class ConsumerOutage(Outage):
    """The same for a consumer: where nothing arrives, it asks whether a broker is there."""

    def __init__(self, conf, terminal):
        """conf: librdkafka's configuration."""
        super().__init__(terminal)
        self.conf = conf
        self.answeredAt = time.monotonic()  # when a broker was last known to be there

    def watch(self, client, arrived):
        """Tell the user what has changed. arrived: whether an event has, since the last call.

        Return whether the client has lost its broker for good. librdkafka may do so where a
        one-node Kafka 4 stood still for more than 9 s.
        """
        now = time.monotonic()
        asks = not arrived and (self.lasts or now > self.answeredAt + IDLE_SECONDS)
        isThere = arrived or asks and isAnswered(client, 1 if self.lasts else 3)
        self.down = self.down or asks and not isThere
        self.update(isThere, self.down)
        if isThere:  # a loss that came after an event is found by the next question
            self.answeredAt, self.down = time.monotonic(), False
        isLong = asks and not isThere and now > self.answeredAt + LOST_SECONDS
        # Ours is asked again: the broker may just have come back.
        return isLong and isAnswered(AdminClient(self.conf), 1) and not isAnswered(client, 3)


def isAnswered(client, seconds):
    """Tell whether a broker answers a client in so many seconds."""
    with contextlib.suppress(KafkaException):
        return bool(client.list_topics(timeout=seconds).brokers)
    return False
