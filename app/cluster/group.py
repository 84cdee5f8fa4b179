"""The group: which partitions are ours, what of them was shown, and what the group has stored."""
import signal
import threading
import time

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_INVALID, KafkaError, KafkaException,
                             TopicPartition)

from cluster import settings
from terminal.stopping import SIGNALS, Failure

ANSWER_SECONDS = 5    # after which the user is told that the group has not answered
PATIENCE_SECONDS = 60  # after which a run with --timeout waits no longer for the group
SETTLE_SECONDS = 1    # in which several changes of our share are one
FORBIDDEN = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED
ADVICE = {  # for errors that waiting does not mend
    **dict.fromkeys(FORBIDDEN, "ask for access to them, or name others with -t and -g"),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "name another group with -g, or set partition.assignment.strategy as its other consumers "
        "do (-X)"),
    KafkaError.GROUP_MAX_SIZE_REACHED: "name another group with -g, or end one of its consumers",
    KafkaError.INVALID_SESSION_TIMEOUT: "set session.timeout.ms to what the brokers allow (-X)",
    KafkaError._AUTO_OFFSET_RESET: "leave out auto.offset.reset=error"}


class Group:
    """Our place in a consumer group."""

    def __init__(self, conf, topic):
        """conf: librdkafka's configuration."""
        self.name, self.topic = conf["group.id"], topic
        strategy = conf.get("partition.assignment.strategy", "")
        self.incremental = settings.isNewProtocol(conf) or "cooperative" in strategy
        self.stays = "group.instance.id" in conf  # its place is kept for the next start
        self.fromBeginning = conf.get("auto.offset.reset") == "earliest"
        self.stores = conf.get("enable.auto.commit", "true").lower() in ("true", "t", "1")
        self.ours = set()      # numbers of our partitions
        self.next = {}         # {partition: the offset after the last one shown}; it is kept until
                               # the group has said who has the partition
        self.stored = {}       # {partition: the offset that the group has stored for it}
        self.refusal = None    # why the group has refused to store offsets, a KafkaError
        self.joining = False   # whether we have asked to join and have no answer yet
        self.joinedAt = None   # when we asked to join; this and the next two by time.monotonic()
        self.answeredAt = None  # when the group first gave us partitions; none is an answer, too
        self.changedAt = None  # when it did so last; None during a rebalance

    def join(self, connection):
        """Join the group with the client of a connection."""
        self.connection, self.client = connection, connection.client
        self.joining, self.joinedAt = True, time.monotonic()
        self.client.subscribe([self.topic], on_assign=self.onAssign, on_revoke=self.onRevoke,
                              on_lost=self.onLost)

    def onAssign(self, client, partitions):
        """Begin where the group says, or after what was shown and could not be stored since."""
        try:
            says = {part.partition: part.offset for part in client.committed(partitions, 5)}
        except KafkaException:  # no answer: the library goes on asking
            says = {}
        for part in partitions:
            shown, stored = self.next.get(part.partition), self.stored.get(part.partition)
            if shown not in (None, stored) and shown > says.get(part.partition, -1):
                part.offset = shown
            elif says.get(part.partition) == OFFSET_INVALID and self.fromBeginning:
                part.offset = OFFSET_BEGINNING  # the library would first wait for 0.1 s
        if self.incremental:
            client.incremental_assign(partitions)
        else:
            client.assign(partitions)
            self.ours.clear()
        self.ours |= {part.partition for part in partitions}
        self.next = {number: self.next[number] for number in self.ours & self.next.keys()}
        self.joining = False
        self.changedAt = time.monotonic()
        self.answeredAt = self.answeredAt or self.changedAt

    def onRevoke(self, client, partitions):
        """Show no more of partitions that another consumer may go on with."""
        self.ours -= {part.partition for part in partitions}
        self.changedAt = None

    def onLost(self, client, partitions):
        """Show no more of our partitions. What was shown of them can't be stored any more."""
        self.ours.clear()
        self.joining = True
        self.changedAt = None

    def shown(self, messages):
        """Note that messages were shown, the last one of each partition. Tell of a new log."""
        for message in messages:
            number, offset = message.partition(), message.offset()
            if offset < self.next.get(number, 0):
                self.connection.console.note(
                    f"partition {number}: its log was made anew: offset {offset} comes after "
                    f"{self.next[number] - 1}")
            self.next[number] = offset + 1
            self.client.store_offsets(message=message)

    def check(self, error):
        """Raise Failure for an error that waiting does not mend."""
        if error.code() in ADVICE or error.fatal():
            self.joining = False  # no answer will come
            raise Failure(f"topic {self.topic}, group {self.name}: {error.str()}\n"
                          + ADVICE.get(error.code(), "start it again"))

    def onCommit(self, error, partitions):
        """Note what the group has stored: librdkafka's on_commit."""
        for part in partitions:
            problem = error or part.error
            if problem and problem.code() != problem.UNKNOWN_TOPIC_OR_PART:
                self.refusal = problem
            else:  # a partition that was deleted needs no offset
                self.stored[part.partition] = part.offset

    def unstored(self):
        """Return what is still to be stored, as {partition: offset}."""
        return {number: offset for number, offset in self.next.items()
                if self.stores and self.stored.get(number) != offset}

    def commit(self):
        """Ask the group to store the last offsets. onCommit() has the answer."""
        self.refusal = None
        parts = [TopicPartition(self.topic, *pair) for pair in self.unstored().items()]
        try:
            self.client.commit(offsets=parts, asynchronous=True)
        except KafkaException as error:
            self.refusal = error.args[0]

    def leave(self):
        """Have the group store the last offsets, and leave it. Say so if it does not answer.

        All waits are polls: what they return is not shown, and so not stored.
        """
        stop, serve = self.connection.stop, self.connection.serve
        stop.hurry()
        if self.unstored():
            self.commit()
        while self.unstored() and not stop.over():
            serve(self.client.poll, 0.05)
            if self.refusal and self.refusal.code() in FORBIDDEN:
                break
            if self.refusal:  # as during a rebalance
                self.commit()
        if self.unstored():
            why = self.refusal.str() if self.refusal else "no answer from the group"
            self.connection.console.note(f"{why}: the events shown last may be shown again by the "
                                         "next start")
        while self.joining and not stop.over():  # the answer has the member id to leave with
            serve(self.client.poll, 0.05)
        if not self.stays:
            self.client.unsubscribe()
            while self.client.memberid() and not stop.over():
                serve(self.client.poll, 0.05)
        # In a thread: where a broker hangs, close() never returns, and no signal ends it.
        closing = threading.Thread(target=self.close, daemon=True)
        closing.start()
        while closing.is_alive() and not stop.over():
            closing.join(0.05)

    def close(self):
        """Close the client, which waits until the brokers know that we have left."""
        if hasattr(signal, "pthread_sigmask"):  # signals go to the main thread
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.client.close()


class Share:
    """Tells the user how much of the topic the group has given us."""

    def __init__(self, group, connection):
        self.group, self.connection = group, connection
        self.silenceTold = False  # whether the user knows that the group has not answered
        self.toldAt = None        # the changedAt of the share that was told last
        self.whole = True         # whether we have all partitions, as far as the user knows

    def report(self, patient=True):
        """Tell the user what has changed. Not patient: end a run whose group gives nothing."""
        now, changedAt = time.monotonic(), self.group.changedAt
        if not self.group.answeredAt:
            self.reportSilence(now - self.group.joinedAt, patient)
        elif changedAt and changedAt != self.toldAt and now > changedAt + SETTLE_SECONDS:
            if self.toldAt:  # the topic may have other partitions than at the start
                self.connection.askForTopic(1)  # not in a callback: there the library would abort
            self.toldAt = changedAt
            self.reportShare()

    def reportSilence(self, seconds, patient):
        """Tell the user that the group has given us nothing so far."""
        name = self.group.name
        if seconds > ANSWER_SECONDS and not self.silenceTold:
            self.silenceTold = True
            self.connection.console.note(
                f"no partitions from group {name} so far: a consumer that was killed keeps its "
                "place for up to 45 s, and the brokers have to know the group.protocol")
        if seconds > PATIENCE_SECONDS and not patient:
            self.connection.stop.fail(f"no partitions from group {name} in {PATIENCE_SECONDS} s")

    def reportShare(self):
        """Tell the user how many partitions we have, where others have some or had some."""
        ours, total = len(self.group.ours), len(self.connection.leaders)
        if ours < total:
            self.connection.console.note(f"{ours} of {total} partitions: other consumers of group "
                                         f"{self.group.name} have the rest")
        elif not self.whole:
            self.connection.console.note(f"all {total} partitions")
        self.whole = ours >= total
