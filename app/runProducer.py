"""Generates spin events and publishes them to a Kafka topic, one by one or in a loop."""
import argparse
import collections
import contextlib
import datetime
import functools
import math
import os
import random
import signal
import sys
import time

import common
import gameplay

BATCH = 1000  # events handed to the client at once, where so many are due
QUEUE = "queue.buffering.max.messages", "queue.buffering.max.kbytes"
DEFAULTS = {"enable.idempotence": True, "partitioner": "murmur2_random",  # that of Kafka's Java clients
            QUEUE[0]: "100000", QUEUE[1]: "1048576"}
RESERVED = {"delivery.report.only.error": "every delivery is counted", "transactional.id": "there are no transactions"}
EXAMPLES = """examples:
  python runProducer.py -t gameplay
  python runProducer.py -t gameplay -l -e 1000 -m 10 -x 50 -p 100"""


class Produce:
    """Publishes what generate() returns as (key, text), and counts what became of it."""

    def __init__(self, topic, client, console, generate, nthMsg=1, window=100000):
        self.topic, self.client, self.console, self.generate = topic, client, console, generate
        self.nthMsg = nthMsg
        self.nextShown = 1                # number of the next event to be shown
        self.window = window              # how many events may wait for their acknowledgement
        self.produced = self.delivered = self.failed = 0
        self.reason = None                # why events cannot be delivered, once there is one
        self.toShow = collections.deque()  # of each event to be shown [its text, None before its acknowledgement]
        self.seen = 0                     # delivered at the last look
        self.answered = time.monotonic()  # when that last grew, or nothing was waited for
        self.start, self.asked, self.drawAt = 0, 0, math.inf  # of the progress line

    def acked(self, err, _msg):
        """Count a delivery report: librdkafka's callback."""
        if err is None:
            self.delivered += 1
        else:
            self.failed += 1
            self.reason = self.reason or err.str()

    def ackedToShow(self, slot, err, msg):
        """Do the same for an event with a place in toShow, and say there what is to be shown."""
        self.acked(err, msg)
        slot[0] = "" if err else msg.value().decode()

    def generateAndPublish(self, count):
        """Generate so many events and queue them, for which there must be room."""
        batch, first = [], self.produced + 1
        for _ in range(count):
            key, text = self.generate()
            batch.append({"key": str(key), "value": text})
        while self.nextShown < first + count:
            self.toShow.append([None])
            batch[self.nextShown - first]["callback"] = functools.partial(self.ackedToShow, self.toShow[-1])
            self.nextShown += self.nthMsg - self.nextShown % self.nthMsg
        self.produced += count
        if self.client.produce_batch(self.topic, batch, on_delivery=self.acked) < count:
            for message in batch:
                if "_error" in message:
                    message.get("callback", self.acked)(message["_error"], None)

    def room(self):
        """Return how many events can be queued. Beyond it the client refuses some of a batch, and order is lost."""
        return max(self.window - max(len(self.client), len(self.toShow)), 0)

    def waiting(self):
        """Return how many events are not acknowledged yet."""
        return self.produced - self.delivered - self.failed

    def stopping(self):
        """Return why no more events are to be generated, None as long as they are."""
        if self.reason:
            return self.reason
        return f"stopped by {signal.Signals(self.console.signals[0]).name}" if self.console.signals else self.console.gone

    def serve(self, seconds):
        """Handle acknowledgements for up to so many seconds, less where one comes in; then report."""
        self.console.serve(self.client.poll, seconds)
        self.show()
        now = time.monotonic()
        if self.delivered > self.seen:
            self.console.brokerBack()
        if self.delivered > self.seen or not self.waiting():
            self.seen, self.answered = self.delivered, now
        elif now > self.answered + common.SILENCE_SECONDS and not self.console.away:
            self.reason = self.reason or common.lookAfter(self.console, self.client, self.topic, self.answered)
            self.answered = self.console.away or time.monotonic()
        if now >= self.drawAt:
            self.drawAt = now + 1
            self.console.draw(self.progress(now - self.start))

    def show(self):
        """Show what is acknowledged, in order of generation."""
        lines = []
        while self.toShow and self.toShow[0][0] is not None:
            lines += ["Message produced: " + text for text in self.toShow.popleft() if text]
        if lines:
            self.console.say(*lines)

    def progress(self, seconds):
        """Return the progress line of a loop that has run for so many seconds."""
        rate, left = self.delivered / seconds, self.asked - self.delivered
        if left == math.inf or not rate:
            return f"{self.delivered:,} delivered, {rate:,.1f}/s"
        left = datetime.timedelta(seconds=min(int(left / rate), 10 ** 9))
        return f"{self.delivered:,} of {self.asked:,} delivered, {rate:,.1f}/s, {left} left"

    def loop(self, events, minLatency, maxLatency, pauses):
        """Publish so many events, 0 for no end, and pause between any two for some ms drawn from a random.Random."""
        self.console.say("Generating and publishing event in loop")
        self.start = due = time.monotonic()
        self.asked, self.drawAt = events or math.inf, self.start + 1
        while not self.stopping():
            now = time.monotonic()
            room = min(self.room(), BATCH, self.asked - self.produced)
            count = 0 if maxLatency else room
            while due <= now and count < room:  # due times add up: what delays one event delays none after it
                due += pauses.uniform(minLatency, maxLatency) / 1000
                count += 1
            if count:
                self.generateAndPublish(count)
            if self.produced == self.asked:
                break
            self.serveUntil(due if room else now + 0.05)

    def serveUntil(self, due):
        """Handle acknowledgements until that time.monotonic(), and no longer than it makes sense to go on."""
        left = 0
        while True:
            self.serve(min(left, 0.1))
            left = due - time.monotonic()
            if left < 0.001 or self.stopping():
                break
        if 0 < left < 0.001:  # poll() waits for whole milliseconds only
            time.sleep(left)

    def oneByOne(self):
        """Publish an event for each Y."""
        while not self.stopping():
            answer = self.console.ask("Press 'Y' to continue, 'N' to exit.")
            if answer is None or answer.upper() == "N":
                break
            if answer.upper() == "Y":
                self.console.say("Generating and publishing event")
                self.generateAndPublish(1)
                self.settle()

    def settle(self):
        """Wait until all events are acknowledged or have failed, the topic is gone, or a second signal comes in."""
        start, told = time.monotonic(), False
        self.serve(0)
        while self.waiting() and len(self.console.signals) < 2 and (self.failed or not self.reason):
            self.console.serve(self.client.flush, 0.1)  # which does not wait for linger.ms
            self.serve(0)
            if self.waiting() and time.monotonic() > start + 1 and not told:
                told = True
                self.console.note(f"waiting for {self.waiting()} acknowledgements; Ctrl-C gives up")

    def finish(self, doLoop):
        """Deliver what is queued and say what became of it; return whether all of it was delivered."""
        self.settle()
        for slot in self.toShow:  # no event that was given up holds back a later one any more
            slot[0] = slot[0] or ""
        self.show()
        undelivered, reason = self.produced - self.delivered, self.stopping()
        if doLoop or self.console.signals:
            self.console.say(f"Finished publishing: {self.delivered} messages.")
        error = self.console.error
        if undelivered and error:  # a fatal one is the reason that the reports leave out
            reason = error.str() if error.fatal() else f"{reason}; {error.str()}"
        if undelivered and self.console.behind:
            reason = f"{reason}; {self.console.behind}"
        if reason:
            self.console.note(f"{self.produced} produced, {self.delivered} delivered, {undelivered} failed: {reason}")
        return not undelivered


def createParser():
    """Return the parser of the command line."""
    parser, connection = common.createParser("runProducer", __doc__, EXAMPLES)
    connection.add_argument("--embedded", action="store_true",
                            help="publish to a broker inside this process, which goes when it ends; not with -b")
    number = common.number(int, 0)
    loop = parser.add_argument_group("loop")
    loop.add_argument("-l", "--loop", action="store_true", help="run in a loop, without asking for each event")
    loop.add_argument("-e", "--events", type=number, default=10, metavar="N",
                      help="number of events, 0 for no end (default: %(default)s)")
    loop.add_argument("-m", "--min_latency", type=number, default=500, metavar="MS",
                      help="least pause between events, in milliseconds (default: %(default)s)")
    loop.add_argument("-x", "--max_latency", type=number, default=1000, metavar="MS",
                      help="longest pause; each is drawn uniformly from least to longest (default: %(default)s)")
    loop.add_argument("--seed", type=common.number(int, -2 ** 63), metavar="N",
                      help="the same players, games, stakes, wins and pauses every time (default: new ones)")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "-n", "--print_n_msg", type=common.number(int, 1), default=100, metavar="N",
                        help="in a loop: print the first and then every Nth event (default: %(default)s)")
    return parser


def embeddedServer(client):
    """Return HOST:PORT of the broker inside a client."""
    from confluent_kafka import KafkaException
    try:
        broker = client.list_topics(timeout=5).brokers[1]
        return f"{broker.host}:{broker.port}"
    except KafkaException as error:
        raise common.Failure(f"the embedded broker does not answer: {error.args[0].str()}\nleave out -X and -F")


def run(console, argv):
    """Do what the command line says; return the exit status."""
    parser = createParser()
    args = common.parse(parser, console, argv)
    if args.min_latency > args.max_latency:
        parser.error(f"the least pause, -m {args.min_latency}, is above the longest, -x {args.max_latency}")
    reserved = dict(RESERVED)
    if args.embedded:
        reserved["bootstrap.servers"] = "--embedded brings its own broker"
        if args.bootstrap:
            parser.error("-b cannot be set: --embedded brings its own broker")
    # Each request wakes us up: of 1,000 events/s, 5 ms would cost a third more CPU time than 50. At full speed the
    # requests are large as it is, and with more than 10 ms more events are under way than fit into a core's cache.
    linger = {"linger.ms": 50 if args.max_latency else 10}
    conf = common.configure(parser, console, args, {**DEFAULTS, **linger}, reserved)
    try:
        messages, kbytes = (common.number(int, 1)(conf[name]) for name in QUEUE)
        gameplay.checkBounds()
    except argparse.ArgumentTypeError as error:
        parser.error(f"{QUEUE[0]}, {QUEUE[1]}: {error}")
    except ValueError as error:
        parser.error(f"gameplay.py: {error}")
    gameplay.seed(args.seed)
    if args.embedded:
        conf["test.mock.num.brokers"] = 1
    client = common.createClient(parser, console, "Producer", conf)
    produce = Produce(args.topic, client, console, gameplay.generateGamePlay, args.print_n_msg if args.loop else 1,
                      min(messages, kbytes * 4))  # an event takes less than 256 bytes
    if args.loop:
        console.say(f"Running in a loop. Number loops: {args.events or 'endless'} Min latency: {args.min_latency} "
                    f"Max latency: {args.max_latency} Printing every {args.print_n_msg}:th message.")
    with contextlib.suppress(common.Stopped):
        console.ask("We are ready, press the enter key to continue")
        servers = conf["bootstrap.servers"]
        if args.embedded:
            servers = embeddedServer(client)
            flag = "-X bootstrap.servers=" if os.environ.get("BOOTSTRAP_SERVERS") else "-b "
            console.note(f"an embedded broker listens on {servers}; to read from it, in a second terminal:\n"
                         f"python runConsumer.py -t {args.topic} {flag}{servers}")
        common.connect(console, client, args, servers)
        if args.loop:
            produce.loop(args.events, args.min_latency, args.max_latency, random.Random(args.seed))
        else:
            produce.oneByOne()
    delivered = produce.finish(args.loop)
    with contextlib.suppress(common.Stopped):
        if not console.signals:
            console.ask("Press the enter key to exit")
    if delivered and console.signals:
        return console.status()
    return 0 if delivered and not console.gone else 1


def main(argv=None):
    """Run the producer and return its exit status."""
    return common.Console("runProducer").run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
