"""A producer and a consumer that run side by side: all that one shows, the broker has and the other shows, once."""
import contextlib
import datetime
import itertools
import json
import signal
from collections import Counter

from support.kafka import waitFor
from support.processes import LIMIT, Process, byPlayer, consumerOf, events, finished

# What is said of an outage.
GONE, BACK = "the broker is gone", "the broker is back after"
MUTE, HEARD = "nothing is acknowledged", "acknowledged again after"


def said(process):
    """Return what a process has said of outages, without the numbers and the reasons, of which one may have several."""
    lines = [words for line in process.err for words in (GONE, BACK, MUTE, HEARD) if f": {words}" in line]
    return [words for words, _ in itertools.groupby(lines)]


def loopOn(ground, topic, *arguments):
    """Return the script and the arguments of a producer of 1,000 events/s, endless unless -e is given."""
    return ("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 0, "-m", 1, "-x", 1, "-p", 1, *arguments)


SLOW = "-m", 1000, "-x", 1000  # an event a second


@contextlib.contextmanager
def pair(ground, topic, *arguments, consumers=1, loop=()):
    """Run an endless producer and consumers, all of which have shown something.

    arguments: of each consumer. loop: of the producer.
    """
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(Process(*loopOn(ground, topic, *loop)))
        others = [stack.enter_context(Process(*consumerOf(ground, topic, *arguments))) for _ in range(consumers)]
        producer.until("Message produced")
        for consumer in others:
            consumer.until("Received message")
        yield producer, *others


def goOn(*processes, within=LIMIT):
    """Wait until each of the processes has shown an event that was generated after this moment.

    A producer shows events in order: all that were queued before are then acknowledged, of all partitions.
    """
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")

    def isSilent(process):
        newest = events("".join(process.out[-1:]))
        return not newest or json.loads(newest[0])["eventTime"] <= now

    def silent():
        return [(process.args, process.err) for process in processes if isSilent(process)]
    with contextlib.suppress(TimeoutError):
        waitFor(lambda: not silent(), "more events", within)
    assert silent() == [], silent()


def reconcile(ground, topic, producer, *consumers, left=(), once=True):
    """Let them go on and end them. Require all that was shown and stored to be the same, each event once.

    left: consumers that have ended. once: not only by each of the consumers, but by all of them.
    """
    for _ in range(2):  # after the first time, what an outage has held back is gone, too
        goOn(producer, *consumers)
    producer.send_signal(signal.SIGINT)
    assert producer.end() == 130, producer.err
    count = finished(producer.out)

    def received():
        return [text for consumer in [*consumers, *left] for text in consumer.shown()]
    waitFor(lambda: len(received()) >= count, "the rest", LIMIT)
    for consumer in consumers:
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0, consumer.err

    def values():  # a broker that has just become the leader shows only what it knows that others have
        found = ground.values(topic)
        return found if len(found) >= count else None
    shown, stored = producer.shown(), waitFor(values, "all of the topic", LIMIT)
    arrived, errors = received(), [process.err for process in (producer, *consumers)]
    assert len(shown) == count, (len(shown), count, errors)
    assert Counter(shown) == Counter(stored), (Counter(shown) - Counter(stored), Counter(stored) - Counter(shown), errors)
    assert set(shown) == set(arrived), (set(shown) ^ set(arrived), Counter(arrived) - Counter(shown), errors)
    assert byPlayer(shown) == byPlayer(stored)
    for each in [arrived] if once else [consumer.shown() for consumer in consumers]:
        assert not Counter(each) - Counter(shown), (Counter(each) - Counter(shown), errors)
    if len(consumers) == 1 and not left:
        assert byPlayer(shown) == byPlayer(arrived)
