"""Standard streams: closed, full, stuck and non-blocking ones."""
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections import Counter

import pytest
from support.kafka import waitFor
from support.pairs import loopOn
from support.processes import LIMIT, READY, Process, Terminal, command, complaints, consumerOf, events, run

SCRIPTS = ["runProducer", "runConsumer"]
needsFullDevice = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full not found")


def shell(words, redirection):
    """Run a command line in a shell, its streams redirected, and return its end."""
    return run("bash", "-c", f"{shlex.join(command(*words))} {redirection}")


def endless(ground, script, topic):
    """Return the name and the arguments of a script that nothing but a signal ends."""
    return loopOn(ground, topic, "-m", 0, "-x", 0) if script == "runProducer" else consumerOf(ground, topic)


@pytest.mark.parametrize("redirection, reason", [
    ("| head -n 8 >/dev/null; exit ${PIPESTATUS[0]}", "Broken pipe"), (">&-", "closed"),
    pytest.param(">/dev/full", "No space left on device", marks=needsFullDevice)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_outputGone(mock, script, redirection, reason):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(20000)))
    ended = shell(endless(mock, script, topic), redirection)
    [line] = complaints(ended.stderr)
    assert ended.returncode == 1 and line.startswith(f"{script}: ") and f"standard output is gone: {reason}" in line


def test_whatNobodyCouldReadIsLeftToTheNextStart(mock):
    topic = mock.topic()
    mock.publish(topic, "x" * 500000, partition=0)  # more than a pipe holds
    ended = shell(consumerOf(mock, topic, "-e", 1), "| sed /Listening/q >/dev/null; exit ${PIPESTATUS[0]}")
    assert ended.returncode == 1 and "standard output is gone" in ended.stderr
    assert mock.stored(topic, topic) is None


@pytest.mark.parametrize("redirection", [
    "<&-", "2>&-", "<&- 2>&-", pytest.param("2>/dev/full", marks=needsFullDevice)])
def test_closedStreams(mock, redirection):
    ended = shell(loopOn(mock, mock.topic(), "-e", 50), redirection)
    assert (ended.returncode, complaints(ended.stderr)) == (0, [])
    assert "Finished publishing: 50 messages." in ended.stdout


@pytest.fixture
def pipe():
    """A pipe that the test may read: (reader, writer)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def waitUntilFull(writer):
    """Wait until a pipe takes no more."""
    waitFor(lambda: not select.select([], [writer], [], 0)[1], "a full pipe", LIMIT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("errorsToo", [False, True])
def test_stopIsKeptWhenNobodyReads(mock, pipe, script, errorsToo, number):
    topic = mock.topic()
    mock.publish(topic, "x" * 500000)  # more than a pipe holds: whenever it is full, the consumer waits to show the rest
    process = Process(*endless(mock, script, topic), stdout=pipe[1], **({"stderr": pipe[1]} if errorsToo else {}))
    waitUntilFull(pipe[1])
    process.send_signal(number)
    wayOut = (script, number) == ("runConsumer", signal.SIGINT)
    # What waits to be shown can't be: for the consumer's way out that is a failure.
    assert process.end() == (1 if wayOut else 128 + number)
    if not errorsToo:
        reason = {"runProducer": rf"(\d+) produced, \1 delivered, 0 failed: .*stopped by {number.name}", "runConsumer": "standard output is gone"}
        [error] = complaints(process.err)
        assert re.search(reason[script], error)


def test_stopIsKeptWhenSomebodyReadsALittle(mock, pipe):
    """The pipe has room again, but not for all of the line that the signal met."""
    topic = mock.topic()
    mock.publish(topic, "x" * 500000)
    process = Process(*endless(mock, "runConsumer", topic), stdout=pipe[1])
    waitUntilFull(pipe[1])
    process.send_signal(signal.SIGTERM)
    for _ in range(2):
        os.read(pipe[0], 8192)
        waitUntilFull(pipe[1])
    assert process.end() == 143


@pytest.mark.parametrize("script", SCRIPTS)
def test_nonBlockingOutputLosesNothing(mock, pipe, script):
    topic, count = mock.topic(), 3000  # more than a pipe holds
    mock.publish(topic, *[b'{"event": %081d}' % number for number in range(count)])
    os.set_blocking(pipe[1], False)
    process = Process(*endless(mock, script, topic), "-e", count, stdout=pipe[1])
    waitUntilFull(pipe[1])
    output = b""
    while process.poll() is None or select.select([pipe[0]], [], [], 0)[0]:
        if select.select([pipe[0]], [], [], 0.05)[0]:
            output += os.read(pipe[0], 4096)
    assert (process.end(), complaints(process.err)) == (0, [])
    shown = events(output.decode())
    assert len(shown) == count and not Counter(shown) - Counter(mock.values(topic))


@pytest.mark.parametrize("script, more", [("runProducer", ""), ("runConsumer", "-g {topic} -e 1")])
def test_noQuestionThatNobodySees(mock, script, more):
    """Standard input is a terminal, standard output is a pipe."""
    topic = mock.topic()
    mock.publish(topic, "one")
    line = f"'{sys.executable}' {script}.py -t {topic} -b {mock.bootstrap} {more.format(topic=topic)} | cat"
    assert READY in "".join(Terminal("bash", "-c", line).lines())


def test_secondSignalWhileSomebodyReadsAllTheTime(mock):
    """Several at once: the signal has to meet a line that is being written."""
    readers = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(4)]
    producers = [Process(*endless(mock, "runProducer", mock.topic()), stdout=reader.stdin) for reader in readers]
    for reader, producer in zip(readers, producers):
        reader.stdin.close()  # the producer has it
        waitFor(lambda: mock.count(producer.args[producer.args.index("-t") + 1]), "events", LIMIT)  # noqa: B023
    while running := [producer for producer in producers if producer.poll() is None]:
        for producer in running:
            producer.send_signal(signal.SIGINT)
    for reader, producer in zip(readers, producers):
        assert reader.wait(LIMIT) == 0 and producer.end() in (1, 130)
        assert "failed: stopped by SIGINT" in producer.err[-1] and "standard output" not in producer.err[-1], producer.err
