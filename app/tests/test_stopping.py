"""Stopping: what a signal leaves time for, what is said at the end, and the exit status."""
import re
import signal
import time

import pytest
from support.mockCluster import PRODUCE
from support.pairs import loopOn
from support.processes import EXIT, QUESTION, READY, SIGNALS, Process, Terminal, complaints, consumerOf, finished

SCRIPTS = ["runProducer", "runConsumer"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("pause", [0, 1, 60000])
def test_stopDeliversWhatWasGenerated(ground, number, pause):
    topic = ground.topic()
    with Process(*loopOn(ground, topic, "-m", pause, "-x", pause, "-p", 100)) as producer:
        producer.until("Number loops: endless")
        producer.until("Message produced")
        producer.send_signal(number)
        assert producer.end() == 128 + number
    count = finished(producer.out)
    assert not any(EXIT in line for line in producer.out)  # there is no last question after a signal
    assert count >= 1 and (ground.name == "mock" or count == ground.count(topic))  # the mock drops what is old
    assert complaints(producer.err) == [
        f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by {number.name}"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("again", [False, True])
def test_stopWithoutABroker(faultyMock, number, again):
    """The first signal decides what is said."""
    with Process(*loopOn(faultyMock, "topic")) as process:
        process.until("Message produced")
        faultyMock.cluster.down(1)
        process.until("the broker is gone")
        process.send_signal(number)
        process.until("acknowledgements; Ctrl-C gives up")
        if again:
            process.send_signal(signal.SIGINT)
        assert process.end() == 1
    *_, counts = process.err
    [waiting] = re.findall(r"waiting for (\d+) acknowledgements", "".join(process.err))
    produced, delivered, failed = (int(counts.split()[place]) for place in (1, 3, 5))
    assert int(waiting) == failed < produced == delivered + failed and f"failed: stopped by {number.name}; the broker is gone" in counts
    assert f"Finished publishing: {delivered} messages.\n" in process.out
    assert len(process.shown()) == delivered


@pytest.mark.waits
@pytest.mark.parametrize("milliseconds, again, status", [(2500, False, 143), (8000, False, 1), (3000, True, 1)])
def test_timeForTheLastAnswers(faultyMock, milliseconds, again, status):
    """The first signal leaves 4 s, because `docker stop` kills after 10, and the second one leaves none."""
    with Process(*loopOn(faultyMock, "topic")) as process:
        process.until("Message produced")
        faultyMock.cluster.linger(PRODUCE, milliseconds)
        process.send_signal(signal.SIGTERM)
        if again:
            process.until("acknowledgements; Ctrl-C gives up")
            process.send_signal(signal.SIGTERM)
        assert process.end() == status
    failed = "0" if status == 143 else "[1-9][0-9]*"
    assert re.search(f"delivered, {failed} failed: stopped by SIGTERM$", process.err[-1]), process.err


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_floodOfSignals(mock, script, number):
    topic = mock.topic()
    words = loopOn(mock, topic, "-m", 60000, "-x", 60000) if script == "runProducer" else consumerOf(mock, topic)
    with Process(*words) as process:
        process.until("Message produced" if script == "runProducer" else "Listening")
        while process.poll() is None:
            process.send_signal(number)
        isWayOut = (script, number) == ("runConsumer", signal.SIGINT)
        assert process.end() == (0 if isWayOut else 128 + number)
        assert not any(text in line for line in process.err for text in ("Traceback", "ignored", "Error"))


@pytest.mark.parametrize("number", SIGNALS)
def test_floodOfSignalsAtAQuestion(mock, number):
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
    child.converse((READY, ""), (QUESTION, "Y"), (QUESTION, "Y"))
    child.expect_exact(QUESTION)
    while child.isalive():
        child.kill(number)
    text = child.read()
    assert child.wait() == 128 + number
    assert "\r\nFinished publishing: 2 messages.\r\n" in text
    assert f"2 produced, 2 delivered, 0 failed: stopped by {number.name}" in text


ANSWERED = {READY: (), QUESTION: ((READY, ""), (QUESTION, "Y")), EXIT: ((READY, ""), (QUESTION, "Y"), (QUESTION, "N"))}


@pytest.mark.parametrize("question", ANSWERED)
def test_signalAtAQuestion(mock, question):
    """It ends the script at once, not after the 4 s for what is under way. On a busy machine, one of them does."""
    seconds = []
    for number in SIGNALS:
        topic, published = mock.topic(), int(question != READY)
        child = Terminal("runProducer", "-t", topic, "-b", mock.bootstrap)
        child.converse(*ANSWERED[question])
        child.expect_exact(question)
        begun = time.monotonic()
        child.kill(number)
        text = child.read()
        seconds.append(time.monotonic() - begun)
        assert child.wait() == 128 + number and "Traceback" not in text
        assert f"\nFinished publishing: {published} messages.\r\n" in text or (question == EXIT and "Finished" not in text)
        assert mock.count(topic) == published
    assert min(seconds) < 3


@pytest.mark.parametrize("script, question", [*(("runProducer", question) for question in ANSWERED), ("runConsumer", READY)])
def test_terminalClosedAtAQuestion(mock, script, question):
    child = Terminal(script, "-t", mock.topic(), "-b", mock.bootstrap)
    child.converse(*ANSWERED[question])
    child.expect_exact(question)
    child.ptyproc.fileobj.close()
    assert child.wait() == 129


def test_signalAtTheLastQuestionChangesNoFailure(mockCluster):
    mockCluster.topic("topic", replicas=3)
    child = Terminal("runProducer", "-t", "topic", "-b", mockCluster.bootstrap, "-X", "message.timeout.ms=500")
    child.converse((READY, ""))
    child.expect_exact(QUESTION)
    for broker in 1, 2, 3:
        mockCluster.down(broker)
    child.sendline("Y")
    child.expect_exact("1 produced, 0 delivered, 1 failed")
    child.expect_exact(EXIT)
    child.kill(signal.SIGTERM)
    child.read()
    assert child.wait() == 1


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("script", SCRIPTS)
def test_signalsThatAreIgnoredFromTheStart(mock, script, ignored):
    """That is what nohup asks for, and a shell without job control for what it starts with `&`."""
    topic = mock.topic()
    words = loopOn(mock, topic) if script == "runProducer" else consumerOf(mock, topic)
    with Process(*words, preexec_fn=lambda: signal.signal(ignored, signal.SIG_IGN)) as process:
        process.until("Message produced" if script == "runProducer" else "Listening")
        process.send_signal(ignored)
        process.outlast(1)
        process.send_signal(signal.SIGTERM)
        assert process.end() == 143
    lines = complaints(process.err)
    assert len(lines) == (script == "runProducer"), process.err
    assert all(re.fullmatch(r"runProducer: (\d+) produced, \1 delivered, 0 failed: stopped by SIGTERM", line) for line in lines)
