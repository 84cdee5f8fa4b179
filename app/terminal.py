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
STUCK_SECONDS = 1  # after which standard output has no reader, if a text still waits for one
LAST_SECONDS = 2   # for the last words, if the deadline has passed
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]
PLAIN = bytes(range(0x20, 0x7f))  # what any terminal shows as it is
# What a terminal obeys, or what hides text: controls, ends of lines, marks of writing direction.
UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

failures = []  # kept with what they refer to: the end of a client may wait for a name server


class Failure(Exception):
    """The run cannot go on. The text says what was tried and what to do next, in a line or two."""


def printable(value):
    """Return bytes as one line of text that a terminal shows and does not obey."""
    text = value.decode(errors="backslashreplace")
    return UNSAFE.sub(lambda match: repr(match[0])[1:-1], text)


def everyNth(items, before, nth):
    """Return those of new items that are the first or an nth of all; so many came before them."""
    first = items[:1] if before == 0 and nth > 1 else []
    skipped = -(before + 1) % nth  # how many stand before the next nth
    return first + items[skipped::nth]


class Terminal:
    """What a script prints, asks and is told by signals.

    There is one deadline: some seconds after the first signal, or at the second, it says its last
    words and ends, whatever it waits for.
    """

    def __init__(self, name, wayOut=None):
        """wayOut: the signal that is the documented way to end the script."""
        self.name, self.wayOut = name, wayOut
        self.signal = None        # the first one that has come
        self.reasons = []         # why the run ends, each once
        self.hasFailed = False    # whether one of them is a failure
        self.grace = 0            # seconds that a signal leaves; none while nothing is under way
        self.deadline = math.inf  # by time.monotonic(): then the program ends
        self.lastWords = lambda: None  # says what there is to say before the end
        self.lastQuestion = ""    # what is asked after that
        self.asking = False       # whether a question waits for its answer
        self.gone = False         # whether standard output takes no more
        self.drawn = False        # whether a progress line is on the screen
        self.lastWordsLock = threading.Lock()  # held by the thread that says them
        self.printing = threading.RLock()      # held by the thread that prints
        for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):
            with contextlib.suppress(AttributeError, OSError):  # Windows, before Python 3.12
                os.set_blocking(stream.fileno(), True)  # another program may have left it otherwise
        self.handlers = {}        # of signals, as they were before
        self.wakeupReader, self.wakeupWriter = socket.socketpair()
        self.wakeupWriter.setblocking(False)
        # Only the main thread gets signals. One that is ignored stays so: nohup does that.
        self.isMain = threading.current_thread() is threading.main_thread()
        if self.isMain:
            # Python writes the number of each signal there at once, also while the main thread is
            # in a call. The handler does nothing, in C: a flood would enter one in Python again
            # and again.
            self.handlers = {number: signal.signal(number, operator.is_) for number in SIGNALS
                             if signal.getsignal(number) != signal.SIG_IGN}
            self.wakeupBefore = signal.set_wakeup_fd(self.wakeupWriter.fileno(),
                                                     warn_on_full_buffer=False)
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def run(self, program, *arguments):
        """Return the exit status of a program, and leave the process as it was."""
        try:
            program(self, *arguments)
        except Failure as error:
            failures.append(error)
            self.fail(str(error))
            self.tell(str(error))
        except SystemExit as end:  # argparse has printed its help, or an error: then its code is 2
            self.write("")
            return end.code or self.status()
        finally:
            if self.isMain:
                signal.set_wakeup_fd(self.wakeupBefore)
            self.wakeupWriter.close()
            self.watcher.join()
            for number, handler in self.handlers.items():  # last: Python's own may raise
                if handler != signal.SIG_DFL or not self.signal:  # more of them would kill us
                    signal.signal(number, handler)
        return self.status()

    def watch(self):
        """Note signals, and end the program at the deadline, whatever its main thread waits for."""
        self.wakeupReader.settimeout(0.05)
        numbers = None
        while numbers != b"":  # run() has closed the other end
            with contextlib.suppress(OSError):  # nothing has come
                numbers = self.wakeupReader.recv(100)
                for number in numbers:
                    if number in self.handlers:
                        self.onSignal(number)
            if time.monotonic() >= self.deadline:
                self.endNow()
        self.wakeupReader.close()

    def onSignal(self, number):
        """Set the deadline: the first signal leaves some seconds, the second one none."""
        self.setDeadline(0 if self.signal or self.asking else self.grace)
        self.signal = self.signal or number
        self.stop(f"stopped by {signal.Signals(self.signal).name}")

    def setDeadline(self, seconds=GRACE_SECONDS):
        """Let the program go on for some seconds, or less where less is left."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def finish(self):
        """Say the last words. Then ask the last question, unless a signal wants the end."""
        with self.printing:  # the watcher keeps it while it ends the program
            asks, self.grace = self.signal in (None, self.wayOut), 0
            if asks:
                self.deadline = math.inf  # what had to be done in time is done
            self.sayLastWords()
        if asks:
            self.ask(self.lastQuestion)

    def endNow(self):
        """End the program with its last words, unless finish() has taken the deadline back."""
        isStuck = not self.printing.acquire(timeout=STUCK_SECONDS)
        if time.monotonic() >= self.deadline:
            threading.Timer(LAST_SECONDS, lambda: os._exit(self.status())).start()
            try:
                if isStuck:
                    self.lose("nobody reads it")
                if self.asking:
                    self.write("\n")
                self.sayLastWords()
                if self.signal in (None, self.wayOut) and not self.asking:
                    self.say(self.lastQuestion)
            finally:
                os._exit(self.status())
        if not isStuck:
            self.printing.release()

    def sayLastWords(self):
        """Say the last words, once, in the thread that comes first."""
        if self.lastWordsLock.acquire(blocking=False):
            self.lastWords()

    @property
    def running(self):
        """Whether there is no reason to stop."""
        return not self.reasons

    def stop(self, reason):
        """Add a reason to stop."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def fail(self, *reasons):
        """Add reasons to stop. The exit status will be that of a failure."""
        self.hasFailed = True
        for reason in reasons:
            self.stop(reason)

    def lose(self, reason):
        """Note why standard output takes no more. It is a reason to stop."""
        self.gone = True
        self.stop(f"standard output is gone: {reason}")

    def status(self):
        """Return the exit status."""
        if self.signal not in (None, self.wayOut) and not self.hasFailed:
            return 128 + self.signal
        return int(self.hasFailed or self.gone)

    def write(self, text):
        """Write a text, or bytes, to standard output. If that fails, it is a reason to stop."""
        with self.printing:
            self.writeError("")  # it takes the progress line away
            try:
                if isinstance(text, str):
                    text = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
                sys.stdout.flush()  # what print() has left there
                # Past Python's buffer: with PYTHONUNBUFFERED it loses what a signal interrupts.
                while text:
                    text = text[os.write(sys.stdout.fileno(), text):]
            except (OSError, AttributeError) as error:  # AttributeError: closed from the start
                self.lose(getattr(error, "strerror", None) or "closed")

    def say(self, line):
        """Print a line of the post."""
        self.write(line + "\n")

    def sayEach(self, start, values):
        """Print a line for each of the values, bytes: the start, then printable text."""
        # All at once: asking each value alone takes a third of a consumer's time.
        if b"".join(values).translate(None, PLAIN):
            self.write("".join([f"{start}{printable(value)}\n" for value in values]))
        elif values:
            start = start.encode()
            self.write(start + (b"\n" + start).join(values) + b"\n")

    def tell(self, text):
        """Print a line, or several, on standard error under the script's name."""
        self.writeError("".join(f"{self.name}: {line}\n" for line in text.split("\n")))

    def draw(self, text):
        """Put a progress line in place of the last one, if standard error is a terminal."""
        with contextlib.suppress(OSError, AttributeError):  # it is none
            room = os.get_terminal_size(sys.stderr.fileno()).columns - len("^C") - 1
            if room > 0 and os.environ.get("TERM") != "dumb":  # one without a width says 0
                self.writeError(f"{self.name}: {text}"[:room])
                self.drawn = True

    def writeError(self, text):
        """Write to standard error, in place of the progress line if there is one."""
        if self.drawn:  # the whole line goes: the terminal may have echoed ^C behind it
            text = "\r\x1b[K" + text
            self.drawn = False
        with contextlib.suppress(OSError, AttributeError):  # nobody can be told
            sys.stderr.write(text)
            sys.stderr.flush()

    def ask(self, question):
        """Return the answer to a question, None where input or output is no terminal."""
        answer, self.asking = "", True
        self.write(question)
        if sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty():
            with contextlib.suppress(OSError):  # the terminal is gone; SIGHUP comes, too
                answer = sys.stdin.buffer.readline().decode(errors="replace")
        self.asking = False
        if not answer.endswith("\n"):  # no Enter was echoed
            self.write("\n")
        return answer.strip() if answer else None
