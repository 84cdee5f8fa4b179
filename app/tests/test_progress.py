"""The progress line, as a terminal shows it."""
import re
import time

import pexpect
import pyte
import pytest
from support.processes import Process, Terminal, environment


class Screen:
    """What is seen of a script in a terminal of a size."""

    def __init__(self, columns, *arguments):
        self.screen = pyte.Screen(columns, 40)
        self.stream = pyte.Stream(self.screen)
        self.child = Terminal(*arguments, echo=True)
        self.child.setwinsize(40, columns)
        self.output = ""
        self.views = []

    def follow(self, until):
        """Look at the screen after every piece of output until a line of it holds the text."""
        end = time.monotonic() + 120
        while not any(until in line for line in self.screen.display):
            assert time.monotonic() < end, self.screen.display
            self.see(self.child.read_nonblocking(1000, 120))

    def see(self, piece):
        """Look at the screen after a piece of output."""
        self.output += piece
        self.stream.feed(piece)
        self.views.append([line.rstrip() for line in self.screen.display if line.strip()])

    def end(self):
        """Look at the screen when the script has ended."""
        self.child.expect(pexpect.EOF)
        self.see(self.child.before)


@pytest.mark.parametrize("columns", [80, 30])
def test_progressIsDrawnInPlaceAndWiped(mock, columns):
    topic = mock.topic()
    screen = Screen(columns, "runProducer", "-t", topic, "-b", mock.bootstrap, "-l", "-e", 40, "-m", 100, "-x", 100, "-p", 20)
    screen.follow("We are ready")
    screen.child.sendline()
    screen.follow("Press the enter key to exit")
    screen.child.sendline()
    screen.child.expect(pexpect.EOF)
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
    assert screen.views[-1][-1] == "Press the enter key to exit"


def test_figures(mock):
    """A busy machine only makes them smaller."""
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, "-l", "-e", 3500, "-m", 1, "-x", 1)
    child.converse(("We are ready", ""), ("Press the enter key to exit", ""))
    child.read()
    found = re.findall(r"runProducer: ([0-9,]+) of 3,500 delivered, ([0-9,.]+)/s, (\d+):(\d\d):(\d\d) left", child.session.getvalue())
    figures = [[float(text.replace(",", "")) for text in line] for line in found]
    seconds = [delivered / rate for delivered, rate, *_ in figures]
    assert len(figures) >= 2 and 1 <= seconds[0] and all(later - earlier > 0.9 for earlier, later in zip(seconds, seconds[1:]))
    for delivered, rate, hours, minutes, rest in figures:
        assert 0 < delivered <= 3500 and 0 < rate < 1100
        assert abs(hours * 3600 + minutes * 60 + rest - (3500 - delivered) / rate) <= 1


def test_noneWithoutTerminal(mock):
    with Process("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, "-l", "-e", 25, "-m", 100, "-x", 100) as producer:
        assert producer.end() == 0 and producer.err == []
        assert not any("delivered" in line or "\r" in line for line in producer.out)


@pytest.mark.parametrize("columns", [80, 30])
def test_ctrlCLeavesNoStrayLetter(mock, columns):
    screen = Screen(columns, "runProducer", "-t", mock.topic(), "-b", mock.bootstrap, "-l", "-e", 0, "-m", 50, "-x", 50)
    screen.follow("We are ready")
    screen.child.sendline()
    screen.follow(" delivered, "[:columns - 22])
    screen.child.sendintr()  # which the terminal echoes as ^C, behind the progress line
    screen.end()
    assert "^C" in screen.output
    last = "".join(screen.views[-1])  # a narrow screen folds the lines
    assert re.search(r"\.\d{6}\"}(Finished publishing: \d+ messages\.|runProducer: \d+ produced, .* stopped by SIGINT){2}$", last)
    assert "^C" not in last


@pytest.mark.parametrize("term, columns", [("dumb", 80), ("xterm", 0)])
def test_noneOnATerminalThatCannotShowIt(mock, term, columns):
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, "-l", "-e", 25, "-m", 100, "-x", 100,
                     env=environment(TERM=term))
    child.setwinsize(40, columns)
    child.expect_exact("We are ready")
    child.sendline()
    child.expect_exact("Press the enter key to exit")
    child.sendline()
    output = child.before + child.read()
    assert "Finished publishing: 25 messages." in output and "delivered" not in output and "\x1b" not in output
