"""Shows the events of a Kafka topic as they arrive, each one once a group."""
import contextlib
import os
import signal
import time

if __name__ == "__main__":  # Ctrl-C while the rest is imported: no traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))

from terminal import commandline
from terminal.console import Console
from terminal.stopping import Stopped, Stopping

BATCH = 1000          # events shown at once, where so many are there
BATCH_BYTES = 1000000  # likewise
EXAMPLES = """examples:
  python runConsumer.py -t gameplay
  python runConsumer.py -t gameplay -g check -e 1000 --timeout 10"""


class Consume:
    """Shows what arrives, and has the group store how far that is."""

    def __init__(self, connection, group, share, console, stop, nthMsg=1):
        self.connection, self.group, self.share = connection, group, share
        self.console, self.stop, self.nthMsg = console, stop, nthMsg
        self.received = 0
        self.batch = 1     # how many events to ask for: soon as many as BATCH_BYTES hold
        self.told = set()  # errors that the user knows

    def run(self, events=0, timeout=0):
        """Show events until so many came, or none came for timeout seconds; 0 stands for never."""
        self.console.say(f"Listening for events on topic: {self.connection.topic}. "
                         "Press Ctrl-C to exit.")
        self.group.join(self.connection)
        arrivedAt = 0
        while not self.stop.reasons and not 0 < events <= self.received:
            # What one call brings is shown and stored before the next call, which may pass
            # partitions on to another consumer.
            most = min(self.batch, events - self.received) if events else self.batch
            if self.show(self.receive(most)):
                arrivedAt = time.monotonic()
                self.connection.progress()
            elif timeout and self.group.answeredAt:
                if time.monotonic() > max(arrivedAt, self.group.answeredAt) + timeout:
                    break
            self.share.report(patient=not timeout)
            self.connection.outage.report()

    def receive(self, most):
        """Return up to so many messages. Wait a moment for one if there is none."""
        messages = self.connection.client.consume(most, 0)
        if not messages:
            message = self.connection.client.poll(0.2)  # unlike consume(), a signal ends it
            messages = [] if message is None else [message]
        return messages

    def show(self, messages):
        """Show messages, then note that they were shown. Return how many of them were events."""
        values, latest, errors, ours = [], {}, [], self.group.ours
        for message in messages:
            partition = message.partition()
            if message.error():
                errors.append(message.error())
            elif partition in ours:  # else it was taken away within the call
                values.append(message.value())
                latest[partition] = message
        if values:
            self.printNth(values)
            self.received += len(values)
        if values and not self.console.gone:
            self.group.shown(latest.values())
            size = sum(map(len, latest.values())) / len(latest)
            self.batch = max(1, min(BATCH, int(BATCH_BYTES / (size + 1))))
        for error in errors:
            self.check(error)
        return len(values)

    def printNth(self, values):
        """Print those of the new values that are the first or an nth of this run."""
        if self.nthMsg > 1:
            values = [value for number, value in enumerate(values, self.received + 1)
                      if number == 1 or number % self.nthMsg == 0]
        if values:
            self.console.show("Received message: ", values)

    def check(self, error):
        """Say what is wrong, each thing once. Raise Failure where waiting does not mend it."""
        self.group.check(error)
        text = error.str()
        # Of an unknown topic the outage tells.
        if error.code() not in (error._PARTITION_EOF, error.UNKNOWN_TOPIC_OR_PART):
            if text not in self.told:
                self.console.note(text)
            self.told.add(text)


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


def run(argv, console, stop):
    """Do what the command line says. Return whether all events that were asked for came."""
    parser = createParser()
    args = commandline.parse(parser, argv, console)
    from cluster import settings  # here, because it takes longer than --help may take
    conf = settings.consumer(parser, args)
    from cluster.connection import Connection, Consumer
    from cluster.group import Group, Share
    stop.listen()
    group = Group(conf, args.topic)
    try:
        connection = Connection(Consumer, conf, args.topic, console, stop, on_commit=group.onCommit)
    except ValueError as error:
        parser.error(console.hide(f"configuration: {error}"))
    share = Share(group, connection)
    consume = Consume(connection, group, share, console, stop, args.print_n_msg)
    with contextlib.suppress(Stopped):
        commandline.tellServers(args, connection.servers, console)
        connection.connect()
        console.ask("We are ready, press the enter key to continue")
        try:
            consume.run(args.events, args.timeout)
        finally:
            group.leave()
    return finish(args, consume.received, console, stop)


def finish(args, received, console, stop):
    """Ask the last question; return whether all events that were asked for came."""
    complete = bool(stop.signals) or received >= args.events
    for failure in stop.failures:
        console.note(failure)
    if not complete:
        why = f", then none for {args.timeout:g} s" if not stop.failures else ""
        console.note(f"{received} of {args.events} events arrived{why}")
    if set(stop.signals) <= {stop.wayOut}:
        stop.forget()  # Ctrl-C led here; what comes now is a new signal
        with contextlib.suppress(Stopped):
            console.ask("Press the enter key to exit the consume application.")
    return complete


def main(argv=None):
    """Run the consumer and return its exit status."""
    stop = Stopping(wayOut=signal.SIGINT)
    console = Console("runConsumer", stop)
    return stop.run(lambda: run(argv, console, stop), console)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
