"""--embedded: a broker inside the process of the producer, for whom Kafka is too much."""
import contextlib
import socket

import pytest
from support.processes import EVENT, EXIT, QUESTION, READY, Process, Terminal, byPlayer, complaints, environment, events, run


def isThere(server):
    """Tell whether somebody takes connections at HOST:PORT."""
    with contextlib.suppress(OSError), socket.create_connection(server.split(":"), 1):
        return True
    return False


@pytest.mark.parametrize("changes", [{}, {"BOOTSTRAP_SERVERS": "elsewhere:9092"}])
def test_isReadByTheCommandThatItPrints(changes):
    env = environment(PATH="/nowhere", **changes)  # no python there
    producer = Terminal("runProducer", "-t", "gameplay", "-l", "-e", 5, "-m", 0, "-x", 0, "-p", 1, "--embedded", env=env)
    producer.converse((READY, ""))
    producer.expect(r"runProducer: an embedded broker listens on (127\.0\.0\.1:\d+)")
    server = producer.match[1]
    producer.expect(r"runProducer: ([^\r]*runConsumer\.py [^\r]+)")
    pasted = producer.match[1]
    producer.expect_exact(EXIT)
    assert isThere(server) and f"Bootstrap servers: {server}\r\n" in producer.before
    consumer = run("/bin/bash", "-c", f"{pasted} -e 5", env=env)
    assert byPlayer(events(consumer.stdout)) == byPlayer(events(producer.before))
    assert consumer.returncode == 0 and len(events(consumer.stdout)) == 5
    producer.sendline()
    producer.read()
    assert producer.wait() == 0 and not isThere(server)


@pytest.mark.waits
def test_isReadAgainAndAgain():
    """This broker holds a place in the group open for the session's time less a second, 44 s by default."""
    with Process("runProducer", "-t", "gameplay", "-l", "-e", 0, "-m", 50, "-x", 50, "--embedded") as producer:
        producer.until("runConsumer.py -t gameplay ")
        [pasted] = [line.split(": ", 1)[1].strip() for line in producer.err if "runConsumer.py" in line]
        ends = [run("/bin/bash", "-c", f"{pasted} -e 5", timeout=30) for _ in range(3)]
    assert pasted.endswith(" -X session.timeout.ms=4000")
    assert [(ended.returncode, complaints(ended.stderr)) for ended in ends] == [(0, [])] * 3
    shown = [text for ended in ends for text in events(ended.stdout)]
    assert len(shown) == len(set(shown)) == 15


def test_oneByOne():
    producer = Terminal("runProducer", "-t", "gameplay", "--embedded")
    producer.converse((READY, ""), (QUESTION, "Y"))
    producer.expect("Message produced: " + EVENT)
    producer.converse((QUESTION, "N"), (EXIT, ""))
    assert producer.read().strip() == "" and producer.wait() == 0
