"""Draws the pictures of README.md anew: all of them, or the one that is named.

docker/terminals.svg: both scripts in pseudo-terminals, side by side, from a real run. The producer
brings its own broker, so no Kafka has to run.
docker/speed.svg: the events per second in the table of README.md, as bars.

Needs app/tests/requirements.txt.
"""
import argparse
import io
import os
import re
import sys
from pathlib import Path

import pexpect
from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

APP = Path(__file__).resolve().parents[1]
README = APP.parent / "README.md"
TERMINALS = APP.parent / "docker" / "terminals.svg"
SPEED = APP.parent / "docker" / "speed.svg"

WIDTH, HEIGHT = 66, 26  # of a terminal in characters
PRODUCE = "python runProducer.py -t gameplay -l -e 40 -m 10 -x 50 -p 10 --embedded --seed 7"
CONSUME = "python runConsumer.py -t gameplay -e 40 -p 10 -b "

BAR, GAP = 26, 10       # heights in pixels: of a bar, and below it
NAMES, BARS = 210, 430  # widths in pixels: of the names, and of the longest bar
COLOURS = "#1f6feb", "#8b949e"  # of our scripts, and of Kafka's tools


# The terminals

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
    return Panel(text, title=title, width=WIDTH, height=HEIGHT, box=box.HORIZONTALS,
                 style="on #101418", border_style="bright_black")


def drawTerminals():
    """Run both scripts, and write what they showed."""
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
    picture = console.export_svg(title="One broker, two terminals")
    # A picture loads nothing from elsewhere: the reader's own fixed-width font will do.
    TERMINALS.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))


# The speed

def speeds(readme):
    """Return {name: events per second as text} of the table in README.md."""
    table = readme.split("\n## Speed\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in table.split("\n") if line.startswith("|")]
    column = rows[0].index("events/s")
    return {cells[0]: cells[column] for cells in rows[2:]}


def bars(figures):
    """Return {name: events per second as text} as an SVG with a bar for each."""
    numbers = {name: int(text.replace(",", "")) for name, text in figures.items()}
    lines, top = [], 50
    for name, text in figures.items():
        length = round(BARS * numbers[name] / max(numbers.values()))
        ours = name.endswith(".py")
        middle = top + BAR // 2 + 5
        lines += [f'<text x="{NAMES}" y="{middle}" text-anchor="end">{name}</text>',
                  f'<rect x="{NAMES + 10}" y="{top}" width="{length}" height="{BAR}" rx="3" '
                  f'fill="{COLOURS[not ours]}"/>',
                  f'<text x="{NAMES + 18 + length}" y="{middle}" font-weight="bold">{text}</text>']
        top += BAR + GAP * (1 if ours else 2)
    width, height = NAMES + BARS + 100, top
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="15" fill="#1f2328">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        '<text x="20" y="30" font-size="17" font-weight="bold">Events per second</text>',
        *lines, "</svg>", ""])


def drawSpeed():
    """Write the bars."""
    SPEED.write_text(bars(speeds(README.read_text())))


PICTURES = {"terminals": drawTerminals, "speed": drawSpeed}


def main():
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", choices=PICTURES)
    picture = parser.parse_args().picture
    for draw in [PICTURES[picture]] if picture else PICTURES.values():
        draw()


if __name__ == "__main__":
    main()
