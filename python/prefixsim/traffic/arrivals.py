"""When requests arrive: sessions as a Poisson process, turns after answer and think time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError

__all__ = ["LONGEST_PAUSE_S", "ArrivalClock", "Arrivals"]

LONGEST_PAUSE_S = 1e9
"""Longest mean pause that is taken, 30 years: times stay numbers that can be added up."""

_RATES = (1e-9, 1e9)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The arrival model.

    Attributes
    ----------
    rate : float
        First turns per second (Poisson process).
    think_time : float
        Mean of the exponential time between an answer and the next turn, in seconds.
    time_per_token : float
        Time to produce one output token, in seconds.
    sequential : bool
        Each session begins where the one before ended, so that no two overlap; ``rate`` then
        gives the mean gap between them.
    seed : int
    """

    rate: float = 2.0
    think_time: float = 10.0
    time_per_token: float = 0.02
    sequential: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        good = _RATES[0] <= self.rate <= _RATES[1]
        _check(good, "arrival rate", self.rate, f"from {_RATES[0]:g} to {_RATES[1]:g} per second")
        for name, value in (
            ("think time", self.think_time),
            ("time per token", self.time_per_token),
        ):
            good = 0 <= value <= LONGEST_PAUSE_S
            _check(good, name, value, f"from 0 to {LONGEST_PAUSE_S:,.0f} seconds")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")

    def config(self) -> dict[str, float | int | bool]:
        """Return the settings, for provenance."""
        return asdict(self)


def _check(good: bool, name: str, value: float, expected: str) -> None:
    if not good:
        msg = f"{name} {value:g} is not usable, give a number {expected}"
        raise InputError(msg)


class ArrivalClock:
    """Draws the arrival times of one session after the other.

    Draws depend only on the seed and on the number of turns of the sessions before, so traces made
    from the same conversations with different templates or tokenizers differ only by their
    answers' lengths.

    Examples
    --------
    >>> clock = ArrivalClock(Arrivals(seed=1))
    >>> float(clock.session([100, 50])[0])
    0.0
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._random = np.random.default_rng(arrivals.seed)
        self._next = 0.0

    def session(self, output_lens: Sequence[int]) -> npt.NDArray[np.float64]:
        """Return the arrival time of each turn in seconds, given its answer's length in tokens."""
        model = self._arrivals
        draws = self._random.standard_exponential(len(output_lens))
        passed, starts = 0.0, [self._next]
        for length, draw in zip(output_lens, draws[1:].tolist(), strict=False):
            passed += length * model.time_per_token + draw * model.think_time
            starts.append(self._next + passed)
        times = np.round(starts, 6)
        pause = float(draws[0]) / model.rate
        if model.sequential:
            self._next = float(times[-1]) + output_lens[-1] * model.time_per_token + pause
        else:
            self._next += pause
        return times
