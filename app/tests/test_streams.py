"""Standard streams and signals: closed, full, stuck and non-blocking streams; floods of signals."""
import contextlib
import os
import select
import signal
import sys
import threading

import pexpect
import pytest
from support.kafka import waitFor
from support.processes import (APP, EXIT, LIMIT, QUESTION, READY, Process, command, environment, events, finish, start,
                               terminal)

SCRIPTS = ["runProducer", "runConsumer"]
LOOP = ["-l", "-e", "50", "-m", "0", "-x", "0"]
ENDLESS = ["-l", "-e", 0, "-m", 0, "-x", 0, "-p", 1]
needsFullDevice = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full not found")


def shell(words, redirection):
    """Run a command line in a shell, its streams redirected, and return its end."""
    line = " ".join(f"'{word}'" for word in words)
    return finish(start(["bash", "-c", f"{line} {redirection}"]))


@pytest.mark.parametrize("redirection, reason", [
    ("| head -n 8 >/dev/null; exit ${PIPESTATUS[0]}", "Broken pipe"), (">&-", "closed"),
    pytest.param(">/dev/full", "No space left on device", marks=needsFullDevice)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_outputGone(mock, script, redirection, reason):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(20000)))
    more = ENDLESS if script == "runProducer" else ["-g", topic]  # nothing else would end either
    ended = shell(command(script, "-t", topic, "-b", mock.bootstrap, *more), redirection)
    assert ended.returncode == 1
    lines = ended.stderr.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith(f"{script}: ")
    assert f"standard output is gone: {reason}" in lines[0]


@pytest.mark.parametrize("redirection", [
    "<&-", "2>&-", "<&- 2>&-", pytest.param("2>/dev/full", marks=needsFullDevice)])
def test_closedStreams(mock, redirection):
    ended = shell(command("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, *LOOP), redirection)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Finished publishing: 50 messages." in ended.stdout


@pytest.fixture
def pipe():
    """A pipe that the test may read: (reader, writer)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def waitUntilFull(writer):
    """Wait until a pipe takes no more."""
    waitFor(lambda: not select.select([], [writer], [], 0)[1], "a full pipe", LIMIT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("errorsToo", [False, True])
def test_stopIsKeptWhenNobodyReads(mock, pipe, script, errorsToo, number):
    topic = mock.topic()
    mock.publish(topic, *map(str, range(20000)))
    more = ENDLESS if script == "runProducer" else ["-g", topic]
    process = start(command(script, "-t", topic, "-b", mock.bootstrap, *more), stdout=pipe[1],
                    **({"stderr": pipe[1]} if errorsToo else {}))
    waitUntilFull(pipe[1])
    process.send_signal(number)
    error = finish(process).stderr
    wayOut = (script, number) == ("runConsumer", signal.SIGINT)
    # What waits to be shown can't be: for the consumer's way out that is a failure.
    assert process.returncode == (1 if wayOut else 128 + number)
    if not errorsToo:
        reason = {"runProducer": f"stopped by {number.name}", "runConsumer": "standard output is gone"}
        assert reason[script] in error and error.count("\n") == 1


def test_stopIsKeptWhenSomebodyReadsALittle(mock, pipe):
    """The pipe has room again, but not for all of the batch that the signal met."""
    topic = mock.topic()
    mock.publish(topic, *(f"{number:0100}" for number in range(20000)))
    process = start(command("runConsumer", "-t", topic, "-b", mock.bootstrap, "-g", topic), stdout=pipe[1])
    waitUntilFull(pipe[1])
    process.send_signal(signal.SIGTERM)
    for _ in range(2):
        os.read(pipe[0], 8192)
        waitUntilFull(pipe[1])
    finish(process)
    assert process.returncode == 143


@pytest.mark.parametrize("script", SCRIPTS)
def test_nonBlockingOutputLosesNothing(mock, pipe, script):
    topic, count = mock.topic(), 3000  # more than a pipe holds
    process = ["-l", "-e", count, "-m", 0, "-x", 0, "-p", 1] if script == "runProducer" else ["-g", topic, "-e", count]
    mock.publish(topic, *[b'{"event": %081d}' % number for number in range(count)])
    os.set_blocking(pipe[1], False)
    process = start(command(script, "-t", topic, "-b", mock.bootstrap, *process), stdout=pipe[1], text=False)
    waitUntilFull(pipe[1])
    output = b""
    while process.poll() is None or select.select([pipe[0]], [], [], 0)[0]:
        if select.select([pipe[0]], [], [], 0.05)[0]:
            output += os.read(pipe[0], 4096)
    ended = finish(process)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(set(events(output.decode()))) == count


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_floodOfSignals(mock, script, number):
    topic = mock.topic()
    more = ["-l", "-m", 60000, "-x", 60000] if script == "runProducer" else ["-g", topic]
    with Process(script, "-t", topic, "-b", mock.bootstrap, *more) as process:
        process.until("Message produced" if script == "runProducer" else "Listening")
        while process.process.poll() is None:
            process.send(number)
        wayOut = (script, number) == ("runConsumer", signal.SIGINT)
        assert process.end() == (0 if wayOut else 128 + number)
        assert not any(text in line for line in process.err for text in ("Traceback", "ignored"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_floodOfSignalsAtAQuestion(mock, number):
    child = terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
    child.expect_exact(READY)
    child.sendline()
    for _ in range(2):
        child.expect_exact(QUESTION)
        child.sendline("Y")
    child.expect_exact(QUESTION)

    ended = threading.Event()

    def flood():
        with contextlib.suppress(ProcessLookupError):
            while not ended.is_set():
                os.kill(child.pid, number)
    thread = threading.Thread(target=flood)
    thread.start()
    text = child.read()
    ended.set()
    thread.join(LIMIT)
    child.wait()
    assert child.exitstatus == 128 + number
    assert "\r\nFinished publishing: 2 messages.\r\n" in text
    assert f"2 produced, 2 delivered, 0 failed: stopped by {signal.Signals(number).name}" in text


def test_signalAtTheLastQuestionChangesNoFailure(mockCluster):
    mockCluster.topic("topic", replicas=3)
    child = terminal("runProducer", "-t", "topic", "-b", mockCluster.bootstrap, "-X", "message.timeout.ms=500")
    child.expect_exact(READY)
    child.sendline()
    child.expect_exact(QUESTION)
    for broker in 1, 2, 3:
        mockCluster.down(broker)
    child.sendline("Y")
    child.expect_exact("1 produced, 0 delivered, 1 failed")
    child.expect_exact(EXIT)
    child.kill(signal.SIGTERM)
    child.read()
    child.wait()
    assert child.exitstatus == 1


def test_countsAfterTheStopIsGivenUp(mockCluster):
    mockCluster.topic("topic", replicas=3)
    with Process("runProducer", "-t", "topic", "-b", mockCluster.bootstrap,
                 "-l", "-e", 0, "-m", 1, "-x", 1, "-p", 1) as process:
        process.until("Message produced")
        for broker in 1, 2, 3:
            mockCluster.down(broker)
        process.until("the broker is gone")
        process.send(signal.SIGTERM)
        assert process.end() == 1
        *_, counts = process.err
        produced, delivered, failed = (int(counts.split()[place]) for place in (1, 3, 5))
        assert failed and produced == delivered + failed and "failed: stopped by SIGTERM; " in counts
        assert f"Finished publishing: {delivered} messages.\n" in process.out
        assert len(process.shown()) == delivered


@pytest.mark.parametrize("script, status", [("runProducer", 130), ("runConsumer", 0)])
def test_ctrlCWhilePythonImports(script, status):
    process = start(command(script, "-t", "t", "-b", "127.0.0.1:1"), env=environment(PYTHONPROFILEIMPORTTIME="1"))
    for line in process.stderr:  # one a module, when it has been imported
        if line.endswith("| signal\n"):
            break
    for line in process.stderr:
        if "terminal" in line:
            break
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert (ended.returncode, ended.stdout) == (status, "") and "Traceback" not in ended.stderr


@pytest.mark.parametrize("script, redirection", [("runProducer", ""), ("runConsumer", "-g {topic} -e 1")])
def test_noQuestionThatNobodySees(mock, script, redirection):
    """Standard input is a terminal, standard output is a pipe."""
    topic = mock.topic()
    mock.publish(topic, "one")
    line = f"'{sys.executable}' {script}.py -t {topic} -b {mock.bootstrap} {redirection.format(topic=topic)} | cat"
    child = pexpect.spawn("bash", ["-c", line], cwd=str(APP), env=environment(), encoding="utf-8", timeout=LIMIT, dimensions=(50, 300))
    assert READY in child.read()
    child.close()
    assert child.exitstatus == 0


def test_answerThatIsNotUtf8(mock):
    child = terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, codec_errors="replace")
    child.expect_exact(READY)
    child.sendline()
    child.expect_exact(QUESTION)
    os.write(child.child_fd, b"\xff\xfe\n")
    child.expect_exact(QUESTION)
    child.sendline("N")
    child.expect_exact(EXIT)
    child.sendline()
    assert "Traceback" not in child.read()
