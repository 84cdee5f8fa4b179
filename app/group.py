"""The consumer group: which partitions we have, how far they are committed, and the leaving."""
import contextlib
import math
import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

SETTLE_SECONDS = 1     # in which several changes of our share are one
SILENCE_SECONDS = 5    # after which the user is told that the group has not answered
PATIENCE_SECONDS = 60  # after which a run with --timeout waits no longer for the group
FORBIDDEN = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
HOPELESS = {           # errors that waiting does not mend
    *FORBIDDEN, KafkaError.INCONSISTENT_GROUP_PROTOCOL, KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.INVALID_SESSION_TIMEOUT, KafkaError._AUTO_OFFSET_RESET, KafkaError._FATAL}


class Group:
    """The place of a client in its consumer group."""

    def __init__(self, conf, args, outage, terminal):
        """conf: librdkafka's configuration. outage: that of the client's brokers."""
        self.name, self.args = conf["group.id"], args
        self.outage, self.terminal = outage, terminal
        self.client = None        # the member of the group
        self.isClassic = conf["group.protocol"].lower() == "classic"
        strategy = conf.get("partition.assignment.strategy", "")
        self.isIncremental = "cooperative" in strategy or not self.isClassic
        self.commits = conf["enable.auto.commit"].lower() in ("true", "t", "1")
        self.ours = set()         # numbers of our partitions
        self.uncommitted = {}     # {partition: the offset that is still to be committed for it}
        self.committing = False   # whether we have asked for that and have no answer yet
        self.commitError = "not committed"  # why, None once we have left
        self.fatal = None         # a KafkaError that waiting does not mend
        self.told = set()         # errors that the user knows
        self.joinedAt = 0         # by time.monotonic()
        self.silenceTold = False  # whether the user knows that the group has not answered
        self.answeredAt = None    # when it first gave us partitions; none is an answer, too
        self.partitions = None    # how many the topic has, None while that is not known
        self.share = None         # our share as the user knows it, None for the whole topic
        self.shareDueAt = math.inf  # when to tell the user of our share, inf for nothing to tell

    def begin(self, client):
        """Take a client that joins. What a former one has shown still counts."""
        self.client, self.joinedAt = client, time.monotonic()
        self.ours, self.committing, self.shareDueAt = set(), False, math.inf

    def onAssign(self, client, partitions):
        """Begin where the group says, or after what was shown since and could not be committed."""
        committed = {}
        with contextlib.suppress(KafkaException):  # no answer: the library goes on asking
            committed = {part.partition: part.offset for part in client.committed(partitions, 5)}
        for part in partitions:
            # If not, the library asks again: another member may be committing just now.
            shown = self.uncommitted.get(part.partition, 0)
            if shown > max(committed.get(part.partition, 0), 0):
                part.offset = shown
        assign = client.incremental_assign if self.isIncremental else client.assign
        assign(partitions)
        self.ours |= {part.partition for part in partitions}
        self.uncommitted = {number: self.uncommitted[number]
                            for number in self.ours & {*self.uncommitted}}
        self.answeredAt = self.answeredAt or time.monotonic()
        self.shareDueAt = time.monotonic() + SETTLE_SECONDS

    def onRevoke(self, client, partitions):
        """Commit what was shown of partitions that another consumer goes on with."""
        self.onLost(client, partitions)
        if offsets := self.offsetsOf({part.partition for part in partitions}):
            with contextlib.suppress(KafkaException):  # the library tries it as well, and may fail
                client.commit(offsets=offsets, asynchronous=False)

    def onLost(self, _client, partitions):
        """Show no more of partitions that another consumer may have by now."""
        self.ours -= {part.partition for part in partitions}
        self.shareDueAt = math.inf  # until the group has decided

    def offsetsOf(self, numbers):
        """Return the offsets of these partitions that are still to be committed."""
        return [TopicPartition(self.args.topic, number, self.uncommitted[number])
                for number in numbers & {*self.uncommitted} if self.commits]

    def onCommit(self, error, partitions):
        """Take the group's answer to a commit: librdkafka's on_commit."""
        self.committing = False
        for part in partitions:
            problem = error or part.error
            if problem and problem.code() != problem.UNKNOWN_TOPIC_OR_PART:
                self.commitError = problem.str()
                if problem.code() in HOPELESS:
                    self.onError(problem)
            elif self.uncommitted.get(part.partition) == part.offset:
                del self.uncommitted[part.partition]

    def onError(self, error):
        """Tell the user of an error, once. If waiting does not mend it, stop."""
        if self.fatal or error.code() == error._PARTITION_EOF:
            return
        if error.code() in HOPELESS:
            self.fatal = error
            self.terminal.fail(
                f"topic {self.args.topic}, group {self.name}: {error.str()}\n"
                "take another topic (-t) or group (-g), ask for access, or change a property (-X)")
        elif error.str() not in self.told:
            self.told.add(error.str())
            self.terminal.tell(error.str())

    def leave(self):
        """Commit the last offsets, and leave the group."""
        if self.fatal and self.fatal.code() == KafkaError._FATAL:
            return  # the library does nothing more
        client, outage = self.client, self.outage
        self.terminal.setDeadline()
        self.commitError = self.fatal.str() if self.fatal else "no answer from the group"
        # poll(), not close(): only poll() lets a rebalance finish; what it returns is left to the
        # next start.
        while not (self.answeredAt or self.fatal or outage.lasts):  # the answer has our member id
            client.poll(0.02)
        # Not for partitions that were taken away: whoever has these now may be further.
        while not self.fatal and (offsets := self.offsetsOf(self.ours)):
            if not self.committing:  # only one request at a time, or there would be a flood of them
                self.committing = True
                client.commit(offsets=offsets, asynchronous=True)
            client.poll(0.02)
        if not self.fatal:
            self.commitError = None
        client.unsubscribe()
        while self.isClassic and client.memberid() and not outage.lasts:  # it stays under Kafka 4's
            client.poll(0.02)
        if not outage.lasts:  # close() would wait for the end of it
            client.close()

    def lastWords(self):
        """Tell the user what could not be committed. Who may not read needs no such word."""
        isForbidden = self.fatal and self.fatal.code() in FORBIDDEN
        if self.commitError and self.uncommitted and not isForbidden:
            self.terminal.tell(f"{self.commitError}: the events shown last may be shown again by "
                               "the next start")

    def countPartitions(self):
        """Return how many partitions the topic has, None if no broker answers."""
        with contextlib.suppress(KafkaException):
            topics = self.client.list_topics(self.args.topic, timeout=2).topics
            return len(topics[self.args.topic].partitions)
        return None

    def tellNews(self):
        """Tell the user, once, if the group gives nothing. Tell of our share, once a change."""
        waited = time.monotonic() - self.joinedAt
        if self.answeredAt:
            if time.monotonic() > self.shareDueAt:
                self.tellShare()
        elif waited > SILENCE_SECONDS and not self.silenceTold:
            self.silenceTold = True
            self.terminal.tell(f"no partitions from group {self.name} so far: its broker may be "
                               "starting, or it waits for a member, up to 45 s")
        elif waited > PATIENCE_SECONDS and self.args.timeout:
            self.terminal.fail(f"no partitions from group {self.name} in {PATIENCE_SECONDS} s")

    def tellShare(self):
        """Tell the user how many partitions we have, where others have some or had some."""
        self.shareDueAt, share = math.inf, None
        if self.share or len(self.ours) != self.partitions:  # the topic may have others by now
            count = self.countPartitions()
            if count is None:
                self.shareDueAt = time.monotonic() + SETTLE_SECONDS
                return
            self.partitions = count
        if not self.partitions:
            share = f"topic {self.args.topic} has no partitions: it was deleted"
        elif len(self.ours) < self.partitions:
            share = (f"{len(self.ours)} of {self.partitions} partitions: other consumers of group "
                     f"{self.name} have the rest")
        if share != self.share:
            self.terminal.tell(share or f"all {self.partitions} partitions")
            self.share = share
