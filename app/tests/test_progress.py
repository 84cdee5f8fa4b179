"""The progress line, as a terminal shows it."""
import re
import time

import pexpect
import pyte
import pytest
from support.pairs import loopOn
from support.processes import EXIT, LIMIT, READY, Terminal, complaints, environment, run


class Screen:
    """What is seen of a loop in a terminal of so many columns, from its start on."""

    def __init__(self, columns, *arguments):
        self.screen = pyte.Screen(columns, 40)
        self.stream = pyte.Stream(self.screen)
        self.child = Terminal(*arguments, echo=True)
        self.child.setwinsize(40, columns)
        self.output = ""
        self.views = []
        self.follow("We are ready")  # a narrow screen folds the line
        self.child.sendline()

    def follow(self, until):
        """Look at the screen after every piece of output until a line of it holds the text."""
        end = time.monotonic() + LIMIT
        while not any(until in line for line in self.screen.display):
            assert time.monotonic() < end, self.screen.display
            self.see(self.child.read_nonblocking(1000, LIMIT))

    def see(self, piece):
        """Look at the screen after a piece of output."""
        self.output += piece
        self.stream.feed(piece)
        self.views.append([line.rstrip() for line in self.screen.display if line.strip()])


@pytest.mark.parametrize("columns", [80, 30])
def test_progressIsDrawnInPlaceAndWiped(mock, columns):
    screen = Screen(columns, *loopOn(mock, mock.topic(), "-e", 40, "-m", 100, "-x", 100, "-p", 20))
    screen.follow(EXIT)
    screen.child.sendline()
    lines = [[line for line in view if line.startswith("runProducer:")] for view in screen.views]
    assert max(map(len, lines)) == 1
    seen = [line[0] for line in lines if line]
    assert any(line.startswith("runProducer: ") and " of 40 "[:columns - 22] in line for line in seen)
    assert 2 <= len(set(seen)) <= 12
    if columns == 80:
        assert all(" of 40 delivered, " in line and "/s, 0:00:0" in line and line.endswith(" left") for line in seen if
                   line != "runProducer:")
    last = "".join(screen.views[-1])
    assert "runProducer:" not in last
    assert "Finished publishing: 40 messages." in last and last.count("Message produced") == 3
    assert screen.views[-1][-1] == EXIT


def test_figures(mock):
    """A busy machine only makes them smaller."""
    child = Terminal(*loopOn(mock, mock.topic(), "-e", 3500, "-p", 100))
    child.converse((READY, ""), (EXIT, ""))
    child.read()
    found = re.findall(r"runProducer: ([0-9,]+) of 3,500 delivered, ([0-9,.]+)/s, (\d+):(\d\d):(\d\d) left", child.session.getvalue())
    figures = [[float(text.replace(",", "")) for text in line] for line in found]
    seconds = [delivered / rate for delivered, rate, *_ in figures]
    assert len(figures) >= 2 and 1 <= seconds[0] and all(later - earlier > 0.9 for earlier, later in zip(seconds, seconds[1:]))
    for delivered, rate, hours, minutes, rest in figures:
        assert 0 < delivered <= 3500 and 0 < rate < 1100
        assert abs(hours * 3600 + minutes * 60 + rest - (3500 - delivered) / rate) <= 1


@pytest.mark.parametrize("columns", [80, 30])
def test_ctrlCLeavesNoStrayLetter(mock, columns):
    screen = Screen(columns, *loopOn(mock, mock.topic(), "-m", 50, "-x", 50, "-p", 100))
    screen.follow(" delivered, "[:columns - 22])
    screen.child.sendintr()  # which the terminal echoes as ^C, behind the progress line
    screen.child.expect(pexpect.EOF)
    screen.see(screen.child.before)
    assert "^C" in screen.output
    last = "".join(screen.views[-1])  # a narrow screen folds the lines
    assert re.search(r"\.\d{6}\"}(Finished publishing: \d+ messages\.|runProducer: \d+ produced, .* stopped by SIGINT){2}$", last)
    assert "^C" not in last


def test_noneWithoutTerminal(mock):
    ended = run(*loopOn(mock, mock.topic(), "-e", 25, "-m", 100, "-x", 100))
    assert (ended.returncode, complaints(ended.stderr)) == (0, []) and "delivered" not in ended.stdout


@pytest.mark.parametrize("term, columns", [("dumb", 80), ("xterm", 0)])
def test_noneOnATerminalThatCannotShowIt(mock, term, columns):
    child = Terminal(*loopOn(mock, mock.topic(), "-e", 25, "-m", 100, "-x", 100), env=environment(TERM=term))
    child.setwinsize(40, columns)
    child.converse((READY, ""), (EXIT, ""))
    output = "".join(child.lines())
    assert "Finished publishing: 25 messages." in output and "delivered" not in output and "\x1b" not in output
