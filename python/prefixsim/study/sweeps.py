"""Many replays of one trace at once, as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim._json import JsonFields, JsonObject
from prefixsim.engines import Engine, choose, engines, policies
from prefixsim.engines.contract import Totals
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.own_policies import Policy, check_labels, read_policy
from prefixsim.settings import option_named
from prefixsim.study.grid import (
    Cell,
    Forests,
    combinations,
    compile_for,
    listed,
    run_cells,
    without_capacity,
)
from prefixsim.study.many import Grid, key_of
from prefixsim.study.replay import prepared, settled
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import pyarrow as pa

__all__ = ["Sweep", "sweep"]

Task = tuple[Engine, JsonObject]

_POLICY = "lru"
"""What engines without a choice of policies are listed under."""

_TIMED = (
    ("ttft_s_median", "ttft_s", "median"),
    ("ttft_s_p99", "ttft_s", "p99"),
    ("tpot_s_median", "tpot_s", "median"),
    ("output_tokens_per_s", "output_tokens_per_s", ""),
    ("preemptions", "preemptions", ""),
)
_KEYS = ("engine", "policy", "block_size", "capacity_blocks")


class Sweep(Sequence[JsonFields]):
    """One row per combination; a sequence of them, and an Arrow table.

    Attributes
    ----------
    name : str
        Of the trace.
    axes : tuple of str
        Columns in which the rows were asked to differ.
    """

    def __init__(self, name: str, rows: Sequence[JsonFields], axes: Sequence[str]) -> None:
        self.name = name
        self.axes = tuple(axes)
        self._rows = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """Return a row by its number, or a column by its name."""
        return self.to_arrow()[key] if isinstance(key, str) else self._rows[key]

    def __iter__(self) -> Iterator[JsonFields]:
        return iter(self._rows)

    def to_pylist(self) -> list[JsonObject]:
        """Return the rows as dictionaries."""
        return [dict(row) for row in self._rows]

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_pylist(self._rows)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows to any library that reads Arrow."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame."""
        return self.to_arrow().to_pandas()

    def table(self) -> Table:
        """Return the rows as a table to print."""
        extra = [axis for axis in self.axes if axis not in _KEYS]
        timed = [name for name, *_ in _TIMED[:2] if any(name in row for row in self._rows)]
        heads = ["engine", "policy", "block size", "capacity (blocks)", *extra]
        heads += ["token hit rate", "block reuse rate", "evictions", *timed]
        rows = []
        for row in self._rows:
            capacity = row["capacity_blocks"]
            cells = [
                row["engine"],
                row["policy"],
                "-" if row["block_size"] is None else str(row["block_size"]),
                "infinite" if capacity is None else f"{capacity:,}",
                *(str(row.get(axis)) for axis in extra),
            ]
            if row["error"] is not None:
                rows.append([*cells, row["error"], *[""] * (2 + len(timed))])
                continue
            rows.append(
                [
                    *cells,
                    written(row["token_hit_rate"], "rate"),
                    written(row["block_reuse_rate"], "rate"),
                    f"{row['evictions']:,}",
                    *(written(row.get(name), "latency") for name in timed),
                ]
            )
        return Table(self.name, heads, rows)

    def plot(self, x: str | None = None, y: str = "token_hit_rate") -> alt.TopLevelMixin:
        """Draw lines over one axis, or a heat map over two.

        Parameters
        ----------
        x : str, optional
            The column along the bottom. Default: the capacity, else the first axis of numbers.
        y : str, optional
            The figure.
        """
        from prefixsim.charts.sweep import sweep_chart

        return sweep_chart(self._rows, self.axes, self.name, x=x, y=y)

    def __repr__(self) -> str:
        axes = ", ".join(self.axes) or "one setting"
        return f"<Sweep {self.name}: {len(self):,} replays over {axes}>"

    def _repr_html_(self) -> str:
        return html([self.table()])


def sweep(
    trace: Trace | Forest | str | Path,
    *,
    engine: str | Engine | Sequence[str | Engine] | None = None,
    policy: str | Policy | Sequence[str | Policy] | None = None,
    capacity: object = None,
    model: str | None = None,
    ray: str | None = None,
    resume: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **axes: object,
) -> Sweep:
    """Replay every combination of engines and their options, on all cores.

    Parameters
    ----------
    trace : Trace, Forest or path
    engine : str, Engine or sequence of them, optional
        As for :func:`prefixsim.replay`. Default: ``ideal``. An engine gets the options that it has.
    policy : str, Policy or sequence of them, optional
        Orders of eviction of the ideal cache; engines without a choice are listed under ``lru``.
    capacity : int, str, None or sequence of them, optional
        Usable blocks (``20k``, ``40GB`` with the bytes of a token known); ``None`` is an infinite
        cache. Servers with a null block get one block more.
    model : str, optional
        Tokenizer of a text trace.
    ray : str, optional
        Address of a Ray cluster that the runs are spread over: ``local``, ``auto``, ``host:port``.
    resume : path, optional
        Results are kept here as they come; those that are there are not made again.
    progress : callable, optional
        Called with the cells done and all cells.
    **axes
        object option of the engines: one value, or a list of values to go through.

    Returns
    -------
    Sweep
        One row per combination: ``engine``, ``policy``, ``block_size``, ``capacity_blocks``, the
        other options given, ``hit_tokens``, ``blocks_reused``, ``total_blocks``,
        ``unique_blocks``, ``token_hit_rate``, ``block_reuse_rate``, ``requests_with_hit``,
        ``evictions``, figures of time where an engine has it, and ``error``: why a combination
        cannot be replayed, else null.

    Raises
    ------
    InputError
        If an option is unknown or a value unusable for every engine, or no combination can be
        replayed.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)])
    >>> table = prefixsim.sweep(trace, block_size=[8, 16], capacity=[1, None])
    >>> table["blocks_reused"].to_pylist()
    [2, 9, 2, 4]
    """
    source = prepared(trace, model)
    columns = source.trace if isinstance(source, Forest) else source
    asked = {name: listed(value) for name, value in axes.items() if value is not None}
    if "num_blocks" not in asked:
        asked["capacity"] = listed(capacity)
    elif capacity is not None:
        msg = "capacity and num_blocks: both are the size of the cache, give one of them"
        raise InputError(msg)
    wanted = _with_policies(combinations(engine or choose(None, {}), asked), policy)
    forests = Forests(source)
    grid = Grid[Forests, Task, JsonObject](
        kind="sweep",
        shared=compile_for(forests, wanted) if ray else forests,
        tasks=wanted,
        key=lambda task: key_of(task[0].name, task[1]),
        work=_rows,
        kept=lambda row: row,
        found=dict,
        alone=any(engine.totals is None for engine, _ in wanted),
    )
    ordered = grid.run(lambda: columns.digest, ray=ray, resume=resume, progress=progress)
    if all(row["error"] for row in ordered):
        raise SettingError(ordered[0]["error"])
    several = [name for name, values in asked.items() if len(values) > 1]
    names = ["capacity_blocks" if name == "capacity" else name for name in several]
    names += [key for key in ("engine", "policy") if len({row[key] for row in ordered}) > 1]
    extra = [name for name in asked if name not in ("capacity", "block_size", "num_blocks")]
    return Sweep(columns.name, ordered, list(dict.fromkeys([*names, *extra])))


def _rows(forests: Forests, wanted: Sequence[Task]) -> Iterator[tuple[int, JsonObject]]:
    """Yield the number and the row of each combination."""
    trace = forests.trace
    ready = _totals_ahead(trace, forests, wanted)
    for i, (cell, totals) in ready.items():
        yield i, _row(trace, forests, cell, totals)
    others = [i for i in range(len(wanted)) if i not in ready]
    cells = [wanted[i] for i in others]
    rows = run_cells(forests, cells, lambda cell: _row(trace, forests, cell, None))
    yield from zip(others, rows, strict=True)


def _with_policies(
    cells: list[tuple[Engine, JsonObject]], policy: str | Policy | Sequence[str | Policy] | None
) -> list[tuple[Engine, JsonObject]]:
    """Multiply the cells of engines that have policies."""
    if policy is None:
        return cells
    names = [_known(name) for name in listed(policy)]
    check_labels(names)
    found: list[tuple[Engine, JsonObject]] = []
    for engine, given in cells:
        if engine.capabilities.policies:
            found += [(engine, {**given, "policy": name}) for name in names]
        elif _POLICY in names:
            found.append((engine, given))
    if not found:
        owners = " or ".join(repr(e.name) for e in engines().values() if e.capabilities.policies)
        msg = f"no combination to replay: policies other than {_POLICY!r} need the engine {owners}"
        raise InputError(msg)
    return list({(e.name, repr(g)): (e, g) for e, g in found}.values())


def _known(policy: str | Policy) -> str | Policy:
    """Return a policy that some engine takes."""
    if isinstance(policy, str) and policy.partition(":")[0] in policies():
        return policy
    try:
        return read_policy(policy)
    except InputError as error:
        if "choose from" not in str(error):
            raise
        msg = f"policy {policy!r}: choose from {', '.join(policies())}"
        raise InputError(msg) from None


def _totals_ahead(
    trace: Trace, forests: Forests, wanted: Sequence[tuple[Engine, Mapping[str, object]]]
) -> dict[int, tuple[Cell, Totals]]:
    """Run at once what an engine can run at once."""
    groups: dict[tuple[str, bool, bool], list[tuple[int, Cell]]] = {}
    for i, (engine, given) in enumerate(wanted):
        if engine.totals is None:
            continue
        try:
            settings = settled(trace, engine, without_capacity(engine, given))
        except ValueError:
            continue  # becomes the row's error
        kind = (bool(settings.cache_outputs), bool(getattr(settings, "partial_blocks", False)))
        cell = Cell(engine, dict(given), settings)
        groups.setdefault((engine.name, *kind), []).append((i, cell))
    found: dict[int, tuple[Cell, Totals]] = {}
    for cells in groups.values():
        several = [cell.settings for _, cell in cells if cell.settings is not None]
        rows = cells[0][1].engine.run_totals(forests.of(several[0]), several)
        found |= {i: (cell, row) for (i, cell), row in zip(cells, rows, strict=True)}
    return found


def _sums(outcome: Outcome) -> Totals:
    hits = outcome.hit_blocks
    return Totals(
        int(hits.sum(dtype=np.uint64)),
        int(outcome.hit_tokens.sum(dtype=np.uint64)),
        int((hits > 0).sum()),
        int(outcome.counters.get("evictions", 0)),
    )


def _row(trace: Trace, forests: Forests, cell: Cell, totals: Totals | None) -> JsonObject:
    options = {k: v for k, v in cell.given.items() if k not in ("capacity", "num_blocks", "policy")}
    options.pop("block_size", None)
    head = {
        "engine": cell.engine.name,
        "policy": str(cell.given.get("policy", _policy_of(cell.engine))),
        "block_size": cell.given.get("block_size"),
        "capacity_blocks": cell.given.get("capacity"),
        **{
            k: v if isinstance(v, str | int | float | bool | None) else str(v)
            for k, v in options.items()
        },
    }
    if cell.settings is None:
        return {**head, "error": cell.error}
    size, blocks = cell.settings.tokens_per_block, cell.settings.blocks
    if totals is None:
        assert cell.outcome is not None
        totals = _sums(cell.outcome)
    forest = forests.of(cell.settings)
    total = int(forest.profile(size).full_blocks.sum(dtype=np.uint64))
    usable = None if blocks is None else blocks - cell.engine.capabilities.null_blocks
    row = {
        **head,
        "block_size": size,
        "capacity_blocks": usable,
        "hit_tokens": totals.hit_tokens,
        "blocks_reused": totals.hit_blocks,
        "total_blocks": total,
        "unique_blocks": forest.unique_blocks(size),
        "token_hit_rate": totals.hit_tokens / max(1, trace.prompt_tokens),
        "block_reuse_rate": totals.hit_blocks / max(1, total),
        "requests_with_hit": totals.requests_with_hit,
        "evictions": totals.evictions,
    }
    if cell.outcome is not None and cell.engine.capabilities.has_time:
        row |= _times(cell.outcome.summary)
    return {**row, "error": None}


def _policy_of(engine: Engine) -> str:
    option = option_named(engine.settings, "policy")
    return _POLICY if option is None else str(option.default)


def _times(summary: Mapping[str, object]) -> JsonObject:
    found = {}
    for name, key, statistic in _TIMED:
        value = summary.get(key)
        if statistic and isinstance(value, Mapping):
            value = value[statistic]
        found[name] = value
    return found
