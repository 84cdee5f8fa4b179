"""What stands behind the topic: Kafka Connect reads each event, and Java's producer would choose its partition."""
import base64
import json
from pathlib import Path

import pytest
from support.kafka import java
from support.pairs import loopOn
from support.processes import events, run

CLASSES = {"playerId": "Long", "gameId": "Long", "stake": "Long", "win": "Long", "eventTime": "String"}


def readInJava(messages, partitions):
    """Return of each message, as Java reads it, (partition, key, sorted fields as [name, class, value]), all of it text."""
    lines = [" ".join(base64.b64encode(part).decode() for part in (message.key(), message.value())) for message in messages]
    program = java(Path(__file__).parent / "support" / "Downstream.java", partitions)
    rows = [line.split("\t") for line in run(*program, input="\n".join(lines), check=True).stdout.splitlines()]
    return [(partition, key, sorted(field.split(":", 2) for field in fields)) for partition, key, *fields in rows]


@pytest.mark.parametrize("partitions", [4, 7])
def test_javaReadsEveryEvent(kafka, partitions):
    topic = kafka.topic(partitions)
    ended = run(*loopOn(kafka, topic, "-e", 500, "-m", 0, "-x", 0, "--seed", 1))
    assert ended.returncode == 0
    published, messages = [json.loads(text) for text in events(ended.stdout)], kafka.messages(topic)
    assert len(published) == 500 and {event["playerId"] for event in published} == set(range(100, 111))
    read = readInJava(messages, partitions)
    assert sorted(fields for _, _, fields in read) == sorted(
        sorted([name, CLASSES[name], str(value)] for name, value in event.items()) for event in published)
    for message, (partition, key, fields) in zip(messages, read):
        assert (str(message.partition()), message.key().decode()) == (partition, key)
        assert ["playerId", "Long", key] in fields
