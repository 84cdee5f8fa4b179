"""Builds the spin events of an online game. Knows nothing of where they go."""
import random
import time
from math import floor
from time import time_ns

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

BOUNDS = [name for name in globals() if name.startswith(("min", "max", "winModulu"))]
_draw = random.Random()
_uniform = _draw.random
# The second of the last event, in ns and as text: events of one second share its text.
_start, _second = 0, b"1970-01-01 00:00:00"


def seed(number):
    """Make all but the times the same for each run with this number."""
    _draw.seed(number)


def checkBounds():
    """Raise ValueError, in one line, where the bounds as they are make no game."""
    for name in "PlayerId", "GameId", "Stake", "Win", "WinIndicator":
        low, high = globals()["min" + name], globals()["max" + name]
        bits = 64 if name == "Win" else 32
        limit = 2 ** (bits - 1)
        if not (isinstance(low, int) and isinstance(high, int) and -limit <= low <= high < limit):
            raise ValueError(f"min{name} {low!r} to max{name} {high!r} "
                             f"is no range of whole numbers of {bits} bits")
    if not isinstance(winModulu, int) or winModulu == 0:
        raise ValueError(f"winModulu {winModulu!r} is no whole number to divide by")


def generateGamePlay():
    """Return a spin of this very moment as (playerId, JSON text), eventTime in UTC."""
    global _start, _second
    now = time_ns()
    micros = (now - _start) // 1000
    if not 0 <= micros < 1000000:
        _start = now - now % 1000000000
        _second = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now // 1000000000)).encode()
        micros = (now - _start) // 1000
    # floor(random() * n) is a uniform draw from 0..n-1 like randrange(n), in a fifth of its time.
    playerId = minPlayerId + floor(_uniform() * (maxPlayerId - minPlayerId + 1))
    gameId = minGameId + floor(_uniform() * (maxGameId - minGameId + 1))
    stake = minStake + floor(_uniform() * (maxStake - minStake + 1))
    win = 0
    indicator = minWinIndicator + floor(_uniform() * (maxWinIndicator - minWinIndicator + 1))
    if indicator % winModulu == 0:
        win = minWin + floor(_uniform() * (maxWin - minWin + 1))
    # "%" of bytes takes three quarters of the time that "%" of str or an f-string takes.
    event = b'{"playerId": %d, "gameId": %d, "stake": %d, "win": %d, "eventTime": "%s.%06d"}' % (
        playerId, gameId, stake, win, _second, micros)
    return playerId, event.decode()
