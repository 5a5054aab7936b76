"""Hit curves: what a cache of any size would hit.

The LRU curve is exact at every capacity and comes from one pass. The clairvoyant reference is
replayed at the capacities asked for, in parallel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import block_size_for
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.own_policies import Policy, check_labels, read_policy
from prefixsim.study.hit_curve import (
    AXES,
    Axis,
    Curve,
    Point,
    curve_tables,
    plotted,
    points_table,
    round_capacities,
)
from prefixsim.study.rates import curves_dict
from prefixsim.table import html
from prefixsim.trace import Trace

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

__all__ = [
    "AXES",
    "Axis",
    "Curve",
    "Curves",
    "Point",
    "curve",
    "round_capacities",
]

P = TypeVar("P", bound=str | Policy)


class Curves(Sequence[Curve]):
    """Curves of one trace, to be shown together."""

    def __init__(self, curves: Iterable[Curve]) -> None:
        self._curves = list(curves)

    @overload
    def __getitem__(self, index: int) -> Curve: ...
    @overload
    def __getitem__(self, index: slice) -> Curves: ...
    def __getitem__(self, index: int | slice) -> Curve | Curves:
        if isinstance(index, slice):
            return Curves(self._curves[index])
        return self._curves[index]

    def __len__(self) -> int:
        return len(self._curves)

    def __iter__(self) -> Iterator[Curve]:
        return iter(self._curves)

    def __repr__(self) -> str:
        return f"<Curves: {', '.join(map(repr, self))}>"

    def _repr_html_(self) -> str:
        return html(curve_tables(self))

    def get(self, policy: str, block_size: int) -> Curve:
        """Return the curve of a policy at a block size."""
        for found in self:
            if (found.policy, found.block_size) == (policy, block_size):
                return found
        msg = f"no curve of policy {policy!r} at block size {block_size}"
        raise InputError(msg)

    def to_dict(self) -> JsonObject:
        """Return ``trace``, ``provenance`` and ``curves``; plain values."""
        first = self[0]
        curves = [curve.to_dict() for curve in self]
        return curves_dict(first.forest, curves, last_token_rule=first.last_token_rule)

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_arrow(self, *, bytes_per_token: float | None = None) -> pa.Table:
        """Return the points of all curves, one row each.

        Parameters
        ----------
        bytes_per_token : float, optional
            Adds the column ``capacity_bytes``.

        Returns
        -------
        pyarrow.Table
            ``policy``, ``block_size``, ``capacity_blocks``, ``capacity_tokens``, ``hit_tokens``,
            ``blocks_reused``, ``token_hit_rate``, ``block_reuse_rate``.
        """
        return points_table(self, bytes_per_token)

    def plot(
        self, *, axis: Axis | None = None, bytes_per_token: float | None = None
    ) -> alt.TopLevelMixin:
        """Draw the token hit rate over a logarithmic capacity, ceilings as dashed lines.

        Parameters
        ----------
        axis : {"blocks", "tokens", "GB"}, optional
            Unit of the capacity. Default: GB (10^9 bytes) if ``bytes_per_token`` is given, else
            tokens.
        bytes_per_token : float, optional
            See :func:`prefixsim.hardware.kv_bytes.kv_bytes_per_token`.
        """
        return plotted(self, axis, bytes_per_token)


@overload
def curve(
    trace: Trace | Forest,
    *,
    block_size: int | None = None,
    policy: str | Policy = "lru",
    capacity: int | Sequence[int] | None = None,
    last_token_rule: bool = True,
) -> Curve: ...
@overload
def curve(
    trace: Trace | Forest,
    *,
    block_size: Sequence[int],
    policy: str | Policy | Sequence[str | Policy] = "lru",
    capacity: int | Sequence[int] | None = None,
    last_token_rule: bool = True,
) -> Curves: ...
@overload
def curve(
    trace: Trace | Forest,
    *,
    block_size: int | Sequence[int] | None = None,
    policy: list[P] | tuple[P, ...],
    capacity: int | Sequence[int] | None = None,
    last_token_rule: bool = True,
) -> Curves: ...
def curve(
    trace: Trace | Forest,
    *,
    block_size: int | Sequence[int] | None = None,
    policy: str | Policy | Sequence[str | Policy] = "lru",
    capacity: int | Sequence[int] | None = None,
    last_token_rule: bool = True,
) -> Curve | Curves:
    """Compute hits as a function of the cache's capacity.

    Parameters
    ----------
    trace : Trace or Forest
    block_size : int or sequence of int, optional
        Tokens. Default: 16 for token ids; for hash ids, the tokens each stands for.
    policy : str, Policy or sequence of them, optional
        :data:`prefixsim.eviction.POLICIES`, with parameters as ``name:key=value``, or your own.
    capacity : int or sequence of int, optional
        Where :attr:`Curve.points` are, in blocks. Default: 1, 2, 5, 10... up to the unique blocks.
        Every other capacity can be asked for all the same.
    last_token_rule : bool, optional
        Compute at least the last token of every prompt, as servers do.

    Returns
    -------
    Curve or Curves
        Curves if ``block_size`` or ``policy`` is a sequence.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(9), range(40)])
    >>> lru = prefixsim.curve(trace, block_size=1)
    >>> lru.hit_rate(39), lru.capacity_for(0.5), round(lru.ceiling, 4)
    (0.5280898876404494, 37, 0.5281)
    """
    forest = trace if isinstance(trace, Forest) else compile_trace(trace)
    if forest.partial_blocks:
        msg = f"{forest.trace.name}: a curve counts full blocks, compile without partial_blocks"
        raise InputError(msg)
    sizes = [block_size] if block_size is None or isinstance(block_size, int) else list(block_size)
    alone = isinstance(policy, str | Policy)
    policies = [read_policy(p) for p in ([policy] if isinstance(policy, str | Policy) else policy)]
    check_labels(policies)
    capacities = [capacity] if isinstance(capacity, int) else capacity
    for blocks in capacities or []:
        if blocks < 1:
            msg = f"capacity is {blocks} blocks, it must be at least 1"
            raise InputError(msg)
    curves = Curves(
        Curve(
            forest,
            str(rule),
            size,
            last_token_rule,
            round_capacities(forest.unique_blocks(size)) if capacities is None else capacities,
            rule if isinstance(rule, Policy) else None,
        )
        for size in dict.fromkeys(block_size_for(forest.trace, size) for size in sizes)
        for rule in dict.fromkeys(policies)
    )
    scalar = not isinstance(block_size, Sequence) and alone
    return curves[0] if scalar else curves
