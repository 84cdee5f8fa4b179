"""Stopping: signals, why a run ends, until when it may wait, and its exit status."""
import math
import signal
import time

STOP_SECONDS = 4  # for what is left after the first signal; `docker stop` kills after 10
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]
DONE, FAILED, KILLED = 0, 1, 128  # exit statuses; KILLED is added to the number of a signal


class Failure(Exception):
    """The run cannot go on. The text says what was tried and what to do next, in a line or two."""


class Stopped(Exception):
    """A signal came while the program waited for something else."""


class Stopping:
    """Why a run ends, and until when."""

    def __init__(self, wayOut=None):
        self.wayOut = wayOut      # the signal that is the documented way to end the run
        self.signals = []         # numbers of the signals so far
        self.reasons = []         # why the run ends, each once; empty while it goes on
        self.failures = []        # those of them that are no signals
        self.deadline = math.inf  # by time.monotonic(): from then on nothing is waited for

    def listen(self):
        """Note signals from here on, instead of being ended by them."""
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.onSignal)  # nohup ignores SIGHUP: leave it at that

    def onSignal(self, number, _frame):
        """Note a signal. The first one leaves some seconds, the second one none."""
        seconds = 0 if self.signals else STOP_SECONDS
        self.signals.append(number)
        self.hurry(seconds)
        self.note(f"stopped by {signal.Signals(self.signals[0]).name}")

    def hurry(self, seconds=STOP_SECONDS):
        """Let the program wait for so many seconds more, at most."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def over(self, spare=0):
        """Tell whether nothing is to be waited for any more, or only for so many seconds."""
        return time.monotonic() >= self.deadline - spare

    def note(self, reason):
        """Keep a reason to stop."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def fail(self, reason):
        """Keep a reason to stop that is a failure."""
        if reason not in self.failures:
            self.failures.append(reason)
        self.note(reason)

    def forget(self):
        """Go on as if no signal had come."""
        self.signals.clear()
        self.deadline = math.inf

    def run(self, program, console):
        """Return the exit status of program(), which returns whether all was done."""
        try:
            return self.exitStatus(program())
        except Stopped:
            return self.exitStatus(True)
        except Failure as error:
            console.note(str(error))
            return FAILED
        except KeyboardInterrupt:  # before listen()
            return DONE if self.wayOut == signal.SIGINT else KILLED + signal.SIGINT
        except SystemExit as end:  # argparse has printed its help, or an error: then its code is 2
            console.write("")
            return end.code or self.exitStatus(True)

    def exitStatus(self, done):
        """Return 1 for a run that left something undone, else the status of its first signal."""
        ends = [number for number in self.signals if number != self.wayOut]
        if done and ends:
            return KILLED + ends[0]
        return DONE if done and not self.failures else FAILED
