"""The transcripts of the post, line by line: in a pseudo-terminal as its reader has it, and without one."""
import pytest
from support.processes import EXIT, NOT_SET, QUESTION, READY, Terminal, byPlayer, complaints, environment, events, matches, run


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


def test_loop(ground):
    topic = ground.topic()
    child = Terminal("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 100, "-m", 1, "-x", 5, "-p", 10)
    child.converse((READY, ""), (EXIT, ""))
    matches(child.lines(), [
        "Running in a loop. Number loops: 100 Min latency: 1 Max latency: 5 Printing every 10:th message.", READY, NOT_SET,
        f"Bootstrap servers: {ground.bootstrap}", "Generating and publishing event in loop",
        *["Message produced: EVENT"] * 11, "Finished publishing: 100 messages.", EXIT])
    stored = sorted(ground.values(topic), key=lambda text: text[-29:])
    assert events(child.session.getvalue()) == [stored[0], *stored[9::10]]


def test_consumerStartedFirst(ground):
    topic = ground.topic()
    consumer = Terminal("runConsumer", "-t", topic, "-g", topic, env=environment(BOOTSTRAP_SERVERS=ground.bootstrap))
    consumer.converse((READY, ""))
    consumer.expect_exact("Listening for events")
    produced = run("runProducer", "-t", topic, "-b", ground.bootstrap, "-l", "-e", 20, "-m", 0, "-x", 0, "-p", 1)
    for _ in range(20):
        consumer.expect_exact("Received message: ")
    consumer.expect_exact("\n")
    consumer.sendintr()
    consumer.converse(("Press the enter key to exit the consume application.", ""))
    lines = consumer.lines()
    matches([line.replace("^C", "") for line in lines], [
        f"Bootstrap servers: {ground.bootstrap}", READY, f"Listening for events on topic: {topic}. Press Ctrl-C to exit.",
        *["Received message: EVENT"] * 20, "Press the enter key to exit the consume application."])
    assert byPlayer(events(consumer.session.getvalue())) == byPlayer(events(produced.stdout))


@pytest.mark.parametrize("arguments, expected", [
    ([], [READY, NOT_SET, "Bootstrap servers: HOST", QUESTION, EXIT]),
    (["-l", "-e", 3, "-m", 1, "-x", 1, "-p", 2], [
        "Running in a loop. Number loops: 3 Min latency: 1 Max latency: 1 Printing every 2:th message.", READY, NOT_SET,
        "Bootstrap servers: HOST", "Generating and publishing event in loop", "Message produced: EVENT",
        "Message produced: EVENT", "Finished publishing: 3 messages.", EXIT])])
def test_producerWithoutTerminal(ground, arguments, expected):
    ended = run("runProducer", "-t", ground.topic(), "-b", ground.bootstrap, *arguments)
    matches(ended.stdout.split("\n"), [line.replace("HOST", ground.bootstrap) for line in expected] + [""])
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_consumerWithoutTerminal(ground):
    topic = ground.topic()
    ground.publish(topic, "one")
    ended = run("runConsumer", "-t", topic, "-b", ground.bootstrap, "-g", topic, "-e", 1)
    assert ended.stdout.split("\n") == [
        NOT_SET, f"Bootstrap servers: {ground.bootstrap}", READY, f"Listening for events on topic: {topic}. Press Ctrl-C to exit.",
        "Received message: one", "Press the enter key to exit the consume application.", ""]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_endOfInputAnswersEachQuestion(mock):
    child = Terminal("runProducer", "-t", mock.topic(), "-b", mock.bootstrap)
    for question in (READY, QUESTION, EXIT):
        child.expect_exact(question)
        child.sendeof()
    assert child.lines() == [READY, NOT_SET, f"Bootstrap servers: {mock.bootstrap}", QUESTION, EXIT]
