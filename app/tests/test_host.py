"""A host: a program of somebody's own that calls main(), and goes on with what it had."""
import importlib
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.pairs import loopOn
from support.processes import LIMIT, SIGNALS, Process, complaints, consumerOf, run

RUNS = {"runProducer": ["-e", 5, "-m", 0, "-x", 0], "runConsumer": ["-e", 1]}
END = {"runProducer": "Finished publishing: 5 messages.\n", "runConsumer": "Received message: one\n"}
WRONG = ["-e", "x"]


def signalsNow():
    """Return the handlers and the wakeup fd of this process."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return {number: signal.getsignal(number) for number in SIGNALS}, wakeup


@pytest.fixture
def hostsSignals():
    """Handle signals as a host does, and return what has to stay: the handlers and the wakeup fd."""
    handlers, wakeup = signalsNow()
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        yield signalsNow()
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def words(ground, topic, script, arguments):
    """Return the command line of a script, without its name, as text."""
    command = loopOn if script == "runProducer" else consumerOf
    return [str(word) for word in command(ground, topic, *arguments)[1:]]


def main(ground, topic, script, arguments):
    """Run a script's main() as a host does."""
    return importlib.import_module(script).main(words(ground, topic, script, arguments))


def mainInThread(*arguments):
    """Likewise in a thread, which gets no signals, so it takes none."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(main, *arguments).result(LIMIT)


@pytest.mark.parametrize("script", RUNS)
@pytest.mark.parametrize("isWrong", [False, True])
@pytest.mark.parametrize("call", [main, mainInThread])
def test_signalsAreGivenBack(mock, capfd, hostsSignals, call, isWrong, script):
    topic = mock.topic()
    mock.publish(topic, "one")
    assert call(mock, topic, script, WRONG if isWrong else RUNS[script]) == (2 if isWrong else 0)
    assert signalsNow() == hostsSignals
    out, err = capfd.readouterr()
    assert (END[script] in out) != isWrong
    assert bool(complaints(err)) == isWrong


@pytest.mark.parametrize("script", RUNS)
def test_defaultOfASignalIsGivenBack(mock, script):
    """After the run it ends the host."""
    topic = mock.topic()
    mock.publish(topic, "one")
    code = f"import os, sys, {script}; {script}.main(sys.argv[1:]); os.kill(os.getpid(), {signal.SIGTERM:d}); print('goes on')"
    ended = run(sys.executable, "-c", code, *words(mock, topic, script, RUNS[script]))
    assert ended.returncode == -signal.SIGTERM and "goes on" not in ended.stdout, ended.stderr


@pytest.mark.parametrize("script, status", [("runProducer", 130), ("runConsumer", 0)])
def test_handlerIsGivenBackAfterAStop(mock, script, status):
    """The host's own Ctrl-C works after the one that has ended the run."""
    topic = mock.topic()
    mock.publish(topic, "one")
    code = (f"import signal, sys, {script}; signal.signal(signal.SIGINT, lambda *_: print('of the host')); "
            f"status = {script}.main(sys.argv[1:]); signal.raise_signal(signal.SIGINT); sys.exit(status)")
    with Process(sys.executable, "-c", code, *words(mock, topic, script, [])) as host:
        host.until("Message produced" if script == "runProducer" else "Received message")
        host.send_signal(signal.SIGINT)
        assert host.end() == status
    assert host.out[-1] == "of the host\n", host.err


def test_bothInThreadsAtOnce(mock):
    """And no thread of theirs is left."""
    topic = mock.topic()
    before = {*threading.enumerate()}
    with ThreadPoolExecutor(2) as pool:
        consumer = pool.submit(main, mock, topic, "runConsumer", ["-e", 5])
        producer = pool.submit(main, mock, topic, "runProducer", RUNS["runProducer"])
        assert (producer.result(LIMIT), consumer.result(LIMIT)) == (0, 0)
    assert {*threading.enumerate()} == before
