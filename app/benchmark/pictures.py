"""Draws the pictures of the pages anew: both, or the one that is named.

docker/terminals.svg: the producer and the consumer, side by side, from a real run on an Apache
Kafka of its own at localhost:9092 (needs java and mvn, as run.py does).
docker/speed.svg: bars of the events per second that app/README.md names under its picture.
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
PAGE = APP / "README.md"
TERMINALS = APP.parent / "docker" / "terminals.svg"
SPEED = APP.parent / "docker" / "speed.svg"

PRODUCE = "python runProducer.py -t gameplay -l -e 5 -p 1 --seed 7"
CONSUME = "python runConsumer.py -t gameplay -e 5"

WIDTH = 800  # of a picture in pixels, as all that follows
COLUMNS, LETTER, LINE = 49, 12.4, 17  # of a terminal: characters, their size, height of a line
NAMES, BARS, BAR = 304, 370, 26       # width of the names and of the longest bar, height of a bar
# Dark, with a border: to be seen on a light page and on a dark one.
CARD, BORDER, PALE, BRIGHT, GREEN, BLUE = (
    "#161b22", "#6e7681", "#9da7b3", "#f0f6fc", "#56d364", "#4493f8")


def svg(height, *elements):
    """Return a picture of these elements."""
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                      f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="15" '
                      f'fill="{BRIGHT}">', *elements, "</svg>", ""])


def card(left, width, height, title):
    """Return the elements of a frame with a title."""
    return [f'<rect x="{left + 1}" y="1" width="{width - 2}" height="{height - 2}" rx="8" '
            f'fill="{CARD}" stroke="{BORDER}" stroke-width="2"/>',
            f'<text x="{left + 14}" y="26" font-weight="bold">{title}</text>']


# The terminals

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
        sys.exit("pictures: the five events are not the same on both sides")
    return [[f"$ {command}", *output.splitlines()]
            for command, output in zip((PRODUCE, CONSUME), outputs)]


def wrap(line):
    """Return a line in rows. A command breaks only before a flag, an event only after a comma."""
    if line.startswith("$") or line.endswith("}"):
        line = re.sub("(?<!,) (?!-)", "\xa0", line)
    rows = textwrap.wrap(line, COLUMNS, break_on_hyphens=False)
    return [row.replace("\xa0", " ") for row in rows]


def terminal(left, width, height, title, lines):
    """Return the elements of a terminal. A line is one text, also where it has several rows."""
    elements, y = card(left, width, height, title), 36
    for line in lines:
        spans = []
        for row in wrap(line):
            y += LINE
            spans.append(f'<tspan x="{left + 14}" y="{y}">{row}</tspan>')
        colour = GREEN if line.startswith("$") else BRIGHT if line.endswith("}") else PALE
        elements.append('<text font-family="ui-monospace, Menlo, Consolas, monospace" '
                        f'font-size="{LETTER}" fill="{colour}">{" ".join(spans)}</text>')
    return elements


def terminals(produced, consumed):
    """Return the lines of both terminals as a picture."""
    rows = max(len(sum(map(wrap, lines), [])) for lines in (produced, consumed))
    width, height = WIDTH // 2 - 4, 50 + rows * LINE
    return svg(height, *terminal(0, width, height, "the producer", produced),
               *terminal(WIDTH - width, width, height, "the consumer", consumed))


# The speed

def speeds(page):
    """Return [name, events per second as text] of each, as a page names them for its picture."""
    [words] = re.findall(r"!\[Events per second: (.*?)\]", page)
    return [words.rsplit(" ", 1) for words in words.split("; ")]


def bars(figures):
    """Return these names and figures as a picture with a bar for each."""
    numbers = [int(figure.replace(",", "")) for _, figure in figures]
    elements, top = [], 32
    for (name, figure), number in zip(figures, numbers):
        ours = name.endswith(".py")
        top += 14 if ours else 0  # ours begin a group
        length = round(BARS * number / max(numbers))
        elements += [
            f'<text x="{NAMES}" y="{top + 18}" text-anchor="end">{name}</text>',
            f'<rect x="{NAMES + 10}" y="{top}" width="{length}" height="{BAR}" rx="3" '
            f'fill="{BLUE if ours else BORDER}"/>',
            f'<text x="{NAMES + 18 + length}" y="{top + 18}" font-weight="bold">{figure}</text>']
        top += BAR + 8
    return svg(top + 10, *card(0, WIDTH, top + 10, "Events per second"), *elements)


def main():
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", choices=["terminals", "speed"])
    picture = parser.parse_args().picture
    try:
        if picture != "speed":
            TERMINALS.write_text(terminals(*runBoth()))
        if picture != "terminals":
            SPEED.write_text(bars(speeds(PAGE.read_text())))
    except (OSError, RuntimeError) as error:
        sys.exit(f"pictures: {error}")


if __name__ == "__main__":
    main()
