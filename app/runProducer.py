"""Publishes spin events to a Kafka topic, one by one or in a loop."""
import argparse
import collections
import contextlib
import datetime
import functools
import math
import os
import random
import re
import signal
import time

import commandline
import gameplay
from console import Console, Stopped

BATCH = 1000  # events handed to the client at once, where so many are due
QUEUE = "queue.buffering.max.messages", "queue.buffering.max.kbytes"
DEFAULTS = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # that of Kafka's Java clients
    QUEUE[0]: "100000", QUEUE[1]: "1048576",
    # A broker that starts does not know its topics for a moment. librdkafka then gives up all that
    # is queued, unless the topic's state changed in the last 2,000 s (2,147 s is its limit). After
    # 60 s without a refresh it asks for the topic again. That changes the state and back, and
    # events wait for the answer. So nothing else may refresh what is known of the topic.
    "topic.metadata.propagation.max.ms": 2000000,
    "topic.metadata.refresh.interval.ms": -1,
    "metadata.max.age.ms": 60000}
RESERVED = {"delivery.report.only.error": "every delivery is counted",
            "transactional.id": "there are no transactions",
            "test.mock.num.brokers": "--embedded does that"}
EXAMPLES = """examples:
  python runProducer.py -t gameplay
  python runProducer.py -t gameplay -l -e 100 -m 10 -x 50 -p 10
  python runProducer.py -t gameplay -l -e 0 --set maxPlayerId=10000"""


class Ledger:
    """What became of each event: the counts, and what is to be shown in order of generation."""

    def __init__(self, nthMsg=1):
        self.nthMsg = nthMsg                # the first and then every nth event is shown
        self.nextShown = 1                  # number of the next event to be shown
        self.produced = self.delivered = self.failed = 0
        self.reason = None                  # why the first of the failed events failed
        self.unshown = collections.deque()  # [text, whether delivered] of events to be shown

    def enter(self, messages):
        """Count generated messages; give those to be shown a callback for their delivery report."""
        first = self.produced + 1
        self.produced += len(messages)
        while self.nextShown <= self.produced:
            message = messages[self.nextShown - first]
            event = [message["value"], None]
            self.unshown.append(event)
            message["callback"] = functools.partial(self.reportShown, event)
            self.nextShown += self.nthMsg - self.nextShown % self.nthMsg

    def report(self, error, _message):
        """Count a delivery report: the callback of events that are not shown."""
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            self.reason = self.reason or error.str()

    def reportShown(self, event, error, message):
        """Count a delivery report of an event that is to be shown if it was delivered."""
        event[1] = error is None
        self.report(error, message)

    def waiting(self):
        """Return how many events wait for their delivery report."""
        return self.produced - self.delivered - self.failed

    def shown(self):
        """Return, once each, the texts of delivered events that no earlier event holds back."""
        texts = []
        while self.unshown and self.unshown[0][1] is not None:
            text, delivered = self.unshown.popleft()
            if delivered:
                texts.append(text)
        return texts

    def giveUp(self):
        """Count what waits as failed: nothing holds back a later event any more."""
        self.failed += self.waiting()
        for event in self.unshown:
            event[1] = bool(event[1])

    def summary(self, reason):
        """Return the three counts and a reason as a line of text."""
        return (f"{self.produced} produced, {self.delivered} delivered, "
                f"{self.failed} failed: {reason}")


class Progress:
    """The progress line of a loop."""

    def __init__(self, events):
        """events: how many are asked for, math.inf for no end."""
        self.events, self.start = events, time.monotonic()
        self.due = self.start + 1

    def line(self, delivered):
        """Return the line, None if it is not due."""
        now = time.monotonic()
        if now < self.due:
            return None
        self.due = now + 1
        rate = delivered / (now - self.start)
        if self.events == math.inf or not rate:
            return f"{delivered:,} delivered, {rate:,.1f}/s"
        seconds = min(int((self.events - delivered) / rate), 10 ** 9)
        return (f"{delivered:,} of {self.events:,} delivered, {rate:,.1f}/s, "
                f"{datetime.timedelta(seconds=seconds)} left")


class Produce:
    """Publishes what generate() returns as (key, text)."""

    def __init__(self, cluster, console, generate, nthMsg=1, window=100000):
        self.cluster, self.console, self.generate = cluster, console, generate
        self.window = window  # how many events may wait for their delivery report
        self.ledger = Ledger(nthMsg)
        self.progress = None  # that of a loop
        self.hopeless = None  # why waiting is pointless

    def generateAndPublish(self, count):
        """Generate so many events and queue them. There must be room for them."""
        batch = []
        for _ in range(count):
            key, text = self.generate()
            batch.append({"key": str(key), "value": text})
        self.ledger.enter(batch)
        queued = self.cluster.client.produce_batch(
            self.cluster.topic, batch, on_delivery=self.ledger.report)
        if queued < count:
            for message in batch:
                if "_error" in message:
                    message.get("callback", self.ledger.report)(message["_error"], None)

    def room(self):
        """Return how many events can be queued.

        If more are offered, the client refuses some, and offering these again would change the
        order.
        """
        taken = max(len(self.cluster.client), len(self.ledger.unshown))
        return max(self.window - taken, 0)

    def stopReason(self):
        """Return why no more events are to be generated, None while there is no reason."""
        if self.ledger.reason or self.hopeless:
            return self.ledger.reason or self.hopeless
        if self.console.signals:
            return f"stopped by {signal.Signals(self.console.signals[0]).name}"
        return self.console.gone

    def serve(self, wait, seconds):
        """Serve delivery reports with the client's poll() or flush(), then print what is due."""
        delivered = self.ledger.delivered
        self.cluster.serve(wait, seconds)
        self.show()
        if self.ledger.delivered > delivered:
            self.cluster.progress()
        self.hopeless = self.cluster.report()
        line = self.progress and self.progress.line(self.ledger.delivered)
        if line:
            self.console.draw(line)

    def show(self):
        """Print what was delivered and is to be shown."""
        texts = self.ledger.shown()
        if texts:
            self.console.say(*["Message produced: " + text for text in texts])

    def loop(self, events, minLatency, maxLatency, pauses):
        """Publish so many events, 0 for no end.

        Between two of them is a pause of minLatency to maxLatency ms, drawn from pauses, a
        random.Random. Due times add up: what delays one event delays none after it.
        """
        self.console.say("Generating and publishing event in loop")
        due, asked, ledger = time.monotonic(), events or math.inf, self.ledger
        self.progress = Progress(asked)
        while ledger.produced < asked and not self.stopReason():
            room = min(self.room(), BATCH, asked - ledger.produced)
            count = 0 if maxLatency else room
            now = time.monotonic()
            while due <= now and count < room:
                due += pauses.uniform(minLatency, maxLatency) / 1000
                count += 1
            if count:
                self.generateAndPublish(count)
            if ledger.produced < asked:
                if room:
                    self.serveUntil(due)
                else:
                    self.serve(self.cluster.client.flush, 0.05)  # which does not wait for linger.ms

    def serveUntil(self, due):
        """Serve delivery reports until that time.monotonic(), or until there is reason to stop."""
        left = 0
        while True:
            self.serve(self.cluster.client.poll, min(left, 0.1))
            left = due - time.monotonic()
            if left < 0.001 or self.stopReason():
                break
        if 0 < left < 0.001:  # poll() waits for whole milliseconds only
            time.sleep(left)

    def oneByOne(self):
        """Publish an event for each Y."""
        while not self.stopReason():
            answer = self.console.ask("Press 'Y' to continue, 'N' to exit.")
            if answer is None or answer.upper() == "N":
                break
            if answer.upper() == "Y":
                self.console.say("Generating and publishing event")
                self.generateAndPublish(1)
                self.settle()

    def settle(self):
        """Wait until no event waits, until waiting is pointless, or for a second signal."""
        start, told = time.monotonic(), False
        while self.ledger.waiting() and len(self.console.signals) < 2 and not self.hopeless:
            self.serve(self.cluster.client.flush, 0.1)
            if self.ledger.waiting() and time.monotonic() > start + 1 and not told:
                told = True
                self.console.note(f"waiting for {self.ledger.waiting()} acknowledgements; "
                                  "Ctrl-C gives up")
        self.serve(self.cluster.client.poll, 0)

    def finish(self, doLoop):
        """Deliver what is queued, say what became of it, and return whether all was delivered."""
        self.settle()
        self.ledger.giveUp()
        self.show()
        if doLoop or self.console.signals:
            self.console.say(f"Finished publishing: {self.ledger.delivered} messages.")
        reasons = [self.stopReason()]
        if self.ledger.failed:
            reasons.append(self.cluster.why())
        if any(reasons):
            known = dict.fromkeys(filter(None, reasons))  # each once
            self.console.note(self.ledger.summary("; ".join(known)))
        return not self.ledger.failed


def bound(text):
    """Argparse type: NAME=VALUE, a bound of gameplay.py and a whole number, as a pair."""
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in gameplay.BOUNDS or not re.fullmatch(r"-?[0-9]{1,18}", value):
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


def configure(parser, args):
    """Return librdkafka's configuration and how many events may wait in its queue."""
    reserved = dict(RESERVED)
    if args.embedded:
        reserved["bootstrap.servers"] = "--embedded brings its own broker"
    # Each request wakes us up: of 1,000 events/s, 5 ms would cost a third more CPU time than 50.
    # At full speed requests are large as it is, and with more than 10 ms more events are under way
    # than fit into a core's cache.
    linger = {"linger.ms": 50 if args.max_latency else 10}
    conf = commandline.configure(parser, args, {**DEFAULTS, **linger}, reserved)
    for key in ("acks", "request.required.acks"):
        if conf.get(key) == "0":
            parser.error(f"property {key} cannot be 0: only what was acknowledged is counted")
    try:
        messages, kbytes = (commandline.number(int, 1)(conf[name]) for name in QUEUE)
    except argparse.ArgumentTypeError as error:
        parser.error(f"{QUEUE[0]}, {QUEUE[1]}: {error}")
    if args.embedded:
        conf["test.mock.num.brokers"] = 1
    return conf, min(messages, kbytes * 4)  # an event takes less than 256 bytes


def setUpGame(parser, args):
    """Set the bounds and the seed of the game; exit with a usage error if they make no game."""
    for name, value in args.set:
        setattr(gameplay, name, value)
    try:
        gameplay.checkBounds()
    except ValueError as error:
        parser.error(f"gameplay.py: {error}")
    gameplay.seed(args.seed)


def connect(console, cluster, args):
    """Say which server is used, and return when it has the topic."""
    if args.embedded:
        cluster.servers = cluster.embeddedServer()
        flag = "-X bootstrap.servers=" if os.environ.get("BOOTSTRAP_SERVERS") else "-b "
        console.note(f"an embedded broker listens on {cluster.servers}; "
                     "to read from it, in a second terminal:\n"
                     f"python runConsumer.py -t {args.topic} {flag}{cluster.servers}")
    commandline.tellServers(args, cluster.servers, console)
    cluster.connect()


def run(console, argv):
    """Do what the command line says. Return whether all events were delivered."""
    parser = createParser()
    args = commandline.parse(parser, argv, console)
    checkArguments(parser, args)
    conf, window = configure(parser, args)
    setUpGame(parser, args)
    from cluster import Cluster, Producer  # which takes longer than --help may take
    try:
        cluster = Cluster(Producer, conf, args.topic, console)
    except ValueError as error:
        parser.error(console.hide(f"configuration: {error}"))
    nthMsg = args.print_n_msg if args.loop else 1
    produce = Produce(cluster, console, gameplay.generateGamePlay, nthMsg, window)
    if args.loop:
        console.say(f"Running in a loop. Number loops: {args.events or 'endless'} "
                    f"Min latency: {args.min_latency} Max latency: {args.max_latency} "
                    f"Printing every {args.print_n_msg}:th message.")
    with contextlib.suppress(Stopped):
        console.ask("We are ready, press the enter key to continue")
        connect(console, cluster, args)
        if args.loop:
            produce.loop(args.events, args.min_latency, args.max_latency, random.Random(args.seed))
        else:
            produce.oneByOne()
    delivered = produce.finish(args.loop)
    with contextlib.suppress(Stopped):
        if not console.signals:
            console.ask("Press the enter key to exit")
    return delivered


def main(argv=None):
    """Run the producer and return its exit status."""
    return Console("runProducer").run(run, argv)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
