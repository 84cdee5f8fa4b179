"""The section "Reading it elsewhere" of app/README.md: each of its facts that can be tried here."""
import json
import re
import shutil
from collections import Counter
from datetime import datetime, timezone

import pytest
from support.kafka import java
from support.processes import APP, Process, environment, run

README = (APP / "README.md").read_text()
CONVERT = """
import java.util.Map;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.transforms.TimestampConverter;

public class Convert {
    public static void main(String[] args) {
        for (int i = 1; i < args.length; i++) {
            TimestampConverter<SourceRecord> converter = new TimestampConverter.Value<>();
            converter.configure(Map.of("field", "eventTime", "format", args[i], "target.type", "unix"));
            Map<String, String> event = Map.of("eventTime", args[0]);
            SourceRecord read = converter.apply(new SourceRecord(null, null, "topic", null, event));
            System.out.println(((Map<?, ?>) read.value()).get("eventTime"));
        }
    }
}
"""


def written(pattern):
    """Return what app/README.md says so, in one place."""
    [text] = re.findall(pattern, README)
    return text


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


@pytest.mark.skipif(not shutil.which("node"), reason="JavaScript needs node on the PATH")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_timeInJavaScript(zone):
    expression = written(r"`(new Date\(eventTime[^`]*)`")
    program = f"const eventTime = '2026-11-22 03:56:10.339232'; console.log({expression}.toISOString())"
    ended = run("node", "-e", program, env=environment(TZ=zone))
    assert (ended.stdout, ended.stderr) == ("2026-11-22T03:56:10.339Z\n", "")


@pytest.mark.usefixtures("kafka")  # not because it is used: Java and the jars are there
def test_timeInKafkaConnect(tmp_path):
    (tmp_path / "Convert.java").write_text(CONVERT)
    seconds = written("`(yyyy-[^`]*ss)`")
    formats = seconds, seconds + ".SSS", seconds + ".SSSSSS"
    ended = run(*java(tmp_path / "Convert.java", "2026-11-22 03:56:10.999999", *formats))
    second = round(datetime(2026, 11, 22, 3, 56, 10, tzinfo=timezone.utc).timestamp() * 1000)
    shifted = second + 999999  # 16 minutes and 40 seconds: the fraction, taken for milliseconds
    assert [int(line) for line in ended.stdout.split()] == [second, shifted, shifted], ended.stderr


def test_timeOfTheRecord(mock):
    for message in mock.messages(publish(mock, "-e", 20000)):
        assert message.timestamp()[1] >= int(timeOf(message).timestamp() * 1000)


def test_playersOfEachPartition(mock):
    messages = mock.messages(publish(mock, "-e", 20000, "--seed", 1))
    players = Counter(number for number, _ in {(message.partition(), message.key()) for message in messages})
    shares = Counter(message.partition() for message in messages)
    assert [players[number] for number in range(4)] == [1, 4, 3, 3]
    assert all(abs(100 * shares[number] / 20000 - share) < 1 for number, share in enumerate([9, 36, 27, 27])), shares


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
