"""The terminal: the standard streams of a script, its questions, and the signals that end it."""
import contextlib
import math
import operator
import os
import re
import signal
import socket
import sys
import threading
import time

GRACE_SECONDS = 4  # for what is under way when a signal comes; `docker stop` kills after 10
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]
PLAIN = bytes(range(0x20, 0x7f))  # what any terminal shows as it is
# What a terminal obeys, or what hides text: controls, ends of lines, marks of writing direction.
UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class Failure(Exception):
    """The run cannot go on. The text says what was tried and what to do next, in a line or two."""


def printable(value):
    """Return bytes as one line of text that a terminal shows and does not obey."""
    text = value.decode(errors="backslashreplace")
    return UNSAFE.sub(lambda match: repr(match[0])[1:-1], text)


def everyNth(items, before, nth):
    """Return those of new items that are the first or an nth of all, with so many before them."""
    return (items[:1] if not before and nth > 1 else []) + items[-(before + 1) % nth::nth]


class Terminal:
    """What a script prints, asks and is told by signals. There is one deadline: some seconds after
    the first signal, or at the second, it says its last words and ends, whatever it waits for.
    """

    def __init__(self, name, wayOut=None):
        """wayOut: the signal that is the documented way to end the script."""
        self.name, self.wayOut = name, wayOut
        self.signals, self.sender = socket.socketpair()  # the numbers of those that have come
        self.signal = None     # the first one
        self.reasons = []      # why the run ends, each once; empty while it goes on
        self.failed = False    # whether one of them is a failure
        self.grace = 0         # the seconds that a signal leaves; none while nothing is under way
        self.deadline = math.inf  # by time.monotonic(): then the program ends
        self.ending = threading.Lock()  # held by the thread that says the last words
        self.lastWords = lambda: None  # what to say before the end
        self.asking = False    # whether a question waits for its answer
        self.writing = False   # whether text waits for somebody who reads standard output
        self.gone = False      # whether standard output takes no more
        self.drawn = False     # whether a progress line is on the screen
        self.handlers = {}     # of signals, as they were before
        for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):
            with contextlib.suppress(AttributeError, OSError):  # Windows, before Python 3.12
                os.set_blocking(stream.fileno(), True)  # another program may have left it otherwise
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP: leave it at that
                # The handler is a function in C that does nothing: a flood of signals would enter
                # one in Python again and again.
                self.handlers[number] = signal.signal(number, operator.is_)
        # Python sends each number at once, also while the main thread is in a call.
        self.sender.setblocking(False)
        self.wakeup = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def run(self, program):
        """Return the exit status of program()."""
        try:
            program()
        except Failure as error:
            self.addReason(str(error))
            self.tell(str(error))
        except SystemExit as end:  # argparse has printed its help, or an error: then its code is 2
            self.write("")
            return end.code or self.status()
        finally:
            self.close()
        return self.status()

    def close(self):
        """Leave the process as it was: the program that called main() may go on."""
        for number, handler in self.handlers.items():
            if handler != signal.SIG_DFL or not self.signal:  # more of them would kill us
                signal.signal(number, handler)
        signal.set_wakeup_fd(self.wakeup)
        self.sender.setblocking(True)
        self.sender.sendall(bytes(1))
        self.watcher.join()
        for end in self.signals, self.sender:
            end.close()

    def watch(self):
        """Note signals, and end the program at the deadline, whatever its main thread waits for."""
        self.signals.settimeout(0.05)
        while True:
            with contextlib.suppress(OSError):  # nothing has come
                for number in self.signals.recv(100):
                    if not number:
                        return
                    if number in self.handlers:
                        self.onSignal(number)
            with self.ending:
                if time.monotonic() >= self.deadline:
                    self.endNow()

    def onSignal(self, number):
        """Set the deadline: the first signal leaves some seconds, the second one none."""
        seconds = 0 if self.signal else self.grace
        self.signal = self.signal or number
        self.addReason(f"stopped by {signal.Signals(self.signal).name}", failed=False)
        self.setDeadline(seconds)

    def setDeadline(self, seconds=GRACE_SECONDS):
        """Let the program go on for some seconds, or less where less is left."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def dropDeadline(self):
        """Take the deadline back: what had to be done in time is done."""
        with self.ending:  # if the watcher is ending the program, wait here for that
            self.deadline, self.grace, self.lastWords = math.inf, 0, lambda: None

    def endNow(self):
        """End the program with its last words."""
        threading.Timer(2, lambda: os._exit(self.status())).start()  # if nobody reads them
        try:
            if self.writing:
                self.gone = True
                self.addReason("standard output is gone: nobody reads it", failed=False)
            self.write("\n" if self.asking else "")
            self.lastWords()
        finally:
            os._exit(self.status())

    def addReason(self, reason, failed=True):
        """Add a reason to stop."""
        self.failed = self.failed or failed
        if reason not in self.reasons:
            self.reasons.append(reason)

    def status(self):
        """Return the exit status."""
        if self.signal not in (None, self.wayOut) and not self.failed:
            return 128 + self.signal
        return int(self.failed or self.gone)

    def write(self, text):
        """Write a text, or bytes, to standard output. If that fails, it is a reason to stop."""
        self.wipe()
        try:
            if isinstance(text, str):
                text = text.encode(sys.stdout.encoding, "backslashreplace")
            rest = memoryview(text)
            sys.stdout.flush()  # what print() has left there
            self.writing = True
            # Past Python's buffer: with PYTHONUNBUFFERED it loses what a signal interrupts.
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest):]
            self.writing = False
        except (OSError, AttributeError) as error:  # AttributeError: closed from the start
            self.gone, self.writing = True, False
            why = getattr(error, "strerror", None) or "closed"
            self.addReason(f"standard output is gone: {why}", failed=False)

    def say(self, *lines):
        """Print lines of the post."""
        self.write("".join(line + "\n" for line in lines))

    def sayEach(self, start, values):
        """Print a line for each of the values, bytes: the start, then printable text."""
        # All at once: asking each value alone takes a third of a consumer's time.
        if b"".join(values).translate(None, PLAIN):
            self.say(*[start + printable(value) for value in values])
        elif values:
            start = start.encode()
            self.write(start + (b"\n" + start).join(values) + b"\n")

    def tell(self, text):
        """Print a line, or several, on standard error under the script's name."""
        self.wipe()
        self.writeError("".join(f"{self.name}: {line}\n" for line in text.split("\n")))

    def writeError(self, text):
        """Write to standard error. Nobody can be told if that fails."""
        with contextlib.suppress(OSError, AttributeError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def draw(self, text):
        """Put a progress line in place of the last one, if standard error is a terminal."""
        with contextlib.suppress(OSError, AttributeError):
            if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
                room = os.get_terminal_size(sys.stderr.fileno()).columns - len("^C") - 1
                self.wipe()
                if room > 0:  # a terminal that does not know its width says 0
                    self.writeError(f"{self.name}: {text}"[:room])
                    self.drawn = True

    def wipe(self):
        """Take the progress line from the screen, with what the terminal has echoed behind it."""
        if self.drawn:
            self.drawn = False
            self.writeError("\r\x1b[K")

    def ask(self, question):
        """Return the answer to a question, None where input or output is no terminal."""
        answer, self.asking = "", True
        self.write(question)
        if sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty():
            grace, self.grace = self.grace, 0
            with contextlib.suppress(OSError):  # the terminal is gone; SIGHUP comes, too
                answer = sys.stdin.buffer.readline().decode(errors="replace")
            self.grace = grace
        self.asking = False
        if not answer.endswith("\n"):  # no Enter was echoed
            self.write("\n")
        return answer.strip() if answer else None
