"""How fast are our scripts against Kafka's own tools on the same broker, at what cost,
and do they keep the pace they were asked for?

An Apache Kafka is started on this machine, and all take turns on it:

1. Speed. runProducer.py against kafka-producer-perf-test: both write N events of the same
   length, and both wait until the broker has stored them (acks=all, idempotent). Ours makes each
   event, the perf-test sends ready ones. runConsumer.py against kafka-console-consumer and kcat:
   all print every event that the perf-test wrote.
2. Generating. generateGamePlay() against the way of the original, without Kafka.
3. Start. From the start of a script to its help, and to its first event.
4. Pace. The pauses between events against the pauses asked for, and the CPU time they take.
5. Memory. The peak for few events and for many.

Times are those of whole processes, from start to end. Kafka's tools get the Java options of their
own scripts. One round warms up and is not counted; then who comes first changes with each round.
Printed are medians, and of ratios the median of those within each round. A run that has not done
all its events ends the benchmark.

Needs java, mvn and requirements.txt. kcat takes part where it is on the PATH.
"""
import argparse
import contextlib
import datetime
import importlib.metadata
import itertools
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
import time
import timeit
import typing
from pathlib import Path
from statistics import median

APP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(APP), str(APP / "tests")]
import gameplay
from support import kafka as apacheKafka

# confluent_kafka is not imported here: Linux never reports a child's peak below its parent's.

PRODUCER = "runProducer.py"
PERF_TEST = "kafka-producer-perf-test"
BATCHES = "linger.ms=10", "batch.size=1000000"  # those of runProducer.py at full speed
BATCHING_PERF_TEST = f"{PERF_TEST}, our batches"
CONSUMER = "runConsumer.py"
CONSOLE_CONSUMER = "kafka-console-consumer"
KCAT = "kcat"
TWO_PRODUCERS = f"2 x {PRODUCER}"
TWO_CONSUMERS = f"2 x {CONSUMER}"
OURS = {PERF_TEST: PRODUCER, BATCHING_PERF_TEST: PRODUCER,
        CONSOLE_CONSUMER: CONSUMER, KCAT: CONSUMER}  # whom each of Kafka's tools is compared with

WARM_UP = 200000   # events of the round that is not counted
IDLE_SECONDS = 2   # after which two consumers of one group end; not counted
REPEATS = 5        # how often generating is timed
STARTS = 15        # how often each start is timed
PAUSES = (1, 1, 10000), (5, 5, 2000), (10, 50, 400), (1, 3, 5000)  # least and longest ms, events

TOOLS = "org.apache.kafka.tools."
JVM = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
       "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
       "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true", "-Dcom.sun.management.jmxremote",
       "-Dcom.sun.management.jmxremote.authenticate=false",
       "-Dcom.sun.management.jmxremote.ssl=false")
STOP_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
groupNumbers = itertools.count(1)


def benchmark(rounds, events, long):
    """Answer the questions, one after the other."""
    check(not apacheKafka.missing(), apacheKafka.missing())
    printMachine(rounds)
    with apacheKafka.ApacheKafka(log_segment_delete_delay_ms=1000) as kafka:
        os.environ["BOOTSTRAP_SERVERS"] = kafka.bootstrap
        compareSpeed(kafka, rounds, events)
        compareGenerating()
        timeStarts()
        checkPace()
        showMemory(kafka, [10000, 1000000, 10000000] if long else [10000, 1000000])


def printMachine(rounds):
    """Print what the figures depend on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 ** 30
    clients = next(apacheKafka.fetchJars().glob("kafka-clients-*.jar"))
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, "
          f"confluent-kafka {importlib.metadata.version('confluent-kafka')}, "
          f"Apache Kafka {clients.stem.rpartition('-')[2]}; rounds: {rounds}", flush=True)


# 1. Speed

def compareSpeed(kafka, rounds, events):
    """Let all write and read so many events, several times, and print what it took them."""
    texts = (gameplay.generateGamePlay()[1] + "\n" for _ in range(10000))
    (kafka.folder / "payload").write_text("".join(texts))
    runRound(kafka, 0, min(events, WARM_UP))
    taken = [runRound(kafka, number, events) for number in range(1, rounds + 1)]
    printSpeed(f"Speed for {events:,} events; ratio: our events/s to that line's.", taken,
               PRODUCER, PERF_TEST, CONSUMER, CONSOLE_CONSUMER)
    others = [name for name in (BATCHING_PERF_TEST, KCAT) if name in taken[0]]
    printSpeed(f"The same for a perf-test with our batches ({' '.join(BATCHES)}), and for kcat if "
               "it is there.", taken, *others)
    printSpeed(f"Two at once: each producer writes {events:,} events, then two consumers of one "
               "group share them.", taken, TWO_PRODUCERS, TWO_CONSUMERS)
    printTable("CPU time: ours to that line's, for the same events.", ["", "CPU ratio"],
               [[name, ratio(taken, name, "cpu")] for name in taken[0] if name in OURS])
    printTable("Own rate: from the first event to the last acknowledgement; the perf-test's is "
               "the one it reports.", ["", "own events/s", "ratio"],
               [[name, middle(taken, name, "ownRate", 0), ratio(taken, name, "ownRate")]
                for name in (PRODUCER, PERF_TEST, BATCHING_PERF_TEST)])


def runRound(kafka, number, events):
    """Let everyone do its work once and return {name: Run}. The order changes with the number."""
    names = ("ours", "theirs", "batched", "both")
    ours, theirs, batched, both = topics = [f"{name}-{number}" for name in names]
    for topic in topics:
        topicTool(kafka, "--create", topic, "--partitions", 4)
    producers = {
        PRODUCER: lambda: produce(ours, events),
        PERF_TEST: lambda: perfTest(kafka, theirs, events),
        BATCHING_PERF_TEST: lambda: perfTest(kafka, batched, events, *BATCHES)}
    # All consumers read what the perf-test wrote, because its partitions are of one length. Where
    # players are the keys, some partitions end early, and then a Java consumer waits at each fetch.
    consumers = {
        CONSUMER: lambda: consume(theirs, events),
        CONSOLE_CONSUMER: lambda: consoleConsumer(kafka, theirs, events)}
    if shutil.which(KCAT):
        consumers[KCAT] = lambda: kcat(kafka, theirs, events)
    taken = {}
    for members in producers, consumers:
        for name in members if number % 2 else reversed(members):
            taken[name] = members[name]()
    taken[TWO_PRODUCERS] = produce(both, events, count=2)
    taken[TWO_CONSUMERS] = consumeTogether(both, 2 * events)
    topicTool(kafka, "--delete", "|".join(topics))
    return taken


def printSpeed(title, taken, *names):
    """Print what these took, and our ratio to each that is not ours."""
    columns = ("seconds", 2), ("cpu", 2), ("mib", 0), ("rate", 0)
    rows = [[name, *(middle(taken, name, field, digits) for field, digits in columns),
             ratio(taken, name, "rate")] for name in names]
    printTable(title, ["", "seconds", "CPU s", "peak MiB", "events/s", "ratio"], rows)


def middle(taken, name, field, digits):
    """Return the median of a field of a Run over all rounds, as text."""
    return f"{median(getattr(runs[name], field) for runs in taken):,.{digits}f}"


def ratio(taken, name, field):
    """Return the median of our field of a Run divided by theirs of the same round, as text."""
    if name not in OURS:
        return ""
    pairs = [(runs[OURS[name]], runs[name]) for runs in taken]
    return f"{median(getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs):.2f}"


# 2. Generating

def compareGenerating():
    """Print how long it takes to make one event, in our way and in the original's."""
    ways = gameplay.generateGamePlay, originalGenerateGamePlay
    calls = 20000
    times = [[min(timeit.repeat(way, number=calls)) / calls * 1e6 for way in ways]
             for _ in range(REPEATS)]
    printTable("Generating: the time for one event, without Kafka.", ["", "µs", "ratio"], [
        ["generateGamePlay()", f"{median(ours for ours, _ in times):.2f}", ""],
        ["the original's way", f"{median(theirs for _, theirs in times):.2f}",
         f"{median(theirs / ours for ours, theirs in times):.2f}"]])


def originalGenerateGamePlay():
    """Return what gameplay.generateGamePlay() returns, made as the original did."""
    playerId = random.randint(gameplay.minPlayerId, gameplay.maxPlayerId)
    event = {"playerId": playerId,
             "gameId": random.randint(gameplay.minGameId, gameplay.maxGameId),
             "stake": random.randint(gameplay.minStake, gameplay.maxStake),
             "win": 0}
    indicator = random.randint(gameplay.minWinIndicator, gameplay.maxWinIndicator)
    if indicator % gameplay.winModulu == 0:
        event["win"] = random.randint(gameplay.minWin, gameplay.maxWin)
    now = datetime.datetime.now(datetime.timezone.utc)
    event["eventTime"] = now.strftime("%Y-%m-%d %H:%M:%S.%f")
    return playerId, json.dumps(event)


# 3. Start

def timeStarts():
    """Print how long it takes to the help and to the first event."""
    produce("start", 1)
    starts = {
        "python -c pass, to compare": lambda: measure([sys.executable, "-c", "pass"]).seconds,
        f"{PRODUCER} --help": lambda: measure(script(PRODUCER, "--help")).seconds,
        f"{CONSUMER} --help": lambda: measure(script(CONSUMER, "--help")).seconds,
        f"{PRODUCER}, first event acknowledged":
            lambda: produce("start", 1).when("Message produced"),
        f"{CONSUMER}, first event shown":
            lambda: measure(consumer("start", "-e", 1)).when("Received message")}
    rows = []
    for name, start in starts.items():
        times = [start() for _ in range(STARTS)]
        rows.append([name, f"{median(times):.3f}", f"{max(times):.3f}"])
    printTable(f"Start: seconds from the start of the process, {STARTS} times each.",
               ["", "median", "longest"], rows)


# 4. Pace

def checkPace():
    """Print how well pauses are kept, and the CPU time beyond that of a run of one event."""
    startCpu = median(produce("pace", 1).cpu for _ in range(5))
    rows = []
    for least, longest, events in PAUSES:
        run = produce("pace", events, "-m", least, "-x", longest, "-p", events, "--seed", 1)
        first, last = (json.loads(line.partition(": ")[2])["eventTime"]
                       for _, line in run.lines if line.startswith("Message produced: "))
        span = datetime.datetime.fromisoformat(last) - datetime.datetime.fromisoformat(first)
        seconds = span.total_seconds()
        pauses = random.Random(1)  # runProducer.py --seed 1 draws the same ones
        asked = sum(pauses.uniform(least, longest) for _ in range(events - 1)) / 1000
        rows.append([f"-m {least} -x {longest}", f"{events:,}", f"{asked:.3f}", f"{seconds:.3f}",
                     f"{seconds / asked - 1:+.3%}", f"{(run.cpu - startCpu) / seconds:.1%}"])
    printTable("Pace: the seconds from the first event to the last, asked for and real.",
               ["", "events", "asked", "real", "error", "CPU of one core"], rows)


# 5. Memory

def showMemory(kafka, sizes):
    """Print the peak memory by the number of events."""
    rows = []
    for events in sizes:
        topic = f"memory-{events}"
        runs = produce(topic, events), consume(topic, events)
        rows.append([f"{events:,}", *(f"{run.mib:.0f}" for run in runs)])
        topicTool(kafka, "--delete", topic)
    printTable("Memory: peak MiB by the number of events.", ["events", PRODUCER, CONSUMER], rows)


# How each one is run, and its work checked

def script(name, *flags):
    """Return the command line of one of our scripts, which find the broker in BOOTSTRAP_SERVERS."""
    return [sys.executable, str(APP / name), *map(str, flags)]


def tool(name, *arguments):
    """Return the command line of one of Kafka's tools, with the heap and options of its script."""
    return apacheKafka.java(TOOLS + name, *arguments, heap="512M", options=JVM)


def topicTool(kafka, action, topic, *flags):
    """Create a topic, or delete all topics that a regular expression matches."""
    kafka.tool(TOOLS + "TopicCommand", "--bootstrap-server", kafka.bootstrap, action,
               "--topic", topic, *flags, timeout=60)


def produce(topic, events, *flags, count=1):
    """Run our producer, or several at once, without pauses unless flags ask for some."""
    flags = flags or ("-m", 0, "-x", 0, "-p", events)
    command = script(PRODUCER, "-t", topic, "-l", "-e", events, *flags)
    run = measure(*[command] * count, events=events * count)
    finished = [line for _, line in run.lines].count(f"Finished publishing: {events} messages.")
    check(finished == count, f"{PRODUCER} did not publish {events} events: {run.lines[-3:]}")
    if count > 1:
        return run
    return run._replace(ownRate=events / (run.when("Finished") - run.when("Generating")))


def perfTest(kafka, topic, events, *properties):
    """Run kafka-producer-perf-test with events from a file, acknowledged like ours."""
    run = measure(tool(
        "ProducerPerformance", "--topic", topic, "--num-records", events, "--throughput", -1,
        "--payload-file", kafka.folder / "payload", "--producer-props",
        f"bootstrap.servers={kafka.bootstrap}", "acks=all", "enable.idempotence=true",
        *properties), events=events)
    output = "\n".join(line for _, line in run.lines)
    summary = re.search(rf"^{events} records sent, ([\d.]+)", output, re.M)
    check(summary, f"{PERF_TEST} did not publish {events} events: {output[-500:]}")
    return run._replace(ownRate=float(summary[1]))


def consumer(topic, *flags):
    """Return the command line of our consumer, in a new group."""
    return script(CONSUMER, "-t", topic, "-g", f"group-{next(groupNumbers)}", *flags)


def consume(topic, events):
    """Run our consumer until it has shown so many events."""
    return measureShown(consumer(topic, "-e", events), events=events, prefix=b"Received message: ")


def consumeTogether(topic, events):
    """Run our consumer twice in one group, until nothing is left for either of the two."""
    # Frequent heartbeats let the first one notice the second one soon.
    command = consumer(topic, "--timeout", IDLE_SECONDS, "-X", "heartbeat.interval.ms=100")
    run = measureShown(command, command, events=events, prefix=b"Received message: ")
    seconds = run.seconds - IDLE_SECONDS
    return run._replace(seconds=seconds, rate=events / seconds)


def consoleConsumer(kafka, topic, events):
    """Run kafka-console-consumer."""
    return measureShown(
        tool("consumer.ConsoleConsumer", "--bootstrap-server", kafka.bootstrap, "--topic", topic,
             "--from-beginning", "--max-messages", events), events=events)


def kcat(kafka, topic, events):
    """Run kcat as a consumer."""
    return measureShown([KCAT, "-C", "-q", "-b", kafka.bootstrap, "-t", topic, "-o", "beginning",
                         "-c", str(events)], events=events)


# Measuring and printing

class Run(typing.NamedTuple):
    """What processes took together, and what they printed."""
    seconds: float  # from the start of the first to the end of the last
    cpu: float      # seconds
    mib: float      # peak memory
    rate: float     # events/s
    lines: list     # (seconds since the start, line) of each line
    ownRate: float = math.nan

    def when(self, start):
        """Return after how many seconds the first line that starts so was printed."""
        times = [seconds for seconds, line in self.lines if line.startswith(start)]
        check(times, f"no line starts with '{start}': {self.lines[-3:]}")
        return times[0]


def measure(*commands, events=1, outputs=()):
    """Run commands side by side to their end. Without files for their output, lines are timed."""
    processes, lines, cpu, memory = [], [], 0, 0
    limit = 60 + events // 5000
    signal.alarm(limit)
    with tempfile.TemporaryFile() as errors:
        try:
            start = time.monotonic()
            for command, output in itertools.zip_longest(commands, outputs):
                processes.append(subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE,
                    stderr=errors, text=True))
            for process in processes:
                for line in process.stdout or ():
                    lines.append((time.monotonic() - start, line.rstrip("\n")))
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
                memory += usage.ru_maxrss
                if process.returncode:
                    errors.seek(0)
                    check(False, f"{' '.join(process.args)}\nended with {process.returncode}: "
                                 f"{errors.read()[-2000:].decode(errors='replace')}")
            seconds = time.monotonic() - start
        except TimeoutError:
            check(False, f"{' '.join(commands[0])}\ntook over {limit} s")
        finally:
            signal.alarm(0)
            for process in processes:
                process.kill()  # does nothing to one that has ended
    mib = memory / (2 ** 20 if sys.platform == "darwin" else 2 ** 10)
    return Run(seconds, cpu, mib, events / seconds, lines)


def measureShown(*commands, events, prefix=b""):
    """Run consumers into files, and check that these hold so many whole events."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        run = measure(*commands, events=events, outputs=files)
        shown = 0
        for file in files:
            file.seek(0)
            shown += sum(line.startswith(prefix + b'{"playerId": ') and line.endswith(b'"}\n')
                         for line in file)
    check(shown == events, f"{' '.join(commands[0])}\nshowed {shown} events instead of {events}")
    return run


def check(condition, message):
    """End the benchmark unless the condition holds."""
    if not condition:
        sys.exit(f"benchmark: {message}")


def printTable(title, head, rows):
    """Print a sentence and a table in Markdown, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    print(f"\n{title}\n")
    for name, *numbers in (head, rule, *rows):
        cells = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]
        print(f"| {' | '.join(cells)} |", flush=True)


def stop(number, _frame):
    """End the benchmark and with it its broker; another signal does not disturb that."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def tooLong(_number, _frame):
    """End the wait for a process."""
    raise TimeoutError


def main(argv=None):
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(usage="python app/benchmark/run.py [options]",
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="rounds that count (default: %(default)s)")
    parser.add_argument("--events", type=int, default=1000000, metavar="N",
                        help="events of a run, at least 1000 (default: %(default)s)")
    parser.add_argument("--long", action="store_true", help="memory of 10,000,000 events as well")
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.events < 1000:
        parser.error("at least --rounds 1 and --events 1000")
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    signal.signal(signal.SIGALRM, tooLong)
    try:
        benchmark(args.rounds, args.events, args.long)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        check(False, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
