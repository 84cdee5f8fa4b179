"""The watch: looks at the cluster every second and says which brokers are away."""
import contextlib
import threading
import time
import typing

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from console import blockSignals

LOOK_SECONDS = 1      # between two looks
ASK_SECONDS = 1.5     # for any broker's answer; then another one is asked
LEADER_SECONDS = 2.5  # for the answers of all brokers that lead a partition
GONE_SECONDS = 10     # a starting broker does not know its topics for a while


class View(typing.NamedTuple):
    """What one look at the cluster found."""
    gone: bool = False             # nothing answered
    away: frozenset = frozenset()  # ids of the brokers that do not answer, or whose replicas lag
    trouble: str = ""              # what that means, for the user
    error: KafkaError = None       # what is wrong with the topic
    partitions: int = 0            # how many the topic has, 0 if not known


class Watch:
    """Looks at the cluster from a thread and with a client of its own.

    The client of the run would answer late, behind the events that it carries, and each answer
    would refresh what it knows of the topic, which runProducer.DEFAULTS wants to grow old.
    """

    def __init__(self, topic, note):
        """note(text) prints a line for the user."""
        self.topic, self.note = topic, note
        self.view = View()
        self.away = frozenset()   # what the user knows of brokers that are away; None: all are
        self.since = 0            # start of that trouble; this and the next two by time.monotonic()
        self.missingSince = None  # since when the topic has been unknown
        self.progressAt = 0       # when an event was acknowledged or came in
        self.lookedAt = 0         # when the last look began
        self.partitions = 0       # how many partitions the user knows of

    def start(self, conf):
        """Look until the program ends. conf: librdkafka's properties of the connection."""
        threading.Thread(target=self.run, args=(conf,), daemon=True).start()

    def run(self, conf):
        """Look again and again."""
        blockSignals()
        look = Look(conf, self.topic)
        while True:
            time.sleep(LOOK_SECONDS)
            start = time.monotonic()
            view = look.view()
            if not view.gone or self.progressAt < start:
                self.view = view
            self.lookedAt = start

    def lookAgain(self):
        """Wait for a look that begins now, but not for long."""
        now = time.monotonic()
        while self.lookedAt < now < time.monotonic() < now + 3 * LOOK_SECONDS:
            time.sleep(0.05)

    def progress(self):
        """Note that an event was acknowledged or came in: something answers."""
        self.progressAt = time.monotonic()
        if self.view.gone:
            self.view = View()

    def report(self, error):
        """Tell the user what has changed. error: the connection's last one, or None.

        Return why waiting is pointless, None while it is not.
        """
        view, now = self.view, time.monotonic()
        away = None if view.gone else view.away
        if away != self.away:
            self.tell(away, view.trouble, error, now)
            self.away = away
        if view.partitions:
            if view.partitions < self.partitions:
                self.note(f"topic {self.topic} was deleted and made anew: it has "
                          f"{view.partitions} partitions now, {self.partitions} before")
            self.partitions = view.partitions
        if not view.error:
            self.missingSince = None
        elif not self.missingSince:
            self.missingSince = now
        elif now > self.missingSince + GONE_SECONDS:
            return f"topic {self.topic}: {view.error.str()}"
        return None

    def tell(self, away, trouble, error, now):
        """Tell the user of brokers that went away or came back."""
        if self.away == frozenset():
            self.since = now
        seconds = f"{now - self.since:.0f} s"
        if self.away is None:
            self.note(f"the broker is back after {seconds}")
        if away is None:
            self.note(f"the broker is gone: {error.str() if error else 'no answer'}")
        elif away - (self.away or frozenset()):
            self.note(trouble)
        elif self.away and not away:
            self.note(f"all brokers are back after {seconds}")


class Look:
    """What a look asks: any broker for the topic, and each broker that leads a partition of it."""

    def __init__(self, conf, topic):
        self.admin, self.topic = AdminClient({**conf, "allow.auto.create.topics": False}), topic
        self.parts = []      # metadata of the topic's partitions, as last seen
        self.leastInSync = 0  # the topic's min.insync.replicas, 0 while unknown

    def view(self):
        """Return the View of this moment."""
        answered = False
        with contextlib.suppress(KafkaException):  # a broker that hangs: the others are asked now
            found = self.admin.list_topics(self.topic, timeout=ASK_SECONDS).topics[self.topic]
            if found.error:
                return View(error=found.error)
            self.parts, answered = list(found.partitions.values()), True
        leaders = {part.id: part.leader for part in self.parts if part.leader >= 0}
        silent = self.silentLeaders(leaders)
        if not answered and silent == set(leaders.values()):
            return View(gone=True)
        return self.describe(silent)

    def silentLeaders(self, leaders):
        """Return the ids of the leaders that do not answer. leaders: {partition: broker's id}"""
        ends = {TopicPartition(self.topic, number): OffsetSpec.latest() for number in leaders}
        answers = self.admin.list_offsets(ends, request_timeout=LEADER_SECONDS) if ends else {}
        silent = set()
        for partition, future in answers.items():
            try:
                answered = future.result().offset >= 0
            except KafkaException as error:
                code = error.args[0].code()  # the library's own codes are below the brokers' codes
                answered = code >= KafkaError.UNKNOWN and code != KafkaError.LEADER_NOT_AVAILABLE
            if not answered:
                silent.add(leaders[partition.partition])
        return silent

    def describe(self, silent):
        """Return the View of the topic's partitions. silent: ids of leaders that do not answer."""
        inSync = [set(part.isrs) - silent for part in self.parts]
        away = silent.union(*(set(part.replicas) - ids for part, ids in zip(self.parts, inSync)))
        trouble = ""
        if away:
            self.askLeastInSync()
            leaderless = sum(part.leader < 0 or part.leader in silent for part in self.parts)
            below = sum(len(ids) < self.leastInSync for ids in inSync)
            names = ("brokers " if len(away) > 1 else "broker ") + ", ".join(map(str, sorted(away)))
            trouble = (f"{names} away: of {len(self.parts)} partitions "
                       f"{leaderless} without a leader")
            if self.leastInSync:
                trouble += f", {below} below min.insync.replicas={self.leastInSync}"
        return View(away=frozenset(away), trouble=trouble, partitions=len(self.parts))

    def askLeastInSync(self):
        """Ask for the topic's min.insync.replicas, which not everybody may know."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        if not self.leastInSync:
            with contextlib.suppress(KafkaException, KeyError):
                answers = self.admin.describe_configs([resource], request_timeout=ASK_SECONDS)
                self.leastInSync = int(answers[resource].result()["min.insync.replicas"].value)
