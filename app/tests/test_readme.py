"""README.md: each of its commands and examples is run as it is written, or skipped with the reason why not."""
import io
import itertools
import json
import re
import shutil
import sys

import pexpect
import pytest
from confluent_kafka import Producer
from support.grounds import Ground
from support.processes import (APP, EVENT, EXIT, NOT_SET, QUESTION, READY, byPlayer, environment, events, finish,
                               matches, run, runHere, start, terminal)

sys.path.append(str(APP / "benchmark"))
import pictures  # noqa: E402

TOP = APP.parent
README = pictures.README.read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ALL_TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -r app/tests/requirements.txt"
QUICK_TESTS = ".venv/bin/python -m pytest app -m quick"
BENCHMARK = ".venv/bin/python app/benchmark/run.py"
REASONS = {ALL_TESTS: "these are the tests; test_linesWithoutDocker only installs and collects them",
           BENCHMARK: "the benchmark takes minutes; test_linesWithoutDocker only asks for its help"}
tested = set()  # the blocks that a test runs


def block(beginning):
    """Return the one block of README.md that begins so."""
    found = [text for text in BLOCKS if text.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} blocks of README.md begin with {beginning!r}")
    return found[0]


def runs(**beginnings):
    """Hand blocks of README.md to a test that runs them; argument=how the block begins."""
    found = [block(beginning) for beginning in beginnings.values()]
    tested.update(found)
    return pytest.mark.parametrize(list(beginnings), [found], ids=["README.md"])


def shell(lines, folder, env=None):
    """Run lines in a shell, as it is without a terminal. All have to succeed. Return what they printed."""
    ended = finish(start(["bash", "-e", "-c", lines], cwd=folder, env=env))
    assert ended.returncode == 0, (lines, ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.stdout


@pytest.fixture
def clone(tmp_path):
    """A folder with the tracked files of this checkout, as they are now."""
    listing = finish(start(["bash", "-c", "git ls-files -z"], cwd=TOP))
    if listing.returncode:
        pytest.skip(f"a clone needs a checkout of git: {' '.join(listing.stderr.split())[-300:]}")
    for name in filter(None, listing.stdout.split("\0")):
        if (TOP / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


@runs(publish="python3 -m venv .venv && .venv/bin/pip install -q -r app/requirements.txt")
def test_linesWithoutDocker(packageIndex, clone, publish):
    outputs = [shell(publish, clone)]
    assert BENCHMARK.split("/")[-1] in shell(block(BENCHMARK).strip() + " --help", clone)
    collected = shell(block(ALL_TESTS).strip() + " --collect-only -q", clone)
    assert f"`{QUICK_TESTS}`" in README
    quick = shell(QUICK_TESTS + " --collect-only -q", clone)
    outputs.append(shell(publish, clone))
    for output in outputs:
        server = re.search("Bootstrap servers: (.*)", output)[1]
        matches(output.split("\n"), [
            "Running in a loop. Number loops: 100 Min latency: 10 Max latency: 50 Printing every 10:th message.", READY,
            f"Bootstrap servers: {server}", "Generating and publishing event in loop", *["Message produced: EVENT"] * 11,
            "Finished publishing: 100 messages.", EXIT, ""])
    total = int(re.search(r"^(\d+) tests collected", collected, re.MULTILINE)[1])
    part, of = re.search(r"^(\d+)/(\d+) tests collected", quick, re.MULTILINE).groups()
    assert 0 < int(part) < int(of) == total


@runs(up="docker compose")
def test_upASecondTime(stack, up):
    before = stack.containers()
    assert up == "docker compose -f docker/docker-compose.yml up -d --build --wait\n"  # as the stack was started
    shell(stack.own(up), TOP, stack.env)
    assert stack.whole(), stack.containers()
    assert {name: state["Id"] for name, state in stack.containers().items()} == {
        name: state["Id"] for name, state in before.items()}


def typed(transcript):
    """Return the command line that a transcript begins with."""
    return transcript.split("\n")[0][len("$ "):]


def checkLines(lines, transcript):
    """Require the lines that a transcript shows; one event in it, or "...", stands for several."""
    shown, seen = ([name for name, _ in itertools.groupby(re.sub(EVENT, "EVENT", line) for line in some)] for some in (
        (line for line in transcript.splitlines()[1:] if line != "..."), lines))
    assert seen == shown


@runs(enter="docker exec -it", listen="$ python runConsumer.py", single="$ python runProducer.py -t gameplay\n",
      loop="$ python runProducer.py -t gameplay -l")
def test_stepByStep(stack, enter, listen, single, loop):
    stack.clear()
    with stack.shell(enter) as producer, stack.shell(enter) as consumer:
        consumer.type(typed(listen), READY)
        consumer.type("", "Listening")
        producer.type(typed(single), READY)
        producer.type("", QUESTION)
        producer.type("Y", "Message produced: ", QUESTION)
        producer.type("N", EXIT)
        producer.type("")
        checkLines(producer.lines(), single)
        producer.type(typed(loop), READY)
        producer.type("", EXIT)
        producer.type("")
        checkLines(producer.lines(), loop)
        lines = consumer.consume(101)
    checkLines(lines[:3], listen)
    assert byPlayer(events("\n".join(lines))) == byPlayer(stack.ground.values("gameplay"))


@runs(listen="$ python runConsumer.py", single="$ python runProducer.py -t gameplay\n",
      loop="$ python runProducer.py -t gameplay -l")
def test_stepByStepWithoutTheStack(mock, listen, single, loop):
    def begin(transcript):
        script, *arguments = typed(transcript).split()[1:]
        child = terminal(script[:-len(".py")], *arguments, "-t", topic, env=environment(BOOTSTRAP_SERVERS=mock.bootstrap))
        child.logfile_read = io.StringIO()
        child.expect_exact(READY)
        child.sendline()
        return child

    def check(child, transcript, question=EXIT):
        child.expect_exact(question)
        shown = re.sub(r"[^\n]*\r\x1b\[K", "", child.logfile_read.getvalue().replace("\r\n", "\n"))  # the progress line
        checkLines(shown.replace(mock.bootstrap, "broker:29092").replace(topic, "gameplay").rstrip().split("\n"), transcript)
        child.sendline()

    topic = mock.topic()
    check(begin(listen), listen, "Press Ctrl-C to exit.")
    child = begin(single)
    for answer in ("Y", "N"):
        child.expect_exact(QUESTION)
        child.sendline(answer)
    check(child, single)
    check(begin(loop), loop)
    assert mock.count(topic) == 101


@runs(lines="docker exec event-gen python")
def test_scriptsAndCi(stack, lines):
    stack.clear()
    output = shell(stack.own(lines), TOP)
    assert "Finished publishing: 1000 messages." in output and output.count("Received message: ") == 1000
    assert stack.count() == 1000


@pytest.mark.usefixtures("stack")  # not because it is used: docker compose is there
def test_settings(clone):
    table = README.split("| line in `docker/.env` |")[1].split("\n\n")[0]
    settings = dict(re.findall(r"`(\w+)=([\w.]+)`", table))
    assert settings.keys() == {"BROKER_PORT", "UI_PORT", "ZOOKEEPER_PORT", "CONFLUENT_TAG"}
    (clone / "docker" / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    config = "docker compose -f docker/docker-compose.yml config --format json"
    env = {name: value for name, value in environment().items() if name not in settings}
    services = json.loads(shell(config, clone, env))["services"]
    ports = {name: (port["host_ip"], port["published"]) for name in services for port in services[name].get("ports", [])}
    assert ports == {"broker": ("127.0.0.1", settings["BROKER_PORT"]), "kafka-ui": ("127.0.0.1", settings["UI_PORT"]),
                     "zookeeper": ("127.0.0.1", settings["ZOOKEEPER_PORT"])}
    assert str(services["broker"]["ports"][0]["target"]) == settings["BROKER_PORT"]
    assert services["broker"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(f"://localhost:{settings['BROKER_PORT']}")
    assert {services[name]["image"].partition(":")[2] for name in ("broker", "zookeeper", "kafka-init-topics")} == {
        settings["CONFLUENT_TAG"]}


@pytest.fixture
def sensors(clone):
    """Return a function that saves a program as README.md says. It returns the name for run() and terminal()."""
    def save(code):
        [name] = re.findall(r"Saved as `app/(\w+)\.py`", README)
        (clone / "app" / f"{name}.py").write_text(code)
        return clone / "app" / name
    return save


def checkTemperatures(messages, output):
    """Require that a topic holds what was printed, each temperature under the number of its sensor."""
    assert sorted(message.value().decode() for message in messages) == sorted(events(output))
    for message in messages:
        event = json.loads(message.value())
        assert list(event) == ["sensor", "celsius"] and type(event["celsius"]) is float
        assert 1 <= event["sensor"] <= 20 and message.key() == str(event["sensor"]).encode()


@runs(code='"""Publishes temperatures')
def test_ownEvents(ground, sensors, code):
    topic = ground.topic()
    ended = run(sensors(code), "-t", topic, "-b", ground.bootstrap, "-l", "-e", 50, "-m", 0, "-x", 1, "-p", 1)
    matches(re.sub(r"\{.*\}", "{}", ended.stdout).split("\n"), [
        "Running in a loop. Number loops: 50 Min latency: 0 Max latency: 1 Printing every 1:th message.", READY, NOT_SET,
        f"Bootstrap servers: {ground.bootstrap}", "Generating and publishing event in loop", *["Message produced: {}"] * 50,
        "Finished publishing: 50 messages.", EXIT, ""])
    assert (ended.stderr, ended.returncode) == ("", 0)
    checkTemperatures(ground.messages(topic), ended.stdout)


@runs(code='"""Publishes temperatures')
def test_ownEventsEmbedded(sensors, code):
    child = terminal(sensors(code), "-t", "sensors", "-l", "-e", 20, "-m", 0, "-x", 1, "-p", 1, "--embedded")
    child.expect_exact(READY)
    child.sendline()
    child.expect(r"listens on (127\.0\.0\.1:\d+)")
    bootstrap = child.match[1]
    child.expect_exact(EXIT)
    output = child.before
    checkTemperatures(Ground("mock", bootstrap).messages("sensors"), output)
    assert len(events(output)) == 20
    child.sendline()
    child.expect(pexpect.EOF)


@runs(text='{"playerId"')
def test_event(text):
    assert re.fullmatch(EVENT + "\n", text)


@runs(text="# cloud.properties")
def test_properties(tmp_path, capfd, text):
    path = tmp_path / "cloud.properties"
    path.write_text(text)
    assert runHere("runProducer", "-t", "gameplay", "-F", path, "-p", 0) == 2
    assert "argument -p" in capfd.readouterr().err  # the first that is wrong
    properties = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    Producer({**properties, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})  # raises for what the library does not know


@pytest.mark.parametrize("text", [text for text in BLOCKS if text not in tested], ids=lambda text: text.split("\n")[0])
def test_otherBlocks(text):
    reason = next((reason for beginning, reason in REASONS.items() if text.startswith(beginning)), None)
    assert reason, "no test runs this block of README.md, and test_readme.py names no reason"
    pytest.skip(reason)


def test_noBlockIsOverlooked():
    fences = [line for line in README.split("\n") if line.lstrip("> \t").startswith(("```", "~~~"))]
    assert len(fences) == 2 * len(BLOCKS)


def test_barsShowTheTable():
    figures = pictures.speeds(README)
    picture = pictures.SPEED.read_text()
    assert len(figures) == 4 and all(f">{text}</text>" in picture for text in [*figures, *figures.values()])
    assert picture == pictures.bars(figures), "draw it again: python app/benchmark/pictures.py speed"


def test_linksAndPictures():
    headings = {heading.lower().replace(" ", "-") for heading in re.findall("^#+ (.*)$", README, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]*)\)", README):
        assert target[1:] in headings if target.startswith("#") else (TOP / target).is_file(), target
