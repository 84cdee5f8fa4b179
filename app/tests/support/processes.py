"""Runs the scripts as a user does, and reads what they print.

`runHere` runs one in this process, `run` as a process to its end; `Process` runs in the background, `Terminal` in a
pseudo-terminal.
"""
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pexpect
import pytest

import gameplay
from support.kafka import DIES_WITH_US, waitFor

APP = Path(__file__).parents[2]
LIMIT = 120  # seconds after which whatever a test waits for will not come any more
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
EVENT = r'\{"playerId": \d+, "gameId": \d+, "stake": \d+, "win": \d+, "eventTime": "[^"]+"\}'
NOT_SET = ("BOOTSTRAP_SERVERS environment variable not set. "
           "Using commandline argument for bootstrap server.")
READY = "We are ready, press the enter key to continue"
QUESTION = "Press 'Y' to continue, 'N' to exit."
EXIT = "Press the enter key to exit"


def environment(**changes):
    """Return this process's environment without BOOTSTRAP_SERVERS, with the changes."""
    return {**{key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}, **changes}


def command(name, *arguments):
    """Return the command line of a script of ours, such as runProducer, or of any other program."""
    words = [sys.executable, f"{name}.py"] if (APP / f"{name}.py").exists() else [name]
    return [*DIES_WITH_US, *map(str, [*words, *arguments])]


def consumerOf(ground, topic, *arguments):
    """Return the name and the arguments of a consumer in a group of its topic's name."""
    return "runConsumer", "-t", topic, "-b", ground.bootstrap, "-g", topic, *arguments


def settings(options):
    """Return options of subprocess: as given, or in the folder of the scripts without a terminal."""
    stdin = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    return {"cwd": APP, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **stdin, **options,
            "env": options.get("env") or environment()}


def runHere(script, *arguments, **options):
    """Run a script's main() in this process, with its options. Return the exit status; leave signals as they were."""
    module = importlib.import_module(script)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    bounds = {name: getattr(gameplay, name) for name in gameplay.BOUNDS}
    try:
        return module.main(list(map(str, arguments)), **options)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in bounds.items():
            setattr(gameplay, name, value)


def run(name, *arguments, timeout=LIMIT, **options):
    """Run a script, or any program, to its end without a terminal. options: of subprocess.run."""
    return subprocess.run(command(name, *arguments), timeout=timeout, **settings(options))


class Process(subprocess.Popen):
    """A script, or any program, in the background without a terminal; its lines are collected as they come."""

    def __init__(self, name, *arguments, **options):
        """options: of subprocess.Popen."""
        super().__init__(command(name, *arguments), **settings(options))
        self.out, self.err = [], []
        self.threads = [threading.Thread(target=lines.extend, args=(stream,), daemon=True) for lines, stream in
                        ((self.out, self.stdout), (self.err, self.stderr)) if stream]
        for thread in self.threads:
            thread.start()

    def __exit__(self, *error):
        self.kill()  # does nothing to one that has ended
        self.end()
        super().__exit__(*error)

    def until(self, text):
        """Wait until a line with the text was printed, on either stream."""
        def printed():
            return any(text in line for line in [*self.out, *self.err])
        waitFor(lambda: printed() or self.poll() is not None, f"{text!r} from {self.args}", LIMIT)
        if not printed():
            self.end()
            assert printed(), (text, self.out[-5:], self.err)

    def outlast(self, seconds):
        """Require that it goes on for so many seconds."""
        with pytest.raises(subprocess.TimeoutExpired):
            self.wait(seconds)

    def end(self):
        """Wait for its end and return the exit status."""
        status = self.wait(LIMIT)
        for thread in self.threads:
            thread.join(LIMIT)
        return status

    def shown(self):
        """Return the events that it printed, as JSON text."""
        return events("".join(self.out))


class Terminal(pexpect.spawn):
    """A script, or any program, in a pseudo-terminal; what it shows is kept in `session`."""

    def __init__(self, name, *arguments, env=None, **options):
        """options: of pexpect.spawn."""
        first, *rest = command(name, *arguments)
        super().__init__(first, rest, **{"cwd": str(APP), "env": env or environment(), "encoding": "utf-8",
                                         "timeout": LIMIT, "dimensions": (50, 300), **options})
        self.session = self.logfile_read = io.StringIO()

    def converse(self, *pairs):
        """Wait for questions one after the other, and type their answers."""
        for question, answer in pairs:
            self.expect_exact(question)
            self.sendline(answer)

    def lines(self):
        """Return all lines that were shown, once the script has ended well."""
        self.expect(pexpect.EOF)
        assert self.wait() == 0
        return self.session.getvalue().replace("\r", "").split("\n")[:-1]


def events(output):
    """Return the events that a script printed, as JSON text."""
    starts = "Message produced: ", "Received message: "
    return [line[len(starts[0]):] for line in output.replace("\r", "").split("\n") if line.startswith(starts)]


def finished(output):
    """Return N of the line "Finished publishing: N messages."."""
    return next(int(line.split()[2]) for line in output if line.startswith("Finished publishing: "))


def complaints(err):
    """Return the lines of standard error without those that a slow machine causes: a broker or a group takes its time."""
    lines = err.splitlines() if isinstance(err, str) else [line.rstrip("\n") for line in err]
    slow = "acknowledgements; Ctrl-C gives up", "so far: its broker may be starting"
    return [line for line in lines if not any(text in line for text in slow)]


def matches(lines, expected):
    """Compare lines with literal text, in which EVENT stands for an event."""
    assert len(lines) == len(expected), lines
    for line, text in zip(lines, expected):
        assert re.fullmatch(re.escape(text).replace("EVENT", EVENT), line), (line, text)


def byPlayer(texts):
    """Return {player: its events in order}."""
    players = {}
    for text in texts:
        players.setdefault(json.loads(text)["playerId"], []).append(text)
    return players
