"""Flags: one clear line for wrong ones, which are found before anything is asked or sent. test_readme.py has their defaults."""
import os
import sys

import pytest
from support.processes import Process, environment, run, runHere

import gameplay

SCRIPTS = ["runProducer", "runConsumer"]
@pytest.mark.parametrize("script", SCRIPTS)
def test_serverByDefault(script):
    """TLS keeps a Kafka that happens to listen there out of it."""
    with Process(script, "-t", "t", "-X", "security.protocol=SSL") as process:
        process.until("Bootstrap servers: localhost:9092\n")


WRONG = [
    [], ["-t", ""], ["-t", "a b"], ["-t", "a/b"], ["-t", "."], ["-t", ".."], ["-t", "x" * 250], ["-t", "z\u00fcrich"],
    *(["-t", "t", *more] for more in (
        ["-X", "on_commit=x"], ["-b", ""], ["-b", " "], ["-b", ","], ["-b", "host:abc"], ["-b", "host:99999"], ["-b", "host:0"], ["-b", ":1"],
        ["-b", "http://host:1"], ["-b", " = localhost:9092"], ["-b", "a:1:2"], ["-b", "a:1,b:x"], ["-b", "[::1"],
        ["-p", "0"], ["-p", "-1"], ["-p", "x"], ["-p", "1.5"], ["-p", ""], ["-p", "9" * 5000], ["-e", "-1"], ["-e", "x"],
        ["-e", "1e3"], ["-e", str(2 ** 63)], ["-X", "foo"], ["-X", "=x"], ["-X", "foo=bar"], ["-X", "bootstrap.servers=,"],
        ["-X", "linger.ms=x"], ["-X", "stats_cb=x"], ["-X", "client.id=\udcff"], ["-X", "security.protocol=x"],
        ["-F", "/nowhere"], ["-F", "/"], ["-F", sys.executable], ["-F", "/dev/zero"], ["--unknown"], ["extra"], ["-t"]))]
PRODUCER = [*([flag, "0.0000001"] for flag in ("-m", "-x")), ["-m", "."], ["-m", "1e3"], ["-x", "-0.5"], ["-m", "0.3", "-x", "0.2"],
            ["-m", "5."], ["-e", "0.5"], ["-m", "nan"], ["-l", "-m", "-1"], ["-m", "50", "-x", "10"], ["-m", "2000"], ["-x", "x"], ["--seed", "x"], ["--seed", "9" * 5000],
            ["--embedded", "-b", "h:1"], ["-X", "acks=1"], ["-n", "0"], ["-X", "transactional.id=x"],
            ["-X", "queue.buffering.max.messages=1.5"], ["-X", "acks=0"],
            ["-X", "enable.idempotence=false", "-X", "request.required.acks=0"], ["--set", "x=1"]]
CONSUMER = [["-g", ""], ["-X", "group.id="], ["--timeout", "-1"], ["--timeout", "nan"], ["--timeout", "inf"], ["--timeout", "x"],
            ["-g", "\udcff"], ["-X", "group.protocol=x"], ["-X", "partition.assignment.strategy=range,cooperative-sticky"],
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
    line = usageError("runProducer", ["-t", "t", "--set", bound])
    assert "is not NAME=VALUE with a whole number" in line and ", ".join(gameplay.BOUNDS) in line


@pytest.mark.parametrize("bounds, words", [
    (["winModulu=0"], "winModulu 0 is no"), (["minStake=301"], "minStake 301 to maxStake 300 is no"),
    (["maxPlayerId=2147483648"], "maxPlayerId 2147483648 is no"), (["maxWin=9223372036854775808"], "maxWin 9223372036854775808 is no"),
    (["minWin=1", "maxWin=0"], "minWin 1 to maxWin 0 is no"),
    (["minWin=-9223372036854775808", "maxWin=-9223372036854775809"], "to maxWin -9223372036854775809 is no")])
def test_boundsThatMakeNoGame(usageError, bounds, words):
    assert words in usageError("runProducer", ["-t", "t", *(word for bound in bounds for word in ("--set", bound))])


@pytest.mark.parametrize("bound, value, words", [
    ("minStake", 500, "minStake 500 to maxStake 300 is no range of whole numbers of 32 bits"),
    ("minWin", 1.5, "minWin 1.5 to maxWin 500 is no range of whole numbers of 64 bits"),
    ("maxGameId", "15", "minGameId 10 to maxGameId '15' is no range of whole numbers of 32 bits"),
    ("winModulu", None, "winModulu None is no whole number to divide by")])
def test_editedBoundsThatMakeNoGame(usageError, monkeypatch, bound, value, words):
    monkeypatch.setattr(gameplay, bound, value)
    assert usageError("runProducer", ["-t", "t", "--embedded"]).endswith(f"gameplay.py: {words}")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("value", [" = localhost:9092", " ", ",", "host:abc", "http://host:1"])
def test_wrongVariable(usageError, monkeypatch, script, value):
    monkeypatch.setenv("BOOTSTRAP_SERVERS", value)
    assert "environment variable BOOTSTRAP_SERVERS" in usageError(script, ["-t", "t"])


@pytest.mark.parametrize("script, key, value", [
    *((script, "error_cb", "x") for script in SCRIPTS), ("runProducer", "delivery.report.only.error", "true"),
    ("runProducer", "test.mock.num.brokers", "3"), ("runConsumer", "enable.auto.offset.store", "true")])
def test_propertyThatTheScriptSetsItself(mock, script, key, value):
    topic = mock.topic()
    mock.publish(topic, "one")
    more = ["-l", "-e", 5, "-m", 0, "-x", 0] if script == "runProducer" else ["-g", topic, "-e", 1]
    ended = run(script, "-t", topic, "-b", mock.bootstrap, *more, "-X", f"{key}={value}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Finished publishing: 5 messages." in ended.stdout or "Received message: one" in ended.stdout


@pytest.mark.parametrize("typed, names", [
    (["-e", 10], "-e"), (["-x", 1000, "-m", 500], "-m, -x"), (["--print_n_msg=1"], "-p"), (["-n", 100], "-p"),
    (["-n3", "--max_latency", 2000, "--min_latency", 0.5, "--events", 7], "-e, -m, -x, -p"), (["-e", 7, "-e", 10], "-e"),
    (["--seed", 7, "--set", "minStake=7"], None), (["-l", "-e", 1, "-m", 0, "-x", 0, "-p", 1], None)])
def test_flagsThatMeanNothingWithoutALoop(mock, capfd, typed, names):
    """Also where they are typed as they are by default."""
    assert runHere("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, *typed) == 0
    assert capfd.readouterr().err == (f"runProducer: without -l this means nothing: {names}\n" if names else "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_fileThatCanBeReadOnce(mock, tmp_path, script):
    """Such as a pipe from where passwords are kept. Nobody opens it a second time."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with Process(script, "-t", mock.topic(), "-F", path) as process:
        path.write_text(f"bootstrap.servers={mock.bootstrap}\n")
        process.until(f"Bootstrap servers: {mock.bootstrap}\n")


def test_flagsThatMeanNothingWithoutALoopInAProcessOfItsOwn(mock):
    ended = run("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, "-e", 1000)
    assert (ended.returncode, ended.stderr) == (0, "runProducer: without -l this means nothing: -e\n")


@pytest.mark.parametrize("typed, group", [
    (["-X", "group.id=theirs"], "theirs"), (["-F", "{file}"], "theirs"), (["-X", "group.id=theirs", "--group", "ours"], "ours"),
    (["-g", "consumer-1", "-F", "{file}"], "consumer-1"), ([], "consumer-1")])
def test_whichGroup(faultyMock, file, typed, group):
    """The one that was typed."""
    path = file("group.id=theirs\n")
    faultyMock.publish("topic", "one", partition=0)
    words = [word.format(file=path) for word in typed]
    ended = run("runConsumer", "-t", "topic", "-b", faultyMock.bootstrap, "-e", 1, *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {name for name in ("ours", "theirs", "consumer-1") if faultyMock.stored("topic", name) == 1} == {group}


SECRET = "hunter2"
WITH_SECRET = [f"sasl.password {SECRET}", f"sasl.password:{SECRET}", SECRET, f"sasl.passwrod={SECRET}", f"Sasl.Password={SECRET}",
               f"bootstrap.servers=user:{SECRET}@host:1", f"sasl.password:{SECRET}=x",
               f'sasl.jaas.config=org.apache.kafka.PlainLoginModule required password="{SECRET}";']


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a file of properties."""
    def write(content):
        path = tmp_path / "kafka.properties"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)
    return write


@pytest.mark.parametrize("text, place", [
    ("bootstrap.servers=h:1\nfoo\n", "line 2"), ("# a\n\n=x\n", "line 3"), ("Foo Bar=x\n", "line 1"),
    ("sasl.password\n", "line 1"), ("bootstrap.servers=h:x\n", "line 1"),
    (b"client.id=\xff\n", "UTF-8")])
def test_wrongFile(usageError, file, text, place):
    assert place in usageError("runConsumer", ["-t", "t", "-F", file(text)])


@pytest.mark.parametrize("line", [*WITH_SECRET, f"ssl.key.password={SECRET}\udcff", f"sasl.password={SECRET}\n-Xfoo=bar"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_valueOfAPropertyIsNotRepeated(usageError, script, line):
    assert SECRET not in usageError(script, ["-t", "t", *f"-X{line}".split("\n")])


@pytest.mark.parametrize("line", WITH_SECRET)
def test_valueInAFileIsNotRepeated(usageError, file, line):
    path = file(f"# of the cluster\n{line}\n")
    said = usageError("runProducer", ["-t", "t", "-F", path])
    assert SECRET not in said
    assert f"{path}, line 2: " in said or "error: configuration: " in said


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    ended = run(script, "--help", env=environment(COLUMNS="80"))
    assert ended.returncode == 0 and ended.stderr == ""
    for text in ("connection:", "loop:", "output:", "BOOTSTRAP_SERVERS", "(default: localhost:9092)", "HOST:PORT", "KEY=VALUE"):
        assert text in ended.stdout
    assert ended.stdout.split("examples:\n")[1].count(f"python {script}.py -t gameplay") >= 2
    assert max(map(len, ended.stdout.split("\n"))) <= 80


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full not found")
@pytest.mark.parametrize("script", SCRIPTS)
def test_helpThatNobodyCanRead(script):
    ended = run("bash", "-c", f"'{sys.executable}' {script}.py --help >/dev/full", env=environment(PYTHONUNBUFFERED=""))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
