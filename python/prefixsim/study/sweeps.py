"""Many replays of one forest at once, as one table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim import _core
from prefixsim.engines import Settings, load
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.curves import POLICIES, Policy
from prefixsim.study.replay import block_size_for
from prefixsim.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["sweep"]

IDEAL = "lru"
"""The engine whose replays are one call of the core, and which knows every policy."""


_LARGEST_CAPACITY = 2**32 - 3  # a null block comes on top


@dataclass(frozen=True)
class _Run:
    engine: str
    policy: Policy
    block_size: int
    capacity: int | None


# Hit blocks, hit tokens, requests with a hit, evictions.
_Totals = tuple[int, int, int, int]


def sweep(
    trace: Trace | Forest,
    *,
    engine: str | Sequence[str] = IDEAL,
    policy: Policy | Sequence[Policy] = "lru",
    block_size: int | Sequence[int] | None = None,
    capacity: int | Sequence[int | None] | None = None,
    last_token_rule: bool = True,
) -> pa.Table:
    """Replay every combination of engines, policies, block sizes and capacities, on all cores.

    Parameters
    ----------
    trace : Trace or Forest
    engine : str or sequence of str, optional
        As for :func:`prefixsim.replay`. Policies other than ``lru`` belong to the ideal cache
        (engine ``lru``); combinations that do not exist are left out.
    policy : {"lru", "clairvoyant"} or sequence of them, optional
    block_size : int or sequence of int, optional
        Tokens. Default: 16 for token ids; for hash ids, the tokens each stands for.
    capacity : int, None or sequence of them, optional
        Usable blocks; ``None`` is an infinite cache. vLLM's engines get one block more, for its
        null block.
    last_token_rule : bool, optional
        Compute at least the last token of every prompt, as servers do.

    Returns
    -------
    pyarrow.Table
        One row per combination: ``engine``, ``policy``, ``block_size``, ``capacity_blocks``,
        ``hit_tokens``, ``blocks_reused``, ``total_blocks``, ``unique_blocks``, ``token_hit_rate``,
        ``block_reuse_rate``, ``requests_with_hit``, ``evictions``.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)])
    >>> table = prefixsim.sweep(trace, block_size=[8, 16], capacity=[1, None])
    >>> table["blocks_reused"].to_pylist()
    [2, 9, 2, 4]
    """
    import pyarrow as pa

    forest = trace if isinstance(trace, Forest) else compile_trace(trace)
    sizes = [block_size_for(forest.trace, size) for size in _listed(block_size)]
    capacities = [_usable(c) for c in _listed(capacity)]
    runs = [
        _Run(*combination)
        for combination in product(_listed(engine), _listed(policy), sizes, capacities)
        if combination[0] == IDEAL or combination[1] == "lru"
    ]
    _check(runs, _listed(policy))
    ideal = [run for run in runs if run.engine == IDEAL]
    others = [run for run in runs if run.engine != IDEAL]
    try:
        totals = dict(zip(ideal, _ideal(forest, ideal, last_token_rule), strict=True))
        totals.update(zip(others, _engines(forest, others, last_token_rule), strict=True))
    except InputError:
        raise
    except ValueError as error:  # from the core, which does not know the trace's name
        msg = f"{forest.trace.name}: {error}"
        raise InputError(msg) from None
    return pa.Table.from_pylist([_row(forest, run, totals[run]) for run in dict.fromkeys(runs)])


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [value]


def _usable(capacity: int | None) -> int | None:
    if capacity is not None and capacity < 1:
        msg = f"capacity is {capacity} blocks, it must be at least 1 (None: infinite)"
        raise InputError(msg)
    if capacity is not None and capacity > _LARGEST_CAPACITY:
        msg = f"capacity is {capacity} blocks, it must be at most {_LARGEST_CAPACITY:,}"
        raise InputError(msg)
    return capacity


def _check(runs: Sequence[_Run], policies: Iterable[str]) -> None:
    for name in policies:
        if name not in POLICIES:
            msg = f"policy {name!r}: choose from {', '.join(POLICIES)}"
            raise InputError(msg)
    if not runs:
        msg = "no combination to replay: policies other than 'lru' need the engine 'lru'"
        raise InputError(msg)


def _ideal(forest: Forest, runs: Sequence[_Run], last_token_rule: bool) -> list[_Totals]:
    sizes = list(dict.fromkeys(run.block_size for run in runs))
    return _core.sweep(
        [forest.profile(size) for size in sizes],
        [(sizes.index(run.block_size), run.policy, run.capacity) for run in runs],
        forest.trace.prompt_len,
        last_token_rule=last_token_rule,
    )


def _engines(forest: Forest, runs: Sequence[_Run], last_token_rule: bool) -> list[_Totals]:
    """Replay other engines, which let go of the GIL, on threads."""

    def one(run: _Run) -> _Totals:
        blocks = None if run.capacity is None else run.capacity + 1
        settings = Settings(run.block_size, blocks, last_token_rule=last_token_rule)
        outcome = load(run.engine)(forest, settings)
        hits = outcome.hit_blocks
        return (
            int(hits.sum(dtype=np.uint64)),
            int(outcome.hit_tokens.sum(dtype=np.uint64)),
            int((hits > 0).sum()),
            int(outcome.counters.get("evictions", 0)),
        )

    if not runs:
        return []
    with ThreadPoolExecutor(min(len(runs), os.cpu_count() or 1)) as pool:
        return list(pool.map(one, runs))


def _row(forest: Forest, run: _Run, totals: _Totals) -> dict[str, object]:
    hit_blocks, hit_tokens, requests_with_hit, evictions = totals
    total = int(forest.profile(run.block_size).full_blocks.sum(dtype=np.uint64))
    return {
        "engine": run.engine,
        "policy": run.policy,
        "block_size": run.block_size,
        "capacity_blocks": run.capacity,
        "hit_tokens": hit_tokens,
        "blocks_reused": hit_blocks,
        "total_blocks": total,
        "unique_blocks": forest.unique_blocks(run.block_size),
        "token_hit_rate": hit_tokens / max(1, forest.trace.prompt_tokens),
        "block_reuse_rate": hit_blocks / max(1, total),
        "requests_with_hit": requests_with_hit,
        "evictions": evictions,
    }
