"""What the scripts show and ask, line by line: beside the transcripts of the page, which test_readme.py types."""
import pytest
from support.processes import EXIT, NOT_SET, QUESTION, READY, Terminal, complaints, environment, events, matches, run


def test_oneByOne(ground):
    topic = ground.topic()
    child = Terminal("runProducer", "-t", topic, env=environment(BOOTSTRAP_SERVERS=ground.bootstrap))
    child.converse((READY, ""))
    for answer in ("Y", "", "x", "Y", "N"):
        child.converse((QUESTION, answer))
        if answer == "Y":
            child.expect_exact("Message produced: ")
    child.converse((EXIT, ""))
    produced = ["Generating and publishing event", "Message produced: EVENT"]
    matches(complaints(child.lines()), [READY, f"Bootstrap servers: {ground.bootstrap}", QUESTION + "Y", *produced, QUESTION,
                            QUESTION + "x", QUESTION + "Y", *produced, QUESTION + "N", EXIT])
    assert sorted(events(child.session.getvalue())) == sorted(ground.values(topic))


@pytest.mark.parametrize("script, arguments, expected", [
    ("runProducer", [], [READY, NOT_SET, "Bootstrap servers: HOST", QUESTION, EXIT]),
    ("runConsumer", ["-g", "group", "-e", 1], [
        NOT_SET, "Bootstrap servers: HOST", READY, "Listening for events on topic: TOPIC. Press Ctrl-C to exit.",
        "Received message: one", "Press the enter key to exit the consume application."])])
def test_withoutTerminal(mock, script, arguments, expected):
    topic = mock.topic()
    mock.publish(topic, "one")
    ended = run(script, "-t", topic, "-b", mock.bootstrap, *arguments)
    shown = ended.stdout.replace(mock.bootstrap, "HOST").replace(topic, "TOPIC")
    assert (shown.split("\n"), complaints(ended.stderr), ended.returncode) == ([*expected, ""], [], 0)


def test_endOfInputAnswersEachQuestion(mock):
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
    for question in (READY, QUESTION, EXIT):
        child.expect_exact(question)
        child.sendeof()
    assert child.lines() == [READY, NOT_SET, f"Bootstrap servers: {mock.bootstrap}", QUESTION, EXIT]
