"""The settings of librdkafka: those that the scripts make, each for a promise of the pages, and those that a user makes."""
import sys

import pytest
from support.pairs import loopOn
from support.processes import complaints, consumerOf, events, run

BOTH = {"bootstrap.servers": "h:1", "log_level": "0", "socket.timeout.ms": "10000", "socket.connection.setup.timeout.ms": "10000",
        "reconnect.backoff.max.ms": "1000", "connections.max.idle.ms": "180000"}
PRODUCER = {
    **BOTH, "enable.idempotence": "True", "max.in.flight.requests.per.connection": "1", "partitioner": "murmur2_random",
    "batch.size": "200000", "linger.ms": "50", "topic.metadata.propagation.max.ms": "2000000",
    "topic.metadata.refresh.interval.ms": "-1", "metadata.max.age.ms": "60000",
    "queue.buffering.max.messages": "0", "queue.buffering.max.kbytes": "2147483647", "delivery.report.only.error": "False",
    "test.mock.num.brokers": "0"}
CONSUMER = {
    **BOTH, "group.id": "consumer-1", "group.protocol": "classic", "enable.auto.commit": "true", "auto.commit.interval.ms": "1000",
    "enable.auto.offset.store": "False", "auto.offset.reset": "earliest", "allow.auto.create.topics": "False",
    "topic.metadata.refresh.interval.ms": "10000", "heartbeat.interval.ms": "500", "fetch.queue.backoff.ms": "10",
    "queued.min.messages": "20000", "queued.max.messages.kbytes": "16384"}
# A stand-in for the client prints what it is given, and ends the run. The real one has to take it, too.
STAND_IN = """
import sys
import confluent_kafka
kind = "Producer" if sys.argv[1] == "runProducer" else "Consumer"
real = getattr(confluent_kafka, kind)

class Client:
    def __init__(self, conf):
        real(conf)
        settings = {key: value for key, value in conf.items() if not callable(value) and key != "logger"}
        print(*[f"{key}={value}" for key, value in settings.items()], sep="\\n")
        sys.exit(7)
setattr(confluent_kafka, kind, Client)
sys.exit(__import__(sys.argv[1]).main(sys.argv[2:]))
"""


@pytest.mark.parametrize("script, typed, changes", [
    ("runProducer", [], {}), ("runConsumer", [], {}),
    ("runProducer", ["-m", 0, "-x", 1], {}), ("runProducer", ["-m", 0, "-x", 0.001], {}),
    ("runProducer", ["-m", 0, "-x", 0], {"linger.ms": "10"}),  # without pauses
    ("runProducer", ["-m", 0, "-x", "0.0", "-X", "linger.ms=7", "-X", "enable.idempotence=false"],
     {"linger.ms": "7", "enable.idempotence": "false"}),
    ("runProducer", ["-X", "queue.buffering.max.messages=7", "-X", "delivery.report.only.error=true"], {}),  # the script keeps to it
    ("runConsumer", ["-X", "heartbeat.interval.ms=700", "-g", "mine", "-X", "client.id=a"],
     {"heartbeat.interval.ms": "700", "group.id": "mine", "client.id": "a"}),
    ("runConsumer", ["-X", "client.id=a=b=="], {"client.id": "a=b=="}),  # a password may end so
    ("runConsumer", ["-X", "group.protocol=consumer"], {"group.protocol": "consumer", "heartbeat.interval.ms": None}),
    *(("runConsumer", typed, {"group.id": group}) for typed, group in (
        (["-X", "group.id=theirs"], "theirs"), (["-F", "{file}"], "theirs"),
        (["-X", "group.id=theirs", "--group", "ours"], "ours"), (["-g", "consumer-1", "-F", "{file}"], "consumer-1")))])
def test_settings(tmp_path, script, typed, changes):
    """changes: to those without any flag; None for one that is left out."""
    file = tmp_path / "kafka.properties"
    file.write_text("group.id=theirs\n")
    words = [str(word).format(file=file) for word in typed]
    ended = run(sys.executable, "-c", STAND_IN, script, "-t", "t", "-b", "h:1", *words)
    expected = {**(PRODUCER if script == "runProducer" else CONSUMER), **changes}
    assert ended.returncode == 7, ended.stderr
    assert dict(line.split("=", 1) for line in ended.stdout.splitlines()) == {
        key: value for key, value in expected.items() if value is not None}


@pytest.mark.parametrize("setting, stored", [
    *((setting, 1) for setting in (
        "group.protocol=classic", "partition.assignment.strategy=cooperative-sticky",
        "partition.assignment.strategy=roundrobin", "group.instance.id=one", "enable.partition.eof=true",
        "allow.auto.create.topics=true", "statistics.interval.ms=100", "isolation.level=read_uncommitted",
        "enable.auto.commit=true", "enable.auto.commit=1",
        "error_cb=x", "enable.auto.offset.store=true")),  # the script sets these two itself
    *((f"enable.auto.commit={value}", None) for value in ("false", "False", "0"))])
def test_consumerWith(mock, setting, stored):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    ended = run(*consumerOf(mock, topic, "-e", 1, "-X", setting))
    assert (ended.returncode, complaints(ended.stderr), events(ended.stdout)) == (0, [], ["one"])
    assert mock.stored(topic, topic) == stored


@pytest.mark.parametrize("setting", [
    "enable.idempotence=false", "message.timeout.ms=0", "compression.codec=gzip", "acks=all", "statistics.interval.ms=100",
    "error_cb=x", "delivery.report.only.error=true", "test.mock.num.brokers=3"])  # the script sets these three itself
def test_producerWith(mock, setting):
    topic = mock.topic()
    ended = run(*loopOn(mock, topic, "-e", 100, "-m", 0, "-x", 0, "-X", setting))
    assert (ended.returncode, complaints(ended.stderr)) == (0, [])
    assert sorted(events(ended.stdout)) == sorted(mock.values(topic)) and len(events(ended.stdout)) == 100
