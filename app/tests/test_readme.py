"""README.md and app/README.md: each command and example is run as it is written; the tests and the benchmark only begin."""
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import pexpect
import pytest
import yaml
from confluent_kafka import Producer

import gameplay
from support.kafka import waitFor
from support.processes import APP, EVENT, EXIT, LIMIT, QUESTION, READY, Process, byPlayer, complaints, environment, events, matches, run
from support.stack import PROMPT, Shell, Stack

TOP = APP.parent
PAGES = {path: (TOP / path).read_text() for path in ("README.md", "app/README.md")}
BLOCKS = [text for page in PAGES.values() for text in re.findall(r"^```\w*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
QUICK_TESTS = ".venv/bin/python -m pytest app -m quick"
POST = ("https://nielsberglund.com/post/2023-02-26-develop-a-real-time-leaderboard-using-kafka-and-azure-data-explorer---"
        "prelude/")
tested = set()  # the blocks that a test runs


def block(beginning):
    """Return the one block of the two pages that begins so."""
    found = [text for text in BLOCKS if text.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} blocks begin with {beginning!r}")
    return found[0]


def table(page, heading):
    """Return the rows of the table of a page whose first column has this heading, as lists of cells."""
    [text] = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]*\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in text.splitlines()]


def runs(**beginnings):
    """Hand blocks to a test that runs them; argument=how the block begins."""
    found = [block(beginning) for beginning in beginnings.values()]
    tested.update(found)
    return pytest.mark.parametrize(list(beginnings), [found], ids=["page"])


def paste(lines, folder, env=None, *options):
    """Run lines in a POSIX shell without a terminal. Return how that ended."""
    return run("sh", *options, "-c", lines, cwd=folder, env=env)


def shell(lines, folder, env=None):
    """Run lines likewise. All have to succeed. Return what they printed."""
    ended = paste(lines, folder, env, "-e")
    assert ended.returncode == 0, (lines, ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.stdout


@pytest.fixture
def clone(tmp_path):
    """A folder with the tracked files of this checkout, as they are now."""
    listing = paste("git ls-files -z", TOP)
    if listing.returncode:
        pytest.skip(f"a clone needs a checkout of git: {' '.join(listing.stderr.split())[-300:]}")
    for name in filter(None, listing.stdout.split("\0")):
        if (TOP / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


ALL_TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -r app/tests/requirements.txt"


@runs(publish="python3 -m venv .venv && .venv/bin/pip install -q -r app/requirements.txt", tests=ALL_TESTS,
      benchmark=".venv/bin/python app/benchmark/run.py")
def test_linesWithoutDocker(packageIndex, clone, publish, tests, benchmark):
    outputs = [shell(publish, clone)]
    assert "run.py" in shell(benchmark.strip() + " --help", clone)
    collected = shell(tests.strip() + " --collect-only -q", clone)
    assert f"`{QUICK_TESTS}`" in PAGES["README.md"]
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


def test_ciRunsTheTestsOfThePage():
    assert (TOP / ".ci" / "run").read_text().endswith("\n" + block(ALL_TESTS))


@runs(up="docker compose")
def test_upASecondTime(stack, up):
    before = stack.containers()
    assert up == "docker compose -f docker/docker-compose.yml up -d --build --wait\n"  # as the stack was started
    shell(stack.own(up), TOP, stack.env)
    assert stack.whole(), stack.containers()
    assert [one["Id"] for one in stack.containers().values()] == [one["Id"] for one in before.values()]


class Here:
    """What a reader does in the stack, done on this machine: without Docker, on a broker of librdkafka's own."""

    def __init__(self, ground):
        ground.cluster.topic("gameplay")
        self.ground, self.server = ground, ground.bootstrap
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `python` is
        self.env = environment(BOOTSTRAP_SERVERS=ground.bootstrap, PATH=path, PS1=PROMPT)

    def own(self, lines):
        """Return lines that a reader types for the stack as they are for this machine."""
        lines = lines.replace("docker exec -it event-gen bash", "bash --norc")
        return lines.replace("docker exec event-gen python ", f"python {shlex.quote(str(APP))}/")

    def shell(self, line):
        """Type a reader's line that opens a shell in event-gen. Return a Shell in the folder of the scripts."""
        return Shell(self.own(line), self.env)


@pytest.fixture
def place(ground):
    """The stack, or this machine in its place, without events."""
    if not isinstance(ground, Stack):
        return Here(ground)
    ground.clear()
    return ground


eitherPlace = pytest.mark.parametrize("ground", ["stack", "faultyMock"], indirect=True)


def typed(transcript):
    """Return the command line that a transcript begins with."""
    return transcript.split("\n")[0][len("$ "):]


def checkLines(lines, transcript):
    """Require the lines that a transcript shows; one event in it, or "...", stands for several."""
    shown, seen = ([name for name, _ in itertools.groupby(re.sub(EVENT, "EVENT", line) for line in some)] for some in (
        (line for line in transcript.splitlines()[1:] if line != "..."), complaints(lines)))
    assert seen == shown


@eitherPlace
@runs(enter="docker exec -it", listen="$ python runConsumer.py", single="$ python runProducer.py -t gameplay\n",
      loop="$ python runProducer.py -t gameplay -l")
def test_stepByStep(place, enter, listen, single, loop):
    listen, single, loop = (text.replace("broker:29092", place.server) for text in (listen, single, loop))
    with place.shell(enter) as producer, place.shell(enter) as consumer:
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
    assert byPlayer(events("\n".join(lines))) == byPlayer(place.ground.values("gameplay"))


def short(lines, producer):
    """Return the lines of a recipe with another producer, which publishes too little, and a wait that is soon over."""
    return re.sub("^.*runProducer.*\n", producer, lines, flags=re.MULTILINE).replace("--timeout 10", "--timeout 1")


@eitherPlace
@runs(pace="docker exec event-gen python runProducer.py -t gameplay -l -e 100 ",
      players="docker exec event-gen python runProducer.py -t gameplay -l -e 1000 -m 0 -x 0 --set",
      check="topic=check-", export="topic=export-")
def test_recipes(place, tmp_path, pace, players, check, export):
    """Those with a check run twice. Both have to fail where events are missing."""
    def do(lines):
        return shell(place.own(lines), tmp_path, place.env)

    def status(lines):
        return paste(place.own(lines), tmp_path, place.env).returncode

    def checkNew(texts):
        assert len(texts) == 1000 and not seen & set(texts)
        assert {json.loads(text)["playerId"] for text in texts} <= set(range(100, 111))
        seen.update(texts)

    assert "Finished publishing: 100 messages." in do(pace)
    assert "Finished publishing: 1000 messages." in do(players)
    old = place.ground.values("gameplay")
    seen, found = set(old), {json.loads(text)["playerId"] for text in old}
    assert min(found) >= 1 and 9000 < max(found) <= 10000 and len(found) > 500 and len(old) == 1100
    [fewer] = re.findall("^.*runProducer.*\n", export.replace("-e 1000 -m", "-e 999 -m"), re.MULTILINE)
    file = tmp_path / "events.jsonl"
    for _ in range(2):
        output = do(check)
        assert "Finished publishing: 1000 messages." in output
        checkNew([line[len("Received message: "):] for line in output.splitlines() if line.startswith("Received message: ")])
        do(export)
        checkNew(file.read_text().splitlines())
    assert status(short(check, "")) == status(short(export, fewer)) == 1
    do(re.sub(r"(runConsumer.py -t )\S+", r"\1gameplay", short(export, "")))
    texts = file.read_text().splitlines()
    assert len(texts) == 1000 and not Counter(texts) - Counter(old)
    assert place.ground.count("gameplay") == 1100


@runs(lines="docker exec -d event-gen")
def test_inTheBackground(stack, lines):
    stack.clear()
    shell(stack.own(lines), TOP)
    waitFor(lambda: stack.count() > 10, "the first events", LIMIT)
    top, end = "docker top event-gen", "docker restart event-gen"
    assert f"`{top}`" in PAGES["README.md"] and f"`{end}`" in PAGES["README.md"]
    assert "python runProducer.py -t gameplay" in shell(top.replace("event-gen", stack.name("event-gen")), TOP)
    with stack.shell() as reader:
        shell(stack.own(end), TOP)
        reader.child.expect(pexpect.EOF)
    assert "python" not in stack.execute("sh", "-c", "cat /proc/[0-9]*/comm").stdout
    stored = stack.ground.values("gameplay")
    assert len(stored) == len(set(stored)) > 10


@runs(lines="docker run --rm --network")
def test_fromAnotherContainer(stack, lines):
    before = stack.count()
    assert "Finished publishing: 10 messages." in shell(stack.own(lines), TOP)
    assert stack.count() == before + 10


def pasteOwn(line, topic, folder, **changes):
    """Type a line of the page with our Python and topic, and changes of the environment. Return how that ended."""
    for written, here in ((".venv/bin/python", shlex.quote(sys.executable)), (r"-t \w+", f"-t {topic}")):
        line, count = re.subn(written, here, line)
        assert count == 1
    return paste(line, folder, environment(**changes))


@runs(line=".venv/bin/python app/runProducer.py")
def test_kafkaOfOnesOwn(ground, line):
    topic = ground.topic()
    ended = pasteOwn(line.replace("HOST:PORT", ground.bootstrap), topic, TOP)
    assert ended.returncode == 0 and "Finished publishing: 100 messages." in ended.stdout
    assert ground.count(topic) == 100


def test_whatListensWhere():
    services = yaml.safe_load((TOP / "docker" / "docker-compose.yml").read_text())["services"]
    published = {name: re.search(r":\$\{\w+:-(\d+)\}:", service["ports"][0])[1]
                 for name, service in services.items() if "ports" in service}
    rows = {inside.strip("`").split(":")[0]: (here.strip("`"), inside.strip("`"))
            for _, here, inside in table("README.md", "service")}
    assert {name: here.replace("http://", "") for name, (here, _) in rows.items()} == {
        name: f"localhost:{port}" for name, port in published.items()}
    assert services["event-gen"]["environment"]["BOOTSTRAP_SERVERS"] == rows["broker"][1]
    assert services["broker"]["environment"]["KAFKA_ZOOKEEPER_CONNECT"] == rows["zookeeper"][1]
    assert services["kafka-ui"]["ports"][0].split(":")[-1] == rows["kafka-ui"][1].split(":")[-1]


def test_cloneOfWindows(tmp_path):
    """Git for Windows gives text its own ends of lines, with which the container's script does not run."""
    cloned = paste(f"git clone -q -c core.autocrlf=true {shlex.quote(str(TOP))} .", tmp_path)
    if cloned.returncode:
        pytest.skip(f"a clone needs a checkout of git: {' '.join(cloned.stderr.split())[-300:]}")
    assert b"\r" not in (tmp_path / "docker" / "build" / "keepRunning.sh").read_bytes()


@pytest.mark.usefixtures("stack")  # not because it is used: docker compose is there
def test_settings(clone):
    settings = dict(line.strip("`").split("=") for line, _ in table("app/README.md", "line in `docker/.env`"))
    assert settings.keys() == {"BROKER_PORT", "UI_PORT", "UI_READONLY", "ZOOKEEPER_PORT", "CONFLUENT_TAG"}
    (clone / "docker" / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    config = "docker compose -f docker/docker-compose.yml config --format json"
    env = {name: value for name, value in environment().items() if name not in settings}
    services = json.loads(shell(config, clone, env))["services"]
    ports = {name: [(port["host_ip"], port["published"], str(port["target"])) for port in service["ports"]]
             for name, service in services.items() if "ports" in service}
    assert ports == {"broker": [("127.0.0.1", settings["BROKER_PORT"], settings["BROKER_PORT"])],
                     "kafka-ui": [("127.0.0.1", settings["UI_PORT"], "8080")],
                     "zookeeper": [("127.0.0.1", settings["ZOOKEEPER_PORT"], "2181")]}
    assert services["broker"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(f"://localhost:{settings['BROKER_PORT']}")
    assert services["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_READONLY"] == settings["UI_READONLY"] == "false"
    assert {services[name]["image"].partition(":")[2] for name in ("broker", "zookeeper", "kafka-init-topics")} == {
        settings["CONFLUENT_TAG"]}
    (clone / "docker" / ".env").write_text("UI_PORT=8081\n", encoding="utf-16")
    assert paste(config, clone, env).returncode != 0


@pytest.fixture
def saved(clone):
    """Return a function that saves a program as the page says. It returns the name for run() and Terminal()."""
    def save(code):
        before = PAGES["app/README.md"].split(code)[0]
        name = re.findall(r"Saved as `app/(\w+)\.py`", before)[-1]
        (clone / "app" / f"{name}.py").write_text(code)
        return clone / "app" / name
    return save


@runs(code='"""Publishes temperatures', line=".venv/bin/python app/runSensors.py")
def test_ownEvents(ground, clone, saved, code, line):
    saved(code)
    topic = ground.topic()
    ended = pasteOwn(line, topic, clone, BOOTSTRAP_SERVERS=ground.bootstrap)
    matches(re.sub(r"\{.*\}", "{}", ended.stdout).split("\n"), [
        "Running in a loop. Number loops: 100 Min latency: 0 Max latency: 0 Printing every 10:th message.", READY,
        f"Bootstrap servers: {ground.bootstrap}", "Generating and publishing event in loop", *["Message produced: {}"] * 11,
        "Finished publishing: 100 messages.", EXIT, ""])
    assert (complaints(ended.stderr), ended.returncode) == ([], 0)
    messages = ground.messages(topic)
    assert len(messages) == 100 and set(events(ended.stdout)) <= {message.value().decode() for message in messages}
    for message in messages:
        event = json.loads(message.value())
        assert list(event) == ["sensor", "celsius"] and isinstance(event["celsius"], float)
        assert 1 <= event["sensor"] <= 20 and message.key() == str(event["sensor"]).encode()


@runs(code='"""Publishes temperatures')
def test_seedOfOwnEvents(saved, code):
    flags = saved(code), "-t", "t", "--embedded", "-l", "-e", 30, "-m", 0, "-x", 0, "-p", 1
    processes = [Process(*flags, "--seed", seed) for seed in (7, 7, 8)]
    assert [process.end() for process in processes] == [0, 0, 0]
    first, again, other = (process.shown() for process in processes)
    assert first == again != other and len(first) == len(other) == 30


@runs(code='"""Publishes the events of standard input', line=".venv/bin/python app/runAgain.py")
def test_eventsOfAFile(ground, clone, saved, code, line):
    saved(code)
    topic = ground.topic()
    missing = pasteOwn(line, topic, clone, BOOTSTRAP_SERVERS=ground.bootstrap)
    assert missing.returncode != 0 and missing.stdout == ""
    assert re.fullmatch(".*events.jsonl.*\n", missing.stderr)
    texts = [gameplay.generateGamePlay()[1] for _ in range(1500)]
    (clone / "events.jsonl").write_text("".join(text + "\n" for text in texts))
    ended = pasteOwn(line, topic, clone, BOOTSTRAP_SERVERS=ground.bootstrap)
    assert (complaints(ended.stderr), ended.returncode) == ([], 0) and "Finished publishing: 1500 messages.\n" in ended.stdout
    assert byPlayer(ground.values(topic)) == byPlayer(texts)


@runs(text='{"playerId"')
def test_event(text):
    assert re.fullmatch(EVENT + "\n", text)


@runs(text="# cloud.properties")
def test_properties(tmp_path, text):
    path = tmp_path / "cloud.properties"
    path.write_text(text)
    ended = run("runProducer", "-t", "gameplay", "-F", path, "-p", 0)
    assert ended.returncode == 2 and "argument -p" in ended.stderr  # the first that is wrong
    properties = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    Producer({**properties, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})  # raises for what the library does not know


@pytest.mark.parametrize("script", ["runProducer", "runConsumer"])
def test_flags(script):
    parser, flags = importlib.import_module(script).createParser(), {}
    for action in parser._actions:
        default = re.search(r"\(default: (.*)\)", parser._get_formatter()._expand_help(action))
        flags[tuple(action.option_strings)] = default[1] if default else "off" if action.const is True else ""
    del flags[("-h", "--help")]
    whose = {"both", script[len("run"):].lower()}
    assert flags == {tuple(re.findall("`(.*?)`", flag)): default.strip("`") for who, flag, _, default in
                     table("app/README.md", "script") if who in whose}


def test_files():
    """Each module that the scripts import has its row; a reader's own file needs none."""
    for script in "runProducer", "runConsumer":
        importlib.import_module(script)
    paths = {Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
    rows = {name.strip("`") for name, _ in table("app/README.md", "in `app/`")}
    assert rows == {path.name for path in paths if path.parent == APP} | {"tests/", "benchmark/"}


def test_pictureOfTheTerminals():
    svg = "{http://www.w3.org/2000/svg}"
    terminals = xml.etree.ElementTree.parse(TOP / "docker" / "terminals.svg").getroot().findall(f"{svg}svg")
    left, right = (" ".join(filter(None, ("".join(text.itertext()).replace("\xa0", " ").strip() for text in
                                          terminal.iter(f"{svg}text")))) for terminal in terminals)
    flags = re.search(r"\$ python runProducer\.py (.*? --seed \d+) ", left)[1]
    made, shown = events(run("runProducer", *flags.split(), "--embedded", "-m", 0, "-x", 0).stdout), re.findall(EVENT, left)
    assert len(set(shown)) == len(made) == 5 and shown == re.findall(EVENT, right)
    assert [text.split(', "eventTime"')[0] for text in shown] == [text.split(', "eventTime"')[0] for text in made]


def test_noBlockIsOverlooked():
    fences = [line for page in PAGES.values() for line in page.split("\n") if line.lstrip("> \t").startswith(("```", "~~~"))]
    assert len(fences) == 2 * len(BLOCKS)
    assert tested == set(BLOCKS)


def test_firstPageIsShort():
    assert len(PAGES["README.md"].splitlines()) <= 170


@pytest.mark.parametrize("page", PAGES)
def test_linksAndPictures(page):
    folder, links = (TOP / page).parent, re.findall(r"\]\(([^)]*)\)", PAGES[page])
    assert any("README.md" in link for link in links)  # each says where the other one is
    assert links.count(POST) == (page == "README.md")
    for link in set(links) - {POST}:
        name, _, heading = link.partition("#")
        path = (folder / name).resolve() if name else TOP / page
        assert path.is_file(), link
        if heading:
            headings = re.findall("^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}, link
