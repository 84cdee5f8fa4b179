"""Publishes spin events to a Kafka topic, one by one or in a loop."""
import argparse
import collections
import contextlib
import datetime
import functools
import itertools
import math
import os
import random
import re
import shlex
import signal
import sys
import time
import traceback

if __name__ == "__main__":  # Ctrl-C while the rest is imported: no traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from confluent_kafka import KafkaException, Producer

import cluster
import commandline
import gameplay
from pace import Pace
from terminal import GRACE_SECONDS, Failure, Terminal, everyNth

BATCH, BATCH_BYTES = 1000, 1000000  # handed over at once, where so much is due
EXAMPLES = """examples:
  python runProducer.py -t gameplay
  python runProducer.py -t gameplay -l -e 100 -m 10 -x 50 -p 10"""


class Produce:
    """Publishes what generate() returns as (key, text)."""

    def __init__(self, conf, topic, terminal, generate, nthMsg=1):
        """conf: librdkafka's configuration. nthMsg: print the first and then every nth event."""
        self.conf, self.topic, self.terminal = conf, topic, terminal
        self.generate, self.nthMsg = generate, nthMsg
        self.outage = cluster.Outage(terminal)
        self.looped = False    # whether loop() was called
        self.exhausted = False  # whether generate() has no more events
        self.produced = self.delivered = 0
        self.largest = 0       # bytes of the largest event so far
        self.unshown = collections.deque()  # [text, whether delivered] of events to be shown

    def initializeKafka(self, parser):
        """Make the client. Exit with a usage error if it refuses the configuration."""
        self.client = cluster.makeClient(Producer, self.conf, parser, error_cb=self.outage.onError)

    def acked(self, error, _message, event=None):
        """Count a delivery report. event: its place in unshown, if it is to be shown."""
        if event:
            event[1] = error is None
        if error is None:
            self.delivered += 1
        else:
            self.terminal.addReason(error.str())

    def generateAndPublish(self, count=1):
        """Generate up to so many events, queue them, return how many. There must be room."""
        events, batch = [], []
        with self.blame():  # extend() keeps what came before an error; StopIteration ends starmap()
            events.extend(itertools.starmap(self.generate, itertools.repeat((), count)))
        with self.blame():
            batch.extend({"key": str(key), "value": text.encode()} for key, text in events)
        self.exhausted = len(events) < count
        size = max([len(event["value"]) + 4 * len(event["key"]) for event in batch], default=0)
        if size > self.largest:
            self.largest = size  # the room was reckoned for smaller ones
            for event in batch:
                while not self.room():
                    self.serve(self.client.flush, 0.05)
                self.publish([event])
        else:
            self.publish(batch)
        return len(batch)

    @contextlib.contextmanager
    def blame(self):
        """Make an error of somebody's own generate() a reason to stop. It may call sys.exit()."""
        try:
            yield
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = " ".join(f"{type(error).__name__}: {error}".split())
            self.terminal.addReason(f"{place.filename}, line {place.lineno}: {why}")

    def publish(self, batch):
        """Queue events."""
        for message in everyNth(batch, self.produced, self.nthMsg):
            event = [message["value"], None]
            self.unshown.append(event)
            message["callback"] = functools.partial(self.acked, event=event)
        self.produced += len(batch)
        if self.client.produce_batch(self.topic, batch, on_delivery=self.acked) < len(batch):
            for message in batch:
                if "_error" in message:
                    self.terminal.addReason(message["_error"].str())

    def room(self):
        """Return how many events can be queued at once.

        If more are offered, the client refuses some; offered again, these would change the order.
        Those that wait only to be shown take room, too: all of this has to fit into memory.
        """
        size = self.largest or BATCH_BYTES
        queue = min(int(self.conf[cluster.QUEUE]) or 10 ** 9,  # 0 is no limit
                    int(self.conf[cluster.QUEUE_KBYTES]) * 1024 // size)
        free = max(queue, 1) - max(len(self.client), len(self.unshown))
        return max(min(free, BATCH, max(BATCH_BYTES // size, 1)), 0)

    def serve(self, wait, seconds):
        """Wait for delivery reports by the client's poll() or flush(); show what they bring."""
        before = self.delivered
        wait(seconds)
        self.outage.update(self.delivered > before, len(self.client) > 0)
        self.showDelivered()

    def showDelivered(self):
        """Print delivered events, in the order of generation."""
        texts = []
        while self.unshown and self.unshown[0][1] is not None:
            text, delivered = self.unshown.popleft()
            if delivered:
                texts.append(text)
        self.terminal.sayEach("Message produced: ", texts)

    def oneByOne(self):
        """Publish an event for each Y."""
        while not self.terminal.reasons and not self.exhausted:
            answer = self.terminal.ask("Press 'Y' to continue, 'N' to exit.")
            if answer is None or answer.upper() == "N":
                break
            if answer.upper() == "Y":
                self.terminal.say("Generating and publishing event")
                self.generateAndPublish()
                self.waitForAcks()

    def loop(self, events, pace):
        """Publish so many events, 0 for no end, each when it is due by the pace."""
        self.terminal.say("Generating and publishing event in loop")
        self.looped, remaining = True, events or math.inf
        start = drawnAt = time.monotonic()
        while remaining and not self.terminal.reasons and not self.exhausted:
            room = self.room()
            remaining -= self.generateAndPublish(pace.take(min(room, remaining)))
            if room:
                seconds = min(pace.wait(), 0.1) if remaining else 0
                if 0 < seconds < 0.02:  # poll() waits for whole ms, and wakes for each report
                    time.sleep(seconds)
                    seconds = 0
                self.serve(self.client.poll, seconds)
            else:  # flush() sends what waits for linger.ms
                self.serve(self.client.flush, 0.05)
            if time.monotonic() > drawnAt + 1:
                drawnAt = time.monotonic()
                self.drawProgress(events, drawnAt - start)

    def drawProgress(self, events, seconds):
        """Show on the terminal how far a loop of so many events is after so many seconds."""
        rate = self.delivered / seconds
        total, left = f" of {events:,}" if events else "", ""
        if events and rate:
            seconds = min((events - self.delivered) // rate, 10 ** 9)
            left = f", {datetime.timedelta(seconds=seconds)} left"
        self.terminal.draw(f"{self.delivered:,}{total} delivered, {rate:,.1f}/s{left}")

    def waitForAcks(self):
        """Wait until no event waits for its delivery report."""
        tellAt = time.monotonic() + 1
        while len(self.client):
            self.serve(self.client.flush, 0.1)
            if len(self.client) and time.monotonic() > tellAt:
                tellAt = math.inf
                self.terminal.tell(f"waiting for {len(self.client)} acknowledgements; "
                                   "Ctrl-C gives up")

    def lastWords(self):
        """Say what became of the events."""
        with contextlib.suppress(KafkaException):
            self.client.poll(0)  # reports that came in while the main thread waited, say, to print
        produced, delivered = self.produced, self.delivered  # once: more of them may come in
        failed = produced - delivered
        if failed and self.outage.told:
            self.terminal.addReason(self.outage.told)
        if failed or self.terminal.reasons:
            self.terminal.failed = self.terminal.failed or failed > 0
            self.terminal.tell(f"{produced} produced, {delivered} delivered, {failed} "
                               f"failed: {'; '.join(self.terminal.reasons)}")
        for event in list(self.unshown):  # nothing holds back a later event any more
            event[1] = bool(event[1])
        self.showDelivered()
        if self.looped or self.terminal.signal:
            self.terminal.say(f"Finished publishing: {delivered} messages.")


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
                            help="publish to a broker inside this process; not with -b")
    count = commandline.number(int, 0)
    loop = parser.add_argument_group("loop")
    loop.add_argument("-l", "--loop", action="store_true",
                      help="publish event after event, without a question for each")
    loop.add_argument("-e", "--events", type=count, default=10, metavar="N",
                      help="number of events, 0 for no end (default: %(default)s)")
    loop.add_argument("-m", "--min_latency", type=count, default=500, metavar="MS",
                      help="shortest pause between two events (default: %(default)s)")
    loop.add_argument("-x", "--max_latency", type=count, default=1000, metavar="MS",
                      help="longest pause; each is drawn at random (default: %(default)s)")
    game = parser.add_argument_group("game")
    game.add_argument("--seed", type=commandline.number(int, -2 ** 63), metavar="N",
                      help="the same game and pauses in every run with this number")
    game.add_argument("--set", action="append", default=[], type=bound, metavar="NAME=VALUE",
                      help="change a bound of gameplay.py, such as maxPlayerId=10000; repeatable")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "-n", "--print_n_msg", type=commandline.number(int, 1), default=100,
                        metavar="N", help="in a loop: print the first and then every Nth "
                                          "(default: %(default)s)")
    return parser


def parse(argv):
    """Return (parser, arguments), the bounds of the game set. Exit with a usage error."""
    parser = createParser()
    args = parser.parse_args(argv)
    if args.min_latency > args.max_latency:
        parser.error(f"-m {args.min_latency} is above -x {args.max_latency}")
    if args.embedded and args.bootstrap:
        parser.error("-b cannot be set: --embedded brings its own broker")
    for name, value in args.set:
        setattr(gameplay, name, value)
    try:
        gameplay.checkBounds()
    except ValueError as error:
        parser.error(f"gameplay.py: {error}")
    gameplay.seed(args.seed)
    return parser, args


def findEmbedded(client, topic, terminal):
    """Return where the broker inside the client listens, and tell the user."""
    try:
        [broker] = client.list_topics(timeout=5).brokers.values()
    except KafkaException as error:
        raise Failure(f"the embedded broker does not answer: {error.args[0].str()}\n"
                      "leave out -X and -F")
    server = f"{broker.host}:{broker.port}"
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runConsumer.py")
    # Not -b: where BOOTSTRAP_SERVERS is set, that is stronger.
    words = [sys.executable, script, "-t", topic, "-X", f"bootstrap.servers={server}"]
    terminal.tell(f"an embedded broker listens on {server}; to read from it, in a second "
                  f"terminal:\n{shlex.join(words)}")
    return server


def configure(parser, args):
    """Return librdkafka's configuration of the producer. Exit with a usage error."""
    linger = cluster.LINGER_WITH_PAUSES if args.max_latency else cluster.LINGER_AT_FULL_SPEED
    conf = {**cluster.PRODUCER, **linger, **commandline.properties(parser, args),
            "delivery.report.only.error": False,  # every delivery is counted
            "test.mock.num.brokers": int(args.embedded)}
    if "transactional.id" in conf or "0" in (conf.get("acks"), conf.get("request.required.acks")):
        parser.error("transactional.id and acks=0 cannot be set: what was acknowledged is counted")
    return conf


def run(argv, generate, terminal):
    """Do what the command line says."""
    parser, args = parse(argv)
    conf = configure(parser, args)
    produce = Produce(conf, args.topic, terminal, generate, args.print_n_msg if args.loop else 1)
    produce.initializeKafka(parser)
    terminal.lastWords, mode = produce.lastWords, produce.oneByOne
    if args.loop:
        terminal.say(f"Running in a loop. Number loops: {args.events or 'endless'} "
                     f"Min latency: {args.min_latency} Max latency: {args.max_latency} "
                     f"Printing every {args.print_n_msg}:th message.")
    terminal.ask("We are ready, press the enter key to continue")
    servers = conf["bootstrap.servers"]
    if args.embedded:
        servers = findEmbedded(produce.client, args.topic, terminal)
    commandline.sayServers(args, servers, terminal)
    cluster.connect(conf, args.topic, servers)
    if args.loop:
        pace = Pace(args.min_latency, args.max_latency, random.Random(args.seed))
        mode = functools.partial(produce.loop, args.events, pace)
    terminal.grace = GRACE_SECONDS
    for step in mode, produce.waitForAcks:
        cluster.attempt(step, terminal)
    terminal.dropDeadline()
    produce.lastWords()
    if not terminal.signal:
        terminal.ask("Press the enter key to exit")


def main(argv=None, generate=gameplay.generateGamePlay):
    """Run the producer and return its exit status. generate() returns an event as (key, text)."""
    terminal = Terminal("runProducer")
    return terminal.run(lambda: run(argv, generate, terminal))


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
