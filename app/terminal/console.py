"""The console: the standard streams of a script, its questions, and its progress line."""
import contextlib
import datetime
import errno
import math
import os
import re
import select
import sys
import time

from terminal.stopping import Stopped

PLAIN = bytes(range(0x20, 0x7f))  # what any terminal shows as it is
# What a terminal obeys, or what hides text: control characters, line and paragraph separators, and
# marks that change the direction of writing.
UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
PIECE = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe with any room takes without waiting


def escape(text):
    """Return a text with each character as an escape, unless it is printable ASCII."""
    return text.encode("unicode_escape").decode().replace("\\\\", "\\")


def printable(value):
    """Return a message's value as one line of text that a terminal shows and does not obey."""
    if value is None:
        return "null"
    try:
        text, rest = value.decode(), b""
    except UnicodeDecodeError as error:  # from here on bytes: no text, and perhaps very many
        text, rest = value[:error.start].decode(), value[error.start:]
    return UNSAFE.sub(lambda match: escape(match[0]), text) + escape(rest.decode("latin-1"))


def ready(readers, writers):
    """Wait a moment until one of these files can be read or written; tell whether one can.

    Only a moment: a signal just before a call that waits would not end that call.
    """
    return os.name != "posix" or any(select.select(readers, writers, [], 0.2))


class Console:
    """The standard streams of a script."""

    def __init__(self, name, stop):
        """stop: a Stopping."""
        self.name, self.stop = name, stop
        self.secrets = set()  # words that are never printed
        self.gone = False     # whether standard output takes no more
        self.drawn = False    # whether a progress line is on the screen

    def write(self, text):
        """Write text to standard output at once. If that fails, it is a reason to stop."""
        self.wipe()
        if self.gone:
            return
        try:
            sys.stdout.flush()  # what argparse has printed
            self.writeTo(sys.stdout, text)
        except (OSError, AttributeError) as error:  # AttributeError: closed from the start
            self.gone = True
            why = getattr(error, "strerror", None) or "closed"
            self.stop.fail(f"standard output is gone: {why}")

    def writeTo(self, stream, text):
        """Write text to a stream's descriptor, past Python's buffer, which a signal may tear."""
        descriptor = stream.fileno()
        rest = memoryview(text.encode(stream.encoding, "backslashreplace"))
        while rest:
            while not ready([], [descriptor]):
                if self.stop.over(spare=1):  # for the goodbyes to the brokers
                    raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")
            # A signal ends a write half-way. From then on no write may wait for ever.
            piece = rest[:PIECE] if self.stop.signals else rest
            with contextlib.suppress(BlockingIOError):  # somebody made it non-blocking
                rest = rest[os.write(descriptor, piece):]

    def say(self, *lines):
        """Print lines of the post."""
        self.write("".join(line + "\n" for line in lines))

    def show(self, start, values):
        """Print a line for each of the values, bytes or None: the start, then printable text."""
        try:
            # All at once: asking each value alone takes a third of a consumer's time.
            plain = not b"".join(values).translate(None, PLAIN)
        except TypeError:  # None
            plain = False
        if plain:
            self.write(start + f"\n{start}".encode().join(values).decode() + "\n")
        else:
            self.say(*[start + printable(value) for value in values])

    def note(self, text):
        """Print a line, or several, on standard error under the script's name."""
        self.wipe()
        lines = self.hide(text).split("\n")
        self.writeError("".join(f"{self.name}: {line}\n" for line in lines))

    def writeError(self, text):
        """Write to standard error. Nobody can be told if that fails."""
        with contextlib.suppress(OSError, AttributeError):
            self.writeTo(sys.stderr, text)

    def hide(self, text):
        """Return a text with *** for each secret."""
        for secret in sorted(self.secrets, key=len, reverse=True):  # one may be part of another
            text = text.replace(secret, "***")
        return text

    def ask(self, question):
        """Return the answer to a question, or None if nobody is there. Raise Stopped by a signal.

        Somebody is there where both standard input and standard output are a terminal.
        """
        self.write(question)
        answer = ""
        if sys.stdin and sys.stdin.isatty() and not self.gone and sys.stdout.isatty():
            while not self.stop.signals and not ready([sys.stdin], []):
                pass
            if not self.stop.signals:
                with contextlib.suppress(OSError):
                    answer = sys.stdin.buffer.readline().decode(errors="replace")
        if not answer.endswith("\n"):  # no Enter was echoed
            self.write("\n")
        if self.stop.signals:
            raise Stopped
        return answer.strip() if answer else None

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


class Progress:
    """The progress line of a loop."""

    def __init__(self, console, events):
        """events: how many are asked for, math.inf for no end."""
        self.console, self.events, self.start = console, events, time.monotonic()
        self.due = self.start + 1

    def draw(self, delivered):
        """Draw the line, once a second."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + 1
        rate = delivered / (now - self.start)
        if self.events == math.inf or not rate:
            self.console.draw(f"{delivered:,} delivered, {rate:,.1f}/s")
        else:
            seconds = min(int((self.events - delivered) / rate), 10 ** 9)
            self.console.draw(f"{delivered:,} of {self.events:,} delivered, {rate:,.1f}/s, "
                              f"{datetime.timedelta(seconds=seconds)} left")
