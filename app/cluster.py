"""The cluster: librdkafka's settings, the check at the start, and what is said in an outage."""
import concurrent.futures
import contextlib
import logging
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from terminal import Failure

CONNECT_SECONDS = 9  # to find the cluster, and as long again for the answer of a leader
TOPIC_SECONDS = 3    # a topic that is just being created is unknown for a moment
DOWN_SECONDS = 1     # without a connection until the user is told: the next address may be right
SILENT_SECONDS = 5   # without an answer, likewise: a broker may be slow
REST_SECONDS = 3     # after which a call of update() knows nothing of the time before

CLIENT = {
    "log_level": 0,                               # off: error_cb is told what matters
    "socket.timeout.ms": 10000,                   # then a hung broker is left; 60 s by default
    "socket.connection.setup.timeout.ms": 10000,  # likewise an address where nobody is; 30 s
    "reconnect.backoff.max.ms": 1000,  # then a broker that is back is found; 10 s by default
    "connections.max.idle.ms": 180000}  # before a load balancer forgets one: Azure's takes 240 s

QUEUE, QUEUE_KBYTES = "queue.buffering.max.messages", "queue.buffering.max.kbytes"
PRODUCER = {
    **CLIENT,
    "enable.idempotence": True,        # nothing twice, and nothing out of order
    "partitioner": "murmur2_random",   # that of Kafka's Java clients
    QUEUE: 100000, QUEUE_KBYTES: 1048576,  # the defaults; the script keeps below them
    "batch.size": 200000,              # 1 MB by default: no faster, and some topics take less
    # A broker that starts does not know its topics for a moment. librdkafka then gives up all that
    # is queued, unless the topic's state changed in the last 2,000 s (it allows 2,147). After 60 s
    # without a refresh it asks again, which changes the state and back. Nothing else may refresh.
    "topic.metadata.propagation.max.ms": 2000000,
    "topic.metadata.refresh.interval.ms": -1,
    "metadata.max.age.ms": 60000}
# Each request wakes us up: of 1,000 events/s, 5 ms would cost a third more CPU time than 50.
LINGER_WITH_PAUSES = {"linger.ms": 50}
LINGER_AT_FULL_SPEED = {"linger.ms": 10}  # with more, the events under way outgrow the cache

CONSUMER = {
    **CLIENT,
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,  # a consumer makes none, nor does the check at its start
    "auto.commit.interval.ms": 1000,    # then few events are shown again after a kill
    "topic.metadata.refresh.interval.ms": 10000,  # then new partitions are seen; 300 s by default
    "fetch.queue.backoff.ms": 10,       # 1 s by default, in which a fast reader waits for nothing
    "queued.min.messages": 20000,       # fetched ahead; the default, 100,000, is no faster
    "queued.max.messages.kbytes": 16384}  # of large values; 64 MB by default
# Then the others of the group hear of one that comes or goes at once, and neither waits 3 s for
# them. The group protocol of Kafka 4 has an interval of its own, and refuses this one.
CLASSIC_GROUP = {"heartbeat.interval.ms": 500}


def isClassic(conf):
    """Tell whether a configuration asks for the group protocol of before Kafka 4."""
    return conf.get("group.protocol", "classic").lower() != "consumer"


def makeClient(kind, conf, parser, **callbacks):
    """Return a client of a kind, such as Producer. Exit with a usage error if it refuses conf."""
    if conf["log_level"] == 0:  # a fatal error is logged at any level, unless a logger takes it
        callbacks["logger"] = logging.Logger("librdkafka", logging.CRITICAL + 1)
    try:
        "".join(map(str, conf.values())).encode()  # the library aborts over what is no UTF-8
        int(conf.get(QUEUE, 0)), int(conf.get(QUEUE_KBYTES, 0))  # the producer reckons with these
        return kind({**conf, **callbacks})
    except (KafkaException, AttributeError, TypeError, ValueError) as error:
        why = error.args[0].str() if isinstance(error, KafkaException) else error
        parser.error(f"configuration: {why}")


def attempt(step, terminal):
    """Call step(). A fatal error of the library is a reason to stop."""
    try:
        step()
    except (KafkaException, SystemError) as error:  # flush() wraps it
        terminal.addReason((error.__cause__ or error).args[0].str())


def connect(conf, topic, servers):
    """Return how many partitions the topic has, once the leader of any has answered.

    The bootstrap server may send us on to where nobody is: its answer is not enough. Raise Failure.
    """
    errors = []
    admin = AdminClient({**conf, "bootstrap.servers": servers, "test.mock.num.brokers": 0,
                         "enable.idempotence": False, "error_cb": errors.append})
    partitions, brokers = findTopic(admin, topic, servers, errors)
    ends = admin.list_offsets({TopicPartition(topic, number): OffsetSpec.latest()
                               for number in partitions}, request_timeout=CONNECT_SECONDS)
    for future in concurrent.futures.as_completed(ends.values()):
        with contextlib.suppress(KafkaException):
            if future.result().offset >= 0:  # the library may report a timeout as -1
                return len(partitions)
    admin.poll(0)
    raise Failure(f"{servers} sent us on to {brokers}, where nobody answers for topic {topic}: "
                  f"{lastOf(errors)}\nthat address is the broker's advertised.listeners, not -b: "
                  "can it be reached from here?")


def findTopic(admin, topic, servers, errors):
    """Return (the topic's partitions, the addresses of the brokers as text), or raise Failure."""
    end, problem = time.monotonic() + CONNECT_SECONDS, None
    while time.monotonic() < end:
        try:
            found = admin.list_topics(topic, timeout=2)
        except KafkaException:  # no answer
            admin.poll(0)
            if any(error.code() in (error._AUTHENTICATION, error._SSL)
                   or "alert" in error.str() for error in errors):  # of TLS: another certificate
                raise Failure(f"no access to {servers}: {lastOf(errors)}\n"
                              "check security.protocol, sasl.* and ssl.* in the file of -F")
            continue
        error = found.topics[topic].error
        if error is None:
            brokers = [f"{broker.host}:{broker.port}" for broker in found.brokers.values()]
            return found.topics[topic].partitions, ", ".join(brokers)
        if not problem:
            end = min(end, time.monotonic() + TOPIC_SECONDS)
        problem = f"topic {topic} at {servers}: {error.str()}"
        if error.code() not in (error.UNKNOWN_TOPIC_OR_PART, error.LEADER_NOT_AVAILABLE):
            break  # it is not just being created
        time.sleep(0.1)
    if problem:
        raise Failure(f"{problem}\ncreate it, ask for access to it, or name another with -t")
    raise Failure(f"no Kafka broker at {servers}: {lastOf(errors)}\n"
                  "is it running (docker ps), and is that its address from here (-b, -X, -F)?")


def lastOf(errors):
    """Return the text of the last error that says more than that all brokers are down."""
    texts = [error.str() for error in errors if error.code() != error._ALL_BROKERS_DOWN]
    return texts[-1] if texts else "nothing answers as Kafka does: is security.protocol missing?"


class Outage:
    """Tells the user, once, that no broker answers, and once that one does again."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.error = None   # the last one of a connection since all was well
        self.down = False   # whether the library has lost its last connection
        self.told = None    # what the user was told of the outage that is under way
        self.wellAt = self.updatedAt = 0  # by time.monotonic()

    def onError(self, error):
        """Keep an error of a connection: librdkafka's error_cb."""
        if error.code() == error._ALL_BROKERS_DOWN:
            self.down = True
        else:
            self.error = error.str()

    def update(self, answered, waiting):
        """Tell the user what has changed. answered: whether a broker has, since the last call.

        waiting: whether anything waits for its answer. If not, a lost connection was an idle one.
        """
        now = time.monotonic()
        rested, self.updatedAt = now > self.updatedAt + REST_SECONDS, now
        if answered or not (waiting or self.told):
            if self.told:
                back = "is back" if "is gone" in self.told else "acknowledges again"
                self.terminal.tell(f"the broker {back} after {now - self.wellAt:.0f} s")
            self.wellAt, self.told, self.down, self.error = now, None, False, None
        elif rested and not self.told:  # as after a question: nothing is known
            self.wellAt = now
        elif not self.told and now > self.wellAt + (DOWN_SECONDS if self.down else SILENT_SECONDS):
            what = "is gone" if self.down else "acknowledges nothing"
            self.told = f"the broker {what}: {self.error}" if self.error else f"the broker {what}"
            self.terminal.tell(self.told)
