"""An outage: whether a broker answers, and what the user is told where none does."""
import concurrent.futures
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

DOWN_SECONDS = 1     # all connections must be lost for so long before we say so
SILENT_SECONDS = 5   # nothing must be acknowledged for so long, likewise
REST_SECONDS = 3     # a longer gap (a question, Ctrl-Z) says nothing about the broker
REPEAT_SECONDS = 40  # an older error is over: librdkafka repeats one that lasts every 30 s
IDLE_SECONDS = 5     # after which a consumer asks its broker whether it is there
LOST_SECONDS = 20    # after which a client is given up if a broker answers only another one
OURS, ANOTHER, NOBODY = "ours", "another", "nobody"
NOT_THERE = KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC  # which a broker has said


class Outage:
    """Tells the user that no broker answers, and why, and when one does again."""

    GONE = "the broker is gone", "the broker is back"
    SILENT = "nothing is acknowledged", "acknowledged again"

    def __init__(self, terminal):
        self.terminal = terminal
        self.down = False  # whether the library has lost its last connection
        self.error = None  # the last one of a connection
        self.errorAt = self.wellAt = self.updatedAt = 0  # by time.monotonic()
        self.kind = None   # of the outage that the user knows: GONE, SILENT or None
        self.told = set()  # the reasons for it that the user knows

    @property
    def lasts(self):
        """Whether no broker answers, as far as is known."""
        return bool(self.down or self.kind)

    def onError(self, error):
        """Keep an error of a connection: librdkafka's error_cb."""
        if error.code() == error._ALL_BROKERS_DOWN:
            self.down = True
        else:
            self.error, self.errorAt = error.str(), time.monotonic()

    def update(self, answered, waiting):
        """Tell the user what has changed. answered: whether a broker has, since the last call.

        waiting: whether anything waits for its answer. If not, a lost connection was an idle one.
        """
        now = time.monotonic()
        rested, self.updatedAt = now > self.updatedAt + REST_SECONDS, now
        if now > self.errorAt + REPEAT_SECONDS:
            self.error = None
        if answered or not (waiting or self.kind):
            if self.kind:
                self.terminal.tell(f"{self.kind[1]} after {now - self.wellAt:.0f} s")
            if answered and (self.kind or not waiting):
                self.error = None
            self.wellAt, self.down, self.kind, self.told = now, False, None, set()
        elif rested and not self.kind:
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
    """The same for a consumer: where nothing arrives, it asks its broker."""

    def __init__(self, conf, topic, terminal):
        """conf: librdkafka's configuration."""
        super().__init__(terminal)
        self.conf, self.topic = conf, topic
        self.answeredAt = time.monotonic()  # when a broker was last known to be there
        self.asker = concurrent.futures.ThreadPoolExecutor(1)
        self.question = None  # the one that waits for its answer

    def watch(self, client, number, arrived):
        """Tell the user what has changed. arrived: whether an event has, since the last call.

        number: of a partition. Return whether the client has lost its broker for good. librdkafka
        may do so where a one-node Kafka 4 stood still for more than 9 s.
        """
        now, answered = time.monotonic(), None
        if self.question and self.question.done():
            answered, self.question = self.question.result(), None
            self.down = self.down or answered != OURS
        isThere = arrived or answered == OURS
        self.update(isThere, self.down)
        if isThere:
            self.answeredAt = now
        elif not self.question and (self.lasts or now > self.answeredAt + IDLE_SECONDS):
            self.question = self.asker.submit(
                whoIsAnswered, client, self.conf, TopicPartition(self.topic, number))
        return answered == ANOTHER and now > self.answeredAt + LOST_SECONDS


def whoIsAnswered(client, conf, part):
    """Return OURS if a partition's leader answers the client, ANOTHER if only a new one, or NOBODY.

    The leader, because a client may have lost it alone. Not the group's broker: while a member
    waits there for others, it gets no answer to anything else.
    """
    if isAnswered(client, part):
        return OURS
    if not isAnswered(Consumer(conf), part):
        return NOBODY
    return OURS if isAnswered(client, part) else ANOTHER  # the broker may just have come back


def isAnswered(client, part):
    """Tell whether the leader of a partition answers a consumer in 5 s, be it by a refusal."""
    try:
        client.get_watermark_offsets(part, timeout=5)
    except KafkaException as error:
        code = error.args[0].code()
        return code > 0 or code in NOT_THERE  # the library's own errors are below 0
    return True
