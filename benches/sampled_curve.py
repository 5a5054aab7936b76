"""How far sampled curves err, and how often their intervals hold the exact rate.

``python benches/sampled_curve.py TRACE`` draws many sets of independent samples at each share and
compares each estimate with the exact LRU curve of the whole trace, by how many mean prompts the
scaled cache holds. An interval that promises 95 % ought to hold the exact rate 95 times of 100.
"""

from __future__ import annotations

import sys

import numpy as np

from prefixsim import Trace, curve
from prefixsim.errors import InputError
from prefixsim.study.sampled_curve import sample_curve

RATES, SETS = (0.05, 0.1, 0.25), 40
BOUNDS = ((10, 30), (30, 100), (100, 300), (300, np.inf))


def main(path: str) -> None:
    trace = Trace.read(path)
    size = trace.id_block_size if trace.kind == "hashes" else 16
    exact = curve(trace, block_size=size)
    capacities = [int(c) for c in np.geomspace(exact.unique_blocks / 500, exact.unique_blocks, 14)]
    rows: dict[tuple[float, int], list[tuple[float, bool]]] = {}
    for rate in RATES:
        for capacity in capacities[:-1]:
            for seed in range(SETS):
                try:
                    found = sample_curve(
                        trace, rate=rate, capacity=[capacity], engine="ideal", seed=seed,
                        block_size=size,
                    )  # fmt: skip
                except InputError:  # fewer than ten mean prompts
                    break
                [point] = found.points
                true = exact.hit_rate(capacity)
                place = next(i for i, (_, most) in enumerate(BOUNDS) if point.scaled_prompts < most)
                held = point.low <= true <= point.high
                error = 100 * (point.token_hit_rate - true)
                rows.setdefault((rate, place), []).append((error, held))
    head = ("share", "mean prompts in the scaled cache", "estimates", "mean error (points)")
    print("|", " | ".join((*head, "mean size of the error", "largest", "intervals that hold")), "|")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for (rate, place), estimates in sorted(rows.items()):
        low, high = BOUNDS[place]
        name = f"{low} to {high}" if high < np.inf else f"{low} and more"
        errors = np.array([error for error, _ in estimates])
        share = np.mean([held for _, held in estimates])
        print(
            f"| {rate:.0%} | {name} | {len(estimates)} | {errors.mean():+.2f} | "
            f"{np.abs(errors).mean():.2f} | {np.abs(errors).max():.2f} | {share:.0%} |"
        )


if __name__ == "__main__":
    main(sys.argv[1])
