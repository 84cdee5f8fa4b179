"""The questions: which answers are taken, and when the last one is asked, only printed, or left out."""
import signal

import pexpect
import pytest
from confluent_kafka import KafkaError
from support.kafka import waitFor
from support.mockCluster import OFFSET_COMMIT
from support.processes import EXIT, LIMIT, QUESTION, READY, Process, Terminal, complaints, consumerOf, events

LAST = "Press the enter key to exit the consume application."
AGAIN = "the events shown last may be shown again by the next start"
LATE = "-X", "auto.commit.interval.ms=60000"  # nothing is committed before the end


def test_answers(mock):
    """Small letters and spaces are fine; "yes", and what is no UTF-8, is no answer."""
    topic, notUtf8 = mock.topic(), "\udcff\udcfe"
    child = Terminal("runProducer", "-t", topic, "-b", mock.bootstrap, codec_errors="surrogateescape")
    answers = "y", " Y ", "yes", notUtf8, " n"
    child.converse((READY, ""), *((QUESTION, answer) for answer in answers), (EXIT, ""))
    assert child.lines()[-1] == EXIT and len(events(child.session.getvalue())) == 2 == mock.count(topic)
    assert "Traceback" not in child.session.getvalue()


def shownInATerminal(ground, *arguments):
    """Return a consumer in a terminal that has shown the one event there is."""
    ground.publish("topic", "one", partition=0)
    child = Terminal(*consumerOf(ground, "topic", *arguments))
    child.converse((READY, ""))
    child.expect_exact("Received message: one")
    return child


@pytest.mark.waits
def test_lastQuestionOfAConsumer(faultyMock):
    """It is asked after Ctrl-C, also where the broker is gone. As nothing is to be committed, no time passes."""
    child = shownInATerminal(faultyMock)
    waitFor(lambda: faultyMock.stored("topic", "topic") == 1, "its offset", LIMIT)
    faultyMock.cluster.down(1)
    child.expect_exact("the broker is gone")
    child.sendintr()
    child.expect_exact(LAST)
    child.expect(pexpect.TIMEOUT, timeout=1)  # it waits for its answer: there was no deadline
    child.sendline()
    child.read()
    assert child.wait() == 0 and AGAIN not in child.session.getvalue()


@pytest.mark.parametrize("fault, stop", [("gone", "Ctrl-C"), ("refusal", "Ctrl-C"), ("refusal", "-e")])
def test_lastQuestionAtTheDeadline(faultyMock, fault, stop):
    """It is only printed: what was shown could not be committed in 4 s."""
    if fault == "refusal":
        faultyMock.cluster.refuse(OFFSET_COMMIT, KafkaError.REQUEST_TIMED_OUT)
    child = shownInATerminal(faultyMock, *LATE, "-e", int(stop == "-e"))
    if fault == "gone":
        faultyMock.cluster.down(1)
        child.expect_exact("the broker is gone")
    if stop == "Ctrl-C":
        child.sendintr()
    lines = child.read().replace("\r", "").replace("^C", "").split("\n")
    assert child.wait() == 0 and lines.count(LAST) == 1
    assert [line.endswith(AGAIN) for line in complaints(lines) if line.startswith("runConsumer: ")] == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("commits", [True, False])
def test_noLastQuestionOfAConsumerThatIsEnded(faultyMock, number, commits):
    """Neither at once nor at the deadline."""
    if not commits:
        faultyMock.cluster.refuse(OFFSET_COMMIT, KafkaError.REQUEST_TIMED_OUT)
    child = shownInATerminal(faultyMock)
    child.kill(number)
    text = child.read()
    assert LAST not in text and (AGAIN in text) != commits and child.wait() == 128 + number


@pytest.mark.parametrize("milliseconds, again", [(2500, False), (8000, False), (3000, True)])
def test_timeThatTheWayOutLeaves(faultyMock, milliseconds, again):
    """The first Ctrl-C leaves 4 s for the last commit, a second one none."""
    with Process(*consumerOf(faultyMock, "topic", *LATE)) as consumer:
        for number in "12":
            faultyMock.publish("topic", number, partition=0)
            consumer.until(f"Received message: {number}")
        faultyMock.cluster.linger(OFFSET_COMMIT, milliseconds)
        consumer.send_signal(signal.SIGINT)
        while again and consumer.poll() is None:
            consumer.send_signal(signal.SIGINT)
        assert consumer.end() == 0
    assert consumer.out[-1] == LAST + "\n" and consumer.out.count(LAST + "\n") == 1
    if again or milliseconds > 4000:
        assert [line.endswith(AGAIN) for line in complaints(consumer.err)] == [True], consumer.err
    else:
        assert complaints(consumer.err) == [] and faultyMock.stored("topic", "topic") == 2
