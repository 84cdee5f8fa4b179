"""Stopping: what a signal does, until when is waited, and the exit status."""
import math
import signal

import pytest
from support.processes import FakeTime

from terminal import stopping
from terminal.console import Console
from terminal.stopping import Failure, Stopped, Stopping


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    clock = FakeTime()
    monkeypatch.setattr(stopping, "time", clock)
    return clock


def test_firstSignalDecides():
    stop = Stopping()
    stop.onSignal(signal.SIGTERM, None)
    stop.onSignal(signal.SIGINT, None)
    assert stop.exitStatus(True) == 143 and stop.exitStatus(False) == 1
    assert stop.reasons == ["stopped by SIGTERM"] and stop.failures == []


@pytest.fixture
def handlers():
    """The signals' handlers are afterwards what they were."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_ignoredHangUpStaysIgnored():
    """That is what nohup asks for. In the background a shell has SIGINT ignored, too."""
    for number in signal.SIGINT, signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)
    stop = Stopping()
    stop.listen()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == stop.onSignal


def test_deadline(clock):
    stop = Stopping()
    assert not stop.over() and stop.deadline == math.inf
    stop.onSignal(signal.SIGINT, None)
    clock.now = 102.9
    assert not stop.over() and not stop.over(spare=1)
    clock.now = 103.1
    assert not stop.over() and stop.over(spare=1)
    stop.hurry()
    clock.now = 104
    assert stop.over()
    stop.forget()
    assert not stop.over() and stop.signals == []


def test_secondSignalLeavesNoTime(clock):
    stop = Stopping()
    stop.onSignal(signal.SIGINT, None)
    assert not stop.over()
    stop.onSignal(signal.SIGINT, None)
    assert stop.over()


def test_wayOutIsDone():
    stop = Stopping(wayOut=signal.SIGINT)
    stop.onSignal(signal.SIGINT, None)
    assert stop.exitStatus(True) == 0
    stop.fail("standard output is gone")
    assert stop.exitStatus(True) == 1
    stop.onSignal(signal.SIGTERM, None)
    assert stop.exitStatus(True) == 143


def test_eachReasonIsKeptOnce():
    stop = Stopping()
    for _ in range(2):
        stop.fail("one")
        stop.note("two")
    assert stop.reasons == ["one", "two"] and stop.failures == ["one"]


@pytest.mark.parametrize("end, wayOut, status", [
    (None, None, 0), (Stopped(), None, 0), (Failure("why"), None, 1), (KeyboardInterrupt(), None, 130),
    (KeyboardInterrupt(), signal.SIGINT, 0), (SystemExit(2), None, 2), (SystemExit(0), None, 0)])
def test_exitStatus(capfd, end, wayOut, status):
    def program():
        if end:
            raise end
        return True
    stop = Stopping(wayOut)
    assert stop.run(program, Console("test", stop)) == status
    assert capfd.readouterr().err == ("test: why\n" if status == 1 else "")
