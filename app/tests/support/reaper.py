"""Ends what a test run would leave behind if it is interrupted, even by SIGKILL.

`reaper.process(...)`, `.folder(...)` and `.command(...)` write what there is to a process of its
own. That one waits until its standard input ends, as it does when we are gone, and cleans up then.
"""
import json
import os
import shutil
import signal
import subprocess
import sys


def startTime(pid):
    """Return when a process began, in clock ticks since boot; None if that can't be told."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


class Reaper:
    """The near end of the process that cleans up."""

    def __init__(self):
        self.pipe = None

    def tell(self, *what):
        """Write a line to the process, which is started with the first one."""
        if not self.pipe:
            self.pipe = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, text=True, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).stdin
        self.pipe.write(json.dumps(what) + "\n")
        self.pipe.flush()

    def process(self, pid):
        """Have a process killed, unless another one has its number by then."""
        self.tell("process", pid, startTime(pid))

    def folder(self, path):
        """Have a folder removed."""
        self.tell("folder", str(path))

    def command(self, *words):
        """Have a command run."""
        self.tell("command", *map(str, words))


def cleanUp(kind, what, *more):
    """Do one of the things that were asked for."""
    if kind == "process" and startTime(what) == more[0] is not None:
        os.kill(what, signal.SIGKILL)
    elif kind == "folder":
        shutil.rmtree(what, ignore_errors=True)
    elif kind == "command":
        subprocess.run([what, *more], stdin=subprocess.DEVNULL, timeout=300)


def main():
    """Wait for the end of our starter; then clean up, what was told last first."""
    for line in reversed(sys.stdin.readlines()):
        try:
            cleanUp(*json.loads(line))
        except (OSError, subprocess.SubprocessError):
            pass  # it has ended by itself


reaper = Reaper()

if __name__ == "__main__":
    main()
