"""Shows the events of a Kafka topic as they arrive, each one once a group."""
import contextlib
import math
import os
import signal
import time

if __name__ == "__main__":  # Ctrl-C while the rest is imported: no traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_INVALID, Consumer, KafkaError,
                             KafkaException, TopicPartition)

import cluster
import commandline
from terminal import GRACE_SECONDS, Terminal, everyNth

BATCH = 1000           # events shown at once, where so many are there
SETTLE_SECONDS = 1     # in which several changes of our share are one
SILENCE_SECONDS = 5    # after which the user is told that the group has not answered
PATIENCE_SECONDS = 60  # after which a run with --timeout waits no longer for the group
HOPELESS = {           # errors that waiting does not mend
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL, KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.INVALID_SESSION_TIMEOUT, KafkaError._AUTO_OFFSET_RESET, KafkaError._FATAL}
EXAMPLES = """examples:
  python runConsumer.py -t gameplay
  python runConsumer.py -t gameplay -g check -e 1000 --timeout 10"""


class Group:
    """Our place in the consumer group: which partitions we have, and how far they are stored."""

    def __init__(self, conf, topic, terminal):
        self.name, self.topic, self.terminal = conf["group.id"], topic, terminal
        self.isClassic = cluster.isClassic(conf)
        strategy = conf.get("partition.assignment.strategy", "")
        self.isIncremental = "cooperative" in strategy or not self.isClassic
        self.fromBeginning = conf["auto.offset.reset"] == "earliest"
        self.stores = conf.get("enable.auto.commit", "true").lower() in ("true", "t", "1")
        self.partitions = 0     # how many the topic has
        self.ours = set()       # numbers of our partitions
        self.unstored = {}      # {partition: the offset that is still to be stored for it}
        self.storing = False    # whether we have asked for that and have no answer yet
        self.problem = None     # why it is not stored yet, while we leave
        self.refusal = None     # a KafkaError that waiting does not mend
        self.answeredAt = None  # when the group first gave us partitions; none is an answer, too
        self.shareDueAt = math.inf  # when to tell the user of our share, inf for nothing to tell
        self.share = None       # our share as the user knows it, None for the whole topic
        self.told = set()       # errors that the user knows

    def onAssign(self, client, partitions):
        """Begin where the group says, or after what was shown since and could not be stored."""
        stored = {}
        with contextlib.suppress(KafkaException):  # no answer: the library goes on asking
            stored = {part.partition: part.offset for part in client.committed(partitions, 5)}
        for part in partitions:
            shown, says = (found.get(part.partition) for found in (self.unstored, stored))
            if shown and shown > (says or 0):
                part.offset = shown
            elif says == OFFSET_INVALID and self.fromBeginning:
                part.offset = OFFSET_BEGINNING  # the library would first wait for 0.1 s
        assign = client.incremental_assign if self.isIncremental else client.assign
        assign(partitions)
        self.ours |= {part.partition for part in partitions}
        self.unstored = {number: self.unstored[number] for number in self.ours & {*self.unstored}}
        self.answeredAt = self.answeredAt or time.monotonic()
        self.shareDueAt = time.monotonic() + SETTLE_SECONDS

    def onRevoke(self, client, partitions):
        """Have stored what was shown of partitions that another consumer goes on with."""
        self.onLost(client, partitions)
        if offsets := self.unstoredOf({part.partition for part in partitions}):
            with contextlib.suppress(KafkaException):  # the library tries it as well, and may fail
                client.commit(offsets=offsets, asynchronous=False)

    def onLost(self, _client, partitions):
        """Show no more of partitions that another consumer may have by now."""
        self.ours -= {part.partition for part in partitions}
        self.shareDueAt = math.inf  # until the group has decided

    def unstoredOf(self, numbers):
        """Return the offsets of these partitions that are still to be stored."""
        return [TopicPartition(self.topic, number, self.unstored[number])
                for number in numbers & {*self.unstored} if self.stores]

    def onCommit(self, error, partitions):
        """Take the group's answer to a request to store offsets: librdkafka's on_commit."""
        self.storing = False
        for part in partitions:
            problem = error or part.error
            if problem and problem.code() != problem.UNKNOWN_TOPIC_OR_PART:
                self.problem = problem.str()
                if problem.code() in HOPELESS:
                    self.check(problem)
            elif self.unstored.get(part.partition) == part.offset:
                del self.unstored[part.partition]

    def check(self, error):
        """Tell the user of an error, once. If waiting does not mend it, stop."""
        if self.refusal or error.code() == error._PARTITION_EOF:
            return
        if error.code() in HOPELESS:
            self.refusal = error
            self.terminal.addReason(
                f"topic {self.topic}, group {self.name}: {error.str()}\n"
                "take another topic (-t) or group (-g), ask for access, or change a property (-X)")
        elif error.str() not in self.told:
            self.told.add(error.str())
            self.terminal.tell(error.str())

    def leave(self):
        """Have the group store the last offsets, and leave it."""
        # By poll(), because only this carries on a rebalance. What it returns is not stored.
        if self.refusal and self.refusal.code() == KafkaError._FATAL:
            return  # the library does nothing more
        self.terminal.setDeadline()
        self.problem = self.refusal.str() if self.refusal else "no answer from the group"
        while not (self.answeredAt or self.refusal):  # the answer has the member id to leave with
            self.client.poll(0.02)
        # Not for partitions that were taken away: whoever has these now may be further.
        while not self.refusal and (offsets := self.unstoredOf(self.ours)):
            if not self.storing:  # only one request at a time, or there would be a flood of them
                self.storing = True
                self.client.commit(offsets=offsets, asynchronous=True)
            self.client.poll(0.02)
        if not self.refusal:
            self.problem = None
        self.client.unsubscribe()
        while self.isClassic and self.client.memberid():  # with Kafka 4's protocol it stays
            self.client.poll(0.02)
        self.client.close()

    def countPartitions(self):
        """Return how many partitions the topic has, 0 if no broker answers."""
        with contextlib.suppress(KafkaException):
            return len(self.client.list_topics(self.topic, timeout=1).topics[self.topic].partitions)
        return 0

    def tellShare(self):
        """Tell the user how many partitions we have, where others have some or had some."""
        if time.monotonic() < self.shareDueAt:
            return
        if self.share or len(self.ours) != self.partitions:  # it may have others by now
            self.partitions = self.countPartitions() or self.partitions
        self.shareDueAt, share = math.inf, None
        if len(self.ours) < self.partitions:
            share = (f"{len(self.ours)} of {self.partitions} partitions: other consumers of group "
                     f"{self.name} have the rest")
        if share != self.share:
            self.terminal.tell(share or f"all {self.partitions} partitions")
        self.share = share


class Consume:
    """Shows what arrives."""

    def __init__(self, conf, topic, terminal, nthMsg=1):
        """conf: librdkafka's configuration. nthMsg: print the first and then every nth event."""
        self.conf, self.topic, self.terminal, self.nthMsg = conf, topic, terminal, nthMsg
        self.group = Group(conf, topic, terminal)
        self.outage = cluster.Outage(terminal)
        self.received = 0

    def initializeKafka(self, parser):
        """Make the client. Exit with a usage error if it refuses the configuration."""
        self.client = self.group.client = cluster.makeClient(
            Consumer, self.conf, parser, error_cb=self.outage.onError,
            on_commit=self.group.onCommit)

    def run(self, events=0, timeout=0):
        """Show events until so many came, or none came for the timeout; 0 stands for never."""
        self.terminal.say(f"Listening for events on topic: {self.topic}. Press Ctrl-C to exit.")
        self.client.subscribe([self.topic], on_assign=self.group.onAssign,
                              on_revoke=self.group.onRevoke, on_lost=self.group.onLost)
        start = arrivedAt = time.monotonic()
        silenceAt = start + SILENCE_SECONDS
        while not self.terminal.reasons and not 0 < events <= self.received:
            # What one call brings is shown and stored before the next call, which may pass
            # partitions on to another consumer.
            most = min(BATCH, events - self.received) if events else BATCH
            arrived = self.show(self.receive(most))
            now = time.monotonic()
            arrivedAt = now if arrived else arrivedAt
            self.outage.update(arrived or self.outage.down and self.group.countPartitions(),
                               self.outage.down)
            if self.group.answeredAt:
                self.group.tellShare()
                if timeout and now > max(arrivedAt, self.group.answeredAt) + timeout:
                    break
            elif now > silenceAt:
                silenceAt = math.inf
                self.terminal.tell(f"no partitions from group {self.group.name} so far: its broker "
                                   "may be starting, or it waits for a member, up to 45 s")
            elif timeout and now > start + PATIENCE_SECONDS:
                self.terminal.addReason(f"no partitions from group {self.group.name} in "
                                        f"{PATIENCE_SECONDS} s")
        if self.received < events and not self.terminal.reasons:
            self.terminal.addReason(f"{self.received} of {events} events arrived, then none for "
                                    f"{timeout:g} s")

    def receive(self, most):
        """Return up to so many messages. Wait a moment for one if there is none."""
        messages = self.client.consume(most, 0)
        if not messages:
            message = self.client.poll(0.2)
            messages = [] if message is None else [message]
        return messages

    def show(self, messages):
        """Show messages, and have it stored that they were. Return how many were events."""
        values, latest = [], {}
        for message in messages:
            if message.error():
                self.group.check(message.error())
            elif message.partition() in self.group.ours:  # else it was taken away within the call
                value = message.value()
                values.append(b"null" if value is None else value)
                latest[message.partition()] = message
        self.terminal.sayEach("Received message: ", everyNth(values, self.received, self.nthMsg))
        self.received += len(values)
        if not self.terminal.gone:  # else they were not shown
            for number, message in latest.items():
                self.client.store_offsets(message)
                self.group.unstored[number] = message.offset() + 1
        return len(values)

    def lastWords(self):
        """Say why the run has failed, and what the group has not stored."""
        if self.terminal.failed or self.terminal.gone:
            self.terminal.tell("; ".join(self.terminal.reasons))
        if self.group.problem and self.group.unstored:
            self.terminal.tell(f"{self.group.problem}: the events shown last may be shown again by "
                               "the next start")


def createParser():
    """Return the parser of the command line."""
    parser, connection = commandline.createParser("runConsumer", __doc__, EXAMPLES)
    connection.add_argument("-g", "--group", default="consumer-1", metavar="GROUP",
                            help="consumer group; goes on where it stopped (default: %(default)s)")
    loop = parser.add_argument_group("loop")
    loop.add_argument("-e", "--events", type=commandline.number(int, 0), default=0, metavar="N",
                      help="stop after N events, 0: never (default: %(default)s)")
    loop.add_argument("--timeout", type=commandline.number(float, 0), default=0, metavar="SECONDS",
                      help="stop after so long without an event, 0: never (default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "--print_n_msg", type=commandline.number(int, 1), default=1,
                        metavar="N",
                        help="print the first and then every Nth event (default: %(default)s)")
    return parser


def configure(parser, args):
    """Return librdkafka's configuration of the consumer. Exit with a usage error."""
    given = commandline.properties(parser, args)
    heartbeat = cluster.CLASSIC_GROUP if cluster.isClassic(given) else {}
    conf = {**cluster.CONSUMER, **heartbeat, "group.id": args.group, **given,
            "enable.auto.offset.store": False}  # an offset is stored once its event was shown
    if not conf["group.id"]:
        parser.error("the name of the consumer group is empty (-g)")
    return conf


def run(argv, terminal):
    """Do what the command line says."""
    parser = createParser()
    args = parser.parse_args(argv)
    conf = configure(parser, args)
    consume = Consume(conf, args.topic, terminal, args.print_n_msg)
    consume.initializeKafka(parser)
    commandline.sayServers(args, conf["bootstrap.servers"], terminal)
    consume.group.partitions = cluster.connect(conf, args.topic, conf["bootstrap.servers"])
    terminal.ask("We are ready, press the enter key to continue")
    terminal.grace, terminal.lastWords = GRACE_SECONDS, consume.lastWords
    for step in lambda: consume.run(args.events, args.timeout), consume.group.leave:
        cluster.attempt(step, terminal)
    terminal.dropDeadline()
    consume.lastWords()
    if terminal.signal in (None, terminal.wayOut):
        terminal.ask("Press the enter key to exit the consume application.")


def main(argv=None):
    """Run the consumer and return its exit status."""
    terminal = Terminal("runConsumer", wayOut=signal.SIGINT)
    return terminal.run(lambda: run(argv, terminal))


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
