"""The event: its layout, its ranges, its clock, and the bounds that shape it."""
import collections
import datetime
import json
import random
import re
import time

import pytest

import gameplay

BOUNDS = {"PlayerId": (100, 110), "GameId": (10, 15), "Stake": (10, 300), "Win": (100, 500), "WinIndicator": (1, 12)}
LAYOUT = re.compile(r'\{"playerId": (\d+), "gameId": (\d+), "stake": (\d+), "win": (\d+), '
                    r'"eventTime": "(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6})"\}')


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    """Return a function that sets bounds for one test."""
    def change(name, low, high):
        monkeypatch.setattr(gameplay, "min" + name, low)
        monkeypatch.setattr(gameplay, "max" + name, high)
    for name, (low, high) in BOUNDS.items():
        assert (getattr(gameplay, "min" + name), getattr(gameplay, "max" + name)) == (low, high)
    return change


def test_layout():
    for _ in range(1000):
        player, text = gameplay.generateGamePlay()
        match = LAYOUT.fullmatch(text)
        assert match and int(match[1]) == player
        assert text == json.dumps(json.loads(text))


def test_everyValueOfTheRangesAppearsEquallyOften():
    drawn = [json.loads(gameplay.generateGamePlay()[1]) for _ in range(60000)]
    for field, name in (("playerId", "PlayerId"), ("gameId", "GameId"), ("stake", "Stake")):
        low, high = BOUNDS[name]
        counts = collections.Counter(event[field] for event in drawn)
        assert set(counts) == set(range(low, high + 1))
        expected = len(drawn) / (high - low + 1)
        squares = sum((count - expected) ** 2 / expected for count in counts.values())
        assert squares < (high - low) + 6 * (2 * (high - low)) ** 0.5  # chi-squared, six deviations above its mean
    wins = [event["win"] for event in drawn if event["win"]]
    assert min(wins) == 100 and max(wins) == 500
    assert abs(len(wins) / len(drawn) - 4 / 12) < 0.012  # six deviations: 3, 6, 9 and 12 of 1..12 win


def test_boundsAreAsLikelyAsWhatIsBetween(bounds, monkeypatch):
    """Three values only: among hundreds nobody would see that a bound is drawn half as often."""
    monkeypatch.setattr(gameplay, "winModulu", 1)
    for name in "PlayerId", "GameId", "Stake", "Win":
        bounds(name, 1, 3)
    drawn = [json.loads(gameplay.generateGamePlay()[1]) for _ in range(30000)]
    for field in "playerId", "gameId", "stake", "win":
        counts = collections.Counter(event[field] for event in drawn)
        assert set(counts) == {1, 2, 3} and all(abs(count - 10000) < 490 for count in counts.values())  # six deviations


@pytest.fixture
def tokyo(monkeypatch):
    """The machine's zone is another one than UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_timeIsThisMomentInUtc():
    before = datetime.datetime.now(datetime.timezone.utc)
    texts = [json.loads(gameplay.generateGamePlay()[1])["eventTime"] for _ in range(1000)]
    times = [datetime.datetime.fromisoformat(text + "+00:00") for text in texts]
    assert before <= times[0] and times == sorted(times) and times[-1] <= datetime.datetime.now(datetime.timezone.utc)
    assert len(set(times)) > 100  # of a clock that ticks in microseconds
    assert len({time.microsecond % 1000 for time in times}) > 10


def test_timeOfAnyInstant(monkeypatch):
    """Backwards, too, and within one second."""
    second = 1796072474 * 10 ** 9
    instants = [second, second + 999999999, second + 10 ** 9, second - 1, second + 1000, 0, 2 ** 62]
    for nanoseconds in [*instants, *(random.Random(1).randrange(2 ** 62) for _ in range(100))]:
        monkeypatch.setattr(gameplay, "time_ns", lambda: nanoseconds)  # noqa: B023
        text = json.loads(gameplay.generateGamePlay()[1])["eventTime"]
        instant = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=nanoseconds // 1000)
        assert text == instant.strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.mark.parametrize("name", ["PlayerId", "GameId", "Stake", "Win"])
@pytest.mark.parametrize("low, width", [(-2 ** 31, 0), (-2 ** 31, 1000), (-1, 2), (0, 0), (7, 1), (2 ** 31 - 1001, 1000)])
def test_editedBoundsHoldForTheNextEvent(bounds, name, low, width):
    bounds(name, low, low + width)
    gameplay.checkBounds()
    for _ in range(30):
        value = json.loads(gameplay.generateGamePlay()[1])[name[0].lower() + name[1:]]
        assert low <= value <= low + width or (name == "Win" and value == 0)


def test_widestRangeOfWinIsDrawnEvenly(bounds, monkeypatch):
    bounds("Win", -2 ** 63, 2 ** 63 - 1)
    monkeypatch.setattr(gameplay, "winModulu", 1)
    gameplay.checkBounds()
    wins = [json.loads(gameplay.generateGamePlay()[1])["win"] for _ in range(4000)]
    assert min(wins) < -2 ** 62 and max(wins) > 2 ** 62
    assert 1800 < sum(win % 2 for win in wins) < 2200 and 1800 < sum(win < 0 for win in wins) < 2200  # six deviations


def test_winRateFollowsItsBounds(bounds, monkeypatch):
    bounds("WinIndicator", 3, 3)
    assert all(json.loads(gameplay.generateGamePlay()[1])["win"] for _ in range(100))
    monkeypatch.setattr(gameplay, "winModulu", 5)
    assert not any(json.loads(gameplay.generateGamePlay()[1])["win"] for _ in range(100))
