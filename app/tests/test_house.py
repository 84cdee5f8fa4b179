"""The house: its rooms, which of them may know which other one, and what the linter says of all of them."""
import ast
import importlib.util
import sys

import pytest
from support.pairs import loopOn
from support.processes import APP, complaints, consumerOf, environment, events, run

MAY_IMPORT = {"gameplay": set(), "pace": set(), "commandline": set(), "terminal": set(), "outage": set(), "group": set(),
              "cluster": {"terminal"}, "deliveries": {"outage", "terminal"},
              "runProducer": {"cluster", "commandline", "deliveries", "gameplay", "pace", "terminal"},
              "runConsumer": {"cluster", "commandline", "group", "outage", "terminal"}}
KNOW_KAFKA = {"runProducer", "runConsumer", "cluster", "deliveries", "group", "outage"}


@pytest.fixture(params=MAY_IMPORT)
def room(request):
    """Each room in turn: its name, and the nodes of its code."""
    return request.param, list(ast.walk(ast.parse((APP / f"{request.param}.py").read_text())))


def test_imports(room):
    """Also within functions. A new module is found by what imports it. All else is Python's own."""
    name, nodes = room
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {module.split(".")[0] for module in imported}
    assert {package for package in packages if (APP / f"{package}.py").exists()} <= MAY_IMPORT[name] & MAY_IMPORT.keys()
    installed = {package for package in packages if "-packages" in str(importlib.util.find_spec(package).origin)}
    assert installed <= ({"confluent_kafka"} if name in KNOW_KAFKA else set())


def test_noFunctionIsLong(room):
    functions = [node for node in room[1] if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 36] == []


@pytest.mark.parametrize("name", ["{}.py", "{}/__init__.py"])
def test_aModuleElsewhereTakesNoPlaceOfOurs(mock, tmp_path, name):
    for room in MAY_IMPORT:
        path = tmp_path / name.format(room)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('not ours')\n")
    topic, env = mock.topic(), environment(PYTHONPATH=str(tmp_path))
    producer = run(*loopOn(mock, topic, "-e", 3), env=env)
    consumer = run(*consumerOf(mock, topic, "-e", 3), env=env)
    assert complaints(producer.stderr) == complaints(consumer.stderr) == []
    assert sorted(events(producer.stdout)) == sorted(events(consumer.stdout)) and len(events(producer.stdout)) == 3


def test_linterHasNothingToSay():
    ended = run(sys.executable, "-m", "ruff", "check", "--no-cache", *(f"{room}.py" for room in MAY_IMPORT), "tests", "benchmark")
    assert ended.returncode == 0, ended.stdout


def test_oldestPythonOfThePages():
    """By what the code uses of the language and of the standard library."""
    assert "Python 3.9 to " in (APP.parent / "README.md").read_text()
    ended = run(sys.executable, "-c", "import vermin; vermin.main()", "--no-tips", "--violations", "-t=3.9-", *(f"{room}.py" for room in MAY_IMPORT))
    assert ended.returncode == 0, ended.stdout
