"""Runs the scripts as a user does, and reads what they print."""
import importlib
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
from support.kafka import waitFor
from support.reaper import reaper

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


def command(script, *arguments):
    """Return the command line of one of the scripts."""
    return [sys.executable, f"{script}.py", *map(str, arguments)]


def consumerOf(ground, topic, *arguments):
    """Return the script and the arguments of a consumer in a group of its topic's name."""
    return "runConsumer", "-t", topic, "-b", ground.bootstrap, "-g", topic, *arguments


def start(words, env=None, **options):
    """Start a process in the folder of the scripts, or in that of cwd=, without a terminal."""
    options = {"cwd": APP, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               "text": True, **options}
    process = subprocess.Popen(words, env=env or environment(), **options)
    reaper.process(process.pid)
    return process


def finish(process):
    """Wait for the end of a process, and return that."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()  # does nothing to one that has ended
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script, *arguments, **options):
    """Run a script to its end without a terminal."""
    return finish(start(command(script, *arguments), **options))


def runHere(script, *arguments, **options):
    """Run a script's main() in this process. Return its exit status; leave signals as they were.

    options: of main().
    """
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


def terminal(script, *arguments, env=None, **options):
    """Run a script in a pseudo-terminal."""
    name, *rest = command(script, *arguments)
    child = pexpect.spawn(name, rest, cwd=str(APP), env=env or environment(), encoding="utf-8",
                          timeout=LIMIT, dimensions=(50, 300), **options)
    reaper.process(child.pid)
    return child


def converse(child, *pairs):
    """Wait for questions in a pseudo-terminal one after the other, and type their answers."""
    for question, answer in pairs:
        child.expect_exact(question)
        child.sendline(answer)


class Process:
    """A script that runs in the background without a terminal; its lines are collected as they come."""

    def __init__(self, script, *arguments, **options):
        """options: see subprocess.Popen."""
        self.process = start(command(script, *arguments), **options)
        self.out, self.err = [], []
        self.threads = [threading.Thread(target=lines.extend, args=(stream,), daemon=True) for lines, stream in
                        ((self.out, self.process.stdout), (self.err, self.process.stderr))]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def until(self, text):
        """Wait until a line with the text was printed, on either stream."""
        waitFor(lambda: any(text in line for line in [*self.out, *self.err]) or self.process.poll() is not None,
                            f"{text!r} from {self.process.args}", LIMIT)
        assert any(text in line for line in [*self.out, *self.err]), (text, self.out[-5:], self.err)

    def send(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self):
        """Wait for its end and return the exit status."""
        status = self.process.wait(LIMIT)
        for thread in self.threads:
            thread.join(LIMIT)
        return status

    def shown(self):
        """Return the events that it printed, as JSON text."""
        return events("".join(self.out))


def outlast(process, seconds):
    """Require that a process goes on for so many seconds."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.process.wait(seconds)


def events(output):
    """Return the events that a script printed, as JSON text."""
    starts = "Message produced: ", "Received message: "
    return [line[len(starts[0]):] for line in output.replace("\r", "").split("\n") if line.startswith(starts)]


def finished(output):
    """Return N of the line "Finished publishing: N messages."."""
    return next(int(line.split()[2]) for line in output if line.startswith("Finished publishing: "))


def complaints(lines):
    """Return lines of standard error without the one that a broker causes who takes over a second at the end."""
    return [line for line in lines if "acknowledgements; Ctrl-C gives up" not in line]


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
