"""The house: its rooms, which of them may know which other one, and what the linter says of all of them."""
import ast
import sys

import pytest
from support.processes import APP, environment, events, run

SCRIPTS = ["runProducer", "runConsumer"]
MAY_IMPORT = {"gameplay": set(), "pace": set(), "commandline": set(), "terminal": set(), "outage": set(), "group": set(),
              "cluster": {"terminal"}, "deliveries": {"outage", "terminal"},
              "runProducer": {"cluster", "commandline", "deliveries", "gameplay", "pace", "terminal"},
              "runConsumer": {"cluster", "commandline", "group", "outage", "terminal"}}
KNOW_KAFKA = {*SCRIPTS, "cluster", "deliveries", "group", "outage"}


def imported(path):
    """Return what a file imports, also within its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names


def findRooms():
    """Return the rooms, from the scripts on: a reader may have saved a file of their own beside them."""
    rooms, waiting = set(), [*SCRIPTS]
    while waiting:
        rooms.add(room := waiting.pop())
        waiting += [name for name in imported(APP / f"{room}.py") - rooms if (APP / f"{name}.py").exists()]
    return sorted(rooms)


ROOMS = findRooms()


def test_roomsAreThese():
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports(room):
    names = imported(APP / f"{room}.py")
    assert names & set(ROOMS) <= MAY_IMPORT[room]
    assert "confluent_kafka" not in names or room in KNOW_KAFKA


@pytest.mark.parametrize("room", ROOMS)
def test_noFunctionIsLong(room):
    lines = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(ast.parse((APP / f"{room}.py").read_text()))
             if isinstance(node, ast.FunctionDef)}
    assert not {name: count for name, count in lines.items() if count > 36}


@pytest.mark.parametrize("name", ["{}.py", "{}/__init__.py"])
def test_aModuleElsewhereTakesNoPlaceOfOurs(mock, tmp_path, name):
    for room in ROOMS:
        path = tmp_path / name.format(room)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('not ours')\n")
    topic, env = mock.topic(), environment(PYTHONPATH=str(tmp_path))
    producer = run("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 3, "-m", 0, "-x", 0, "-p", 1, env=env)
    consumer = run("runConsumer", "-t", topic, "-b", mock.bootstrap, "-g", topic, "-e", 3, env=env)
    assert (producer.stderr, consumer.stderr) == ("", "")
    assert sorted(events(producer.stdout)) == sorted(events(consumer.stdout)) and len(events(producer.stdout)) == 3


def test_linterHasNothingToSay():
    ended = run(sys.executable, "-m", "ruff", "check", "--no-cache", *(f"{room}.py" for room in ROOMS), "tests", "benchmark")
    assert ended.returncode == 0, ended.stdout


def test_oldestPythonOfThePages():
    """By what the code uses of the language and of the standard library."""
    assert "Python 3.9 to " in (APP.parent / "README.md").read_text()
    ended = run(sys.executable, "-c", "import vermin; vermin.main()", "--no-tips", "--violations", "-t=3.9-", *(f"{room}.py" for room in ROOMS))
    assert ended.returncode == 0, ended.stdout
