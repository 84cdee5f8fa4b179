"""The group: which partitions are ours, what of them was shown, and what the group has stored."""
import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from terminal.stopping import Failure

ANSWER_SECONDS = 5   # after which the user is told that the group has not answered
MINUTE = 60          # after which a run with --timeout waits no longer for the group
SETTLE_SECONDS = 1   # in which several changes of our share are one
FORBIDDEN = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED


class Group:
    """Our place in a consumer group."""

    def __init__(self, conf, topic):
        """conf: librdkafka's configuration."""
        self.name, self.topic = conf["group.id"], topic
        strategy = conf.get("partition.assignment.strategy", "")
        newProtocol = conf.get("group.protocol", "").lower() == "consumer"
        self.incremental = newProtocol or "cooperative" in strategy
        self.stays = "group.instance.id" in conf  # its place is kept for the next start
        self.stores = conf.get("enable.auto.commit", "true").lower() in ("true", "t", "1")
        self.ours = set()      # numbers of our partitions
        self.lost = set()      # those that the group took away without a word before
        self.next = {}         # {partition: the offset after the last one shown}
        self.stored = {}       # {partition: the offset that the group has stored for it}
        self.refusal = None    # why the group has refused to store offsets, a KafkaError
        self.joinedAt = None   # when we asked to join; this and the next two by time.monotonic()
        self.answeredAt = None  # when the group first gave us partitions; none is an answer, too
        self.changedAt = None  # when our share changed, until the user is told
        self.hasAll = True     # whether we have all partitions, as far as the user knows
        self.waitTold = False  # whether the user knows that the group has not answered

    def join(self, connection):
        """Join the group with the client of a connection."""
        self.connection, self.client = connection, connection.client
        self.joinedAt = time.monotonic()
        self.client.subscribe([self.topic], on_assign=self.onAssign, on_revoke=self.onRevoke,
                              on_lost=self.onLost)

    def onAssign(self, client, partitions):
        """Begin after what the group has stored, or after what was shown since then."""
        try:
            stored = client.committed(partitions, timeout=5)
        except KafkaException:  # no answer: the library goes on asking
            stored = []
        ahead = {part.partition: part.offset for part in stored}
        for part in partitions:
            shown = self.next.get(part.partition)
            if shown is not None and shown > ahead.get(part.partition, -1):
                part.offset = shown
        numbers = {part.partition for part in partitions}
        if self.incremental:
            client.incremental_assign(partitions)
            self.ours |= numbers
        else:
            client.assign(partitions)
            self.ours = numbers
        self.lost.clear()
        self.changedAt = time.monotonic()
        self.answeredAt = self.answeredAt or self.changedAt

    def onRevoke(self, client, partitions):
        """Forget partitions that another consumer goes on with."""
        for part in partitions:
            self.ours.discard(part.partition)
            self.next.pop(part.partition, None)
        self.changedAt = None

    def onLost(self, client, partitions):
        """Remember what was shown of partitions whose offsets can't be stored any more."""
        self.lost |= self.ours
        self.ours.clear()
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

    def report(self, timeout):
        """Tell the user of our share where it has changed, and that the group gives nothing.

        timeout: whether to wait for the group no longer than a minute.
        """
        now = time.monotonic()
        if self.answeredAt is None and now > self.joinedAt + ANSWER_SECONDS and not self.waitTold:
            self.waitTold = True
            self.connection.console.note(
                f"no partitions from group {self.name} so far: a consumer that was killed keeps "
                "its place for up to 45 s, and the brokers have to know the group.protocol")
        if self.answeredAt is None and timeout and now > self.joinedAt + MINUTE:
            self.connection.stop.fail(f"no partitions from group {self.name} in {MINUTE} s")
        if self.changedAt and now > self.changedAt + SETTLE_SECONDS:
            self.changedAt = None
            self.tellShare()

    def tellShare(self):
        """Tell the user how many of the topic's partitions we have, if others have some."""
        self.connection.askForTopic(1)
        total = len(self.connection.leaders)
        if len(self.ours) < total:
            self.connection.console.note(f"{len(self.ours)} of {total} partitions: other consumers "
                                         f"of group {self.name} have the rest")
        elif not self.hasAll:
            self.connection.console.note(f"all {total} partitions")
        self.hasAll = len(self.ours) >= total

    def check(self, error):
        """Raise Failure for an error of the group that waiting does not mend."""
        if error.code() in FORBIDDEN:
            raise Failure(f"topic {self.topic}, group {self.name}: {error.str()}\n"
                          "ask for access to them, or name others with -t and -g")
        if error.code() in (error.INCONSISTENT_GROUP_PROTOCOL, error.GROUP_MAX_SIZE_REACHED):
            raise Failure(f"group {self.name}: {error.str()}\n"
                          "name another with -g, or set partition.assignment.strategy as its other "
                          "consumers do (-X)")
        if error.code() == error.INVALID_SESSION_TIMEOUT:
            raise Failure(f"group {self.name}: {error.str()}\n"
                          "set another session.timeout.ms (-X)")
        if error.code() == error._AUTO_OFFSET_RESET or error.fatal():  # auto.offset.reset=error
            raise Failure(error.str())

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
        numbers = self.ours | self.lost if self.stores else ()
        return {number: self.next[number] for number in numbers
                if number in self.next and self.stored.get(number) != self.next[number]}

    def commit(self):
        """Ask the group to store the last offsets. onCommit() has the answer."""
        parts = [TopicPartition(self.topic, *pair) for pair in self.unstored().items()]
        try:
            self.client.commit(offsets=parts, asynchronous=True)
        except KafkaException as error:
            self.refusal = error.args[0]

    def isForbidden(self):
        """Tell whether the group will never store our offsets."""
        return self.refusal and self.refusal.code() in FORBIDDEN

    def leave(self):
        """Have the group store the last offsets, and leave it. Say so if it does not answer.

        All waits are polls: what they return is not shown, and so not stored.
        """
        stop, asked = self.connection.stop, False
        stop.hurry()
        while self.unstored() and not stop.over() and not self.isForbidden():
            if self.refusal or not asked:
                asked, self.refusal = True, None
                self.commit()
            self.connection.serve(self.client.poll, 0.05)
        if self.unstored():
            why = self.refusal.str() if self.refusal else "no answer from the group"
            self.connection.console.note(f"{why}: the events shown last may be shown again by the "
                                         "next start")
        if not self.stays:
            self.client.unsubscribe()
            while self.client.memberid() and not stop.over():
                self.connection.serve(self.client.poll, 0.05)
