"""The cluster: librdkafka's settings, the check at the start, and the end of a run."""
import concurrent.futures
import contextlib
import logging
import os
import shlex
import socket
import sys
import threading
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from terminal import GRACE_SECONDS, Failure

CONNECT_SECONDS = 9  # to find the cluster, and as long again for the answer of a leader
NAMES_SECONDS = 20   # to find it, where the look-up of its name takes long
TOPIC_SECONDS = 3    # a topic that is just being created is unknown for a moment

CLIENT = {
    "log_level": 0,                               # off: error_cb is told what matters
    "socket.timeout.ms": 10000,                   # then a hung broker is left; 60 s by default
    "socket.connection.setup.timeout.ms": 10000,  # likewise an address where nobody is; 30 s
    "reconnect.backoff.max.ms": 1000,  # then a broker that is back is found; 10 s by default
    "connections.max.idle.ms": 180000}  # before a load balancer forgets one: Azure's takes 240 s

PRODUCER = {
    **CLIENT,
    "enable.idempotence": True,        # nothing twice, and nothing out of order
    # With more, a broker that is just back may refuse one and read the next, which is then out of
    # order. librdkafka answers with a new epoch, and sends again what is stored but was not
    # acknowledged: no broker sees that it is a repetition, and it is stored twice.
    "max.in.flight.requests.per.connection": 1,
    "partitioner": "murmur2_random",   # that of Kafka's Java clients
    "queue.buffering.max.messages": "100000",  # the default, which the script keeps to
    "queue.buffering.max.kbytes": "1048576",   # likewise
    "batch.size": 200000,              # 1 MB by default: no faster, and some topics take less
    # After a restart a broker may deny a topic for a moment. librdkafka then fails all that is
    # queued, unless its record of the topic changed less than propagation.max ago: 30 s by
    # default, 2,147 s at most. metadata.max.age renews that record every 60 s, but only with
    # refresh.interval off.
    "topic.metadata.propagation.max.ms": 2000000,
    "topic.metadata.refresh.interval.ms": -1,
    "metadata.max.age.ms": 60000}
# For the library, which would refuse events; offered again after others they would be out of order.
UNLIMITED = {"queue.buffering.max.messages": 0, "queue.buffering.max.kbytes": 2 ** 31 - 1}

CONSUMER = {
    **CLIENT,
    "group.protocol": "classic",        # that of before Kafka 4
    "enable.auto.commit": "true",
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,  # a consumer makes none, nor does the check at its start
    "auto.commit.interval.ms": 1000,    # then few events are shown again after a kill
    "topic.metadata.refresh.interval.ms": 10000,  # then new partitions are seen; 300 s by default
    "fetch.queue.backoff.ms": 10,       # 1 s by default, in which a fast reader waits for nothing
    "queued.min.messages": 20000,       # fetched ahead; the default, 100,000, is no faster
    "queued.max.messages.kbytes": 16384}  # of large values; 64 MB by default


def makeClient(kind, conf, onError, **callbacks):
    """Return a client of a kind, such as Producer. Raise ValueError if it refuses conf.

    onError: librdkafka's error_cb.
    """
    callbacks["error_cb"] = onError
    if conf["log_level"] == 0:  # a fatal error is logged at any level, unless a logger takes it
        callbacks["logger"] = logging.Logger("librdkafka", logging.CRITICAL + 1)
    try:
        "".join(map(str, conf.values())).encode()  # the library aborts over what is no UTF-8
        return kind({**conf, **callbacks})
    except (KafkaException, AttributeError, TypeError, ValueError) as error:
        why = error.args[0].str() if isinstance(error, KafkaException) else error
        raise ValueError(f"configuration: {why}")


def work(terminal, *steps):
    """Take steps, with the time that a signal leaves, then say the last words.

    A fatal error of the library ends a step, and is a reason to stop.
    """
    terminal.grace = GRACE_SECONDS
    for step in steps:
        try:
            step()
        except (KafkaException, SystemError) as error:  # flush() wraps it
            terminal.fail((error.__cause__ or error).args[0].str())
    terminal.finish()


def checkTopic(conf, topic, servers):
    """Wait until the leader of any partition of the topic has answered, or raise Failure.

    The bootstrap server may send us on to where nobody is: its answer is not enough.
    """
    errors = []
    admin = AdminClient({**conf, "bootstrap.servers": servers, "test.mock.num.brokers": 0,
                         "enable.idempotence": False, "error_cb": errors.append})
    found = findTopic(admin, topic, servers, errors)
    ends = admin.list_offsets({TopicPartition(topic, number): OffsetSpec.latest()
                               for number in found.topics[topic].partitions},
                              request_timeout=CONNECT_SECONDS)
    for future in concurrent.futures.as_completed(ends.values()):
        with contextlib.suppress(KafkaException):
            if future.result().offset >= 0:  # the library may report a timeout as -1
                return
    admin.poll(0)
    brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in found.brokers.values())
    raise Failure(f"{servers} sent us on to {brokers}, where nobody answers for topic {topic}: "
                  f"{lastOf(errors)}\nthat address is the broker's advertised.listeners, not -b: "
                  "can it be reached from here?")


def findTopic(admin, topic, servers, errors):
    """Return what the cluster says of the topic, or raise Failure."""
    lookUp = threading.Thread(target=lookUpNames, args=[servers], daemon=True)
    lookUp.start()
    start, seconds, error = time.monotonic(), CONNECT_SECONDS, None
    while time.monotonic() < start + seconds:
        try:
            found = admin.list_topics(topic, timeout=2)
        except KafkaException:  # no answer
            admin.poll(0)
            checkAccess(errors, servers)
            if errors:
                seconds = CONNECT_SECONDS
            elif lookUp.is_alive():
                seconds = NAMES_SECONDS
            continue
        isFirst, error = error is None, found.topics[topic].error
        if error is None:
            return found
        if error.code() not in (error.UNKNOWN_TOPIC_OR_PART, error.LEADER_NOT_AVAILABLE):
            break  # it is not just being created
        if isFirst:
            seconds = min(seconds, time.monotonic() - start + TOPIC_SECONDS)
        time.sleep(0.1)
    if error:
        raise Failure(f"topic {topic} at {servers}: {error.str()}\n"
                      "create it, ask for access to it, or name another with -t")
    why = "the look-up of its name takes long" if seconds == NAMES_SECONDS else lastOf(errors)
    raise Failure(f"no Kafka broker at {servers}: {why}\n"
                  "is it running (docker ps), and is that its address from here (-b, -X, -F)?")


def lookUpNames(servers):
    """Look up the names of servers, to see whether that takes long: the library does it twice."""
    for server in servers.split(","):
        with contextlib.suppress(OSError, UnicodeError):
            socket.getaddrinfo(server.rpartition(":")[0].strip("[]"), None)


def checkAccess(errors, servers):
    """Raise Failure if one of the errors is that of a password or a certificate."""
    for error in errors:
        if error.code() in (error._AUTHENTICATION, error._SSL) or "alert" in error.str():  # of TLS
            raise Failure(f"no access to {servers}: {lastOf(errors)}\n"
                          "check security.protocol, sasl.* and ssl.* in the file of -F")


def lastOf(errors):
    """Return the text of the last error that says more than that all brokers are down."""
    texts = [error.str() for error in errors if error.code() != error._ALL_BROKERS_DOWN]
    return texts[-1] if texts else "nothing answers as Kafka does: is security.protocol missing?"


def announceEmbedded(client, topic, terminal):
    """Tell the user where the broker inside the client listens, and return that."""
    try:
        [broker] = client.list_topics(timeout=5).brokers.values()
    except KafkaException as error:
        raise Failure(f"the embedded broker does not answer: {error.args[0].str()}\n"
                      "leave out -X and -F")
    server = f"{broker.host}:{broker.port}"
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runConsumer.py")
    # Not -b: where BOOTSTRAP_SERVERS is set, that is stronger. A session of 4 s, because this
    # broker's groups wait so long for a member that has left; 45 s by default.
    words = [sys.executable, script, "-t", topic, "-X", f"bootstrap.servers={server}",
             "-X", "session.timeout.ms=4000"]
    terminal.tell(f"an embedded broker listens on {server}; to read from it, in a second "
                  f"terminal:\n{shlex.join(words)}")
    return server
