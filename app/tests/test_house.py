"""The house: which room may know which other one, and what the linter says of all of them."""
import ast
import subprocess
import sys

import pytest
from support.processes import APP

SCRIPTS = {"runProducer", "runConsumer"}
OURS = SCRIPTS | {"gameplay", "pace", "cluster", "terminal"}
MAY_IMPORT = {**dict.fromkeys(SCRIPTS, OURS - SCRIPTS), "cluster": {"cluster", "terminal"}, "terminal": {"terminal"},
              "gameplay": set(), "pace": set()}
FILES = [*APP.glob("*.py"), *APP.glob("cluster/*.py"), *APP.glob("terminal/*.py")]


def imported(path):
    """Return the first names of all modules that a file imports, also within its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names


def test_roomsAreThese():
    assert {path.relative_to(APP).parts[0].split(".")[0] for path in FILES} == OURS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path):
    room = path.relative_to(APP).parts[0].split(".")[0]
    names = imported(path)
    assert names & OURS <= MAY_IMPORT[room]
    assert room == "cluster" or "confluent_kafka" not in names


def test_linterHasNothingToSay():
    ended = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=APP, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
