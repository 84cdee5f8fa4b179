"""Shows the events of a Kafka topic as they arrive, each event once for each consumer group."""
import contextlib
import functools
import signal
import sys
import threading
import time

import common

BATCH = 1000  # events shown at once, where so many are there
DEFAULTS = {"auto.offset.reset": "earliest", "enable.auto.offset.store": False, "auto.commit.interval.ms": 1000,
            "fetch.queue.backoff.ms": 10,  # a second by default, in which a fast reader waits for nothing
            "queued.min.messages": 20000}  # fetched ahead; the default of 100,000 is no faster and takes 30 MiB more
RESERVED = {"enable.auto.offset.store": "an offset is stored once its event has been shown"}
WAYS_OUT = signal.SIGINT, getattr(signal, "SIGALRM", None)  # Ctrl-C, and the alarm that follows any signal
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
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Consume:
    """Shows what arrives, and stores the offset of what it has shown."""

    def __init__(self, topic, group, client, console, nthMsg=1):
        self.topic, self.group, self.client, self.console, self.nthMsg = topic, group, client, console, nthMsg
        self.received = 0
        self.positions = {}  # of each partition the offset after the last event shown
        self.starts = {}  # of each partition where we were to begin, until we have

    def run(self, events=0, timeout=0, assign="assign"):
        """Show events until so many came, none came for so many seconds, or it has to stop; 0 stands for never."""
        self.console.say(f"Listening for events on topic: {self.topic}. Press Ctrl-C to exit.")
        self.client.subscribe([self.topic], on_assign=functools.partial(self.onAssign, assign), on_revoke=self.onRevoke,
                              on_lost=lambda client, partitions: None)
        arrived = asked = time.monotonic()
        while not (self.console.signals or self.console.gone or 0 < events <= self.received):
            # What one call brings is shown and stored before the next one, which may pass partitions to another consumer.
            messages = self.client.consume(min(BATCH, events - self.received) if events else BATCH, 0)
            messages = messages or [message for message in [self.client.poll(0.2)] if message is not None]
            now = time.monotonic()
            if self.show(messages):
                arrived = asked = now
                self.console.brokerBack()
            elif timeout and now > arrived + timeout:
                break
            elif now > asked + common.SILENCE_SECONDS:
                reason = common.lookAfter(self.console, self.client, self.topic, asked)
                if reason:
                    raise common.Failure(reason)
                asked = time.monotonic()

    def onAssign(self, assign, client, partitions):
        """Go on after what the group has stored, or after the last event shown, if an outage kept that from the group."""
        from confluent_kafka import KafkaException
        stored = {}
        with contextlib.suppress(KafkaException):
            stored = {partition.partition: partition.offset for partition in client.committed(partitions, timeout=5)}
        for partition in partitions:
            start = max(offsets.get(partition.partition, -1) for offsets in (stored, self.positions))
            self.starts[partition.partition] = start
            if start >= 0:
                partition.offset = start
        getattr(client, assign)(partitions)

    def onRevoke(self, client, partitions):
        """Forget the positions that another consumer goes on from."""
        for partition in partitions:
            self.positions.pop(partition.partition, None)

    def show(self, messages):
        """Show messages, then store their offsets; return how many of them were events."""
        lines, last, before = [], {}, self.received
        for message in messages:
            if message.error():
                self.check(message.error())
                continue
            if message.offset() < self.starts.get(message.partition(), 0):  # left of an earlier assignment
                continue
            self.starts.pop(message.partition(), None)
            self.received += 1
            if self.received == 1 or self.received % self.nthMsg == 0:
                lines.append("Received message: " + printable(message.value()))
            last[message.partition()] = message
        if lines:
            self.console.say(*lines)
        for message in last.values() if not self.console.gone else ():
            self.client.store_offsets(message=message)
            self.positions[message.partition()] = message.offset() + 1
        return self.received - before

    def check(self, error):
        """Raise Failure for an error that waiting does not mend, note any other."""
        if error.code() in (error.TOPIC_AUTHORIZATION_FAILED, error.GROUP_AUTHORIZATION_FAILED):
            raise common.Failure(f"topic {self.topic}, group {self.group}: {error.str()}\n"
                                 "ask for access to them, or name others with -t and -g")
        if error.code() == error._FATAL or error.fatal():
            raise common.Failure(error.str())
        if error.code() not in (error._PARTITION_EOF, error.UNKNOWN_TOPIC_OR_PART):  # run() looks after the latter
            self.console.note(error.str())

    def close(self):
        """Leave the group and its offsets in order; without a broker, say that they are not."""
        def close():
            common.blockSignals()
            self.client.close()
        closing = threading.Thread(target=close, daemon=True)  # it may wait for minutes, deaf to signals
        closing.start()
        closing.join(common.STOP_SECONDS)
        if closing.is_alive():
            self.console.note("no answer from the broker: the events shown last may be shown again by the next start")


def createParser():
    """Return the parser of the command line."""
    parser, connection = common.createParser("runConsumer", __doc__, EXAMPLES)
    connection.add_argument("-g", "--group", default="consumer-1", metavar="GROUP",
                            help="consumer group, which goes on where it stopped (default: %(default)s)")
    loop = parser.add_argument_group("loop")
    loop.add_argument("-e", "--events", type=common.number(int, 0), default=0, metavar="N",
                      help="stop after N events, 0: never (default: %(default)s)")
    loop.add_argument("--timeout", type=common.number(float, 0), default=0, metavar="SECONDS",
                      help="stop when nothing arrived for so long, 0: never (default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "--print_n_msg", type=common.number(int, 1), default=1, metavar="N",
                        help="print the first and then every Nth event (default: %(default)s)")
    return parser


def run(console, argv):
    """Do what the command line says; return the exit status."""
    parser = createParser()
    args = common.parse(parser, console, argv)
    conf = common.configure(parser, console, args, {**DEFAULTS, "group.id": args.group}, RESERVED)
    if not conf["group.id"]:
        parser.error("a consumer group has a name")
    client = common.createClient(parser, console, "Consumer", conf)
    consume = Consume(args.topic, conf["group.id"], client, console, args.print_n_msg)
    try:
        with contextlib.suppress(common.Stopped):
            common.connect(console, client, args, conf["bootstrap.servers"])
            console.ask("We are ready, press the enter key to continue")
            cooperative = "cooperative" in conf.get("partition.assignment.strategy", "") or "group.protocol" in conf
            consume.run(args.events, args.timeout, "incremental_assign" if cooperative else "assign")
    finally:
        consume.close()
    stopped = [number for number in console.signals if number not in WAYS_OUT]
    short = not console.signals and consume.received < args.events
    if short:
        console.note(f"{consume.received} of {args.events} events arrived" + (
            f", then none for {args.timeout:g} s" if not console.gone else ""))
    if not stopped:
        console.forgetSignals()
        with contextlib.suppress(common.Stopped):
            console.ask("Press the enter key to exit the consume application.")
        stopped = [number for number in console.signals if number not in WAYS_OUT]
    if console.gone:
        console.note(console.gone)
    return 128 + stopped[0] if stopped else 1 if short or console.gone else 0


def main(argv=None):
    """Run the consumer and return its exit status."""
    return common.Console("runConsumer", interrupted=0).run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
