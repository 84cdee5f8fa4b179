"""The settings: every librdkafka property that the scripts set, each with its reason."""
import argparse
import socket

from terminal import commandline

CLIENT = {
    "log_level": 0,                               # off: error_cb is told what matters
    "client.id": socket.gethostname(),            # by which a broker's own log names us
    "socket.timeout.ms": 10000,                   # then a hung broker is left; 60 s by default
    "socket.connection.setup.timeout.ms": 10000,  # likewise an address where nobody is; 30 s
    "reconnect.backoff.max.ms": 1000}  # then a broker that is back is found; 10 s by default

MESSAGES, KBYTES = "queue.buffering.max.messages", "queue.buffering.max.kbytes"
PRODUCER = {
    "enable.idempotence": True,      # nothing twice, and nothing out of order
    "partitioner": "murmur2_random",  # that of Kafka's Java clients
    MESSAGES: "100000", KBYTES: "1048576",  # the defaults, from which window() is reckoned
    # A broker that starts does not know its topics for a moment. librdkafka then gives up all that
    # is queued, unless the topic's state changed in the last 2,000 s (2,147 s is its limit). After
    # 60 s without a refresh it asks for the topic again. That changes the state and back, and
    # events wait for the answer. So nothing else may refresh what is known of the topic.
    "topic.metadata.propagation.max.ms": 2000000,
    "topic.metadata.refresh.interval.ms": -1,
    "metadata.max.age.ms": 60000}
# Each request wakes us up: of 1,000 events/s, 5 ms would cost a third more CPU time than 50.
LINGER_WITH_PAUSES = {"linger.ms": 50}
# Requests are large as it is. With more than 10 ms, more events are under way than fit into a
# core's cache.
LINGER_AT_FULL_SPEED = {"linger.ms": 10}

CONSUMER = {
    "enable.auto.offset.store": False,  # an offset is stored once its event has been shown
    "auto.commit.interval.ms": 1000,    # then few events are shown again after a kill
    "topic.metadata.refresh.interval.ms": 10000,  # then new partitions are seen; 300 s by default
    "fetch.queue.backoff.ms": 10,       # 1 s by default, in which a fast reader waits for nothing
    "queued.min.messages": 20000,       # fetched ahead; the default, 100,000, is no faster
    "queued.max.messages.kbytes": 16384}  # of large values; 64 MB by default

# Then the others of the group hear of one that comes or goes at once, and neither waits 3 s for
# them. The protocol of Kafka 4 has an interval of its own.
CONSUMER_CLASSIC = {"heartbeat.interval.ms": 500}

OUTAGE = {  # of the client that looks whether the brokers answer
    "enable.idempotence": False,        # it produces nothing
    "allow.auto.create.topics": False,  # a topic that was deleted is not its business
    # Then it soon knows who leads a partition now.
    "topic.metadata.refresh.interval.ms": 5000,
    "metadata.max.age.ms": 5000,
    "socket.timeout.ms": 3000}  # then it asks another broker than one that hangs

NOT_FOR_PRODUCER = {"delivery.report.only.error": "every delivery is counted",
                    "transactional.id": "there are no transactions",
                    "test.mock.num.brokers": "--embedded does that"}
NOT_FOR_CONSUMER = {"enable.auto.offset.store": "an offset is stored once its event has been shown"}
RESETS = "earliest", "smallest", "beginning", "latest", "largest", "end", "error"


def configure(parser, args, defaults, reserved):
    """Return librdkafka's configuration: defaults, over them -F, over both -X.

    reserved: {key: why nobody may set it}. Exit with a usage error.
    """
    for key in sorted(args.given.keys() & reserved.keys()):
        parser.error(f"property {key} cannot be set: {reserved[key]}")
    conf = {**CLIENT, **defaults, **args.given}
    if "bootstrap.servers" not in {*conf, *reserved}:
        conf["bootstrap.servers"] = commandline.serverOf(parser, args)
    return conf


def producer(parser, args):
    """Return the configuration of a producer. Exit with a usage error."""
    reserved = dict(NOT_FOR_PRODUCER)
    if args.embedded:
        reserved["bootstrap.servers"] = "--embedded brings its own broker"
    linger = LINGER_WITH_PAUSES if args.max_latency else LINGER_AT_FULL_SPEED
    conf = configure(parser, args, {**PRODUCER, **linger}, reserved)
    for key in ("acks", "request.required.acks"):
        if conf.get(key) == "0":
            parser.error(f"property {key} cannot be 0: only what was acknowledged is counted")
    try:
        window(conf)
    except argparse.ArgumentTypeError as error:
        parser.error(f"{MESSAGES}, {KBYTES}: {error}")
    if args.embedded:
        conf["test.mock.num.brokers"] = 1
    return conf


def window(conf):
    """Return how many events may wait in a producer's queue. Raise ArgumentTypeError."""
    messages, kbytes = (commandline.number(int, 1)(conf[name]) for name in (MESSAGES, KBYTES))
    return min(messages, kbytes * 4)  # an event takes less than 256 bytes


def isNewProtocol(conf):
    """Tell whether a configuration asks for the group protocol of Kafka 4."""
    return conf.get("group.protocol", "").lower() == "consumer"


def consumer(parser, args):
    """Return the configuration of a consumer. Exit with a usage error."""
    classic = {} if isNewProtocol(args.given) else CONSUMER_CLASSIC
    conf = configure(parser, args, {**CONSUMER, **classic, "group.id": args.group,
                                    "auto.offset.reset": "earliest"}, NOT_FOR_CONSUMER)
    if not conf["group.id"]:
        parser.error("the name of the consumer group is empty (-g)")
    if conf["auto.offset.reset"] not in RESETS:
        parser.error(f"property auto.offset.reset is one of {', '.join(RESETS)}")
    return conf
