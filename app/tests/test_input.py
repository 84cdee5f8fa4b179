"""Bad input: one clear line on standard error, the right exit status, and never a traceback."""
import contextlib
import http.server
import os
import signal
import socket
import sys
import threading

import pytest
from support.kafka import freePort
from support.processes import LIMIT, Process, environment, finish, run, runHere, start

import gameplay
from terminal import commandline
from terminal.console import Console
from terminal.stopping import Stopping

SCRIPTS = ["runProducer", "runConsumer"]
WRONG = [
    [], ["-t", ""], ["-t", "a b"], ["-t", "a/b"], ["-t", "."], ["-t", ".."], ["-t", "x" * 250], ["-t", "z\u00fcrich"],
    *(["-t", "t", *more] for more in (
        ["-b", ""], ["-b", " "], ["-b", ","], ["-b", "host:abc"], ["-b", "host:99999"], ["-b", "host:0"], ["-b", ":1"],
        ["-b", "http://host:1"], ["-b", " = localhost:9092"], ["-b", "a:1:2"], ["-b", "a:1,b:x"], ["-b", "[::1"],
        ["-p", "0"], ["-p", "-1"], ["-p", "x"], ["-p", "1.5"], ["-p", ""], ["-p", "9" * 5000], ["-e", "-1"], ["-e", "x"],
        ["-e", "1e3"], ["-e", str(2 ** 63)], ["-X", "foo"], ["-X", "=x"], ["-X", "foo=bar"], ["-X", "bootstrap.servers=,"],
        ["-X", "linger.ms=x"], ["-X", "error_cb=x"], ["-X", "logger=x"], ["-X", "stats_cb=x"], ["-X", "default.topic.config=x"],
        ["-X", "on_commit=x"], ["-X", "client.id=\udcff"], ["-X", "security.protocol=x"], ["-F", "/nowhere"], ["-F", "/"],
        ["-F", sys.executable], ["-F", "/dev/zero"], ["--unknown"], ["extra"], ["-t"]))]
PRODUCER = [["-l", "-m", "-1"], ["-m", "50", "-x", "10"], ["-m", "2000"], ["-x", "x"], ["--seed", "x"], ["--seed", "9" * 5000],
            ["--embedded", "-b", "h:1"], ["--embedded", "-X", "bootstrap.servers=h:1"], ["-X", "acks=1"], ["-n", "0"],
            ["-X", "delivery.report.only.error=true"], ["-X", "transactional.id=x"], ["-X", "queue.buffering.max.messages=0"],
            ["-X", "test.mock.num.brokers=1"], ["-X", "acks=0"], ["-X", "enable.idempotence=false", "-X", "request.required.acks=0"], ["--set", "x=1"]]
CONSUMER = [["-g", ""], ["-X", "group.id="], ["--timeout", "-1"], ["--timeout", "nan"], ["--timeout", "inf"], ["--timeout", "x"],
            ["-X", "enable.auto.offset.store=true"], ["-g", "\udcff"], ["-X", "auto.offset.reset=x"],
            ["-X", "group.protocol=x"], ["-X", "partition.assignment.strategy=range,cooperative-sticky"],
            ["-X", "group.protocol=CONSUMER", "-X", "session.timeout.ms=6000"]]


def checkUsageError(script, status, out, err):
    """Require usage and one line of error, before anything else, and return that line."""
    assert (status, out) == (2, ""), (status, out, err)
    usage, error, end = err.split("\n")
    assert usage.startswith("usage: ") and error.startswith(f"{script}: error: ") and end == ""
    assert len(error) < 300
    return error


@pytest.fixture
def usageError(capfd):
    """Return a function that runs a script in this process and requires a usage error of it."""
    def require(script, arguments):
        status = runHere(script, *arguments)
        return checkUsageError(script, status, *capfd.readouterr())
    return require


@pytest.mark.parametrize("script, arguments", [
    *((script, arguments) for script in SCRIPTS for arguments in WRONG),
    *(("runProducer", ["-t", "t", *arguments]) for arguments in PRODUCER),
    *(("runConsumer", ["-t", "t", *arguments]) for arguments in CONSUMER)], ids=lambda value: ascii(value)[:60])
def test_wrongArguments(usageError, script, arguments):
    usageError(script, arguments)


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrongArgumentInAProcessOfItsOwn(script):
    ended = run(script, "-t", "t", "-e", "x")
    checkUsageError(script, ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("bound", ["maxPlayer=1", "=1", "minStake", "minStake=", "minStake=x", "minStake=1.5",
                                   "minGameId=" + "9" * 5000])
def test_wrongBound(usageError, bound):
    assert "is not NAME=VALUE with a whole number" in usageError("runProducer", ["-t", "t", "--set", bound])


@pytest.mark.parametrize("bounds, words", [
    (["winModulu=0"], "winModulu 0 is no"), (["minStake=301"], "minStake 301 to maxStake 300 is no"),
    (["maxPlayerId=2147483648"], "maxPlayerId 2147483648 is no"), (["maxWin=9223372036854775808"], "maxWin 9223372036854775808 is no"),
    (["minWin=1", "maxWin=0"], "minWin 1 to maxWin 0 is no"),
    (["minWin=-9223372036854775808", "maxWin=-9223372036854775809"], "to maxWin -9223372036854775809 is no")])
def test_boundsThatMakeNoGame(usageError, bounds, words):
    assert words in usageError("runProducer", ["-t", "t", *(word for bound in bounds for word in ("--set", bound))])


def test_editedBoundsThatMakeNoGame(usageError, monkeypatch):
    monkeypatch.setattr(gameplay, "minStake", 500)
    line = usageError("runProducer", ["-t", "t", "--embedded"])
    assert line.endswith("gameplay.py: minStake 500 to maxStake 300 is no range of whole numbers of 32 bits")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("value", [" = localhost:9092", " ", ",", "host:abc", "http://host:1"])
def test_wrongVariable(usageError, monkeypatch, script, value):
    monkeypatch.setenv("BOOTSTRAP_SERVERS", value)
    line = usageError(script, ["-t", "t"])
    assert "environment variable BOOTSTRAP_SERVERS" in line


@pytest.mark.parametrize("text, servers", [("host", "host"), (" a:1 , [::1]:9093,", "a:1,[::1]:9093")])
def test_listOfServers(text, servers):
    """Without a port it is Kafka's, 9092."""
    assert commandline.serverList(text) == servers


def test_fileWithAByteOrderMark(tmp_path):
    """Windows begins a file with it."""
    file = tmp_path / "cloud.properties"
    file.write_text("client.id = a\r\n\r\n # b\r\n", encoding="utf-8-sig")
    assert commandline.propertyFile(file) == [("client.id", "a")]


@pytest.mark.parametrize("text, place", [
    ("bootstrap.servers=h:1\nfoo\n", "line 2"), ("# a\n\n=x\n", "line 3"), ("Foo Bar=x\n", "line 1"),
    ("sasl.password\n", "line 1"), ("bootstrap.servers=h:x\n", "line 1"),
    (b"client.id=\xff\n", "UTF-8"), ("client.id=a\0b", "UTF-8")])
def test_wrongFile(usageError, tmp_path, text, place):
    path = tmp_path / "kafka.properties"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert place in usageError("runConsumer", ["-t", "t", "-F", str(path)])


SECRET = "hunter2"


@pytest.mark.parametrize("typed", [
    ["-X", "sasl.password"], ["-X", "sasl.password", SECRET], ["-X", f"sasl.password:{SECRET}"], ["-X", SECRET],
    ["-X", f"sasl.passwrod={SECRET}"], ["-X", "sasl.password=", SECRET], [f"-Xsasl.password {SECRET}"],
    ["-X", f"SASL.PASSWORD={SECRET}"], [f"--p=sasl.password={SECRET}"], [f"--propertys=sasl.password={SECRET}"],
    [f"--sasl.password={SECRET}"], ["-X", f"sasl.password={SECRET}", "-X", "foo=bar"],
    ["-X", f"sasl.password={SECRET}", "sasl.mechanism=x"], ["-X", f"bootstrap.servers=user:{SECRET}@host:1"],
    ["-b", f"user:{SECRET},x@host:1"],
    ["-X", f"sasl.password:{SECRET}=x"], ["-X", f"ssl.key.password={SECRET}\udcff"],
    ["-X", f'sasl.jaas.config=org.apache.kafka.PlainLoginModule required password="{SECRET}";'],
    ["-X", f"sasl.password={SECRET}", "-X", f"security.protocol={SECRET}"],
    ["-X", "sasl.mechanism=PLAIN", "-X", "security.protocol=hunter", "-X", f"sasl.password={SECRET}"]])
@pytest.mark.parametrize("script", SCRIPTS)
def test_secretIsNotRepeated(usageError, script, typed):
    assert SECRET not in usageError(script, ["-t", "t", *typed])


def test_secretThatBeginsAnother():
    console = Console("test", Stopping())
    console.secrets = {SECRET, SECRET + "more", "more"}
    assert console.hide(f"{SECRET}more and {SECRET}") == "*** and ***"


@pytest.mark.parametrize("line", [f"sasl.password {SECRET}", f"sasl.password:{SECRET}", SECRET, f"sasl.passwrod={SECRET}",
                                  f"Sasl.Password={SECRET}"])
def test_secretOfAFileIsNotRepeated(usageError, tmp_path, line):
    path = tmp_path / "cluster.properties"
    path.write_text(f"# of the cluster\n{line}\n")
    said = usageError("runProducer", ["-t", "t", "-F", str(path)])
    assert SECRET not in said
    assert f"{path}, line 2: a property is KEY=VALUE" in said or '"sasl.passwrod"' in said


held = []  # connections that stay open


@contextlib.contextmanager
def server(answer):
    """Serve TCP on loopback with a function of a connection, and yield HOST:PORT."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=answer, args=(connection,), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    yield "127.0.0.1:%d" % listener.getsockname()[1]
    listener.close()


def mute(connection):
    held.append(connection)


def hangUp(connection):
    connection.close()


def garbage(connection):
    with contextlib.suppress(OSError):
        connection.sendall(b"\x00\x00\x00\x04garbage" * 10)


@pytest.fixture(scope="module")
def tries():
    """Both scripts against all that is no broker, at once, because each tries for ten seconds."""
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler))
        stack.callback(page.shutdown)
        page.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=page.serve_forever, daemon=True).start()
        addresses = {"closed": f"127.0.0.1:{freePort()}", "unresolvable": "nowhere.invalid:9092",
                     "http": f"127.0.0.1:{page.server_port}",
                     **{kind.__name__: stack.enter_context(server(kind)) for kind in (mute, hangUp, garbage)}}
        yield {(script, kind): (stack.enter_context(Process(script, "-t", "t", "-b", address)), address)
               for script in SCRIPTS for kind, address in addresses.items()}


@pytest.mark.xdist_group("tries")  # so that one worker starts them, and only once
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", ["closed", "unresolvable", "http", "mute", "hangUp", "garbage"])
def test_serverThatIsNoBroker(tries, script, kind):
    process, address = tries[script, kind]
    assert process.end() == 1
    assert len(process.err) == 2 and process.err[0].startswith(f"{script}: no Kafka broker at {address}: "), process.err
    assert "docker ps" in process.err[1]
    assert process.out[-1] == f"Bootstrap servers: {address}\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_missingTopic(strict, script):
    ended = run(script, "-t", "missing", "-b", strict.bootstrap)
    assert ended.returncode == 1
    assert ended.stderr == (f"{script}: topic missing at {strict.bootstrap}: Broker: Unknown topic or partition\n"
                            f"{script}: create it, ask for access to it, or name another with -t\n")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("address", ["broker.nowhere.invalid:21003", "127.0.0.1:7"])
def test_advertisedAddressWhereNobodyIs(script, address, elsewhere):
    """The bootstrap address answers, and sends its clients on."""
    bootstrap, topic = elsewhere[address]
    ended = run(script, "-t", topic, "-b", bootstrap)
    assert ended.returncode == 1
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"{script}: {bootstrap} sent us on to {address}, where nobody answers for topic {topic}: ")
    assert "advertised.listeners" in second


def test_consumerCreatesNoTopic(kafka):
    ended = run("runConsumer", "-t", "mistyped", "-b", kafka.bootstrap)
    assert ended.returncode == 1 and "mistyped" not in kafka.admin.list_topics(timeout=LIMIT).topics


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopWhileConnecting(script, number):
    with server(mute) as address, Process(script, "-t", "t", "-b", address) as process:
        process.until("Bootstrap servers")
        process.send(number)
        assert process.end() == (0 if (script, number) == ("runConsumer", signal.SIGINT) else 128 + number)
        assert not any("Traceback" in line for line in process.err)


LOOP = ["-l", "-e", 50, "-m", 0, "-x", 1, "-p", 1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    ended = run(script, "--help", env=environment(COLUMNS="80"))
    assert ended.returncode == 0 and ended.stderr == ""
    for text in ("connection:", "loop:", "output:", "BOOTSTRAP_SERVERS", "(default: localhost:9092)", "HOST:PORT", "KEY=VALUE"):
        assert text in ended.stdout
    assert ended.stdout.split("examples:\n")[1].count(f"python {script}.py -t gameplay") >= 2
    assert max(map(len, ended.stdout.split("\n"))) <= 80
    if os.path.exists("/dev/full"):
        words = ["bash", "-c", f"'{sys.executable}' {script}.py --help >/dev/full"]
        ended = finish(start(words, env=environment(PYTHONUNBUFFERED="")))
        assert ended.returncode == 1
