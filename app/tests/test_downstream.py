"""What stands behind the topic: Kafka Connect reads each event, and Java's producer would choose its partition."""
import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from support.kafka import java
from support.processes import events, run

PLAYERS = range(100, 111)
CLASSES = {"playerId": "Long", "gameId": "Long", "stake": "Long", "win": "Long", "eventTime": "String"}


def readInJava(messages, partitions):
    """Return of each message, as Java reads it, (partition, key, {field: (class, value)}), all of it text."""
    lines = [" ".join(base64.b64encode(part).decode() for part in (message.key(), message.value())) for message in messages]
    program = java(Path(__file__).parent / "support" / "Downstream.java", partitions)
    rows = [line.split("\t") for line in run(*program, input="\n".join(lines), check=True).stdout.splitlines()]
    return [(partition, key, {name: (kind, value) for name, kind, value in (field.split(":", 2) for field in fields)})
            for partition, key, *fields in rows]


def sortedItems(fields):
    """Return what a dict is to be sorted by."""
    return sorted(fields.items())


@pytest.mark.parametrize("partitions", [4, 7])
def test_javaReadsEveryEvent(kafka, partitions):
    topic = kafka.topic(partitions)
    ended = run("runProducer", "-t", topic, "-b", kafka.bootstrap, "-l", "-e", 500, "-m", 0, "-x", 0, "-p", 1,
                "--seed", 1)
    assert ended.returncode == 0
    published, messages = events(ended.stdout), kafka.messages(topic)
    assert len(published) == 500 and {json.loads(text)["playerId"] for text in published} == set(PLAYERS)
    read = readInJava(messages, partitions)
    assert Counter(key for _, key, _ in read) == Counter(str(json.loads(text)["playerId"]) for text in published)
    typed = [{name: (CLASSES[name], str(value)) for name, value in json.loads(text).items()} for text in published]
    assert sorted((fields for _, _, fields in read), key=sortedItems) == sorted(typed, key=sortedItems)
    for message, (partition, key, fields) in zip(messages, read):
        assert (str(message.partition()), message.key().decode()) == (partition, key) and fields["playerId"][1] == key
