"""Hits over the time to live: what an unlimited cache finds if blocks stay for so many seconds.

With renewal on use the curve is exact at every time to live and comes from one pass: a block is
found if its last use is no longer ago than that, and the age of each stretch of a prompt is known.
Without renewal there is no such pass, for when a block came in depends on the time to live itself;
there every point is a replay of its own, just as exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _core, _json
from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import block_size_for
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.rates import blocks_for, hits_dict
from prefixsim.study.ttl_tables import ttl_dict, ttl_points_table, ttl_tables
from prefixsim.table import html
from prefixsim.trace import Trace

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

__all__ = ["TtlCurve", "TtlPoint", "round_times", "ttl_curve"]

_LONGEST = float(np.finfo(np.float64).max)
_ROUND = (
    1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400,
    172800, 604800, 2592000,
)  # fmt: skip


@dataclass(frozen=True)
class TtlPoint:
    """An unlimited cache with one time to live.

    Attributes
    ----------
    ttl_s : float
        Seconds.
    hit_tokens, blocks_reused : int
        Prompt tokens and full prompt blocks served from the cache.
    token_hit_rate : float
        Hit tokens / prompt tokens.
    block_reuse_rate : float
        Blocks reused / full prompt blocks.
    mean_blocks : float or None
        Blocks in the cache, as a mean over the time from the first request to the last. ``None``
        without renewal, and where no time passes.
    """

    ttl_s: float
    hit_tokens: int
    blocks_reused: int
    token_hit_rate: float
    block_reuse_rate: float
    mean_blocks: float | None


@dataclass(frozen=True, eq=False, repr=False)
class TtlCurve:
    """Hits of an unlimited cache at one block size, as a function of the time to live.

    Attributes
    ----------
    forest : Forest
    core : prefixsim._core.TtlCurve
        What the one pass found: the curve with renewal.
    block_size : int
        Tokens.
    renew : bool
        Whether every use begins the time anew; else it runs from when a block came in.
    last_token_rule : bool
        Whether the last token of a prompt is always computed.
    times : sequence of float
        Where :attr:`points` are, in seconds. Any other time can be asked for as well.
    """

    forest: Forest
    core: _core.TtlCurve
    block_size: int
    renew: bool = True
    last_token_rule: bool = True
    times: Sequence[float] = ()
    _known: dict[float, int] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """The policy of a replay that this is the curve of."""
        return "ttl" if self.renew else "ttl:renew=false"

    @property
    def label(self) -> str:
        """Name in a legend or a table's head."""
        return f"{self.policy}, block size {self.block_size}"

    def _repr_html_(self) -> str:
        return html(ttl_tables([self]))

    def __repr__(self) -> str:
        return (
            f"<TtlCurve {self.forest.trace.name}: {self.policy}, block size {self.block_size}, "
            f"ceiling {self.ceiling:.4f}>"
        )

    @cached_property
    def total_blocks(self) -> int:
        """Full blocks of all prompts."""
        return int(self.forest.profile(self.block_size).full_blocks.sum(dtype=np.uint64))

    @cached_property
    def ceiling(self) -> float:
        """Token hit rate if blocks stay for ever."""
        return self.at(math.inf).token_hit_rate

    @property
    def points(self) -> list[TtlPoint]:
        """The curve at :attr:`times`."""
        self._replay(self.times)
        return [self.at(seconds) for seconds in self.times]

    def at(self, seconds: float) -> TtlPoint:
        """Return the curve at a time to live in seconds; ``math.inf``: blocks stay for ever."""
        hits = self.blocks_reused(seconds)
        tokens = hits * self.block_size
        return TtlPoint(
            ttl_s=seconds,
            hit_tokens=tokens,
            blocks_reused=hits,
            token_hit_rate=tokens / max(1, self.forest.trace.prompt_tokens),
            block_reuse_rate=hits / max(1, self.total_blocks),
            mean_blocks=self._mean_blocks(seconds),
        )

    def blocks_reused(self, seconds: float) -> int:
        """Count the prompt blocks that hit at a time to live in seconds."""
        checked_time(seconds)
        if self.renew:
            return int(self.hits_at(np.array([seconds]))[0])
        self._replay([seconds])
        return self._known[seconds]

    def hits_at(self, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
        """Count the prompt blocks that hit at many times to live, with renewal.

        Parameters
        ----------
        seconds : ndarray of float64, shape (times,)

        Returns
        -------
        ndarray of uint64, shape (times,)
        """
        self._need_renewal("hits at many times")
        at = np.ascontiguousarray(seconds, dtype=np.float64)
        return self.core.hit_blocks(at, last_token_rule=self.last_token_rule)

    def hit_rate(self, seconds: float) -> float:
        """Return the token hit rate at a time to live in seconds."""
        return self.at(seconds).token_hit_rate

    def steps(self) -> npt.NDArray[np.float64]:
        """Return all times to live, ascending, at which the hits step up, with renewal.

        Returns
        -------
        ndarray of float64, shape (steps,)
            Seconds. Between two of them nothing changes; after the last one nothing is gained.
        """
        self._need_renewal("the steps")
        return self.core.steps(last_token_rule=self.last_token_rule)

    def ttl_for(self, hit_rate: float) -> float | None:
        """Return the shortest time to live that reaches a token hit rate, exactly; with renewal.

        Parameters
        ----------
        hit_rate : float
            For example ``0.95 * curve.ceiling``.

        Returns
        -------
        float or None
            Seconds; ``None`` if even blocks that stay for ever do not reach it.
        """
        self._need_renewal("the shortest time for a rate")
        hits = blocks_for(hit_rate, self.forest.trace.prompt_tokens, self.block_size)
        return self.core.seconds_for(hits, last_token_rule=self.last_token_rule)

    def block_seconds(self, seconds: float) -> float:
        """Return what the cache holds from the first request to the last, with renewal.

        Blocks times the seconds they are there: what storage that is paid by the hour would bill,
        once divided by 3600 and multiplied by the tokens of a block.
        """
        self._need_renewal("block-seconds")
        checked_time(seconds)
        return self.core.block_seconds(seconds)

    def sampled(self, count: int) -> list[TtlPoint]:
        """Return about ``count`` points, evenly spaced on a logarithmic time."""
        last = self._longest
        times = np.unique(np.geomspace(min(1.0, last / 10), last, count))
        self._replay(times.tolist())
        return [self.at(seconds) for seconds in times.tolist()]

    def to_dict(self) -> JsonObject:
        """Return policy, block size, ceiling and points; plain values."""
        return {
            "policy": self.policy,
            "block_size": self.block_size,
            "ceiling": hits_dict(asdict(self.at(math.inf))),
            "unique_blocks": self.forest.unique_blocks(self.block_size),
            "points": [asdict(point) for point in self.points],
        }

    def to_json(self) -> str:
        """Return the curve with its trace and provenance as strict, indented JSON."""
        return _json.dumps(ttl_dict([self]))

    def to_arrow(self) -> pa.Table:
        """Return :attr:`points` as an Arrow table, one row each."""
        return ttl_points_table([self])

    def plot(self) -> alt.TopLevelMixin:
        """Draw the token hit rate over a logarithmic time to live."""
        from prefixsim.charts.ttl import draw

        drawn: alt.TopLevelMixin = draw([self])
        return drawn

    @cached_property
    def _longest(self) -> float:
        """The time to live from which on nothing is gained, or 1 s."""
        steps = self.core.steps(last_token_rule=self.last_token_rule)
        return float(steps[-1]) if len(steps) and steps[-1] > 0 else 1.0

    def _mean_blocks(self, seconds: float) -> float | None:
        times = self.forest.trace.timestamp
        span = float(times[-1] - times[0]) if len(times) else 0.0
        if not self.renew or span <= 0:
            return None
        return self.core.block_seconds(seconds) / span

    def _need_renewal(self, what: str) -> None:
        if not self.renew:
            msg = f"{what}: only with renewal on use; without, each time to live is a replay"
            raise InputError(msg)

    def _replay(self, times: Iterable[float]) -> None:
        """Replay the times to live that are not known, on all cores; without renewal."""
        if self.renew:
            return
        missing = [s for s in dict.fromkeys(map(checked_time, times)) if s not in self._known]
        jobs: list[tuple[int, str, int | None]] = [
            (0, f"ttl:seconds={min(seconds, _LONGEST)!r}:renew=false", None) for seconds in missing
        ]
        if not jobs:
            return
        totals = _core.sweep(
            [self.forest.profile(self.block_size)],
            jobs,
            np.ascontiguousarray(self.forest.trace.prompt_len, dtype=np.uint32),
            last_token_rule=self.last_token_rule,
        )
        for seconds, (hits, *_) in zip(missing, totals, strict=True):
            self._known[seconds] = hits


def ttl_curve(
    trace: Trace | Forest,
    *,
    block_size: int | None = None,
    ttl: float | Sequence[float] | None = None,
    renew: bool = True,
    last_token_rule: bool = True,
) -> TtlCurve:
    """Compute the hits of an unlimited cache as a function of its blocks' time to live.

    A request finds the blocks of its prompt that were used (without renewal: that came in) no
    longer than ``ttl`` seconds ago, as the policy ``ttl`` has it. With renewal all times are exact
    from one pass; without, each time asked for is an exact replay.

    Parameters
    ----------
    trace : Trace or Forest
    block_size : int, optional
        Tokens. Default: 16 for token ids; for hash ids, the tokens each stands for.
    ttl : float or sequence of float, optional
        Where :attr:`TtlCurve.points` are, in seconds. Default: round times up to the one from which
        on nothing is gained. Every other time can be asked for all the same.
    renew : bool, optional
        Whether every use begins the time anew.
    last_token_rule : bool, optional
        Compute at least the last token of every prompt, as servers do.

    Returns
    -------
    TtlCurve

    Raises
    ------
    InputError
        If a time is below 0 or not a number, or the trace's timestamps do not ascend.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(64)] * 3, timestamp=[0, 30, 330])
    >>> curve = prefixsim.ttl_curve(trace, block_size=16)
    >>> curve.hit_rate(60), curve.hit_rate(300), curve.ttl_for(0.5)
    (0.25, 0.5, 300.0)
    """
    forest = trace if isinstance(trace, Forest) else compile_trace(trace)
    if forest.partial_blocks:
        msg = f"{forest.trace.name}: a curve counts full blocks, compile without partial_blocks"
        raise InputError(msg)
    row = forest.trace.out_of_order()
    if row is not None:
        msg = (
            f"{forest.trace.name}: request {row} is earlier than the one before it, sort the trace"
        )
        raise InputError(msg)
    size = block_size_for(forest.trace, block_size)
    core = forest.profile(size).ttl_curve()
    if ttl is None:
        steps = core.steps(last_token_rule=last_token_rule)
        times = round_times(float(steps[-1]) if len(steps) else 0.0)
    else:
        times = [ttl] if isinstance(ttl, (int, float)) else list(ttl)
    checked = [checked_time(seconds) for seconds in times]
    return TtlCurve(forest, core, size, renew, last_token_rule, checked)


def checked_time(seconds: float) -> float:
    """Return a time to live, if it is one.

    Raises
    ------
    InputError
        If it is below 0 or not a number.
    """
    if not seconds >= 0:
        msg = f"a time to live of {seconds} s: give seconds of at least 0"
        raise InputError(msg)
    return float(seconds)


def round_times(longest: float) -> list[float]:
    """Return 1 s, 2 s, 5 s ... 1 min, 5 min, 1 h ... below ``longest``, and that time."""
    return [*(float(seconds) for seconds in _ROUND if seconds < longest), max(longest, 0.0)]
