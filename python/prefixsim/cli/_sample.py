"""Options of sampled curves, and how one is printed and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._printable import printable
from prefixsim.errors import InputError
from prefixsim.own_policies import Policy
from prefixsim.settings import setting

if TYPE_CHECKING:
    from prefixsim.study.sampled_curve import SampledCurve
    from prefixsim.trace import Trace

__all__ = ["Sampling", "sampled", "show_sampled"]

_ENDINGS = (".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Sampling:
    """Estimates from samples

    Attributes
    ----------
    sample : float or None
    samples, sample_seed : int
    sample_engine : str or None
    """  # noqa: D400 - the title of a panel of the help

    sample: float | None = setting(
        None,
        help="Estimate the curve of an engine that keeps every slot from samples of this share of "
        "the requests, with 95 % intervals; policies alone are exact at less cost.",
        metavar="RATE",
        shown_default="exact",
    )
    samples: int = setting(
        4, help="Independent samples, for the intervals.", least=2, most=20, metavar="N"
    )
    sample_seed: int = setting(0, help="Of the samples.", least=0, most=2**32, metavar="N")
    sample_engine: str | None = setting(
        None,
        help="Engine of --sample, one without time.",
        metavar="NAME",
        shown_default="as replay chooses for a bounded cache",
    )


def sampled(
    options: Sampling,
    trace: Trace,
    rate: float,
    *,
    policy: Sequence[str | Policy],
    block_size: int | None,
    capacity: Sequence[int] | None,
    last_token_rule: bool,
) -> SampledCurve:
    """Estimate the curve that the options ask for."""
    from prefixsim.engines import load
    from prefixsim.study.sampled_curve import sample_curve

    # Others have an order of their own.
    takes_policies = (
        options.sample_engine is not None and load(options.sample_engine).capabilities.policies
    )
    if len(policy) > 1 or (policy[0] != "lru" and not takes_policies):
        names = ",".join(map(str, policy))
        msg = (
            f"--policy {names}: --sample takes one, of --sample-engine ideal; other engines have "
            "their own order"
        )
        raise InputError(msg)
    if not last_token_rule and not takes_policies:
        msg = "--whole-prompt-hits: not with rules of a server, give --sample-engine ideal"
        raise InputError(msg)
    own = {"policy": policy[0], "last_token_rule": last_token_rule} if takes_policies else {}
    return sample_curve(
        trace,
        rate=rate,
        capacity=capacity,
        engine=options.sample_engine,
        samples=options.samples,
        seed=options.sample_seed,
        block_size=block_size,
        **own,
    )


def show_sampled(found: SampledCurve, outputs: Sequence[Path], *, as_json: bool) -> None:
    """Write a sampled curve to files, print it, and warn where few prompts fit."""
    from prefixsim._arrow_files import write_table
    from prefixsim._files import atomic_write
    from prefixsim.cli._terminal import print_tables
    from prefixsim.study.sampled_curve import sampled_tables

    for path in outputs:
        if path.suffix not in _ENDINGS:
            msg = f"{path}: a sampled curve has no chart, use one of {', '.join(_ENDINGS)}"
            raise InputError(msg)
    for path in outputs:
        if path.suffix == ".json":
            atomic_write(path, found.to_json())
        else:
            write_table(found.to_arrow(), path)
    if found.doubts is not None:
        sys.stderr.write(f"prefixsim: warning: {printable(found.doubts)}\n")
    if as_json:
        sys.stdout.write(found.to_json())
    else:
        print_tables(sampled_tables(found))
