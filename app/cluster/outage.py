"""An outage: finds out which partitions nobody answers for, and tells the user once a change."""
import time

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

LOOK_SECONDS = 1     # between two looks
ANSWER_SECONDS = 4   # a slow broker may take so long for an answer
GONE_SECONDS = 10    # a broker that starts does not know its topics for a while


def errorOf(future):
    """Return the KafkaError of a future, None where there is none, or none yet."""
    error = future.exception() if future.done() else None
    return error and error.args[0]


def isAnswer(future):
    """Tell whether a leader has answered the question for the end of its partition."""
    error = errorOf(future)
    if error is None:  # the library may report a timeout as an answer without an offset
        return future.result().offset >= 0
    # The library's own codes are below UNKNOWN, and it borrows one of the brokers'.
    return error.code() >= error.UNKNOWN and error.code() != error.LEADER_NOT_AVAILABLE


class Outage:
    """Asks the leader of each partition for its end, once a second.

    It has a client of its own. The client of the run would answer late, behind the events that it
    carries, and would refresh what it knows of the topic, which has to grow old: see settings.py.
    """

    def __init__(self, topic, connection):
        """connection: the Connection of the run, which knows the last error of both clients."""
        self.topic, self.connection = topic, connection
        self.admin = None      # an AdminClient
        self.answers = {}      # {partition: future} of the look under way, or of the last one
        self.known = None      # the future of what it asks about the topic
        self.lookedAt = 0      # when that began; this and the next three by time.monotonic()
        self.reportedAt = 0    # when report() was called last
        self.silentSince = 0   # since when partitions have had no answer
        self.unknownSince = None  # since when the brokers have refused us the topic
        self.topicIsGone = False
        self.silent = 0        # for how many partitions there was no answer, as the user knows
        self.trouble = None    # what the user was told of that

    def look(self, numbers, seconds=ANSWER_SECONDS):
        """Ask the leaders of these partitions, and a broker for the topic.

        seconds: for how long they may answer.
        """
        self.lookedAt = time.monotonic()
        ends = {TopicPartition(self.topic, number): OffsetSpec.latest() for number in numbers}
        futures = self.admin.list_offsets(ends, request_timeout=seconds)
        self.answers = {partition.partition: future for partition, future in futures.items()}
        topics = TopicCollection([self.topic])
        [self.known] = self.admin.describe_topics(topics, request_timeout=seconds).values()

    def isOver(self):
        """Tell whether the last look is over, as far as it asked the leaders."""
        return all(future.done() for future in self.answers.values())

    def anyLeader(self):
        """Tell whether by the last look any leader answers."""
        return any(map(isAnswer, self.answers.values()))

    def report(self):
        """Tell the user what has changed; look again where it is time."""
        if not self.answers:  # the run ends before it was connected
            return
        now = time.monotonic()
        rested, self.reportedAt = now > self.reportedAt + 2 * LOOK_SECONDS, now
        progress = self.connection.progressAt > self.lookedAt
        if progress and self.silent == len(self.answers):
            self.tell(0, now)
        if now < self.lookedAt + LOOK_SECONDS:
            return
        self.admin.poll(0)  # serves error_cb
        if self.isOver():
            if not rested:  # after a question or a Ctrl-Z the answers are old
                self.judge(progress, now)
            self.look(self.answers)

    def judge(self, progress, now):
        """Draw the conclusions from a look. progress: whether events got through meanwhile."""
        error = errorOf(self.known)
        if error and error.code() > 0:  # a broker's answer: it has no such topic for us
            self.unknownSince = self.unknownSince or now
            if now > self.unknownSince + GONE_SECONDS:
                self.topicIsGone = True
                self.connection.stop.fail(f"topic {self.topic}: {error.str()}")
            return
        self.unknownSince = None
        silent = sum(not isAnswer(future) for future in self.answers.values())
        # Where events got through, a look that nobody has answered says nothing.
        if silent < len(self.answers) or not progress:
            self.tell(silent, now)

    def tell(self, silent, now):
        """Tell the user for how many partitions there is no answer, if that has changed."""
        before, self.silent, total = self.silent, silent, len(self.answers)
        if silent == before:
            return
        note = self.connection.console.note
        self.silentSince = self.silentSince if before else now
        seconds = f"{now - self.silentSince:.0f} s"
        if before == total:
            note(f"the broker is back after {seconds}")
        error = self.connection.error
        why = error.str() if error else "no answer"
        self.trouble = None
        if silent == total:
            self.trouble = f"the broker is gone: {why}"
        elif silent:
            self.trouble = f"no answer for {silent} of {total} partitions: {why}"
        elif before < total:
            note(f"all partitions answer again after {seconds}")
        if self.trouble:
            note(self.trouble)
