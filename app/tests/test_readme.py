"""README.md and app/README.md: each command and example is run as it is written, or skipped with the reason why not."""
import importlib
import itertools
import json
import re
import shlex
import shutil
import sys
import xml.etree.ElementTree
from collections import Counter
from datetime import datetime
from pathlib import Path

import pexpect
import pytest
import yaml
from confluent_kafka import Producer

import gameplay
from support.grounds import Ground
from support.kafka import waitFor
from support.processes import (APP, EVENT, EXIT, LIMIT, QUESTION, READY, Process, Terminal, byPlayer, environment, events,
                               matches, run)

TOP = APP.parent
PAGES = {path: (TOP / path).read_text() for path in ("README.md", "app/README.md")}
BLOCKS = [text for page in PAGES.values() for text in re.findall(r"^```\w*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
ALL_TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -r app/tests/requirements.txt"
QUICK_TESTS = ".venv/bin/python -m pytest app -m quick"
BENCHMARK = ".venv/bin/python app/benchmark/run.py"
POST = ("https://nielsberglund.com/post/2023-02-26-develop-a-real-time-leaderboard-using-kafka-and-azure-data-explorer---"
        "prelude/")
REASONS = {ALL_TESTS: "these are the tests; test_linesWithoutDocker only installs and collects them",
           BENCHMARK: "the benchmark takes minutes; test_linesWithoutDocker only asks for its help"}
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


@runs(publish="python3 -m venv .venv && .venv/bin/pip install -q -r app/requirements.txt")
def test_linesWithoutDocker(packageIndex, clone, publish):
    outputs = [shell(publish, clone)]
    assert BENCHMARK.split("/")[-1] in shell(block(BENCHMARK).strip() + " --help", clone)
    collected = shell(block(ALL_TESTS).strip() + " --collect-only -q", clone)
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
        child = Terminal(script[:-len(".py")], *arguments, "-t", topic, env=environment(BOOTSTRAP_SERVERS=mock.bootstrap))
        child.expect_exact(READY)
        child.sendline()
        return child

    def check(child, transcript, question=EXIT):
        child.expect_exact(question)
        shown = re.sub(r"[^\n]*\r\x1b\[K", "", child.session.getvalue().replace("\r\n", "\n"))  # the progress line
        checkLines(shown.replace(mock.bootstrap, "broker:29092").replace(topic, "gameplay").rstrip().split("\n"), transcript)
        child.sendline()

    topic = mock.topic()
    consumer = begin(listen)
    check(consumer, listen, "Press Ctrl-C to exit.")
    child = begin(single)
    for answer in ("Y", "N"):
        child.expect_exact(QUESTION)
        child.sendline(answer)
    check(child, single)
    check(begin(loop), loop)
    for _ in range(101):
        consumer.expect_exact("Received message: ")
    consumer.expect_exact("\n")
    consumer.sendintr()
    consumer.converse(("Press the enter key to exit the consume application.", ""))
    assert byPlayer(events("\n".join(consumer.lines()))) == byPlayer(mock.values(topic))


def short(lines, producer):
    """Return the lines of a recipe with another producer, which publishes too little, and a wait that is soon over."""
    return re.sub("^.*runProducer.*\n", producer, lines, flags=re.MULTILINE).replace("--timeout 10", "--timeout 1")


def checkRecipes(execute, ground, topic, folder, recipes):
    """Run recipes, those with a check twice. execute(lines) runs them in the folder, and returns how that ended."""
    def done(lines):
        ended = execute(lines)
        assert ended.returncode == 0, (lines, ended.stdout[-2000:], ended.stderr[-2000:])
        return ended.stdout

    def checkNew(texts):
        assert len(texts) == 1000 and not seen & set(texts)
        assert {json.loads(text)["playerId"] for text in texts} <= set(range(100, 111))
        seen.update(texts)

    pace, players, check, export = recipes
    assert "Finished publishing: 100 messages." in done(pace)
    assert "Finished publishing: 1000 messages." in done(players)
    old = ground.values(topic)
    seen, found = set(old), {json.loads(text)["playerId"] for text in old}
    assert min(found) >= 1 and 9000 < max(found) <= 10000 and len(found) > 500 and len(old) == 1100
    [fewer] = re.findall("^.*runProducer.*\n", export.replace("-e 1000 -m", "-e 999 -m"), re.MULTILINE)
    file = folder / "events.jsonl"
    for _ in range(2):
        output = done(check)
        assert "Finished publishing: 1000 messages." in output
        checkNew([line[len("Received message: "):] for line in output.splitlines() if line.startswith("Received message: ")])
        done(export)
        checkNew(file.read_text().splitlines())
    assert execute(short(check, "")).returncode == execute(short(export, fewer)).returncode == 1
    done(re.sub(r"(runConsumer.py -t )\S+", r"\1gameplay", short(export, "")))
    texts = file.read_text().splitlines()
    assert len(texts) == 1000 and not Counter(texts) - Counter(old)
    assert ground.count(topic) == 1100


RECIPES = {"pace": "docker exec event-gen python runProducer.py -t gameplay -l -e 100 ",
           "players": "docker exec event-gen python runProducer.py -t gameplay -l -e 1000 -m 0 -x 0 --set",
           "check": "topic=check-", "export": "topic=export-"}


@runs(**RECIPES)
def test_recipes(stack, tmp_path, pace, players, check, export):
    stack.clear()
    checkRecipes(lambda lines: paste(stack.own(lines), tmp_path), stack.ground, "gameplay", tmp_path,
                 (pace, players, check, export))


@runs(**RECIPES)
def test_recipesWithoutTheStack(mock, tmp_path, pace, players, check, export):
    def execute(lines):
        lines = lines.replace("docker exec event-gen python ", f"{shlex.quote(sys.executable)} {shlex.quote(str(APP))}/")
        return paste(lines.replace("-t gameplay", f"-t {topic}"), tmp_path, environment(BOOTSTRAP_SERVERS=mock.bootstrap))
    topic = mock.topic()
    checkRecipes(execute, mock, topic, tmp_path, (pace, players, check, export))


def test_rate():
    """Held by the events' own times: a loop is late on a busy machine, but never early."""
    [pauses, number] = re.search(r"`(-m [\d.]+ -x [\d.]+)` is ([\d,]+) a second", PAGES["README.md"]).groups()
    rate, (least, longest) = int(number.replace(",", "")), re.findall(r"[\d.]+", pauses)
    assert 2000 / (float(least) + float(longest)) == rate == 20000
    ended = run("runProducer", "-t", "t", "--embedded", "-l", "-e", 10000, "-p", 1, *pauses.split())
    assert ended.stdout.startswith(f"Running in a loop. Number loops: 10000 Min latency: {least} Max latency: {longest} ")
    times = [datetime.fromisoformat(json.loads(text)["eventTime"]) for text in events(ended.stdout)]
    assert len(times) == 10000
    assert 0.5 < (times[-1] - times[0]).total_seconds() * rate / len(times) < 10


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


@runs(line=".venv/bin/python app/runProducer.py")
def test_kafkaOfOnesOwn(ground, line):
    topic = ground.topic()
    for written, here in ((".venv/bin/python", shlex.quote(sys.executable)), ("HOST:PORT", ground.bootstrap),
                          ("-t gameplay", f"-t {topic}")):
        assert line.count(written) == 1
        line = line.replace(written, here)
    assert "Finished publishing: 100 messages." in shell(line, TOP)
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
    ports = {name: (port["host_ip"], port["published"]) for name in services for port in services[name].get("ports", [])}
    assert ports == {"broker": ("127.0.0.1", settings["BROKER_PORT"]), "kafka-ui": ("127.0.0.1", settings["UI_PORT"]),
                     "zookeeper": ("127.0.0.1", settings["ZOOKEEPER_PORT"])}
    assert str(services["broker"]["ports"][0]["target"]) == settings["BROKER_PORT"]
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


def pasteOwn(line, ground, topic, folder):
    """Type the line of one of the page's own programs. Return how that ended."""
    for written, here in ((".venv/bin/python", shlex.quote(sys.executable)), (r"-t \w+", f"-t {topic}")):
        line, count = re.subn(written, here, line)
        assert count == 1
    return paste(line, folder, environment(BOOTSTRAP_SERVERS=ground.bootstrap))


def checkTemperatures(messages, output):
    """Require that a topic holds what was printed, each temperature under the number of its sensor."""
    values = [message.value().decode() for message in messages]
    assert set(events(output)) <= set(values)
    for message in messages:
        event = json.loads(message.value())
        assert list(event) == ["sensor", "celsius"] and isinstance(event["celsius"], float)
        assert 1 <= event["sensor"] <= 20 and message.key() == str(event["sensor"]).encode()


@runs(code='"""Publishes temperatures', line=".venv/bin/python app/runSensors.py")
def test_ownEvents(ground, clone, saved, code, line):
    saved(code)
    topic = ground.topic()
    ended = pasteOwn(line, ground, topic, clone)
    matches(re.sub(r"\{.*\}", "{}", ended.stdout).split("\n"), [
        "Running in a loop. Number loops: 100 Min latency: 0 Max latency: 0 Printing every 10:th message.", READY,
        f"Bootstrap servers: {ground.bootstrap}", "Generating and publishing event in loop", *["Message produced: {}"] * 11,
        "Finished publishing: 100 messages.", EXIT, ""])
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert ground.count(topic) == 100
    checkTemperatures(ground.messages(topic), ended.stdout)


@runs(code='"""Publishes temperatures')
def test_ownEventsEmbedded(saved, code):
    child = Terminal(saved(code), "-t", "sensors", "-l", "-e", 20, "-m", 0, "-x", 1, "-p", 1, "--embedded")
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
    missing = pasteOwn(line, ground, topic, clone)
    assert missing.returncode != 0 and missing.stdout == ""
    assert re.fullmatch(".*events.jsonl.*\n", missing.stderr)
    texts = [gameplay.generateGamePlay()[1] for _ in range(1500)]
    (clone / "events.jsonl").write_text("".join(text + "\n" for text in texts))
    ended = pasteOwn(line, ground, topic, clone)
    assert (ended.stderr, ended.returncode) == ("", 0) and "Finished publishing: 1500 messages.\n" in ended.stdout
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


def flagsOf(script):
    """Return {names of a flag: its default as --help says it, "off" for a switch} of a script."""
    parser = importlib.import_module(script).createParser()
    flags = {}
    for action in parser._actions:
        default = re.search(r"\(default: (.*)\)", parser._get_formatter()._expand_help(action))
        flags[tuple(action.option_strings)] = default[1] if default else "off" if action.const is True else ""
    del flags[("-h", "--help")]
    return flags


@pytest.mark.parametrize("script", ["runProducer", "runConsumer"])
def test_flags(script):
    whose = {"both", script[len("run"):].lower()}
    rows = {tuple(re.findall("`(.*?)`", flag)): default.strip("`") for who, flag, _, default in
            table("app/README.md", "script") if who in whose}
    assert flagsOf(script) == rows


def test_files():
    """Each module that the scripts import has its row; a reader's own file needs none."""
    for script in "runProducer", "runConsumer":
        importlib.import_module(script)
    paths = {Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
    rows = {name.strip("`") for name, _ in table("app/README.md", "in `app/`")}
    assert rows == {path.name for path in paths if path.parent == APP} | {"tests/", "benchmark/"}


def test_ciRunsTheTestsOfThePage():
    assert (TOP / ".ci" / "run").read_text().endswith("\n" + block(ALL_TESTS))


def test_pictureOfTheTerminals():
    svg = "{http://www.w3.org/2000/svg}"
    terminals = xml.etree.ElementTree.parse(TOP / "docker" / "terminals.svg").getroot().findall(f"{svg}svg")
    left, right = (" ".join(filter(None, ("".join(text.itertext()).replace("\xa0", " ").strip() for text in
                                          terminal.iter(f"{svg}text")))) for terminal in terminals)
    flags = re.search(r"\$ python runProducer\.py (.*? --seed \d+) ", left)[1]
    made, shown = events(run("runProducer", *flags.split(), "--embedded", "-m", 0, "-x", 0).stdout), re.findall(EVENT, left)
    assert len(set(shown)) == len(made) == 5 and shown == re.findall(EVENT, right)
    assert [text.split(', "eventTime"')[0] for text in shown] == [text.split(', "eventTime"')[0] for text in made]


@pytest.mark.parametrize("text", [text for text in BLOCKS if text not in tested], ids=lambda text: text.split("\n")[0])
def test_otherBlocks(text):
    reason = next((reason for beginning, reason in REASONS.items() if text.startswith(beginning)), None)
    assert reason, "no test runs this block, and test_readme.py names no reason"
    pytest.skip(reason)


def test_noBlockIsOverlooked():
    fences = [line for page in PAGES.values() for line in page.split("\n") if line.lstrip("> \t").startswith(("```", "~~~"))]
    assert len(fences) == 2 * len(BLOCKS)


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
