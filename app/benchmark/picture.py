"""Draws docker/terminals.svg anew: the producer and the consumer side by side, from a real run.

The run is on an Apache Kafka of its own at localhost:9092. Needs java, mvn and
app/tests/requirements.txt.
"""
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

APP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(APP), str(APP / "tests")]
from support.faults import describe
from support.grounds import Ground
from support.kafka import ApacheKafka, waitFor
from support.processes import Process, environment

PICTURE = APP.parent / "docker" / "terminals.svg"
PRODUCE = "runProducer.py -t gameplay -l -e 5 -p 1 --seed 7"
CONSUME = "runConsumer.py -t gameplay -e 5"
COLUMNS, GAP = 54, 12  # of a terminal in letters, and between the two in pixels


def start(command):
    """Start one of our scripts. Without a terminal it waits for no key, and prints the same."""
    script, *arguments = command.split()
    env = environment(BOOTSTRAP_SERVERS="localhost:9092")
    return Process(script.removesuffix(".py"), *arguments, env=env)


def runBoth():
    """Return the lines of both terminals, the producer's and the consumer's."""
    with tempfile.TemporaryDirectory() as folder, ApacheKafka(folder, port=9092) as kafka:
        ground = Ground("apache", kafka.bootstrap, kafka)
        waitFor(lambda: not ground.admin.list_topics("gameplay").topics["gameplay"].error,
                "the topic")
        with start(CONSUME) as consumer:
            # Before it has its partitions, it might show the first events in another order.
            waitFor(lambda: any(member.assignment.topic_partitions for member in
                                describe(ground, "consumer-1").members), "a member of the group")
            with start(PRODUCE) as producer:
                ends = producer.end(), consumer.end()
    if ends != (0, 0) or len(producer.shown()) != 5 or producer.shown() != consumer.shown():
        sys.exit("picture: the five events are not the same on both sides")
    return [[f"$ python {command}\n", *process.out]
            for command, process in ((PRODUCE, producer), (CONSUME, consumer))]


def draw(title, lines):
    """Return a terminal as a picture, its width and its height."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in lines:
        style = "bold green" if line.startswith("$") else "white" if "{" in line else "bright_black"
        console.print(line, style=style, end="", highlight=False, markup=False)
    picture = console.export_svg(title=title, unique_id=title.split()[-1])
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # nothing from elsewhere
    return picture, *map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', picture).groups())


def main():
    """Draw the picture."""
    produced, consumed = runBoth()
    left, width, height = draw("the producer", produced)
    right, _, otherHeight = draw("the consumer", consumed)
    both = [picture.replace("<svg ", f'<svg x="{x}" y="0" width="{width}" height="{tall}" ', 1)
            for picture, x, tall in ((left, 0, height), (right, width + GAP, otherHeight))]
    PICTURE.write_text(f'<svg viewBox="0 0 {2 * width + GAP} {max(height, otherHeight)}" '
                       f'xmlns="http://www.w3.org/2000/svg">\n{"".join(both)}</svg>\n')


if __name__ == "__main__":
    main()
