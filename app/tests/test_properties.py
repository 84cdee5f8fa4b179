"""Properties of librdkafka that a user sets: what is set by hand works as what is left out."""
import pytest
from support.processes import consumerOf, events, run


@pytest.mark.parametrize("setting", [
    "group.protocol=classic", "partition.assignment.strategy=cooperative-sticky",
    "partition.assignment.strategy=roundrobin", "group.instance.id=one", "enable.partition.eof=true",
    "allow.auto.create.topics=true", "statistics.interval.ms=100", "isolation.level=read_uncommitted"])
def test_consumer(mock, setting):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    ended = run(*consumerOf(mock, topic, "-e", 1, "-X", setting))
    assert (ended.returncode, ended.stderr, events(ended.stdout)) == (0, "", ["one"])
    assert mock.stored(topic, topic) == 1


@pytest.mark.parametrize("value, stored", [("true", 1), ("1", 1), ("false", None), ("False", None), ("0", None)])
def test_offsetsAreStoredOnlyIfTheyMay(mock, value, stored):
    topic = mock.topic()
    mock.publish(topic, "one", partition=0)
    ended = run(*consumerOf(mock, topic, "-e", 1, "-X", f"enable.auto.commit={value}"))
    assert (ended.returncode, ended.stderr, events(ended.stdout)) == (0, "", ["one"])
    assert mock.stored(topic, topic) == stored


@pytest.mark.parametrize("setting", [
    "enable.idempotence=false", "message.timeout.ms=0", "compression.codec=gzip", "acks=all",
    "statistics.interval.ms=100"])
def test_producer(mock, setting):
    topic = mock.topic()
    ended = run("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 100, "-m", 0, "-x", 0,
                "-p", 1, "-X", setting)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(events(ended.stdout)) == sorted(mock.values(topic))
