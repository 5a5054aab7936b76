"""Arrival times of sessions and turns."""

from __future__ import annotations

import numpy as np
import pytest

from prefixsim.errors import InputError
from prefixsim.traffic.arrivals import ArrivalClock, Arrivals


def test_sessions_are_poisson_and_turns_follow_answers() -> None:
    clock = ArrivalClock(Arrivals(rate=4.0, think_time=3.0, time_per_token=0.5, seed=7))
    sessions = [clock.session([10, 20, 0]) for _ in range(4000)]
    starts = np.array([s[0] for s in sessions])
    gaps = np.diff(starts)
    assert starts[0] == 0
    assert gaps.mean() == pytest.approx(0.25, rel=0.05)
    assert gaps.std() == pytest.approx(0.25, rel=0.05)  # exponential: as wide as its mean
    for turn, answer in ((0, 5.0), (1, 10.0)):
        pauses = np.array([s[turn + 1] - s[turn] for s in sessions]) - answer
        assert pauses.min() >= -1e-6
        assert pauses.mean() == pytest.approx(3.0, rel=0.05)
        assert pauses.std() == pytest.approx(3.0, rel=0.06)


def test_seed_decides_and_answers_shift_only_later_turns() -> None:
    def first(seed: int, answers: list[int]) -> list[list[float]]:
        clock = ArrivalClock(Arrivals(seed=seed))
        return [clock.session(answers).tolist() for _ in range(5)]

    assert first(1, [5, 5]) == first(1, [5, 5])
    assert first(1, [5, 5]) != first(2, [5, 5])
    short, long = np.array(first(1, [0, 0])), np.array(first(1, [100, 100]))
    assert short[:, 0].tolist() == long[:, 0].tolist()
    assert np.allclose(long[:, 1] - short[:, 1], 2.0, atol=2e-6)


def test_sequential_sessions_do_not_overlap() -> None:
    clock = ArrivalClock(Arrivals(rate=0.5, time_per_token=0.1, sequential=True))
    end = -1.0
    for answers in ([3, 40], [10], [1, 2, 3]) * 50:
        times = clock.session(answers)
        assert times[0] >= end
        end = times[-1] + answers[-1] * 0.1 - 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.0}, "arrival rate 0 is not usable"),
        ({"rate": -1.0}, "arrival rate -1"),
        ({"rate": float("nan")}, "arrival rate nan"),
        ({"rate": float("inf")}, "arrival rate inf"),
        ({"think_time": -1.0}, "think time -1"),
        ({"time_per_token": float("nan")}, "time per token nan"),
        ({"seed": -3}, "seed -3"),
    ],
)
def test_unusable_settings(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Arrivals(**changes)  # type: ignore[arg-type]
