"""What the scripts show and ask, line by line: beside the transcripts of the page, which test_readme.py types."""
import pytest
from support.processes import EXIT, NOT_SET, QUESTION, READY, Terminal, complaints, environment, events, matches, run


def test_oneByOne(ground):
    topic = ground.topic()
    child = Terminal("runProducer", "-t", topic, env=environment(BOOTSTRAP_SERVERS=ground.bootstrap))
    child.converse((READY, ""))
    for answer in ("Y", "", "x", "Y", "N"):
        child.expect_exact(QUESTION)
        child.sendline(answer)
        if answer == "Y":
            child.expect_exact("Message produced: ")
    child.converse((EXIT, ""))
    produced = ["Generating and publishing event", "Message produced: EVENT"]
    matches(complaints(child.lines()), [READY, f"Bootstrap servers: {ground.bootstrap}", QUESTION + "Y", *produced, QUESTION,
                            QUESTION + "x", QUESTION + "Y", *produced, QUESTION + "N", EXIT])
    assert sorted(events(child.session.getvalue())) == sorted(ground.values(topic))


@pytest.mark.parametrize("arguments, expected", [
    ([], [READY, NOT_SET, "Bootstrap servers: HOST", QUESTION, EXIT]),
    (["-l", "-e", 3, "-m", 1, "-x", 1, "-p", 2], [
        "Running in a loop. Number loops: 3 Min latency: 1 Max latency: 1 Printing every 2:th message.", READY, NOT_SET,
        "Bootstrap servers: HOST", "Generating and publishing event in loop", "Message produced: EVENT",
        "Message produced: EVENT", "Finished publishing: 3 messages.", EXIT])])
def test_producerWithoutTerminal(mock, arguments, expected):
    ended = run("runProducer", "-t", mock.topic(), "-b", mock.bootstrap, *arguments)
    matches(ended.stdout.split("\n"), [line.replace("HOST", mock.bootstrap) for line in expected] + [""])
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_consumerWithoutTerminal(mock):
    topic = mock.topic()
    mock.publish(topic, "one")
    ended = run("runConsumer", "-t", topic, "-b", mock.bootstrap, "-g", topic, "-e", 1)
    assert ended.stdout.split("\n") == [
        NOT_SET, f"Bootstrap servers: {mock.bootstrap}", READY, f"Listening for events on topic: {topic}. Press Ctrl-C to exit.",
        "Received message: one", "Press the enter key to exit the consume application.", ""]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_endOfInputAnswersEachQuestion(mock):
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
    for question in (READY, QUESTION, EXIT):
        child.expect_exact(question)
        child.sendeof()
    assert child.lines() == [READY, NOT_SET, f"Bootstrap servers: {mock.bootstrap}", QUESTION, EXIT]
