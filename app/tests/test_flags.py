"""Flags: one clear line for wrong ones, which are found before anything is asked or sent. test_readme.py has their defaults."""
import os
import sys

import pytest
from support.processes import Process, complaints, environment, run, runHere

import gameplay

SCRIPTS = ["runProducer", "runConsumer"]
# {a script, or "run" for both: {flag: wrong values}}
WRONG_VALUES = {
    "run": {
        "-t": ["", "a b", "a/b", ".", "..", "x" * 250, "z\u00fcrich"],
        "-b": ["", " ", ",", "host:abc", "host:99999", "host:0", ":1", "http://host:1", " = localhost:9092", "a:1:2", "a:1,b:x", "[::1"],
        "-p": ["0", "-1", "x", "1.5", "", "9" * 5000], "-e": ["-1", "x", "1e3", str(2 ** 63)],
        "-X": ["foo", "=x", "foo=bar", "on_commit=x", "stats_cb=x", "bootstrap.servers=,", "linger.ms=x", "client.id=\udcff",
               "security.protocol=x"],
        "-F": ["/nowhere", "/", sys.executable, "/dev/zero"]},
    "runProducer": {
        "-m": ["0.0000001", ".", "5.", "1e3", "nan", "2000"], "-x": ["0.0000001", "-0.5", "x"], "-e": ["0.5"], "-n": ["0"],
        "--seed": ["x", "9" * 5000], "-X": ["acks=0", "acks=1", "transactional.id=x", "queue.buffering.max.messages=1.5"]},
    "runConsumer": {
        "-g": ["", "\udcff"], "--timeout": ["-1", "nan", "inf", "x"],
        "-X": ["group.id=", "group.protocol=x", "partition.assignment.strategy=range,cooperative-sticky"]}}
WRONG_TOGETHER = {
    "run": [["--unknown"], ["extra"], ["-t"]],
    "runProducer": [["-m", "0.3", "-x", "0.2"], ["-m", "50", "-x", "10"], ["-l", "-m", "-1"], ["--embedded", "-b", "h:1"],
                    ["-X", "enable.idempotence=false", "-X", "request.required.acks=0"]],
    "runConsumer": [["-X", "group.protocol=CONSUMER", "-X", "session.timeout.ms=6000"]]}


def wrongArguments(script):
    """Return all wrong command lines of a script."""
    values = [[flag, value] for whose in ("run", script) for flag, values in WRONG_VALUES[whose].items() for value in values]
    return [[], *(["-t", "t", *words] for words in [*values, *WRONG_TOGETHER["run"], *WRONG_TOGETHER[script]])]


@pytest.fixture
def usageError(capfd):
    """Return a function that runs a script, requires usage and one line of error, and no more, and returns that line."""
    def require(script, arguments):
        status = runHere(script, *arguments)
        out, err = capfd.readouterr()
        assert (status, out) == (2, ""), (status, out, err)
        usage, error, end = err.split("\n")
        assert usage.startswith("usage: ") and error.startswith(f"{script}: error: ") and end == ""
        assert len(error) < 300
        return error
    return require


@pytest.mark.parametrize("script, arguments", [(script, arguments) for script in SCRIPTS for arguments in wrongArguments(script)],
                         ids=lambda value: ascii(value)[:60])
def test_wrongArguments(usageError, script, arguments):
    usageError(script, arguments)


NO_BOUND = f"is not NAME=VALUE with a whole number and one of the names {', '.join(gameplay.BOUNDS)}"


@pytest.mark.parametrize("bounds, words", [
    *(([bound], NO_BOUND) for bound in (
        "maxPlayer=1", "=1", "minStake", "minStake=", "minStake=x", "minStake=1.5", "minGameId=" + "9" * 5000)),
    (["winModulu=0"], "winModulu 0 is no"), (["minStake=301"], "minStake 301 to maxStake 300 is no"),
    (["maxPlayerId=2147483648"], "maxPlayerId 2147483648 is no"), (["maxWin=9223372036854775808"], "maxWin 9223372036854775808 is no"),
    (["minWin=1", "maxWin=0"], "minWin 1 to maxWin 0 is no"),
    (["minWin=-9223372036854775808", "maxWin=-9223372036854775809"], "to maxWin -9223372036854775809 is no")],
    ids=lambda value: str(value)[:60])
def test_wrongBounds(usageError, bounds, words):
    assert words in usageError("runProducer", ["-t", "t", *(word for bound in bounds for word in ("--set", bound))])


@pytest.mark.parametrize("bound, value, words", [
    ("minStake", 500, "minStake 500 to maxStake 300 is no range of whole numbers of 32 bits"),
    ("minWin", 1.5, "minWin 1.5 to maxWin 500 is no range of whole numbers of 64 bits"),
    ("maxGameId", "15", "minGameId 10 to maxGameId '15' is no range of whole numbers of 32 bits"),
    ("winModulu", None, "winModulu None is no whole number to divide by")])
def test_wrongEditedBounds(usageError, monkeypatch, bound, value, words):
    monkeypatch.setattr(gameplay, bound, value)
    assert usageError("runProducer", ["-t", "t", "--embedded"]).endswith(f"gameplay.py: {words}")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("value", [" = localhost:9092", " ", ",", "host:abc", "http://host:1"])
def test_wrongVariable(usageError, monkeypatch, script, value):
    monkeypatch.setenv("BOOTSTRAP_SERVERS", value)
    assert "environment variable BOOTSTRAP_SERVERS" in usageError(script, ["-t", "t"])


@pytest.mark.parametrize("typed, names", [
    (["-e", 10], "-e"), (["-x", 1000, "-m", 500], "-m, -x"), (["--print_n_msg=1"], "-p"), (["-n", 100], "-p"),
    (["-n3", "--max_latency", 2000, "--min_latency", 0.5, "--events", 7], "-e, -m, -x, -p"), (["-e", 7, "-e", 10], "-e"),
    (["--seed", 7, "--set", "minStake=7"], None), (["-l", "-e", 1, "-m", 0, "-x", 0, "-p", 1], None)])
def test_flagsThatMeanNothingWithoutALoop(mock, capfd, typed, names):
    """Also where they are typed as they are by default."""
    assert runHere("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, *typed) == 0
    assert complaints(capfd.readouterr().err) == ([f"runProducer: without -l this means nothing: {names}"] if names else [])


@pytest.mark.parametrize("script", SCRIPTS)
def test_fileThatCanBeReadOnce(mock, tmp_path, script):
    """Such as a pipe from where passwords are kept. Nobody opens it a second time."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with Process(script, "-t", mock.topic(), "-F", path) as process:
        path.write_text(f"bootstrap.servers={mock.bootstrap}\n")
        process.until(f"Bootstrap servers: {mock.bootstrap}\n")


SECRET = "hunter2"
WITH_SECRET = [f"sasl.password {SECRET}", f"sasl.password:{SECRET}", SECRET, f"sasl.passwrod={SECRET}", f"Sasl.Password={SECRET}",
               f"bootstrap.servers=user:{SECRET}@host:1", f"sasl.password:{SECRET}=x",
               f'sasl.jaas.config=org.apache.kafka.PlainLoginModule required password="{SECRET}";']


@pytest.mark.parametrize("text, place", [
    ("bootstrap.servers=h:1\nfoo\n", "line 2"), ("# a\n\n=x\n", "line 3"), ("Foo Bar=x\n", "line 1"),
    ("sasl.password\n", "line 1"), ("bootstrap.servers=h:x\n", "line 1"),
    ("client.id=\xff\n", "UTF-8")])
def test_wrongFile(usageError, tmp_path, text, place):
    path = tmp_path / "kafka.properties"
    path.write_text(text, encoding="latin-1")
    assert place in usageError("runConsumer", ["-t", "t", "-F", path])


@pytest.mark.parametrize("line", [*WITH_SECRET, f"ssl.key.password={SECRET}\udcff", f"sasl.password={SECRET}\n-Xfoo=bar"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_valueOfAPropertyIsNotRepeated(usageError, script, line):
    assert SECRET not in usageError(script, ["-t", "t", *f"-X{line}".split("\n")])


@pytest.mark.parametrize("line", WITH_SECRET)
def test_valueInAFileIsNotRepeated(usageError, tmp_path, line):
    path = tmp_path / "kafka.properties"
    path.write_text(f"# of the cluster\n{line}\n")
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
