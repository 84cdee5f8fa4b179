"""The house: its rooms, which of them may know which other one, and what the linter says of all of them."""
import ast
import sys

import pytest
from support.processes import APP, environment, events, run

MAY_IMPORT = {"gameplay": set(), "pace": set(), "commandline": set(), "terminal": set(), "cluster": {"terminal"},
              **dict.fromkeys(["runProducer", "runConsumer"], {"gameplay", "pace", "commandline", "terminal", "cluster"})}
FILES = {path.stem: ast.parse(path.read_text()) for path in APP.glob("*.py")}


def test_roomsAreThese():
    assert set(FILES) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(FILES))
def test_imports(room):
    """Also those within its functions."""
    names = set()
    for node in ast.walk(FILES[room]):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    assert names & set(FILES) <= MAY_IMPORT[room]
    assert "confluent_kafka" not in names or "cluster" in MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("room", sorted(FILES))
def test_noFunctionIsLong(room):
    lines = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(FILES[room]) if isinstance(node, ast.FunctionDef)}
    assert not {name: count for name, count in lines.items() if count > 36}


@pytest.mark.parametrize("name", ["{}.py", "{}/__init__.py"])
def test_aModuleElsewhereTakesNoPlaceOfOurs(mock, tmp_path, name):
    for room in MAY_IMPORT:
        path = tmp_path / name.format(room)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('not ours')\n")
    topic, env = mock.topic(), environment(PYTHONPATH=str(tmp_path))
    producer = run("runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 3, "-m", 0, "-x", 0, "-p", 1, env=env)
    consumer = run("runConsumer", "-t", topic, "-b", mock.bootstrap, "-g", topic, "-e", 3, env=env)
    assert (producer.stderr, consumer.stderr) == ("", "")
    assert sorted(events(producer.stdout)) == sorted(events(consumer.stdout)) and len(events(producer.stdout)) == 3


def test_linterHasNothingToSay():
    ended = run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    assert ended.returncode == 0, ended.stdout
