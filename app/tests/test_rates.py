"""Any rate: pauses may be fractions of a millisecond, and are kept on average, by the events' own times."""
import datetime
import json

import pytest
from support.processes import Process, run


def times(texts):
    """Return the eventTimes, in seconds."""
    return [datetime.datetime.fromisoformat(json.loads(text)["eventTime"]).timestamp() for text in texts]


@pytest.mark.parametrize("least, longest, rate", [("0.2", "0.20", 5000), ("0.05", ".05", 20000), ("0", "1", 2000)])
def test_rate(least, longest, rate):
    """Over 3 s in 30 parts: all of it takes no less than it should, and some part that nothing held up takes no more."""
    total, part = 3 * rate, rate // 10
    words = "-l", "-e", total, "-m", least, "-x", longest, "-p", part, "--embedded"
    with Process("runProducer", "-t", "t", *words) as producer:
        assert producer.end() == 0, producer.err
    first, *ends = times(producer.shown())
    assert producer.out[-2:] == [f"Finished publishing: {total} messages.\n", "Press the enter key to exit\n"]
    assert len(ends) == 30 and ends[-1] - first > 3 * 0.95
    assert min(later - earlier for earlier, later in zip([first, *ends], ends)) < 0.1 * 1.05


@pytest.mark.parametrize("least, longest", [("0.2", "0.20"), ("0.000001", "1.5"), ("1", "2"), ("0", "0")])
def test_pausesArePrintedAsTheyWereTyped(least, longest):
    ended = run("runProducer", "-t", "t", "--embedded", "-l", "-e", 1, "-m", least, "-x", longest)
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"Running in a loop. Number loops: 1 Min latency: {least} Max latency: {longest} Printing every 100:")
