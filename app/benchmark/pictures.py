"""Draws docker/terminals.svg: both scripts in pseudo-terminals, side by side, from a real run.

Needs app/tests/requirements.txt. The producer brings its own broker, so no Kafka has to run.
"""
import io
import os
import re
import sys
from pathlib import Path

import pexpect
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

APP = Path(__file__).resolve().parents[1]
PICTURE = APP.parent / "docker" / "terminals.svg"
WIDTH = 64  # columns of a terminal
PRODUCE = "python runProducer.py -t gameplay -l -e 40 -m 10 -x 50 -p 10 --embedded --seed 7"
CONSUME = "python runConsumer.py -t gameplay -e 40 -p 10 -b "


def terminal(line):
    """Start a command line in a pseudo-terminal. Return it and what it will have shown."""
    env = {key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}
    screen = io.StringIO()
    child = pexpect.spawn(sys.executable, line.split()[1:], cwd=str(APP), env=env, timeout=60,
                          encoding="utf-8", dimensions=(40, 200))
    child.logfile_read = screen
    return child, screen


def answer(child, *questions):
    """Press Enter at each of the questions."""
    for question in questions:
        child.expect_exact(question)
        child.sendline()


def panel(title, line, screen):
    """Return what a terminal showed, without what was wiped again, under the line typed there."""
    shown = re.sub(r"[^\n]*\r\x1b\[K", "", screen.getvalue().replace("\r\n", "\n"))
    text = Text(f"$ {line}\n", style="bold green")
    text.append(shown.rstrip(), style="not bold white")
    return Panel(text, title=title, width=WIDTH, height=27)


def main():
    """Run both scripts, and write the picture."""
    producer, produced = terminal(PRODUCE)
    answer(producer, "We are ready, press the enter key to continue")
    producer.expect(r"-b (127\.0\.0\.1:\d+)")
    consume = CONSUME + producer.match[1]
    producer.expect_exact("Press the enter key to exit")
    consumer, consumed = terminal(consume)
    answer(consumer, "We are ready, press the enter key to continue",
           "Press the enter key to exit the consume application.")
    consumer.expect(pexpect.EOF)
    producer.sendline()
    producer.expect(pexpect.EOF)
    console = Console(record=True, width=2 * WIDTH + 1, file=io.StringIO())
    console.print(Columns([panel("the producer", PRODUCE, produced),
                           panel("the consumer", consume, consumed)], padding=(0, 1)))
    PICTURE.write_text(console.export_svg(title="One broker, two terminals"))


if __name__ == "__main__":
    main()
