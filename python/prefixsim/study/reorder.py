"""The order of a batch in which its requests share most.

Requests that wait for no one can run in any order. Walked depth first, the forest puts a request
next to the one it shares most with: what it shares with any earlier request it shares with the one
right before it. So a cache that holds the longest request loses nothing: each distinct block is
computed once. A request that ends where others go on comes before them, which leaves the last-token
rule least to take away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.engines import Engine, choose, settings_for
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.replay import replay, with_tokens
from prefixsim.study.result import Result
from prefixsim.table import Table, html, ratio, written
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OrderRun", "Reordering", "depth_first", "in_order", "reorder", "reorder_tables"]


@dataclass(frozen=True)
class OrderRun:
    """A batch replayed in one order.

    Attributes
    ----------
    order : str
        ``arrival``, ``depth first`` or ``shuffle N``.
    hit_tokens, computed_tokens : int
        Prompt tokens served from the cache, and the others.
    token_hit_rate : float
        Hit tokens / prompt tokens.
    """

    order: str
    hit_tokens: int
    computed_tokens: int
    token_hit_rate: float


@dataclass(frozen=True, eq=False, repr=False)
class Reordering:
    """A batch in the order that shares most, and what that gains.

    Attributes
    ----------
    trace : Trace
        The requests as they came.
    order : ndarray of int64, shape (requests,)
        Rows of ``trace`` in the new order.
    runs : list of OrderRun
        The chosen engine's, of the arrival order, depth first and shuffles.
    config : dict
        The engine and its settings.
    best_hit_tokens : int
        What an unlimited cache hits in the new order: no order hits more in any cache.
    longest_blocks : int
        Full blocks of the longest request.
    """

    trace: Trace
    order: npt.NDArray[np.int64]
    runs: list[OrderRun]
    config: JsonObject
    best_hit_tokens: int
    longest_blocks: int

    def __repr__(self) -> str:
        before, after = self.runs[0].token_hit_rate, self.runs[1].token_hit_rate
        return f"<Reordering of {self.trace.name}: token hit rate {before:.4f} to {after:.4f}>"

    def _repr_html_(self) -> str:
        return html(reorder_tables(self))

    @property
    def reordered(self) -> Trace:
        """The requests in the new order, at the times of the old one."""
        return in_order(self.trace, self.order)

    @property
    def is_best(self) -> bool:
        """Whether the new order hits as much as any order could in any cache."""
        return self.runs[1].hit_tokens >= self.best_hit_tokens

    def to_dict(self) -> JsonObject:
        """Return trace, provenance, what no order exceeds, and the runs; plain values."""
        origin = provenance(self.trace, self.config)
        return {
            "trace": trace_facts(self.trace, origin["digest"]),
            "provenance": origin,
            "best_hit_tokens": self.best_hit_tokens,
            "best_token_hit_rate": self.best_hit_tokens / max(1, self.trace.prompt_tokens),
            "is_best": self.is_best,
            "longest_blocks": self.longest_blocks,
            "runs": [dict(vars(run)) for run in self.runs],
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_arrow(self) -> pa.Table:
        """Return the runs, one row each: the fields of :class:`OrderRun`."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(vars(run)) for run in self.runs])


def depth_first(forest: Forest) -> npt.NDArray[np.int64]:
    """Return the rows of a forest's trace depth first, equal prompts as they came.

    Returns
    -------
    ndarray of int64, shape (requests,)

    Examples
    --------
    >>> trace = Trace.from_prompts([[1, 2, 3], [7], [1, 2], [1, 2, 3, 4]])
    >>> depth_first(compile_trace(trace)).tolist()
    [2, 0, 3, 1]
    """
    # Nodes are numbered in preorder: a node before all that is below it.
    nodes = forest.core.parts()["prompt_node"]
    return np.argsort(nodes, kind="stable").astype(np.int64)


def in_order(trace: Trace, order: npt.NDArray[np.int64]) -> Trace:
    """Return the requests in another order: the first takes the first's time, and so on."""
    return trace.take(order).replace(timestamp=trace.timestamp)


def reorder(
    trace: Trace,
    *,
    engine: str | Engine | None = None,
    shuffles: int = 3,
    seed: int = 0,
    model: str | None = None,
    **options: object,
) -> Reordering:
    """Put a batch in the order that shares most, and measure the gain.

    The order is that of a walk through the forest, depth first. In the ideal engine under LRU no
    order hits more, at any size of the cache. In others it is the best there is once the cache
    holds the longest request and requests run one by one; what concurrency costs is measured.

    Parameters
    ----------
    trace : Trace
        Requests of a batch. Their times are those of places: the first to run keeps the first time.
    engine : str or Engine, optional
        In which the orders are compared, as for :func:`prefixsim.replay`.
    shuffles : int, optional
        How many random orders are measured beside them.
    seed : int, optional
        Of the first shuffle; the next has the next seed.
    model : str, optional
        Tokenizer of a trace of texts.
    **options
        Options of the engine.

    Returns
    -------
    Reordering

    Raises
    ------
    InputError
        If the trace is empty, an option is out of range, or the trace cannot be replayed with it.

    Examples
    --------
    >>> import prefixsim
    >>> prompts = [range(64), range(900, 964), range(80), range(900, 980)]
    >>> batch = prefixsim.Trace.from_prompts(prompts)
    >>> found = prefixsim.reorder(batch, engine="ideal", num_blocks=5)
    >>> found.order.tolist(), [(run.order, run.hit_tokens) for run in found.runs[:2]]
    ([0, 2, 1, 3], [('arrival', 16), ('depth first', 128)])
    """
    if shuffles < 0 or seed < 0:
        msg = f"shuffles is {shuffles} and seed is {seed}: give numbers of at least 0"
        raise InputError(msg)
    if not len(trace):
        msg = f"{trace.name}: has no requests to put in order"
        raise InputError(msg)
    tokens = with_tokens(trace, model)
    order = depth_first(compile_trace(tokens))
    orders = {"depth first": order}
    for number in range(shuffles):
        drawn = np.random.default_rng(seed + number).permutation(len(trace))
        orders[f"shuffle {number + 1}"] = drawn.astype(np.int64)
    chosen = choose(engine, options)
    settings = settings_for(chosen, options)
    arrival = replay(tokens, engine=chosen, settings=settings)
    runs = [_run("arrival", arrival)]
    for name, rows in orders.items():
        result = replay(in_order(tokens, rows), engine=chosen, settings=settings)
        runs.append(_run(name, result))
    size = arrival.metrics.block_size
    profile = compile_trace(in_order(tokens, order)).profile(size)
    rule = bool(arrival.config.get("last_token_rule", True))
    most = np.maximum(tokens.prompt_len[order].astype(np.int64) - rule, 0) // size
    best = int(np.minimum(profile.reusable_blocks, most).sum()) * size
    config = {**arrival.config, "shuffles": shuffles, "seed": seed}
    return Reordering(trace, order, runs, config, best, int(profile.full_blocks.max()))


def _run(order: str, result: Result) -> OrderRun:
    summary = result.summary
    hits = int(summary["hit_tokens"])
    return OrderRun(
        order, hits, int(summary["prompt_tokens"]) - hits, float(summary["token_hit_rate"])
    )


def reorder_tables(found: Reordering) -> list[Table]:
    """Return what the orders hit as a table, shuffles as their mean."""
    arrival, first, *shuffles = found.runs
    rows = [_row(arrival, arrival), _row(first, arrival)]
    if shuffles:
        rows.append(_row(_mean(shuffles), arrival))
    best = found.best_hit_tokens / max(1, found.trace.prompt_tokens)
    reached = (
        "reached" if found.is_best else "not reached: the cache is too small, or many run at once"
    )
    longest = f"the longest request takes {found.longest_blocks:,} blocks"
    return [
        Table(
            f"{found.trace.name}: {len(found.trace):,} requests\n"
            f"no order hits more than {written(best, 'rate')} in any cache ({reached}); {longest}",
            ["order", "token hit rate", "hit tokens", "computed tokens", "of arrival's"],
            rows,
        )
    ]


def _mean(runs: Sequence[OrderRun]) -> OrderRun:
    name = "shuffled" if len(runs) == 1 else f"shuffled, mean of {len(runs)}"
    hits = sum(run.hit_tokens for run in runs) // len(runs)
    computed = sum(run.computed_tokens for run in runs) // len(runs)
    return OrderRun(name, hits, computed, sum(run.token_hit_rate for run in runs) / len(runs))


def _row(run: OrderRun, arrival: OrderRun) -> list[str]:
    return [
        run.order,
        written(run.token_hit_rate, "rate"),
        written(run.hit_tokens, "count"),
        written(run.computed_tokens, "count"),
        ratio(run.computed_tokens, arrival.computed_tokens),
    ]
