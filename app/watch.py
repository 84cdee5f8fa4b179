"""The watch: looks at the cluster every second and finds the brokers that are away."""
import contextlib
import threading
import time
import typing

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from console import blockSignals

LOOK_SECONDS = 1      # between two looks
ASK_SECONDS = 1.5     # longer than usual for any broker's answer; then another one is asked
LEADER_SECONDS = 2.5  # longer than usual for the answers of all brokers that lead a partition


class View(typing.NamedTuple):
    """What one look at the cluster found."""
    start: float = 0               # when it began, by time.monotonic()
    away: frozenset = frozenset()  # ids of the brokers that do not answer, or whose replicas lag;
                                   # None: nothing answered
    trouble: str = ""              # what that means, for the user
    error: KafkaError = None       # what is wrong with the topic
    partitions: int = 0            # how many the topic has, 0 if not known


def isAnswer(future):
    """Tell whether a broker answered a question for an offset."""
    error = future.exception()
    if error is None:
        return future.result().offset >= 0  # the library may report a timeout as offset -1001
    code = error.args[0].code()
    # The library's own codes are below UNKNOWN, and it borrows one of the brokers'.
    return code >= KafkaError.UNKNOWN and code != KafkaError.LEADER_NOT_AVAILABLE


class Watch:
    """Looks at the cluster from a thread and with a client of its own.

    The client of the run would answer late, behind the events that it carries, and each answer
    would refresh the topic's metadata, which has to grow old: see runProducer.DEFAULTS.
    """

    def __init__(self, topic):
        self.topic = topic
        self.view = View()       # what the last look found
        self.parts = []          # metadata of the topic's partitions, from the last answer
        self.brokers = set()     # ids of the cluster's brokers, from the last answer
        self.answerSeconds = 10  # what an answer usually takes; before the first, a guess
        self.leastInSync = None  # the topic's min.insync.replicas, 0 if nobody says

    def start(self, conf):
        """Look until the program ends. conf: librdkafka's properties of the connection."""
        threading.Thread(target=self.run, args=(conf,), daemon=True).start()

    def run(self, conf):
        """Look again and again."""
        blockSignals()
        self.admin = AdminClient({**conf, "allow.auto.create.topics": False})
        while True:
            self.view = self.look(time.monotonic())
            time.sleep(LOOK_SECONDS)

    def lookAgain(self):
        """Wait for a look that begins now, but not for long."""
        now = time.monotonic()
        while 0 < self.view.start < now and time.monotonic() < now + 3 * LOOK_SECONDS:
            time.sleep(0.05)

    def look(self, start):
        """Ask any broker for the topic, and each leader of a partition for its end."""
        answered = False
        with contextlib.suppress(KafkaException):  # a broker that hangs: the others are asked now
            found = self.admin.list_topics(self.topic, timeout=ASK_SECONDS + self.answerSeconds)
            topic, answered = found.topics[self.topic], True
            self.answerSeconds = time.monotonic() - start
            if topic.error:
                return View(start, error=topic.error)
            self.parts, self.brokers = list(topic.partitions.values()), set(found.brokers)
        leaders = {part.id: part.leader for part in self.parts if part.leader >= 0}
        silent = self.silentLeaders(leaders, LEADER_SECONDS + 2 * self.answerSeconds)
        alive = self.brokers - silent
        if not alive or (not answered and silent == set(leaders.values())):
            return View(start, away=None)
        inSync = [alive.intersection(part.isrs) for part in self.parts]
        lagging = [set(part.replicas) - ids for part, ids in zip(self.parts, inSync)]
        away = frozenset(silent.union(*lagging))
        if self.leastInSync is None or (away and not self.leastInSync):
            self.leastInSync = self.askLeastInSync()  # best in the first look, while all is well
        return View(start, away=away, trouble=self.trouble(away, silent, inSync) if away else "",
                    partitions=len(self.parts))

    def silentLeaders(self, leaders, seconds):
        """Return the ids of the leaders that do not answer. leaders: {partition: broker's id}"""
        ends = {TopicPartition(self.topic, number): OffsetSpec.latest() for number in leaders}
        answers = self.admin.list_offsets(ends, request_timeout=seconds) if ends else {}
        return {leaders[partition.partition] for partition, future in answers.items()
                if not isAnswer(future)}

    def trouble(self, away, silent, inSync):
        """Say which brokers are away, and what that means for the topic's partitions.

        silent: ids of leaders that do not answer. inSync: of each partition the ids in sync.
        """
        names = ("brokers " if len(away) > 1 else "broker ") + ", ".join(map(str, sorted(away)))
        leaderless = sum(part.leader < 0 or part.leader in silent for part in self.parts)
        text = f"{names} away: of {len(self.parts)} partitions {leaderless} without a leader"
        if self.leastInSync:
            below = sum(len(ids) < self.leastInSync for ids in inSync)
            text += f", {below} below min.insync.replicas={self.leastInSync}"
        return text

    def askLeastInSync(self):
        """Return the topic's min.insync.replicas, 0 without an answer: not everybody may know."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        with contextlib.suppress(KafkaException, KeyError):
            answers = self.admin.describe_configs([resource], request_timeout=ASK_SECONDS)
            return int(answers[resource].result()["min.insync.replicas"].value)
        return 0
