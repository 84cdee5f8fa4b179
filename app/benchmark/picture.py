"""Draws docker/terminals.svg anew: the producer and the consumer side by side, from a real run.

The run is on an Apache Kafka of its own at localhost:9092. Needs java and mvn, as run.py does.
"""
import argparse
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from broker import startBroker

APP = Path(__file__).resolve().parents[1]
PICTURE = APP.parent / "docker" / "terminals.svg"
PRODUCE = "python runProducer.py -t gameplay -l -e 5 -p 1 --seed 7"
CONSUME = "python runConsumer.py -t gameplay -e 5"

WIDTH, TERMINAL = 800, 396            # of the picture and of a terminal in pixels, as what follows
COLUMNS, LETTER, LINE = 49, 12.4, 17  # characters in a line, their size, height of a line
# Dark, with a border: to be seen on a light page and on a dark one.
CARD, BORDER, PALE, BRIGHT, GREEN = "#161b22", "#6e7681", "#9da7b3", "#f0f6fc", "#56d364"


def start(command):
    """Start one of our scripts. Without a terminal it waits for no key, and prints the same."""
    return subprocess.Popen([sys.executable, *command.split()[1:]], cwd=APP, text=True,
                            env={**os.environ, "BOOTSTRAP_SERVERS": "localhost:9092"},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def runBoth():
    """Return the lines of both terminals, the producer's and the consumer's."""
    with startBroker(port=9092) as broker:
        broker.topic("--create", "gameplay")
        consumer = start(CONSUME)
        time.sleep(3)  # until it has its partitions, it may show the first events in another order
        outputs = [each.communicate(timeout=60)[0] for each in (start(PRODUCE), consumer)]
    produced, consumed = (re.findall("{.*}", output) for output in outputs)
    if len(produced) != 5 or produced != consumed:
        sys.exit("picture: the five events are not the same on both sides")
    return [[f"$ {command}", *output.splitlines()]
            for command, output in zip((PRODUCE, CONSUME), outputs)]


def wrap(line):
    """Return a line in rows. A command breaks only before a flag, an event only after a comma."""
    if line.startswith("$") or line.endswith("}"):
        line = re.sub("(?<!,) (?!-)", "\xa0", line)
    rows = textwrap.wrap(line, COLUMNS, break_on_hyphens=False)
    return [row.replace("\xa0", " ") for row in rows]


def terminal(left, height, title, lines):
    """Return the elements of a terminal. A line is one text, also where it has several rows."""
    elements = [f'<rect x="{left + 1}" y="1" width="{TERMINAL - 2}" height="{height - 2}" rx="8" '
                f'fill="{CARD}" stroke="{BORDER}" stroke-width="2"/>',
                f'<text x="{left + 14}" y="26" font-weight="bold">{title}</text>']
    y = 36
    for line in lines:
        spans = []
        for row in wrap(line):
            y += LINE
            spans.append(f'<tspan x="{left + 14}" y="{y}">{row}</tspan>')
        colour = GREEN if line.startswith("$") else BRIGHT if line.endswith("}") else PALE
        elements.append('<text font-family="ui-monospace, Menlo, Consolas, monospace" '
                        f'font-size="{LETTER}" fill="{colour}">{" ".join(spans)}</text>')
    return elements


def draw(produced, consumed):
    """Return the lines of both terminals as a picture."""
    height = 50 + LINE * max(len(sum(map(wrap, lines), [])) for lines in (produced, consumed))
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="15" fill="{BRIGHT}">',
        *terminal(0, height, "the producer", produced),
        *terminal(WIDTH - TERMINAL, height, "the consumer", consumed), "</svg>", ""])


def main():
    """Draw the picture."""
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        PICTURE.write_text(draw(*runBoth()))
    except (OSError, RuntimeError) as error:
        sys.exit(f"picture: {error}")


if __name__ == "__main__":
    main()
