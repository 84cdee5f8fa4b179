"""A producer and a consumer that run side by side: all that one shows, the broker has and the other shows, once."""
import contextlib
import datetime
import json
import signal
from collections import Counter

from support.kafka import waitFor
from support.processes import LIMIT, Process, byPlayer, consumerOf, events, finished


def loopOn(ground, topic, *arguments):
    """Return the script and the arguments of a producer of 1,000 events/s, endless unless -e is given."""
    return ("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 0, "-m", 1, "-x", 1, "-p", 1, *arguments)


def utc():
    """Return this moment as an eventTime has it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")


@contextlib.contextmanager
def pair(ground, topic):
    """Run an endless producer and a consumer, both of which have shown something."""
    with Process(*loopOn(ground, topic)) as producer, Process(*consumerOf(ground, topic)) as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        yield producer, consumer


def goOn(*processes, within=LIMIT):
    """Wait until each of the processes has shown an event that was generated after this moment.

    A producer shows events in order: all that were queued before are then acknowledged, of all partitions.
    """
    now = utc()

    def isSilent(process):
        newest = events("".join(process.out[-1:]))
        return not newest or json.loads(newest[0])["eventTime"] <= now

    def silent():
        return [(process.args, process.err) for process in processes if isSilent(process)]
    with contextlib.suppress(TimeoutError):
        waitFor(lambda: not silent(), "more events", within)
    assert silent() == [], silent()


def reconcile(ground, topic, producer, *consumers):
    """End them, and require all that was shown and stored to be the same, each event once."""
    producer.send_signal(signal.SIGINT)
    assert producer.end() == 130, producer.err
    count = finished(producer.out)

    def received():
        return [text for consumer in consumers for text in consumer.shown()]
    waitFor(lambda: len(received()) >= count, "the rest", LIMIT)
    for consumer in consumers:
        consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0, consumer.err

    def values():  # a broker that has just become the leader shows only what it knows that others have
        found = ground.values(topic)
        return found if len(found) >= count else None
    shown, stored = producer.shown(), waitFor(values, "all of the topic", LIMIT)
    assert len(shown) == count and Counter(shown) == Counter(stored) == Counter(received())
    assert byPlayer(shown) == byPlayer(stored)
    if len(consumers) == 1:
        assert byPlayer(shown) == byPlayer(received())
