"""Measures the scripts against Kafka's own tools, in turn, on an Apache Kafka that it starts on loopback.

Needs java, mvn and requirements.txt. Of the rounds it prints medians, and the median of the ratios within each round.
"""
import argparse
import contextlib
import datetime
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import typing
from pathlib import Path
from statistics import mean, median

APP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(APP), str(APP / "tests")]
import apacheKafka
import commandline
import gameplay

# confluent_kafka stays out of this process: Linux says of no child that its peak memory was below its parent's.
VERSIONS = "import confluent_kafka as c; print('confluent-kafka', c.__version__, 'with librdkafka', c.libversion()[0])"
TOOLS = "org.apache.kafka.tools."
JVM = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
       "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
       *("-Dcom.sun.management.jmxremote" + rest for rest in ("", ".authenticate=false", ".ssl=false")))
PRODUCER, CONSUMER = "runProducer.py", "runConsumer.py"
PAUSES = (1, 1, 10000), (5, 5, 2000), (10, 50, 400), (1, 3, 5000)  # least and longest in ms, events
SPARSE = 100000     # one event of so many is shown
BATCHES = "linger.ms=10 batch.size=1000000"  # as ours, for a perf-test that batches like us
STARTS = 15         # how often a start is measured
WARM_UP = 200000    # events of the round before the first one
IDLE_SECONDS = 2    # after which both consumers of a group end; not counted
EXPLANATION = """
own: the rate from the first event to the last acknowledgement; the perf-test's is what it reports of itself.
ratio: ours to that line's; whole : own sets the rate of our whole process against that line's own."""


class Usage(typing.NamedTuple):
    """What processes took from start to end, and when, in seconds, each line came that they wrote to a pipe."""
    seconds: float
    cpu: float
    mib: float
    rate: float
    lines: list
    own: float = math.nan

    def when(self, start):
        """Return the second of the first line that starts so."""
        return next(second for second, line in self.lines if line.startswith(start))


def check(condition, what):
    """End the benchmark where a condition does not hold: what is wrong is not worth measuring."""
    if not condition:
        sys.exit(f"benchmark: {what}")


def measure(*commands, events=1, files=(), idle=0):
    """Run commands side by side, into files if any; return the Usage less the seconds that they idle at the end."""
    processes, timers, lines, cpu, size, limit = [], [], [], 0, 0, 60 + events / 5000
    with tempfile.TemporaryFile() as errors:
        try:
            start = time.monotonic()
            for index, command in enumerate(commands):
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors, text=True,
                                                  stdout=files[index] if files else subprocess.PIPE))
                timers.append(threading.Timer(limit, processes[-1].kill))
                timers[-1].start()
            for process in processes:
                lines += [(time.monotonic() - start, line.rstrip("\n")) for line in process.stdout or ()]
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    errors.seek(0)
                    why = f"took over {limit:.0f} s" if process.returncode == -9 else f"ended with {process.returncode}"
                    check(False, f"{' '.join(process.args)}\n{why}: {errors.read()[-2000:].decode()}")
                cpu, size = cpu + usage.ru_utime + usage.ru_stime, size + usage.ru_maxrss
            seconds = time.monotonic() - start - idle
        finally:
            for timer, process in zip(timers, processes):
                timer.cancel()
                process.kill()  # does nothing to one that has ended
    return Usage(seconds, cpu, size / (1 << 20 if sys.platform == "darwin" else 1 << 10), events / seconds, lines)


def originalGenerateGamePlay():
    """Return what gameplay.generateGamePlay() returns, by the plain means of the original."""
    playerId = random.randint(gameplay.minPlayerId, gameplay.maxPlayerId)
    event = {"playerId": playerId, "gameId": random.randint(gameplay.minGameId, gameplay.maxGameId),
             "stake": random.randint(gameplay.minStake, gameplay.maxStake), "win": 0}
    if random.randint(gameplay.minWinIndicator, gameplay.maxWinIndicator) % gameplay.winModulu == 0:
        event["win"] = random.randint(gameplay.minWin, gameplay.maxWin)
    event["eventTime"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
    return playerId, json.dumps(event)


def script(name, *flags):
    """Return the command line of one of our scripts."""
    return [sys.executable, str(APP / name), *map(str, flags)]


def tool(name, *arguments):
    """Return the command line of one of Kafka's tools, with what its script in Kafka's bin/ tells the Java machine."""
    return apacheKafka.java(TOOLS + name, *arguments, heap="512M", options=JVM)


def printTable(*head, rows):
    """Print a table in Markdown, numbers to the right; a short row ends in empty cells."""
    rows = [head, *(tuple(row) + ("",) * (len(head) - len(row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    print("", *(f"| {row[0].ljust(widths[0])} | {' | '.join(map(str.rjust, row[1:], widths[1:]))} |" for row in rows),
          sep="\n", flush=True)


class Benchmark:
    """What is measured on one Apache Kafka."""

    def __init__(self, kafka):
        self.kafka, self.payload, self.groups = kafka, kafka.folder / "payload", 0
        texts = [gameplay.generateGamePlay()[1] for _ in range(10000)]
        self.payload.write_text("".join(text + "\n" for text in texts))
        self.length = mean(map(len, texts))

    def topic(self, action, name, *flags):
        """Create a topic, or delete all that a regular expression names."""
        self.kafka.tool(TOOLS + "TopicCommand", "--bootstrap-server", self.kafka.bootstrap, action, "--topic", name,
                        *flags, timeout=60)

    def produce(self, topic, events, *flags, count=1):
        """Run our producer, or several at once, and see that every event was acknowledged."""
        command = script(PRODUCER, "-t", topic, "-l", "-e", events, *(flags or ("-m", 0, "-x", 0, "-p", events)))
        usage = measure(*[command] * count, events=events * count)
        said = [line for _, line in usage.lines].count(f"Finished publishing: {events} messages.")
        check(said == count, f"{PRODUCER} did not publish {events} events: {usage.lines[-3:]}")
        return usage if count > 1 else usage._replace(own=events / (usage.when("Finished") - usage.when("Generating")))

    def perfTest(self, topic, events, *properties):
        """Run Kafka's producer of ready records, which are as long as ours and acknowledged like ours."""
        usage = measure(tool(
            "ProducerPerformance", "--topic", topic, "--num-records", events, "--throughput", -1, "--payload-file",
            self.payload, "--producer-props", f"bootstrap.servers={self.kafka.bootstrap}", "acks=all",
            "enable.idempotence=true", *properties), events=events)
        own = re.search(rf"^{events} records sent, ([\d.]+)", "\n".join(line for _, line in usage.lines), re.M)
        check(own, f"the perf-test did not publish {events} records: {usage.lines[-1:]}")
        return usage._replace(own=float(own[1]))

    def group(self, topic, *flags):
        """Return the command line of our consumer in a group of its own."""
        self.groups += 1
        return script(CONSUMER, "-t", topic, "-g", f"group-{self.groups}", *flags)

    def read(self, *commands, events, prefix=b"{", nth=1, idle=0):
        """Run consumers into files; see that these hold all events that should be shown, and in their full length."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile(dir=self.kafka.folder)) for _ in commands]
            usage, shown, size = measure(*commands, events=events, files=files, idle=idle), 0, 0
            for file in files:
                file.seek(0)
                for line in file:
                    if line.startswith(prefix):
                        shown += 1
                        size += len(line) - len(prefix)  # the "{" that ends the prefix is as long as the line's end
        expected = events // nth + (nth > 1)
        check(shown == expected, f"{' '.join(commands[0])}\nshowed {shown} events instead of {expected}")
        check(nth > 1 or abs(size / shown - self.length) < 0.5, f"{size / shown} bytes an event, not {self.length}")
        return usage

    def round(self, number, events):
        """Run everyone; return a {name: Usage} for each set to be compared. Who comes first changes with the round."""
        one, ready, tuned, two = topics = [f"{name}-{number}" for name in ("one", "ready", "tuned", "two")]
        for topic in topics:
            self.topic("--create", topic, "--partitions", "4")
        server, shown = self.kafka.bootstrap, b"Received message: {"
        # Consumers read what the perf-test wrote, in partitions of one length. Where one ends before the others, as
        # with players for keys, a Java consumer waits up to half a second at each fetch.
        console = tool("consumer.ConsoleConsumer", "--bootstrap-server", server, "--topic", ready, "--from-beginning",
                       "--max-messages", events)
        reader = tool("ConsumerPerformance", "--bootstrap-server", server, "--topic", ready, "--messages", events)
        kcat = ["kcat", "-C", "-q", "-b", server, "-t", ready, "-o", "beginning", "-c", str(events)]
        pair = self.group(two, "--timeout", IDLE_SECONDS, "-X", "heartbeat.interval.ms=100")  # to meet soon
        sets = [[
            (PRODUCER, lambda: self.produce(one, events)),
            ("kafka-producer-perf-test", lambda: self.perfTest(ready, events)),
            (f"... {BATCHES}", lambda: self.perfTest(tuned, events, *BATCHES.split()))
        ], [
            (CONSUMER, lambda: self.read(self.group(ready, "-e", events), events=events, prefix=shown)),
            ("kafka-console-consumer", lambda: self.read(console, events=events)),
            *([("kcat", lambda: self.read(kcat, events=events))] if shutil.which("kcat") else [])
        ], [
            (f"{CONSUMER} -p {SPARSE}", lambda: self.read(self.group(ready, "-e", events, "-p", SPARSE), events=events,
                                                          prefix=shown, nth=SPARSE)),
            ("kafka-consumer-perf-test", lambda: measure(reader, events=events))
        ], [
            (f"2 x {PRODUCER}", lambda: self.produce(two, events, count=2))
        ], [
            (f"2 x {CONSUMER}, one group", lambda: self.read(pair, pair, events=2 * events, prefix=shown,
                                                             idle=IDLE_SECONDS))
        ]]
        taken = [{name: run() for name, run in members[::1 if number % 2 else -1]} for members in sets]
        self.topic("--delete", "|".join(topics))
        return taken

    def rates(self, rounds, events):
        """Print what everyone took for so many events, and the ratios."""
        self.round(0, min(events, WARM_UP))
        micros, taken, rows = [], [], []
        for number in range(1, rounds + 1):
            micros.append([min(timeit.repeat(body, number=20000)) * 50
                           for body in (gameplay.generateGamePlay, originalGenerateGamePlay)])
            taken.append(self.round(number, events))
        print(f"\ngenerateGamePlay(): {median(a for a, _ in micros):.2f} µs; the original's way: "
              f"{median(b for _, b in micros):.2f} µs; ratio: {median(b / a for a, b in micros):.1f}")
        for compared in zip(*taken):
            us = next(iter(compared[0]))
            for name in compared[0]:
                both = [(usages[us], usages[name]) for usages in compared]
                figures = [(b.seconds, b.cpu, b.mib, b.rate, b.own) for _, b in both]
                ratios = [(a.rate / b.rate, a.cpu / b.cpu, a.own / b.own, a.rate / b.own) for a, b in both if a != b]
                cells = [f"{median(column):,.{digits}f}" for column, digits in zip(zip(*figures), (2, 2, 0, 0, 0))]
                cells += [f"{median(column):.2f}" for column in zip(*ratios)]
                rows.append([name, *(cell.replace("nan", "") for cell in cells)])
        printTable(f"{events:,} events", "seconds", "CPU s", "peak MiB", "events/s", "own", "rate ratio", "CPU ratio",
                   "own ratio", "whole : own", rows=rows)
        print(EXPLANATION)

    def starts(self):
        """Print how long it takes to the help and to the first event."""
        self.produce("start", 1)
        rows = []
        for name, line, run in (
                ("python -c pass, to compare", "", lambda: measure([sys.executable, "-c", "pass"])),
                (f"{PRODUCER} --help", "", lambda: measure(script(PRODUCER, "--help"))),
                (f"{CONSUMER} --help", "", lambda: measure(script(CONSUMER, "--help"))),
                (f"{PRODUCER}, first event acknowledged", "Message produced", lambda: self.produce("start", 1)),
                (f"{CONSUMER}, first event shown", "Received message", lambda: measure(self.group("start", "-e", 1)))):
            seconds = [usage.when(line) if line else usage.seconds for usage in (run() for _ in range(STARTS))]
            rows.append((name, f"{median(seconds):.3f}", f"{max(seconds):.3f}"))
        printTable(f"start, {STARTS} times each", "seconds", "longest", rows=rows)

    def pauses(self):
        """Print how well pauses are kept, and the CPU time that this takes beyond that of a run of one event."""
        idle, rows = median(self.produce("pauses", 1).cpu for _ in range(5)), []
        for least, most, events in PAUSES:
            usage = self.produce("pauses", events, "-m", least, "-x", most, "-p", events, "--seed", 1)
            first, last = (datetime.datetime.fromisoformat(json.loads(line.partition(": ")[2])["eventTime"])
                           for _, line in usage.lines if line.startswith("Message produced: "))
            draw, real = random.Random(1), (last - first).total_seconds()
            asked = sum(draw.uniform(least, most) for _ in range(events - 1)) / 1000  # as the producer draws them
            rows.append((f"-m {least} -x {most}", f"{events:,}",
                         *(f"{seconds / (events - 1) * 1000:.4f}" for seconds in (asked, real)),
                         f"{real / asked - 1:+.3%}", f"{(usage.cpu - idle) / real:.1%}"))
        printTable("pauses", "events", "mean asked, ms", "mean, ms", "error", "CPU of one core", rows=rows)

    def memory(self, *sizes):
        """Print the peak memory by the number of events."""
        rows = []
        for events in sizes:
            topic, producer = f"memory-{events}", self.produce(f"memory-{events}", events)
            with open(os.devnull, "wb") as nowhere:
                consumer = measure(self.group(topic, "-e", events), events=events, files=[nowhere])
            self.topic("--delete", topic)
            rows.append((f"{events:,}", f"{producer.mib:.0f}", f"{consumer.mib:.0f}"))
        printTable("events", f"{PRODUCER}, peak MiB", f"{CONSUMER}, peak MiB", rows=rows)


def run(args):
    """Measure and print everything."""
    check(not apacheKafka.missing(), apacheKafka.missing())
    clients = next(apacheKafka.fetchJars().glob("kafka-clients-*.jar"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    client = measure([sys.executable, "-c", VERSIONS]).lines[0][1]
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, {client}, "
          f"Apache Kafka {clients.stem.rpartition('-')[2]} on the same machine; rounds: {args.rounds}")
    print(f"kcat is {shutil.which('kcat') or 'not on the PATH and left out'}", flush=True)
    with apacheKafka.ApacheKafka(log_segment_delete_delay_ms=1000) as kafka:
        os.environ["BOOTSTRAP_SERVERS"] = kafka.bootstrap
        benchmark = Benchmark(kafka)
        benchmark.rates(args.rounds, args.events)
        benchmark.starts()
        benchmark.pauses()
        benchmark.memory(10000, 1000000, *[10000000] * args.long)


def main(argv=None):
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(prog="run", usage="python app/benchmark/run.py [options]", description=__doc__)
    parser.add_argument("--rounds", type=commandline.number(int, 1), default=5, metavar="N",
                        help="rounds that count, after one that does not (default: %(default)s)")
    parser.add_argument("--events", type=commandline.number(int, 1000), default=1000000, metavar="N",
                        help="events of a run (default: %(default)s)")
    parser.add_argument("--long", action="store_true", help="memory for 10,000,000 events as well")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Kafka is stopped on the way out
    try:
        run(args)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        check(False, error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
