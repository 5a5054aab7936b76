"""Curves over the time to live as tables, as Arrow and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from prefixsim._json import JsonObject
from prefixsim.sizes import seconds_text
from prefixsim.study.rates import SHARES, curves_dict
from prefixsim.table import Table, written

if TYPE_CHECKING:
    import pyarrow as pa

    from prefixsim.study.ttl_curve import TtlCurve

__all__ = ["ttl_dict", "ttl_points_table", "ttl_tables"]


def ttl_dict(curves: Sequence[TtlCurve]) -> JsonObject:
    """Return ``trace``, ``provenance`` and ``curves`` of one trace; plain values."""
    first = curves[0]
    told = [curve.to_dict() for curve in curves]
    return curves_dict(first.forest, told, last_token_rule=first.last_token_rule)


def ttl_points_table(curves: Iterable[TtlCurve]) -> pa.Table:
    """Return the points of curves as an Arrow table, one row each.

    Returns
    -------
    pyarrow.Table
        ``policy``, ``block_size`` and the fields of a ``TtlPoint``.
    """
    import pyarrow as pa

    schema = pa.schema(
        {
            "policy": pa.string(),
            "block_size": pa.int64(),
            "ttl_s": pa.float64(),
            "hit_tokens": pa.int64(),
            "blocks_reused": pa.int64(),
            "token_hit_rate": pa.float64(),
            "block_reuse_rate": pa.float64(),
            "mean_blocks": pa.float64(),
        }
    )
    rows = [
        {"policy": c.policy, "block_size": c.block_size, **asdict(point)}
        for c in curves
        for point in c.points
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def ttl_tables(curves: Sequence[TtlCurve]) -> list[Table]:
    """Return curves as tables: what shares of each ceiling take, then hit rates by time to live."""
    name = curves[0].forest.trace.name
    tables = [
        Table(
            f"{name}: {curve.label}: ceiling {written(curve.ceiling, 'rate')} of prompt tokens",
            ["share of ceiling", "token hit rate", "time to live", "mean blocks held"],
            [_share(curve, share) for share in SHARES],
        )
        for curve in curves
        if curve.renew
    ]
    heads = ["time to live"]
    for curve in curves:
        heads += [curve.label, *(["mean blocks held"] if curve.renew else [])]
    rows = []
    for points in zip(*(curve.points for curve in curves), strict=False):
        row = [seconds_text(points[0].ttl_s)]
        for curve, point in zip(curves, points, strict=True):
            row.append(written(point.token_hit_rate, "rate"))
            row += [written(point.mean_blocks, "count")] if curve.renew else []
        rows.append(row)
    return [*tables, Table("token hit rate by time to live, unlimited cache", heads, rows)]


def _share(curve: TtlCurve, share: float) -> list[str]:
    target = share * curve.ceiling
    seconds = curve.ttl_for(target) or 0.0
    return [
        f"{share:.0%}".replace("%", " %"),
        written(target, "rate"),
        seconds_text(seconds),
        written(curve.at(seconds).mean_blocks, "count"),
    ]
