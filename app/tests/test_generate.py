"""Somebody's own generate(): main(generate=...) publishes the pairs of a key and a text that it returns."""
import random
import re
import sys

import pytest
from support.pairs import loopOn
from support.processes import EXIT, QUESTION, READY, Terminal, complaints, runHere


@pytest.fixture
def produce(capfd):
    """Return a function that runs the producer in this process, and returns (status, output, error output)."""
    def main(topic, ground, generate, *arguments):
        status = runHere(*loopOn(ground, topic, "-m", 0, "-x", 0, *arguments), generate=generate)
        return status, *capfd.readouterr()
    return main


def test_endOfAGeneratorIsTheEnd(produce, mock):
    topic = mock.topic()
    status, out, err = produce(topic, mock, ((number % 9, f"event {number}") for number in range(2500)).__next__)
    assert (status, err) == (0, "") and "\nFinished publishing: 2500 messages.\n" in out
    assert set(mock.values(topic)) == {f"event {number}" for number in range(2500)}


def test_endOfAGeneratorOneByOne(mock):
    code = f"""import runProducer
raise SystemExit(runProducer.main(["-t", "{mock.topic()}", "-b", "{mock.bootstrap}"], iter([(1, "one")]).__next__))"""
    child = Terminal(sys.executable, "-c", code)
    child.converse((READY, ""), (QUESTION, "Y"), ("Message produced: one\r\n" + QUESTION, "Y"), (EXIT, ""))
    assert child.wait() == 0


def failing(count, error):
    """Yield so many events; then raise an error."""
    for number in range(count):
        yield number, f"event {number}"
    raise error


@pytest.mark.parametrize("count, error, text", [
    (0, RuntimeError(), ""), (3, SystemExit(0), "0"), (1, OSError(2, "No such file or directory"), "No such file or directory"),
    (1500, ValueError("a\nb\n\nc"), "a.*b.*c")])
def test_errorOfAGeneratorEndsTheRun(produce, mock, count, error, text):
    """The line names this file, and the line of it that raises."""
    topic, number = mock.topic(), failing.__code__.co_firstlineno + 4
    status, out, err = produce(topic, mock, failing(count, error).__next__)
    assert status == 1 and f"\nFinished publishing: {count} messages.\n" in out
    assert re.fullmatch(f"runProducer: {count} produced, {count} delivered, 0 failed: [^\n]*"
                        rf"{re.escape(__file__)}[^\n]*\b{number}\b[^\n]*{type(error).__name__}[^\n]*{text}[^\n]*\n", err)
    assert len(mock.messages(topic)) == count


def texts(sizes):
    """Yield numbered texts of these sizes for three keys."""
    for number, size in enumerate(sizes):
        yield "abc"[number % 3], f"{number} ".ljust(size, "x")


@pytest.mark.parametrize("sizes, kbytes", [
    ([2000] * 2000, 2048),
    ([round(10 * 9000 ** draw) for draw in map(random.Random(1).uniform, [0] * 400, [1] * 400)], 204),
    ([10] * 3000 + [90000] + [10] * 3000 + [90000] * 3, 102)])
def test_textsOfAnySize(produce, ground, sizes, kbytes):
    topic = ground.topic()
    status, _, err = produce(topic, ground, texts(sizes).__next__, "-p", 10 ** 6, "-X", f"queue.buffering.max.kbytes={kbytes}")
    assert (status, complaints(err.splitlines())) == (0, [])
    messages = ground.messages(topic)
    assert sorted(len(message.value()) for message in messages) == sorted(sizes)
    for key in b"a", b"b", b"c":
        numbers = [int(message.value().split()[0]) for message in messages if message.key() == key]
        assert numbers == sorted(numbers)
