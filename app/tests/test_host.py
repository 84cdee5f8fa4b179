"""A host: a program of somebody's own that calls main(), and goes on with what it had."""
import contextlib
import importlib
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.pairs import loopOn
from support.processes import LIMIT, SIGNALS, complaints, consumerOf, run

RUNS = {"runProducer": ["-l", "-e", 5, "-m", 0, "-x", 0], "runConsumer": ["-e", 1]}
WRONG = ["-e", "x"]


@contextlib.contextmanager
def ownSignals():
    """Have signals handled as a host does, and yield what is to be as it was: handlers and the wakeup fd."""
    handlers = {number: lambda *_: None for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wakeup = signal.set_wakeup_fd(writer.fileno())
    try:
        yield handlers, writer.fileno()
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def signalsNow():
    """Return the handlers and the wakeup fd of this process."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return {number: signal.getsignal(number) for number in SIGNALS}, wakeup


def main(ground, topic, script, arguments):
    """Run a script's main() as a host does."""
    words = loopOn(ground, topic) if script == "runProducer" else consumerOf(ground, topic)
    return importlib.import_module(script).main([str(word) for word in [*words[1:], *arguments]])


@pytest.mark.parametrize("script", RUNS)
@pytest.mark.parametrize("isWrong", [False, True])
def test_signalsAreGivenBack(mock, script, isWrong):
    topic = mock.topic()
    mock.publish(topic, "one")
    with ownSignals() as before:
        assert main(mock, topic, script, WRONG if isWrong else RUNS[script]) == (2 if isWrong else 0)
        assert signalsNow() == before


@pytest.mark.parametrize("script", RUNS)
def test_defaultOfASignalIsGivenBack(mock, script):
    """After the run it ends the host."""
    topic = mock.topic()
    mock.publish(topic, "one")
    words = loopOn(mock, topic) if script == "runProducer" else consumerOf(mock, topic)
    code = f"import os, sys, {script}; {script}.main(sys.argv[1:]); os.kill(os.getpid(), {signal.SIGTERM:d}); print('goes on')"
    ended = run(sys.executable, "-c", code, *words[1:], *RUNS[script])
    assert ended.returncode == -signal.SIGTERM and "goes on" not in ended.stdout, ended.stderr


@pytest.mark.parametrize("script", RUNS)
def test_inAThread(mock, capfd, script):
    """Which gets no signals, so it takes none."""
    topic = mock.topic()
    mock.publish(topic, "one")
    with ownSignals() as before, ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, mock, topic, script, RUNS[script]).result(LIMIT) == 0
        assert signalsNow() == before
    out, err = capfd.readouterr()
    assert complaints(err.splitlines()) == [] and ("Finished publishing: 5 messages.\n" in out or "Received message: one\n" in out)


def test_bothInThreadsAtOnce(mock):
    """And no thread of theirs is left."""
    topic = mock.topic()
    before = {*threading.enumerate()}
    with ThreadPoolExecutor(2) as pool:
        consumer = pool.submit(main, mock, topic, "runConsumer", ["-e", 5])
        producer = pool.submit(main, mock, topic, "runProducer", RUNS["runProducer"])
        assert (producer.result(LIMIT), consumer.result(LIMIT)) == (0, 0)
    assert {*threading.enumerate()} == before
