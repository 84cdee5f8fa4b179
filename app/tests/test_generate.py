"""Somebody's own generate(): main(generate=...) publishes the pairs of a key and a text that it returns."""
import random
import re
import sys

import pytest
from support.pairs import loopOn
from support.processes import EXIT, QUESTION, READY, Terminal, complaints, runHere


@pytest.fixture
def produce(capfd):
    """Return a function that runs the producer in this process, and returns (status, output, complaints)."""
    def main(topic, ground, generate, *arguments):
        status = runHere(*loopOn(ground, topic, "-m", 0, "-x", 0, *arguments), generate=generate)
        out, err = capfd.readouterr()
        return status, out, complaints(err)
    return main


def test_endOfAGeneratorIsTheEnd(produce, mock):
    topic = mock.topic()
    status, out, err = produce(topic, mock, ((number % 9, f"event {number}") for number in range(2500)).__next__)
    assert (status, err) == (0, []) and "\nFinished publishing: 2500 messages.\n" in out
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
    [line] = err
    assert re.fullmatch(f"runProducer: {count} produced, {count} delivered, 0 failed: "
                        rf".*{re.escape(__file__)}.*\b{number}\b.*{type(error).__name__}.*{text}.*", line)
    assert len(mock.messages(topic)) == count


@pytest.mark.parametrize("code, number, error", [
    ("def generate():\n    return 1, 1 + 'x'", 2, "TypeError: unsupported operand"),
    ("import json\ndef generate():\n    return json.loads('x')", 3, "JSONDecodeError: Expecting value"),  # in the standard library
    ("import re\ndef generate():\n    return re.sub('7', double, '7')\ndef double(match):\n    return 2 + 'x'", 5,
     "TypeError: unsupported operand"),  # called by it
    ("import yaml\ndef generate():\n    return yaml.safe_load('{')", 3, "ParserError: while parsing a flow node")])  # in a package
def test_errorNamesTheInnermostLineOfOnesOwnCode(produce, mock, tmp_path, code, number, error):
    """Also in a folder that is called like a library's."""
    path, names = tmp_path / "my-packages" / "gen.py", {}
    exec(compile(code, path, "exec"), names)
    status, _, err = produce(mock.topic(), mock, names["generate"])
    assert status == 1
    [line] = err
    assert line.startswith(f"runProducer: 0 produced, 0 delivered, 0 failed: {path}, line {number}: {error}")


def test_errorWithoutALineOfOnesOwn(produce, mock):
    """Such as one of a generate() that is written in C."""
    status, _, err = produce(mock.topic(), mock, map(int, ["x"]).__next__)
    reason = "ValueError: invalid literal for int() with base 10: 'x'"
    assert (status, err) == (1, [f"runProducer: 0 produced, 0 delivered, 0 failed: {reason}"])


@pytest.mark.parametrize("returned, error", [
    ((1, b"bytes"), "AttributeError: "), ((1, None), "AttributeError: "), ((1, 2, 3), "ValueError: "), ((1,), "ValueError: "),
    (None, "TypeError: "), (7, "TypeError: "), ((1, "\udcff"), "UnicodeEncodeError: "), (("\udcff", "x"), "UnicodeEncodeError: ")],
    ids=ascii)
def test_whatIsNoKeyAndText(produce, mock, returned, error):
    topic = mock.topic()
    status, _, err = produce(topic, mock, iter([(1, "one"), returned]).__next__)
    assert status == 1 and mock.values(topic) == ["one"]
    [line] = err
    assert line.startswith(f"runProducer: 1 produced, 1 delivered, 0 failed: generate() has to return a key and a text: {error}")


def test_keys(produce, mock):
    """None is no key. All else is its text."""
    topic, keys = mock.topic(), [None, "", "None", 7, "z\u00fcrich"]
    status, _, err = produce(topic, mock, ((key, str(number)) for number, key in enumerate(keys)).__next__)
    assert (status, err) == (0, [])
    messages = sorted(mock.messages(topic), key=lambda message: message.value())
    assert [message.key() for message in messages] == [None, b"", b"None", b"7", "z\u00fcrich".encode()]


@pytest.mark.parametrize("seed, flags", [(7, ["--seed", 7]), (0, ["--seed", 0]), (7, [])])
def test_seedIsThatOfTheModuleRandom(produce, mock, seed, flags):
    """So one's own generate() may draw from it. Without --seed what it has seeded itself stays."""
    def draw():
        topic = mock.topic()
        random.seed(seed if not flags else None)
        assert produce(topic, mock, lambda: (1, str(random.random())), "-e", 5, *flags)[0] == 0
        return mock.values(topic)
    seeded = random.Random(seed)
    assert draw() == draw() == [str(seeded.random()) for _ in range(5)]


@pytest.mark.parametrize("sizes, kbytes", [
    ([2000] * 2000, 2048),
    ([round(10 * 9000 ** draw) for draw in map(random.Random(1).uniform, [0] * 400, [1] * 400)], 204),
    ([10] * 3000 + [90000] + [10] * 3000 + [90000] * 3, 102)])
def test_textsOfAnySize(produce, ground, sizes, kbytes):
    """Numbered texts for three keys."""
    topic = ground.topic()
    pairs = (("abc"[number % 3], f"{number} ".ljust(size, "x")) for number, size in enumerate(sizes))
    status, _, err = produce(topic, ground, pairs.__next__, "-p", 10 ** 6, "-X", f"queue.buffering.max.kbytes={kbytes}")
    assert (status, err) == (0, [])
    messages = ground.messages(topic)
    assert sorted(len(message.value()) for message in messages) == sorted(sizes)
    for key in b"a", b"b", b"c":
        numbers = [int(message.value().split()[0]) for message in messages if message.key() == key]
        assert numbers == sorted(numbers)
