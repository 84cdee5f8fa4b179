"""The section "Reading it elsewhere" of app/README.md: what our code has to do with. test_producer.py has the partitions."""
import json
from collections import Counter
from datetime import datetime, timezone

from support.processes import Process, run


def publish(ground, *flags):
    """Publish events at full speed; return the topic."""
    topic = ground.topic()
    ended = run("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-m", 0, "-x", 0, *flags)
    assert (ended.stderr, ended.returncode) == ("", 0)
    return topic


def timeOf(message):
    """Return the eventTime of a message."""
    text = json.loads(message.value())["eventTime"]
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc)


def test_timeOfTheRecord(mock):
    for message in mock.messages(publish(mock, "-e", 20000)):
        assert message.timestamp()[1] >= int(timeOf(message).timestamp() * 1000)


def test_evenLoad(mock):
    messages = mock.messages(publish(mock, "-e", 20000, "--set", "maxPlayerId=10000", "--seed", 1))
    shares = Counter(message.partition() for message in messages)
    assert all(23 < 100 * shares[number] / 20000 < 27 for number in range(4)), shares


def test_orderOfTwoProducers(mock):
    topic = mock.topic()
    producers = [Process("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 20000, "-m", 0, "-x", 0,
                         "--set", f"minStake={stake}", "--set", f"maxStake={stake}") for stake in (10, 20)]
    assert [producer.end() for producer in producers] == [0, 0]
    times = {}  # those of each player and producer, which sets the stake
    for message in mock.messages(topic):
        event = json.loads(message.value())
        times.setdefault((event["playerId"], event["stake"]), []).append(timeOf(message))
    assert len(times) == 2 * 11 and sum(map(len, times.values())) == 40000
    assert all(found == sorted(found) for found in times.values())
