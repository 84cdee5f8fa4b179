"""Publishes spin events to a Kafka topic, one by one or in a loop."""
import argparse
import math
import os
import random
import re
import sysconfig
import time
import traceback

from confluent_kafka import Producer

import cluster
import commandline
import gameplay
from commandline import Default
from deliveries import Deliveries
from pace import Pace
from terminal import Terminal

LOOP_FLAGS = {"-e": "events", "-m": "min_latency", "-x": "max_latency", "-p": "print_n_msg"}
# The paths of code that is Python's or a package's.
LIBRARY = rf"<frozen|{re.escape(sysconfig.get_path('stdlib'))}|.*[/\\](site|dist)-packages[/\\]"
EXAMPLES = """examples:
  python runProducer.py -t gameplay
  python runProducer.py -t gameplay -l -e 100 -m 10 -x 50 -p 10"""


class Produce:
    """Publishes what generate() returns as (key, text): an event for each Y, or many in a loop."""

    def __init__(self, conf, args, terminal, generate):
        """conf: librdkafka's configuration. args: those of the command line."""
        self.conf, self.args, self.terminal, self.generate = conf, args, terminal, generate
        self.deliveries = Deliveries(args, terminal)
        self.remaining = args.events if args.loop and args.events else math.inf

    def initializeKafka(self):
        """Make the client. Raise ValueError if it refuses the configuration."""
        self.client = cluster.makeClient(Producer, self.conf, self.deliveries.outage.onError)
        self.deliveries.begin(self.client)

    def generateAndPublish(self, most=1):
        """Generate up to so many events, and publish them. Return how many there were."""
        batch, largest, nothing = [], self.deliveries.largest, object()
        try:
            for _ in range(most):
                pair = nothing
                pair = self.generate()
                key, text = pair
                value = text.encode()
                batch.append({"key": key if key is None else str(key).encode(), "value": value})
                if len(value) > largest:  # there may be no room for more of this size
                    break
        except StopIteration:
            self.remaining = 0
        except BaseException as error:  # somebody's own generate() may even call sys.exit()
            self.terminal.fail(blame(error, pair is not nothing))
        self.remaining -= len(batch)
        self.deliveries.expect(batch)
        taken = self.client.produce_batch(self.args.topic, batch,
                                          on_delivery=self.deliveries.acked)
        if taken < len(batch):
            self.deliveries.onRefusal(batch)
        return len(batch)

    def oneByOne(self):
        """Publish an event for each Y."""
        while self.remaining > 0 and self.terminal.running:
            answer = self.terminal.ask("Press 'Y' to continue, 'N' to exit.")
            if answer is None or answer.upper() == "N":
                break
            if answer.upper() == "Y":
                self.terminal.say("Generating and publishing event")
                self.generateAndPublish()
                self.deliveries.waitForAcks()

    def loop(self):
        """Publish event after event, each when it is due by the pace."""
        self.terminal.say("Generating and publishing event in loop")
        pace = Pace(self.args.min_latency, self.args.max_latency, random.Random(self.args.seed))
        start, due = time.monotonic(), 0
        while self.remaining > 0 and self.terminal.running:
            if not due and pace.wait():
                time.sleep(min(pace.wait(), 0.05))  # poll() would wait for whole ms only
            room = min(self.deliveries.room(), self.remaining)
            due += pace.take(room - due)
            if room:
                due -= self.generateAndPublish(min(due, room))
                self.deliveries.catchUp(self.client.poll, 0)
            else:
                self.deliveries.catchUp(self.client.flush, 0.05)  # sends what waits for linger.ms
            self.deliveries.drawProgress(time.monotonic() - start)


def blame(error, hasReturned):
    """Return what to say of an error of somebody's own generate(), or of what it has returned."""
    why = " ".join(f"{type(error).__name__}: {error}".split())
    if hasReturned:
        return f"generate() has to return a key and a text: {why}"
    places = [place for place in traceback.extract_tb(error.__traceback__)[1:]  # without ours
              if not re.match(LIBRARY, place.filename)]
    return f"{places[-1].filename}, line {places[-1].lineno}: {why}" if places else why


def createParser():
    """Return the parser of the command line."""
    parser, connection = commandline.createParser("runProducer", __doc__, EXAMPLES)
    connection.add_argument("--embedded", action="store_true",
                            help="publish to a broker inside this process; not with -b")
    loop = parser.add_argument_group("loop")
    loop.add_argument("-l", "--loop", action="store_true",
                      help="publish event after event, without a question for each")
    loop.add_argument("-e", "--events", type=commandline.count, default=Default(10), metavar="N",
                      help="number of events, 0 for no end (default: %(default)s)")
    loop.add_argument("-m", "--min_latency", type=commandline.milliseconds, default=Default(500),
                      metavar="MS", help="shortest pause between two events, such as 20 or 0.2 "
                                         "(default: %(default)s)")
    loop.add_argument("-x", "--max_latency", type=commandline.milliseconds, default=Default(1000),
                      metavar="MS", help="longest pause; each is drawn at random "
                                         "(default: %(default)s)")
    game = parser.add_argument_group("game")
    game.add_argument("--seed", type=commandline.wholeNumber, metavar="N",
                      help="the same game and pauses in every run with this number")
    game.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                      type=commandline.numberFor(gameplay.BOUNDS),
                      help="change a bound of gameplay.py, such as maxPlayerId=10000; repeatable")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "-n", "--print_n_msg", type=commandline.positive,
                        default=Default(100), metavar="N",
                        help="in a loop: print the first and then every Nth (default: %(default)s)")
    return parser


def configure(args):
    """Set the bounds of the game. Return librdkafka's configuration of the producer.

    Raise ValueError or argparse.ArgumentTypeError for a wrong argument.
    """
    if args.min_latency > args.max_latency:
        raise ValueError(f"-m {args.min_latency} is above -x {args.max_latency}")
    if args.embedded and args.bootstrap:
        raise ValueError("-b cannot be set: --embedded brings its own broker")
    # With pauses: 5 ms would cost a third more CPU at 1,000 events/s. At full speed: with more, the
    # events under way outgrow the processor's cache.
    linger = 50 if args.max_latency else 10
    conf = {**cluster.PRODUCER, "linger.ms": linger, **commandline.properties(args),
            "delivery.report.only.error": False,  # every delivery is counted
            "test.mock.num.brokers": int(args.embedded)}
    if "transactional.id" in conf or "0" in (conf.get("acks"), conf.get("request.required.acks")):
        raise ValueError("transactional.id and acks=0 cannot be set: "
                         "what was acknowledged is counted")
    args.queueLimits = [commandline.count(conf[name]) for name in cluster.UNLIMITED]
    for name, value in args.set:
        setattr(gameplay, name, value)
    gameplay.checkBounds()
    return {**conf, **cluster.UNLIMITED}


def run(terminal, argv, generate):
    """Do what the command line says."""
    parser = createParser()
    args = parser.parse_args(argv)
    try:
        conf = configure(args)
        produce = Produce(conf, args, terminal, generate)
        produce.initializeKafka()
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    terminal.lastWords = produce.deliveries.lastWords
    terminal.lastQuestion = "Press the enter key to exit"
    if args.seed is not None:  # else somebody's own generate() may have seeded it
        random.seed(args.seed)
    if args.loop:
        terminal.say(f"Running in a loop. Number loops: {args.events or 'endless'} "
                     f"Min latency: {args.min_latency} Max latency: {args.max_latency} "
                     f"Printing every {args.print_n_msg}:th message.")
    elif typed := commandline.typed(args, LOOP_FLAGS):
        terminal.tell(f"without -l this means nothing: {', '.join(typed)}")
    terminal.ask("We are ready, press the enter key to continue")
    servers = conf["bootstrap.servers"]
    if args.embedded:
        servers = cluster.announceEmbedded(produce.client, args.topic, terminal)
    commandline.sayServers(args, servers, terminal)
    cluster.checkTopic(conf, args.topic, servers)
    publish = produce.loop if args.loop else produce.oneByOne
    cluster.work(terminal, publish, produce.deliveries.waitForAcks)


def main(argv=None, generate=gameplay.generateGamePlay):
    """Run the producer and return its exit status. generate() returns an event as (key, text)."""
    return Terminal("runProducer").run(run, argv, generate)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
