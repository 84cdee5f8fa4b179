"""Shows the events of a Kafka topic as they arrive, each one once a group."""
import contextlib
import math
import os
import signal
import threading
import time

import commandline
from console import STOP_SECONDS, Console, Failure, Stopped, blockSignals

BATCH = 1000  # events shown at once, where so many are there
ANSWER_SECONDS = 10  # in which a group answers a new member
LEAVE_SECONDS = 9  # for a rebalance that waits for a dead consumer; `docker stop` kills after 10
DEFAULTS = {
    "auto.commit.interval.ms": 1000,
    "topic.metadata.refresh.interval.ms": 10000,  # then new partitions are seen; 300 s by default
    "fetch.queue.backoff.ms": 10,  # 1 s by default, in which a fast reader waits for nothing
    "queued.min.messages": 20000}  # fetched ahead; the default, 100,000, is no faster
CLASSIC = {
    "session.timeout.ms": 6000,    # 45 s by default: so long the partitions of a dead consumer wait
    "heartbeat.interval.ms": 500}  # often, because a hung broker can hold up one for 5 s
RESERVED = {"enable.auto.offset.store": "an offset is stored once its event has been shown"}
BEGINNING, END, INVALID = -2, -1, -1001  # OFFSET_BEGINNING and so on of confluent_kafka
RESETS = {"earliest": BEGINNING, "smallest": BEGINNING, "beginning": BEGINNING,
          "latest": END, "largest": END, "end": END, "error": INVALID}  # of auto.offset.reset
EXAMPLES = """examples:
  python runConsumer.py -t gameplay
  python runConsumer.py -t gameplay -g check -e 1000 --timeout 10"""


def printable(value):
    """Return a message's value as one line of text that a terminal shows and does not obey."""
    if value is None:
        return "null"
    text = value.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode()
                   for char in text)


def isNewProtocol(conf):
    """Tell whether a configuration asks for the group protocol of Kafka 4."""
    return conf.get("group.protocol", "").lower() == "consumer"


def namesItself(conf):
    """Tell whether the consumer gives itself a group.instance.id, for as long as it runs.

    With one it has its place in the group again at once after an outage longer than its session.
    Without one it would be a new member, and wait until the group gives up the old one.
    """
    return not isNewProtocol(conf) and "group.instance.id" not in conf


class Consume:
    """Shows what arrives, and stores the offset of what it has shown."""

    def __init__(self, cluster, console, conf, nthMsg=1):
        self.cluster, self.console = cluster, console
        self.group, self.nthMsg = conf["group.id"], nthMsg
        self.reset = RESETS[conf["auto.offset.reset"]]
        self.commits = conf.get("enable.auto.commit", "true").lower() in ("true", "t", "1")
        self.newProtocol = isNewProtocol(conf)  # and not answered yet
        cooperative = "cooperative" in conf.get("partition.assignment.strategy", "")
        self.incremental = cooperative or self.newProtocol
        self.namesItself = namesItself(conf)
        self.received = 0
        self.joining = False  # whether we have asked to join and have no answer yet
        self.toStore = False  # whether the last offsets are still to be stored before we leave
        self.unstored = None  # why the group has not stored them
        self.next = {}  # the next offset of each partition that is ours, below 0 if not known yet
        self.lostNext = {}  # the same of partitions that the group took away without a word before

    @property
    def client(self):
        """The client of the cluster."""
        return self.cluster.client

    def run(self, events=0, timeout=0):
        """Show events until so many came, or none came for timeout seconds; 0 stands for never."""
        self.console.say(f"Listening for events on topic: {self.cluster.topic}. "
                         "Press Ctrl-C to exit.")
        self.subscribe()
        start = arrivedAt = time.monotonic()
        while not (self.console.signals or self.console.gone or 0 < events <= self.received):
            # What one call brings is shown and stored before the next call, which may pass
            # partitions on to another consumer.
            most = min(BATCH, events - self.received) if events else BATCH
            messages = self.client.consume(most, 0) or [self.client.poll(0.2)]
            now = time.monotonic()
            if self.show([message for message in messages if message is not None]):
                arrivedAt = now
                self.cluster.progress()
            elif timeout and now > arrivedAt + timeout:
                break
            hopeless = self.cluster.report()
            if hopeless:
                raise Failure(hopeless)
            if self.newProtocol and now > start + ANSWER_SECONDS:  # the library says nothing of it
                self.newProtocol = False
                self.console.note("no partition so far: the broker may not know "
                                  "group.protocol=consumer, which Kafka 4 has")

    def subscribe(self):
        """Join the group."""
        self.joining = True
        self.client.subscribe([self.cluster.topic], on_assign=self.onAssign,
                              on_revoke=self.onRevoke, on_lost=self.onLost)

    def assign(self, partitions):
        """Begin at these offsets. Unless incremental, all other partitions are given up."""
        if self.incremental:
            self.client.incremental_assign(partitions)
        else:
            self.client.assign(partitions)

    def joinAnew(self):
        """Go on with another client, in the place of one that the group has fenced."""
        self.onLost(self.client, [])
        self.cluster.makeClient()
        self.subscribe()

    def onAssign(self, client, partitions):
        """Begin after what the group has stored, or after what was shown since then."""
        self.newProtocol = self.joining = False
        # Now: the library may join again next, and a commit that waits behind a join is refused.
        if self.toStore:
            self.store()
        stored = self.cluster.storedOffsets(partitions)
        for part in partitions:
            start = max(stored.get(part.partition, -1), self.lostNext.pop(part.partition, -1), -1)
            self.next[part.partition] = start
            if start >= 0:
                part.offset = start
            elif stored:
                part.offset = self.reset
        if not self.incremental:
            self.lostNext.clear()  # other consumers have the rest
        self.assign(partitions)

    def onRevoke(self, client, partitions):
        """Forget partitions that another consumer goes on with."""
        for part in partitions:
            self.next.pop(part.partition, None)

    def onLost(self, client, partitions):
        """Remember what was shown of partitions whose offsets can't be stored any more."""
        self.joining = True
        self.lostNext.update(self.next)
        self.next.clear()

    def show(self, messages):
        """Show messages, then store their offsets. Return how many of them were events."""
        lines, errors, latest, before = [], [], {}, self.received
        position = dict(self.next)
        for message in messages:
            if message.error():
                errors.append(message)
                continue
            number, offset = message.partition(), message.offset()
            if offset < position.get(number, math.inf):
                continue  # of a partition that was taken away within the call that brought it
            position[number] = offset + 1
            latest[number] = message
            self.received += 1
            if self.received == 1 or self.received % self.nthMsg == 0:
                lines.append("Received message: " + printable(message.value()))
        if lines:
            self.console.say(*lines)
        if not self.console.gone:
            self.next = position
            for message in latest.values():
                self.client.store_offsets(message=message)
        for message in errors:
            self.check(message.error())
        stopped = [message for message in errors if self.hasStopped(message)]
        if stopped:
            self.restart(stopped)
        return self.received - before

    def check(self, error):
        """Raise Failure for an error that waiting does not mend, say any other."""
        if error.code() in (error.TOPIC_AUTHORIZATION_FAILED, error.GROUP_AUTHORIZATION_FAILED):
            self.joining = False  # no answer will come
            raise Failure(f"topic {self.cluster.topic}, group {self.group}: {error.str()}\n"
                          "ask for access to them, or name others with -t and -g")
        if error.code() == error._FATAL or error.fatal():
            if not self.namesItself:
                raise Failure(error.str())
            # A broker that hung may serve our requests to join in the wrong order. Then the older
            # one has our place, and this client is fenced. No other error is fatal here.
            self.joinAnew()
        # Of an unknown topic the cluster reports. restart() mends a missing offset.
        elif error.code() not in (error._PARTITION_EOF, error.UNKNOWN_TOPIC_OR_PART,
                                  error._AUTO_OFFSET_RESET):
            self.console.note(error.str())

    def hasStopped(self, message):
        """Tell whether by this error the library stops a partition of ours: it lacks an offset."""
        error = message.error()
        return error.code() == error._AUTO_OFFSET_RESET and message.partition() in self.next

    def restart(self, stopped):
        """Go on in the partitions that the library has stopped. stopped: its errors."""
        for message in stopped:
            number = message.partition()
            # Any other offset was asked for before the last restart. It stops the partition, too.
            if message.offset() in (self.next[number], None):
                self.next[number] = self.startAnew(number, message.error().str())
        numbers = [message.partition() for message in stopped]
        parts = [self.cluster.partition(number, offset if offset >= 0 else self.reset)
                 for number, offset in self.next.items()
                 if number in numbers or not self.incremental]  # assign() replaces all of them
        if self.incremental:
            self.client.incremental_unassign(parts)
        self.assign(parts)

    def startAnew(self, number, why):
        """Return where to go on in a partition whose log does not hold its next offset."""
        expected = self.next[number]
        low, high = self.cluster.offsetRange(number)
        start = high if self.reset == END else low
        if 0 <= expected < low:
            why = (f"{low - expected} offsets, {expected} to {low - 1}, were deleted before "
                   "they were shown")
        elif 0 <= high < expected:
            why = f"the log ends at {high}, before offset {expected}: it was made anew"
        if self.reset == INVALID:
            raise Failure(f"partition {number}: {why} (auto.offset.reset=error)")
        if expected >= 0:
            where = f"; going on at {start}" if start >= 0 else ""
            self.console.note(f"partition {number}: {why}{where}")
        return start

    def close(self):
        """Store the last offsets and leave the group. Say so if the group does not answer."""
        closing = threading.Thread(target=self.leave, daemon=True)
        closing.start()  # it may wait for minutes, deaf to signals
        start, seconds = time.monotonic(), LEAVE_SECONDS
        while closing.is_alive() and time.monotonic() < start + seconds:
            closing.join(0.1)
            worthIt = self.received and self.cluster.answers()  # to wait for a rebalance
            seconds = LEAVE_SECONDS if worthIt else STOP_SECONDS
        if self.unstored:
            self.console.note(f"{self.unstored}: the events shown last may be shown again by the "
                              "next start")

    def leave(self):
        """Store the last offsets, also while a rebalance is under way; then close the client."""
        blockSignals()
        self.toStore = self.received > 0 and self.commits
        self.unstored = "no answer from the group" if self.toStore else None
        while self.toStore:
            self.store()
            if self.toStore:
                self.client.poll(0.1)  # what it returns is not shown, and so not stored
        if self.namesItself:
            while self.joining:  # the answer tells the library which member is to leave
                self.client.poll(0.01)
            self.cluster.leaveGroup()
        self.client.close()

    def store(self):
        """Have the group store what was shown. Note whether it did, or never will do so."""
        offsets = {number: offset for number, offset in self.next.items() if offset >= 0}
        if self.lostNext and not offsets:
            return
        error = self.cluster.commit(offsets) if offsets else None
        self.unstored = error and error.str()
        if not error or error.code() in (error.TOPIC_AUTHORIZATION_FAILED,
                                         error.GROUP_AUTHORIZATION_FAILED):
            self.toStore = False


def createParser():
    """Return the parser of the command line."""
    parser, connection = commandline.createParser("runConsumer", __doc__, EXAMPLES)
    connection.add_argument("-g", "--group", default="consumer-1",
                            type=commandline.utf8, metavar="GROUP",
                            help="consumer group; it goes on where it stopped "
                                 "(default: %(default)s)")
    loop = parser.add_argument_group("loop")
    loop.add_argument("-e", "--events", type=commandline.number(int, 0), default=0, metavar="N",
                      help="stop after N events, 0: never (default: %(default)s)")
    loop.add_argument("--timeout", type=commandline.number(float, 0), default=0, metavar="SECONDS",
                      help="stop when nothing arrived for so long, 0: never "
                           "(default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "--print_n_msg", type=commandline.number(int, 1), default=1,
                        metavar="N",
                        help="print the first and then every Nth event (default: %(default)s)")
    return parser


def configure(parser, args):
    """Return librdkafka's configuration."""
    classic = {} if isNewProtocol(args.given) else CLASSIC
    conf = commandline.configure(
        parser, args, {**DEFAULTS, **classic, "group.id": args.group,
                       "auto.offset.reset": "earliest"}, RESERVED)
    if not conf["group.id"]:
        parser.error("the name of the consumer group is empty (-g)")
    if conf["auto.offset.reset"] not in RESETS:
        parser.error(f"property auto.offset.reset is one of {', '.join(RESETS)}")
    return conf


def run(console, argv):
    """Do what the command line says. Return whether all events that were asked for came."""
    parser = createParser()
    args = commandline.parse(parser, argv, console)
    conf = configure(parser, args)
    from cluster import Cluster, Consumer  # which takes longer than --help may take
    # The library would reset an offset without a word: startAnew() does it instead.
    own = {"enable.auto.offset.store": False, "auto.offset.reset": "error"}
    if namesItself(conf):
        own["group.instance.id"] = os.urandom(16).hex()
    try:
        cluster = Cluster(Consumer, {**conf, **own}, args.topic, console)
    except ValueError as error:
        parser.error(console.hide(f"configuration: {error}"))
    consume = Consume(cluster, console, conf, args.print_n_msg)
    try:
        with contextlib.suppress(Stopped):
            commandline.tellServers(args, cluster.servers, console)
            cluster.connect()
            console.ask("We are ready, press the enter key to continue")
            consume.run(args.events, args.timeout)
    finally:
        consume.close()
    return finish(console, args, consume.received)


def finish(console, args, received):
    """Ask the last question; return whether all events that were asked for came."""
    complete = bool(console.signals) or received >= args.events
    if console.gone:
        console.note(console.gone)
    if not complete:
        why = f", then none for {args.timeout:g} s" if not console.gone else ""
        console.note(f"{received} of {args.events} events arrived{why}")
    if set(console.signals) <= console.waysOut:
        console.forgetSignals()  # Ctrl-C led here; what comes now is a new signal
        with contextlib.suppress(Stopped):
            console.ask("Press the enter key to exit the consume application.")
    return complete


def main(argv=None):
    """Run the consumer and return its exit status."""
    return Console("runConsumer", waysOut=[signal.SIGINT]).run(run, argv)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
