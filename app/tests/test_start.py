"""The start: which server is used, and what is said where no broker, no topic or no leader is."""
import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.kafka import freePort
from support.processes import LIMIT, NOT_SET, Process, complaints, environment, run
from support.servers import garbage, hangUp, mute, noLogin, serve, webServer

SCRIPTS = ["runProducer", "runConsumer"]


@pytest.mark.parametrize("arguments, variable, file, typed", [
    ([], "{good}", None, None),
    (["-b", "localhost:1"], "{good}", None, "localhost:1"),
    (["-b", "{good}"], "", None, None),
    (["-b", "{good}"], None, None, None),
    (["-X", "bootstrap.servers={good}"], "bad:1", None, None),
    (["-b", "bad:2", "-X", "bootstrap.servers={good}"], "bad:1", None, "bad:2"),
    (["-F", "{file}"], "bad:1", "# a comment\n\n bootstrap.servers = {good}\nsocket.keepalive.enable=true\n", None),
    (["-F", "{file}"], "bad:1", "\ufeffbootstrap.servers={good}\r\n\r\n # as Windows writes it\r\n", None),
    (["-F", "{file}", "-X", "metadata.broker.list={good}"], "bad:1", "bootstrap.servers=bad:3", None)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_whichServer(mock, tmp_path, script, arguments, variable, file, typed):
    """typed: the server of a -b that is not used."""
    names = {"good": mock.bootstrap, "file": tmp_path / "kafka.properties"}
    if file:
        names["file"].write_bytes(file.format(**names).encode())
    changes = {} if variable is None else {"BOOTSTRAP_SERVERS": variable.format(**names)}
    topic = mock.topic()
    mock.publish(topic, "one")
    more = ["-g", topic, "-e", 1] if script == "runConsumer" else []
    ended = run(script, "-t", topic, *(text.format(**names) for text in arguments), *more, env=environment(**changes))
    assert f"Bootstrap servers: {mock.bootstrap}\n" in ended.stdout and ended.returncode == 0
    assert (NOT_SET in ended.stdout) == (not variable)
    unused = f"{script}: -b {typed} is not used: -X, -F or BOOTSTRAP_SERVERS names the server"
    assert complaints(ended.stderr) == ([unused] if typed else [])


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("typed, used", [
    ([], "localhost:9092"), (["-b", "nowhere.invalid"], "nowhere.invalid"), (["-b", " a.invalid:1 , [::1]:2,"], "a.invalid:1,[::1]:2")])
def test_serverAsTyped(script, typed, used):
    """With TLS it does not matter whether a Kafka happens to listen there."""
    with Process(script, "-t", "t", *typed, "-X", "security.protocol=SSL") as process:
        process.until(f"Bootstrap servers: {used}\n")


def measure(process):
    """Return how long a process looks for a broker: at least, and at most."""
    launched = time.monotonic()
    process.until("Bootstrap servers: ")
    begun = time.monotonic()
    process.wait(LIMIT)
    return [time.monotonic() - since for since in (begun, launched)]


@pytest.fixture(scope="module")
def tries():
    """Both scripts against all that is no broker, at once, because each tries for ten seconds."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(12))
        addresses = {"closed": f"127.0.0.1:{freePort()}", "unresolvable": "nowhere.invalid:9092",
                     **{kind.__name__: stack.enter_context(serve(kind)) for kind in (mute, hangUp, garbage, webServer)}}
        found = {(script, kind): (stack.enter_context(Process(script, "-t", "t", "-b", address)), address)
                 for script in SCRIPTS for kind, address in addresses.items()}
        yield {key: (*pair, pool.submit(measure, pair[0])) for key, pair in found.items()}


@pytest.mark.waits
@pytest.mark.xdist_group("tries")  # so that one worker starts them, and only once
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", ["closed", "unresolvable", "mute", "hangUp", "garbage", "webServer"])
def test_serverThatIsNoBroker(tries, script, kind):
    process, address, measured = tries[script, kind]
    least, most = measured.result()
    assert process.end() == 1
    assert least < 15 and most > 7  # within 10 s, but for a busy machine; a broker may take a while to start
    assert len(process.err) == 2 and process.err[0].startswith(f"{script}: no Kafka broker at {address}: "), process.err
    assert "docker ps" in process.err[1]
    assert process.out[-1] == f"Bootstrap servers: {address}\n"


def test_topicThatIsJustBeingCreated(faultyMock):
    """It is waited for."""
    faultyMock.cluster.forget("topic")
    with Process("runProducer", "-t", "topic", "-b", faultyMock.bootstrap, "-l", "-e", 1) as process:
        process.until("Bootstrap servers: ")
        process.outlast(0.5)
        faultyMock.cluster.remember("topic")
        assert process.end() == 0, process.err


@pytest.mark.waits
@pytest.mark.parametrize("script", SCRIPTS)
def test_leaderThatDoesNotAnswer(faultyMock, script):
    """The answer of the server of -b is not enough."""
    address = f"127.0.0.1:{freePort()}"
    faultyMock.cluster.advertise(*address.split(":"))
    with Process(script, "-t", "topic", "-b", faultyMock.bootstrap) as process:
        process.until(f"{faultyMock.bootstrap} sent us on to {address}, where nobody answers for topic topic: ")
        assert process.end() == 1 and not any("Listening" in line for line in process.out)


@pytest.mark.parametrize("script", SCRIPTS)
def test_loginThatIsRefused(script):
    """It is no missing broker."""
    login = "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=spinner", "sasl.password=hunter2"
    with serve(noLogin) as address:
        ended = run(script, "-t", "t", "-b", address, *(word for text in login for word in ("-X", text)))
    assert ended.returncode == 1 and "hunter2" not in ended.stdout + ended.stderr
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"{script}: no access to {address}: ") and "go away" in first
    assert "sasl.*" in second


@pytest.mark.parametrize("script", SCRIPTS)
def test_missingTopic(strict, script):
    ended = run(script, "-t", "missing", "-b", strict.bootstrap)
    assert ended.returncode == 1
    assert ended.stderr == (f"{script}: topic missing at {strict.bootstrap}: Broker: Unknown topic or partition\n"
                            f"{script}: create it, ask for access to it, or name another with -t\n")


def test_consumerCreatesNoTopic(kafka):
    ended = run("runConsumer", "-t", "mistyped", "-b", kafka.bootstrap)
    assert ended.returncode == 1 and "mistyped" not in kafka.admin.list_topics(timeout=LIMIT).topics


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("address", ["broker.nowhere.invalid:21003", "127.0.0.1:7"])
def test_advertisedAddressWhereNobodyIs(script, address, elsewhere):
    """The bootstrap address answers, and sends its clients on."""
    bootstrap, topic = elsewhere[address]
    ended = run(script, "-t", topic, "-b", bootstrap)
    assert ended.returncode == 1 and "Listening" not in ended.stdout
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"{script}: {bootstrap} sent us on to {address}, where nobody answers for topic {topic}: ")
    assert "advertised.listeners" in second


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopWhileConnecting(script, number):
    with serve(mute) as address, Process(script, "-t", "t", "-b", address) as process:
        process.until("Bootstrap servers")
        process.send_signal(number)
        assert process.end() == (0 if (script, number) == ("runConsumer", signal.SIGINT) else 128 + number)
        assert not any("Traceback" in line for line in process.err)
