"""The console: standard streams, questions, the progress line, signals and the exit status."""
import contextlib
import os
import select
import signal
import sys

STOP_SECONDS = 4  # after a signal a run may take so long; what is stuck then is given up
ALARM = getattr(signal, "SIGALRM", None)  # Windows has none: there a second Ctrl-C gives up
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
           if hasattr(signal, name)]


class Failure(Exception):
    """The run cannot go on. The text says what was tried and what to do next, in a line or two."""


class Stopped(BaseException):
    """A signal ended a call that would have waited on."""


def blockSignals():
    """Block signals in this thread for good, so that they go to the main thread."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def wait(readers, writers):
    """Wait until one of these files can be read or written.

    In rounds: a signal that comes in just before a call that waits would not end that call.
    """
    while os.name == "posix" and not any(select.select(readers, writers, [], 0.5)):
        pass  # Python handles signals here


class Console:
    """The standard streams of a script and the signals sent to it."""

    def __init__(self, name, waysOut=()):
        self.name = name
        self.waysOut = {ALARM, *waysOut}  # signals without an exit status of their own
        self.secrets = set()  # words that are never printed
        self.signals = []    # numbers of the signals so far
        self.wakers = ()     # signals that end the call at hand with Stopped
        self.gone = None     # why standard output takes no more
        self.drawn = False   # whether a progress line is on the screen

    def run(self, program, argv):
        """Return the exit status of program(console, argv), which returns whether all was done."""
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.onSignal)  # nohup ignores SIGHUP: leave it at that
        try:
            return self.exitStatus(program(self, argv))
        except Stopped:
            return self.exitStatus(True)
        except Failure as error:
            self.note(str(error))
            return self.exitStatus(False)
        except SystemExit as end:  # argparse has printed its help, or an error: then its code is 2
            self.write("")
            return end.code or self.exitStatus(True)

    def exitStatus(self, done):
        """Return the exit status: 1 for a run that left something undone, else by its signals."""
        stops = [number for number in self.signals if number not in self.waysOut]
        if done and stops:
            return 128 + stops[0]
        return 0 if done and not self.gone else 1

    def onSignal(self, number, _frame):
        """Note a signal. The first one in an interruptible() block raises Stopped."""
        self.signals.append(number)
        if ALARM and len(self.signals) == 1:
            signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS, 1)  # again each second: see write()
        if number in self.wakers:
            self.wakers = ()  # a flood of signals must not raise again in the code that cleans up
            raise Stopped

    def forgetSignals(self):
        """Go on as if no signal had come in."""
        if ALARM:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.signals.clear()

    @contextlib.contextmanager
    def interruptible(self, wakers=SIGNALS):
        """Let these signals raise Stopped in the block. All others are only noted."""
        self.wakers = wakers
        try:
            yield
        finally:
            self.wakers = ()

    def write(self, text):
        """Write text to standard output at once. Keep in self.gone why it failed.

        A write that is stuck when STOP_SECONDS are over has failed. The alarm rings each second
        from then on, so a later one that is stuck fails, too.
        """
        self.wipe()
        if self.gone:
            return
        try:
            sys.stdout.flush()  # what argparse has printed
            self.writeTo(sys.stdout, text)
        except (OSError, AttributeError, Stopped) as error:  # AttributeError: closed from the start
            self.gone = f"standard output is gone: {getattr(error, 'strerror', None) or 'closed'}"

    def writeTo(self, stream, text):
        """Write text to a stream's descriptor, past Python's buffer, which a signal may tear."""
        descriptor = stream.fileno()
        rest = memoryview(text.encode(stream.encoding, "backslashreplace"))
        with self.interruptible([ALARM]):
            while rest:
                wait([], [descriptor])
                with contextlib.suppress(BlockingIOError):  # somebody made it non-blocking
                    rest = rest[os.write(descriptor, rest):]

    def say(self, *lines):
        """Print lines of the post."""
        self.write("".join(line + "\n" for line in lines))

    def note(self, text):
        """Print a line, or several, on standard error under the script's name."""
        self.wipe()
        lines = self.hide(text).split("\n")
        self.writeError("".join(f"{self.name}: {line}\n" for line in lines))

    def writeError(self, text):
        """Write to standard error. Nobody can be told if that fails."""
        with contextlib.suppress(OSError, AttributeError, Stopped):
            self.writeTo(sys.stderr, text)

    def hide(self, text):
        """Return a text with *** for each secret."""
        for secret in sorted(self.secrets, key=len, reverse=True):  # one may be part of another
            text = text.replace(secret, "***")
        return text

    def draw(self, text):
        """Put a progress line in place of the last one, if standard error is a terminal."""
        with contextlib.suppress(OSError, AttributeError):
            if sys.stderr.isatty():
                room = os.get_terminal_size(sys.stderr.fileno()).columns - len("^C") - 1
                self.wipe()
                self.writeError(f"{self.name}: {text}"[:room])
                self.drawn = True

    def wipe(self):
        """Take the progress line from the screen, with what the terminal has echoed behind it."""
        if self.drawn:
            self.drawn = False
            self.writeError("\r\x1b[K")

    def ask(self, question):
        """Return the answer to a question, or None if nobody is there. A signal raises Stopped."""
        self.write(question)
        answer = ""
        try:
            if sys.stdin and sys.stdin.isatty() and not self.gone:
                with self.interruptible(), contextlib.suppress(OSError):
                    if self.signals:  # one that came before the block
                        raise Stopped
                    wait([sys.stdin], [])
                    answer = sys.stdin.readline()
        finally:
            if not (answer.endswith("\n") and sys.stdout.isatty()):  # no Enter was echoed there
                self.write("\n")
        return answer.strip() if answer else None
