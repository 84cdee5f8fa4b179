"""The section "Reading it elsewhere" of app/README.md: what our code has to do with. test_producer.py has the partitions."""
import json
from collections import Counter
from datetime import datetime, timezone

from support.pairs import loopOn
from support.processes import Process, complaints, run


def test_evenLoad(mock):
    topic = mock.topic()
    ended = run(*loopOn(mock, topic, "-e", 20000, "-m", 0, "-x", 0, "--set", "maxPlayerId=10000", "--seed", 1))
    assert (complaints(ended.stderr), ended.returncode) == ([], 0)
    shares = Counter(message.partition() for message in mock.messages(topic))
    assert all(23 < 100 * shares[number] / 20000 < 27 for number in range(4)), shares


def test_timesOfTwoProducers(mock):
    """The record's own timestamp is not before eventTime, which is in order per player and producer."""
    topic = mock.topic()
    producers = [Process(*loopOn(mock, topic, "-e", 20000, "-m", 0, "-x", 0, "-p", 100, "--set", f"minStake={stake}",
                                 "--set", f"maxStake={stake}")) for stake in (10, 20)]
    assert [producer.end() for producer in producers] == [0, 0]
    times = {}  # those of each player and producer, which sets the stake
    for message in mock.messages(topic):
        event = json.loads(message.value())
        time = datetime.fromisoformat(event["eventTime"]).replace(tzinfo=timezone.utc)
        assert message.timestamp()[1] >= int(time.timestamp() * 1000)
        times.setdefault((event["playerId"], event["stake"]), []).append(time)
    assert len(times) == 2 * 11 and sum(map(len, times.values())) == 40000
    assert all(found == sorted(found) for found in times.values())
