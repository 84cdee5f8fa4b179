"""Builds the spin events of an online game. Standard library alone; knows nothing of where they go."""
import random
import time

# The game, every bound inclusive. Change one and the next event follows it.
minPlayerId = 100
maxPlayerId = 110
minGameId = 10
maxGameId = 15
minStake = 10
maxStake = 300
minWin = 100
maxWin = 500
minWinIndicator = 1
maxWinIndicator = 12
winModulu = 3

_draw = random.Random()
_uniform = _draw.random
_second = (0, "")  # the second of the last event and its text: one event in thousands has to format it anew


def seed(number):
    """Make the players, games, stakes and wins from here on the same every time; the times stay real."""
    _draw.seed(number)


def checkBounds():
    """Raise ValueError, in one line, where the bounds as they are make no game."""
    for name in "PlayerId", "GameId", "Stake", "Win", "WinIndicator":
        low, high = globals()["min" + name], globals()["max" + name]
        if not (isinstance(low, int) and isinstance(high, int) and low <= high):
            raise ValueError(f"min{name} {low!r} to max{name} {high!r} is no range of whole numbers")
    if not isinstance(winModulu, int) or winModulu == 0:
        raise ValueError(f"winModulu {winModulu!r} is no whole number to divide by")


def generateGamePlay():
    """Return one spin of this very moment as (playerId, JSON text); eventTime is UTC in microseconds."""
    global _second
    now, micros = divmod(time.time_ns() // 1000, 1000000)
    second, text = _second
    if second != now:
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        _second = now, text
    # int(random() * n) is a uniform draw from 0..n-1 like randrange(n), in a fifth of its time.
    playerId = minPlayerId + int(_uniform() * (maxPlayerId - minPlayerId + 1))
    gameId = minGameId + int(_uniform() * (maxGameId - minGameId + 1))
    stake = minStake + int(_uniform() * (maxStake - minStake + 1))
    win = 0
    if (minWinIndicator + int(_uniform() * (maxWinIndicator - minWinIndicator + 1))) % winModulu == 0:
        win = minWin + int(_uniform() * (maxWin - minWin + 1))
    # "%" fills in numbers a quarter faster than an f-string does.
    return playerId, '{"playerId": %d, "gameId": %d, "stake": %d, "win": %d, "eventTime": "%s.%06d"}' % (
        playerId, gameId, stake, win, text, micros)
