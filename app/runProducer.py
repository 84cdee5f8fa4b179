"""Publishes spin events to a Kafka topic, one by one or in a loop."""
import argparse
import contextlib
import math
import os
import random
import re
import signal
import time

if __name__ == "__main__":  # Ctrl-C while the rest is imported: no traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import gameplay
from pace import Pace
from terminal import commandline
from terminal.console import Console, Progress
from terminal.stopping import Stopped, Stopping

BATCH = 1000  # events handed over at once, where so many are due
EXAMPLES = """examples:
  python runProducer.py -t gameplay
  python runProducer.py -t gameplay -l -e 100 -m 10 -x 50 -p 10
  python runProducer.py -t gameplay -l -e 0 --set maxPlayerId=10000"""


class Produce:
    """Publishes what generate() returns as (key, text)."""

    def __init__(self, publisher, console, stop, generate):
        self.publisher, self.console, self.stop = publisher, console, stop
        self.generate = generate
        self.progress = None  # the progress line of a loop

    def acked(self):
        """Print what the broker has acknowledged since the last call, and how far a loop is."""
        texts = self.publisher.ledger.shown()
        if texts:
            self.console.say(*["Message produced: " + text for text in texts])
        if self.progress:
            self.progress.draw(self.publisher.ledger.delivered)

    def generateAndPublish(self, count=1):
        """Generate so many events and publish them. There must be room for them."""
        self.publisher.publish([self.generate() for _ in range(count)])

    def oneByOne(self):
        """Publish an event for each Y."""
        while not self.stop.reasons:
            answer = self.console.ask("Press 'Y' to continue, 'N' to exit.")
            if answer is None or answer.upper() == "N":
                break
            if answer.upper() == "Y":
                self.console.say("Generating and publishing event")
                self.generateAndPublish()
                self.publisher.settle(self.acked)

    def loop(self, events, pace):
        """Publish so many events, 0 for no end, each when it is due."""
        self.console.say("Generating and publishing event in loop")
        left = events or math.inf
        self.progress = Progress(self.console, left)
        while left and not self.stop.reasons:
            room = self.publisher.room()
            count = pace.count(min(room, BATCH, left))
            if count:
                self.generateAndPublish(count)
                left -= count
            if not room:
                self.publisher.serve(0.05, passLinger=True)
                self.acked()
            elif left:
                self.serveUntilDue(pace)

    def serveUntilDue(self, pace):
        """Print what is acknowledged until the next event is due, or there is reason to stop."""
        left = 0
        while True:
            self.publisher.serve(min(left, 0.1))
            self.acked()
            left = pace.left()
            if left < 0.001 or self.stop.reasons:
                break
        if 0 < left < 0.001:  # the library waits for whole milliseconds only
            time.sleep(left)

    def finish(self, doLoop):
        """Wait for what is under way, say what became of it all. Return if all was delivered."""
        delivered, ledger = self.publisher.finish(self.acked), self.publisher.ledger
        if doLoop or self.stop.signals:
            self.console.say(f"Finished publishing: {ledger.delivered} messages.")
        if self.stop.reasons or not delivered:
            self.console.note(ledger.summary(self.stop.reasons))
        return delivered


def bound(text):
    """Argparse type: NAME=VALUE, a bound of gameplay.py and a whole number, as a pair."""
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in gameplay.BOUNDS or not re.fullmatch(r"-?[0-9]{1,99}", value):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not NAME=VALUE with a whole number and "
                                         f"one of the names {', '.join(gameplay.BOUNDS)}")
    return name, int(value)


def createParser():
    """Return the parser of the command line."""
    parser, connection = commandline.createParser("runProducer", __doc__, EXAMPLES)
    connection.add_argument("--embedded", action="store_true",
                            help="publish to a broker inside this process, which goes when it "
                                 "ends; not together with -b")
    count = commandline.number(int, 0)
    loop = parser.add_argument_group("loop")
    loop.add_argument("-l", "--loop", action="store_true",
                      help="publish event after event, without a question for each")
    loop.add_argument("-e", "--events", type=count, default=10, metavar="N",
                      help="number of events, 0 for no end (default: %(default)s)")
    loop.add_argument("-m", "--min_latency", type=count, default=500, metavar="MS",
                      help="shortest pause between two events, in milliseconds "
                           "(default: %(default)s)")
    loop.add_argument("-x", "--max_latency", type=count, default=1000, metavar="MS",
                      help="longest pause; each one is drawn at random from shortest to longest "
                           "(default: %(default)s)")
    game = parser.add_argument_group("game")
    game.add_argument("--seed", type=commandline.number(int, -2 ** 63), metavar="N",
                      help="the same players, games, stakes, wins and pauses in every run with "
                           "this number")
    game.add_argument("--set", action="append", default=[], type=bound,
                      metavar="NAME=VALUE",
                      help="change a bound of gameplay.py for this run, such as "
                           "maxPlayerId=10000; may be repeated")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "-n", "--print_n_msg", type=commandline.number(int, 1), default=100,
                        metavar="N",
                        help="in a loop: print the first and then every Nth event "
                             "(default: %(default)s)")
    return parser


def checkArguments(parser, args):
    """Exit with a usage error for flags that contradict each other."""
    if args.min_latency > args.max_latency:
        parser.error(f"the shortest pause, -m {args.min_latency}, is above the longest, "
                     f"-x {args.max_latency}")
    if args.embedded and args.bootstrap:
        parser.error("-b cannot be set: --embedded brings its own broker")


def setUpGame(parser, args):
    """Set the bounds and the seed of the game; exit with a usage error if they make no game."""
    for name, value in args.set:
        setattr(gameplay, name, value)
    try:
        gameplay.checkBounds()
    except ValueError as error:
        parser.error(f"gameplay.py: {error}")
    gameplay.seed(args.seed)


def connect(connection, args):
    """Say which server is used, and return when it has the topic."""
    if args.embedded:
        connection.findEmbedded()
        flag = "-X bootstrap.servers=" if os.environ.get("BOOTSTRAP_SERVERS") else "-b "
        connection.console.note(f"an embedded broker listens on {connection.servers}; "
                                "to read from it, in a second terminal:\n"
                                f"python runConsumer.py -t {args.topic} {flag}{connection.servers}")
    commandline.tellServers(args, connection.servers, connection.console)
    connection.connect()


def run(argv, generate, console, stop):
    """Do what the command line says. Return whether all events were delivered."""
    parser = createParser()
    args = commandline.parse(parser, argv, console)
    checkArguments(parser, args)
    setUpGame(parser, args)
    from cluster import settings  # here, because it takes longer than --help may take
    conf = settings.producer(parser, args)
    from cluster.connection import Connection, Producer
    from cluster.publisher import Publisher
    stop.listen()
    try:
        connection = Connection(Producer, conf, args.topic, console, stop)
    except ValueError as error:
        parser.error(console.hide(f"configuration: {error}"))
    publisher = Publisher(connection, args.print_n_msg if args.loop else 1)
    produce = Produce(publisher, console, stop, generate)
    if args.loop:
        console.say(f"Running in a loop. Number loops: {args.events or 'endless'} "
                    f"Min latency: {args.min_latency} Max latency: {args.max_latency} "
                    f"Printing every {args.print_n_msg}:th message.")
    with contextlib.suppress(Stopped):
        console.ask("We are ready, press the enter key to continue")
        connect(connection, args)
        if args.loop:
            pauses = random.Random(args.seed)
            produce.loop(args.events, Pace(args.min_latency, args.max_latency, pauses))
        else:
            produce.oneByOne()
    delivered = produce.finish(args.loop)
    with contextlib.suppress(Stopped):  # a signal here changes nothing of what was delivered
        if not stop.signals:
            console.ask("Press the enter key to exit")
    return delivered


def main(argv=None, generate=gameplay.generateGamePlay):
    """Run the producer and return its exit status. generate() returns an event as (key, text)."""
    stop = Stopping()
    console = Console("runProducer", stop)
    return stop.run(lambda: run(argv, generate, console, stop), console)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
