"""How fast are our scripts against Kafka's own tools, at what cost, and do they keep their pace?

All take turns on one broker of Apache Kafka 3.9, which is started on this machine:

1. Speed. runProducer.py and kafka-producer-perf-test write N events of the same length, and wait
   until the broker has stored them (acks=all, idempotent). Ours makes each event, the perf-test
   sends ready ones. runConsumer.py, kafka-console-consumer and kcat, where it is on the PATH,
   print every event that the perf-test wrote.
2. Pace. The time between events against the pauses asked for, and the CPU time it takes.

Times are those of whole processes, from start to end. Kafka's tools get the Java options of their
own scripts. A first round warms up and is not counted; then who comes first changes with each
round. Printed are medians. A ratio is of events/s, or of CPU time: ours by that line's in the same
round. A run that has not done all its events ends the benchmark.

Needs java, mvn and app/requirements.txt.
"""
import argparse
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

from confluent_kafka.admin import AdminClient, NewTopic

APP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(APP), str(APP / "tests")]
import gameplay
from support.kafka import RELEASE, ApacheKafka, java

PRODUCER, CONSUMER = "runProducer.py", "runConsumer.py"
PERF_TEST = "kafka-producer-perf-test"
BATCHES = "linger.ms=10", "batch.size=200000"  # those of runProducer.py at full speed
PAUSES = ("30", 300), ("5", 2000), ("1", 10000), ("0.05", 100000), ("0.005", 1000000)  # ms, events
# The Java options of Kafka's own scripts.
OPTIONS = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
           "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
           "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true", "-Dcom.sun.management.jmxremote",
           "-Dcom.sun.management.jmxremote.authenticate=false",
           "-Dcom.sun.management.jmxremote.ssl=false")


# Run a process, and check its work

class Run(typing.NamedTuple):
    """What a process took, and what it printed."""
    seconds: float  # from its start to its end
    cpu: float      # seconds
    lines: list     # as bytes


def check(condition, message):
    """End the benchmark unless the condition holds."""
    if not condition:
        sys.exit(f"benchmark: {message}")


def measure(command, events):
    """Run a command to its end."""
    command = list(map(str, command))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        tooLong = threading.Timer(60 + events // 5000, process.kill)
        tooLong.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            tooLong.cancel()
            process.kill()  # does nothing to one that has ended
        output.seek(0)
        errors.seek(0)
        check(process.returncode == 0, f"{' '.join(command)}\nended with {process.returncode}: "
                                       f"{errors.read().decode(errors='replace')[-2000:]}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, output.readlines())


def write(command, events):
    """Run a producer, and check that it says that all events are published."""
    run = measure(command, events)
    finished = b"Finished publishing: %d messages." % events, b"%d records sent, " % events
    check(any(line.startswith(finished) for line in run.lines),
          f"{command}\ndid not publish {events} events: {run.lines[-3:]}")
    return run


def read(command, events):
    """Run a consumer, and check that it printed so many whole events."""
    run = measure(command, events)
    event = re.compile(rb'(Received message: )?\{"playerId": .*"\}\n')
    shown = sum(map(bool, map(event.fullmatch, run.lines)))
    check(shown == events, f"{command}\nshowed {shown} events instead of {events}")
    return run._replace(lines=None)  # a million of them are too many to keep


# The command lines of all who take part. Our scripts find the broker in BOOTSTRAP_SERVERS.

def producer(app, topic, events, pause=0):
    """Our producer, which prints the first event and the last."""
    return [sys.executable, app / PRODUCER, "-t", topic, "-l", "-e", events, "-m", pause,
            "-x", pause, "-p", events]


def tool(*words):
    """A program of Kafka, as Kafka's own scripts run it."""
    return java(*words, heap="512M", options=OPTIONS)


def perfTest(kafka, properties, topic, events):
    """kafka-producer-perf-test, with events from a file, acknowledged like ours."""
    return tool(
        "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", events,
        "--throughput", -1, "--payload-file", kafka.folder / "payload", "--producer-props",
        f"bootstrap.servers={kafka.bootstrap}", "acks=all", "enable.idempotence=true",
        *properties)


def consumer(app, topic, events):
    """Our consumer, in a new group."""
    return [sys.executable, app / CONSUMER, "-t", topic, "-g", f"group-{time.monotonic_ns()}",
            "-e", events]


def consoleConsumer(kafka, topic, events):
    """kafka-console-consumer."""
    return tool("org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server",
                kafka.bootstrap, "--topic", topic, "--from-beginning", "--max-messages", events)


def kcat(kafka, topic, events):
    """kcat as a consumer."""
    return ["kcat", "-C", "-q", "-b", kafka.bootstrap, "-t", topic, "-o", "beginning",
            "-c", events]


# The two questions. apps: {beginning of the names in tables: folder with scripts}, ours first.

def compareSpeed(kafka, apps, rounds, events):
    """Let all write and read so many events, several times, and print what it took them."""
    texts = (gameplay.generateGamePlay()[1] + "\n" for _ in range(10000))
    (kafka.folder / "payload").write_text("".join(texts))
    producers = {name + PRODUCER: partial(producer, app) for name, app in apps.items()}
    producers[PERF_TEST] = partial(perfTest, kafka, ())
    producers[PERF_TEST + ", our batches"] = partial(perfTest, kafka, BATCHES)
    consumers = {name + CONSUMER: partial(consumer, app) for name, app in apps.items()}
    consumers["kafka-console-consumer"] = partial(consoleConsumer, kafka)
    if shutil.which("kcat"):
        consumers["kcat"] = partial(kcat, kafka)
    runRound(kafka, producers, consumers, 0, events // 5)
    taken = [runRound(kafka, producers, consumers, number + 1, events)
             for number in range(rounds)]
    rows = [speedRow(name, [(runs[name], runs[ours]) for runs in taken], events)
            for ours, names in ((PRODUCER, producers), (CONSUMER, consumers)) for name in names]
    printTable(f"Speed for {events:,} events. Our batches: {' '.join(BATCHES)}.",
               ["", "seconds", "CPU s", "events/s", "ratio", "CPU ratio"], rows)


def runRound(kafka, producers, consumers, number, events):
    """Let everyone do its work once and return {name: Run}. The order changes with the number."""
    order = list if number % 2 else reversed
    topics = {name: f"speed-{place}" for place, name in enumerate(producers)}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    wait(admin.create_topics([NewTopic(topic, 4, 1) for topic in topics.values()]))
    taken = {name: write(producers[name](topics[name], events), events)
             for name in order(list(producers))}
    # All consumers read what the perf-test wrote, because its partitions are of one length. Where
    # players are the keys, some partitions end early, and then a Java consumer waits at each fetch.
    taken |= {name: read(consumers[name](topics[PERF_TEST], events), events)
              for name in order(list(consumers))}
    wait(admin.delete_topics(list(topics.values())))
    return taken


def wait(futures):
    """Wait until a request is carried out."""
    for future in futures.values():
        future.result(60)


def speedRow(name, pairs, events):
    """Return a line of the table: medians of all (run, our run of the same round)."""
    columns = zip(*((run.seconds, run.cpu, events / run.seconds, run.seconds / ours.seconds,
                     ours.cpu / run.cpu) for run, ours in pairs))
    digits = ".2f", ".2f", ",.0f", ".2f", ".2f"
    return [name, *(format(median(column), form) for column, form in zip(columns, digits))]


def checkPace(apps):
    """Print how well pauses are kept, and the CPU time beyond that of a run of one event."""
    rows = []
    for (pause, events), (name, app) in itertools.product(PAUSES, apps.items()):
        short = write(producer(app, "pace", 1), 1)
        run = write(producer(app, "pace", events, pause), events)
        first, last = (datetime.fromisoformat(json.loads(line.partition(b": ")[2])["eventTime"])
                       for line in run.lines if line.startswith(b"Message produced: "))
        asked, real = float(pause) * (events - 1) / 1000, (last - first).total_seconds()
        rows.append([f"{name}{PRODUCER} -m {pause} -x {pause}", f"{events:,}", f"{asked:.3f}",
                     f"{real:.3f}", f"{real / asked - 1:+.3%}",
                     f"{(run.cpu - short.cpu) / real:.1%}"])
    printTable("Pace: the seconds from the first event to the last, asked for and real.",
               ["", "events", "asked", "real", "error", "CPU of one core"], rows)


def printTable(title, head, rows):
    """Print a sentence and a table in Markdown, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    print(f"\n{title}\n")
    for name, *numbers in (head, rule, *rows):
        cells = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]
        print(f"| {' | '.join(cells)} |", flush=True)


def main(argv=None):
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(usage="python app/benchmark/run.py [options]",
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="rounds that count (default: %(default)s)")
    parser.add_argument("--events", type=int, default=1000000, metavar="N",
                        help="events of a run (default: %(default)s)")
    parser.add_argument("--other", type=Path, metavar="FOLDER",
                        help="the folder app of another checkout, whose scripts take part, too")
    args = parser.parse_args(argv)
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # the broker ends, too
    apps = {"": APP}
    if args.other:
        apps["other "] = args.other
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 ** 30
    try:
        with tempfile.TemporaryDirectory() as folder, ApacheKafka(
                folder, options=OPTIONS, log_segment_delete_delay_ms=1000) as kafka:
            print(f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, "
                  f"confluent-kafka {importlib.metadata.version('confluent-kafka')}, "
                  f"Apache Kafka {RELEASE}; rounds: {args.rounds}", flush=True)
            os.environ["BOOTSTRAP_SERVERS"] = kafka.bootstrap
            compareSpeed(kafka, apps, args.rounds, args.events)
            checkPace(apps)
    except (OSError, RuntimeError) as error:
        check(False, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
