"""Shows the events of a Kafka topic as they arrive, each one once a group."""
import os
import signal
import time

from confluent_kafka import Consumer

import cluster
import commandline
from group import Group
from outage import ConsumerOutage
from terminal import Terminal, everyNth

BATCH = 1000  # events shown at once, where so many are there
DEFAULT_GROUP = "consumer-1"
EXAMPLES = """examples:
  python runConsumer.py -t gameplay
  python runConsumer.py -t gameplay -g check -e 1000 --timeout 10"""


class Consume:
    """Shows what arrives."""

    def __init__(self, conf, args, terminal):
        """conf: librdkafka's configuration. args: those of the command line."""
        self.conf, self.args, self.terminal = conf, args, terminal
        self.outage = ConsumerOutage(conf, terminal)
        self.group = Group(conf, args, self.outage, terminal)
        self.received = 0
        self.arrivedAt = 0     # when the last event came, by time.monotonic()
        self.lostClients = []  # kept, because their end would wait for their broker

    def initializeKafka(self):
        """Make the client. Raise ValueError if it refuses the configuration."""
        self.client = cluster.makeClient(Consumer, self.conf, self.outage.onError,
                                         on_commit=self.group.onCommit)

    def subscribe(self):
        """Become a member of the group."""
        self.group.begin(self.client)
        self.client.subscribe([self.args.topic], on_assign=self.group.onAssign,
                              on_revoke=self.group.onRevoke, on_lost=self.group.onLost)

    def run(self):
        """Show events until so many came, or none came for the timeout."""
        self.terminal.say(f"Listening for events on topic: {self.args.topic}. "
                          "Press Ctrl-C to exit.")
        self.subscribe()
        while self.terminal.running and not self.isDone():
            # What one call brings is shown and stored before the next call, which may pass
            # partitions on to another consumer.
            arrived = self.showAndStore(self.receive())
            if self.outage.watch(self.client, arrived):
                self.replaceClient()
            self.group.tellNews()
        if self.received < self.args.events and self.terminal.running:
            self.terminal.fail(f"{self.received} of {self.args.events} events arrived, then none "
                               f"for {self.args.timeout:g} s")

    def receive(self):
        """Return the messages that are there, or wait a moment for one."""
        most = min(BATCH, self.args.events - self.received) if self.args.events else BATCH
        messages = self.client.consume(most, 0)
        if not messages:
            message = self.client.poll(0.2)
            messages = [] if message is None else [message]
        return messages

    def showAndStore(self, messages):
        """Show messages, and store that they were. Return how many were events."""
        values, latest = [], {}
        for message in messages:
            if message.error():
                self.group.onError(message.error())
            elif message.partition() in self.group.ours:  # else it was taken away within the call
                value = message.value()
                values.append(b"null" if value is None else value)
                latest[message.partition()] = message
        with self.terminal.printing:  # the last words need to know how far we are
            nth = self.args.print_n_msg
            self.terminal.sayEach("Received message: ", everyNth(values, self.received, nth))
            self.received += len(values)
            if not self.terminal.gone:  # else they were not shown
                for number, message in latest.items():
                    self.client.store_offsets(message)
                    self.group.uncommitted[number] = message.offset() + 1
        if values:
            self.arrivedAt = time.monotonic()
        return len(values)

    def replaceClient(self):
        """Go on with a new client after what was shown."""
        self.terminal.tell("the Kafka client has lost its broker for good: going on with a new one")
        self.lostClients.append(self.client)
        self.initializeKafka()
        self.subscribe()

    def isDone(self):
        """Tell whether all events have come, or none for the timeout; 0 stands for never."""
        args, since = self.args, self.group.answeredAt
        isQuiet = since and time.monotonic() > max(since, self.arrivedAt) + args.timeout
        return 0 < args.events <= self.received or bool(args.timeout and isQuiet)

    def lastWords(self):
        """Say why the run has failed, and what could not be committed."""
        if self.terminal.hasFailed or self.terminal.gone:
            self.terminal.tell("; ".join(self.terminal.reasons))
        self.group.lastWords()


def createParser():
    """Return the parser of the command line."""
    parser, connection = commandline.createParser("runConsumer", __doc__, EXAMPLES)
    connection.add_argument("-g", "--group", metavar="GROUP",
                            help=f"consumer group; goes on where it stopped (default: "
                                 f"{DEFAULT_GROUP})")
    loop = parser.add_argument_group("loop")
    loop.add_argument("-e", "--events", type=commandline.count, default=0, metavar="N",
                      help="stop after N events, 0: never (default: %(default)s)")
    loop.add_argument("--timeout", type=commandline.seconds, default=0, metavar="SECONDS",
                      help="stop after so long without an event, 0: never (default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("-p", "--print_n_msg", type=commandline.positive, default=1, metavar="N",
                        help="print the first and then every Nth event (default: %(default)s)")
    return parser


def configure(args):
    """Return librdkafka's configuration of the consumer. Raise ValueError for a wrong argument."""
    conf = {**cluster.CONSUMER, "group.id": DEFAULT_GROUP, **commandline.properties(args),
            "enable.auto.offset.store": False}  # an offset is stored once its event was shown
    if args.group is not None:
        conf["group.id"] = args.group
    if conf["group.protocol"].lower() == "classic":  # that of Kafka 4 has its own, and refuses it
        # A member learns at its next heartbeat that another came or went; 3 s by default.
        conf = {"heartbeat.interval.ms": 500, **conf}
    if not conf["group.id"]:
        raise ValueError("the name of the consumer group is empty (-g)")
    return conf


def run(terminal, argv):
    """Do what the command line says."""
    parser = createParser()
    args = parser.parse_args(argv)
    try:
        conf = configure(args)
        consume = Consume(conf, args, terminal)
        consume.initializeKafka()
    except ValueError as error:
        parser.error(str(error))
    commandline.sayServers(args, conf["bootstrap.servers"], terminal)
    cluster.checkTopic(conf, args.topic, conf["bootstrap.servers"])
    terminal.ask("We are ready, press the enter key to continue")
    terminal.lastWords = consume.lastWords
    terminal.lastQuestion = "Press the enter key to exit the consume application."
    cluster.work(terminal, consume.run, consume.group.leave)


def main(argv=None):
    """Run the consumer and return its exit status."""
    return Terminal("runConsumer", wayOut=signal.SIGINT).run(run, argv)


if __name__ == "__main__":
    os._exit(main())  # not sys.exit(): a thread of the library may hold that up
