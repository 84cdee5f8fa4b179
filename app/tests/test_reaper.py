"""A test run that is interrupted leaves nothing behind."""
import os
import signal
import sys

import pytest
from support.kafka import waitFor
from support.processes import LIMIT, start

TESTS = os.path.dirname(__file__)
RUN = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from support.reaper import reaper
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
reaper.process(child.pid)
reaper.folder(sys.argv[2])
reaper.command("touch", sys.argv[3])
print(child.pid, flush=True)
time.sleep(600)
"""


def runs(pid):
    """Tell whether a process runs; one that has ended may still be listed."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="/proc/self/stat not found")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothingIsLeftBehind(tmp_path, number):
    folder, ran = tmp_path / "folder", tmp_path / "ran"
    folder.mkdir()
    run = start([sys.executable, "-c", RUN, TESTS, str(folder), str(ran)])
    child = int(run.stdout.readline())
    assert runs(child) and folder.exists() and not ran.exists()
    run.send_signal(number)
    run.communicate(timeout=LIMIT)
    waitFor(lambda: not (runs(child) or folder.exists()) and ran.exists(), "the end of all that was told")
