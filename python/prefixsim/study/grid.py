"""Every combination of engines and their options on one trace, on all cores.

What :func:`prefixsim.sweep` and :func:`prefixsim.compare` share: a cell is an engine with its
settings, and what came out of it: an outcome, or the error that its settings met.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NoReturn, TypeVar

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, choose, engines
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.settings import nearest, option_named, options_of
from prefixsim.study.replay import forest_for, settled
from prefixsim.trace import Trace

__all__ = [
    "MOST_CELLS",
    "Cell",
    "Forests",
    "combinations",
    "compile_for",
    "listed",
    "run_cells",
    "without_capacity",
]

T = TypeVar("T")

MOST_CELLS = 100_000
"""Combinations of one grid at most."""


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes
    ----------
    engine : Engine
    given : dict
        The options that the grid gave it.
    settings : EngineSettings or None
        As they were settled for the trace; ``None`` if they are not usable.
    outcome : Outcome or None
    error : str or None
        Why there is no outcome.
    """

    engine: Engine
    given: JsonObject
    settings: EngineSettings | None = None
    outcome: Outcome | None = None
    error: str | None = None


def listed(value: Any) -> list[Any]:
    """Return the values of an axis: a list as it is, anything else alone."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [value]


def combinations(
    engine: str | Engine | Sequence[str | Engine] | None, axes: Mapping[str, Sequence[object]]
) -> list[tuple[Engine, JsonObject]]:
    """Return every combination of engines and option values.

    An engine gets only the axes that it has: an option that one of several engines lacks does not
    multiply that engine's cells.

    Raises
    ------
    InputError
        If no engine has one of the options, or there are more than :data:`MOST_CELLS`.
    """
    first = {axis: values[0] for axis, values in axes.items() if values}
    chosen = [choose(name, first) for name in listed(engine)]
    known = {e.name: {o.name for o in options_of(e.settings)} | {"capacity"} for e in chosen}
    for axis, values in axes.items():
        if not values:
            msg = f"{axis}: give at least one value"
            raise InputError(msg)
        if not any(axis in names for names in known.values()):
            _refuse(axis, chosen)
        for value in values:
            _check(axis, value, chosen)
    found: list[tuple[Engine, JsonObject]] = []
    for e in chosen:
        own = {axis: values for axis, values in axes.items() if axis in known[e.name]}
        count = 1
        for values in own.values():
            count *= len(values)
        if len(found) + count > MOST_CELLS:
            most = f"give at most {MOST_CELLS:,}"
            msg = f"{len(found) + count:,} runs are too many for one grid, {most}"
            raise InputError(msg)
        found += [(e, dict(zip(own, row, strict=True))) for row in product(*own.values())]
    return found


def _refuse(axis: str, chosen: Sequence[Engine]) -> NoReturn:
    owners = [e.name for e in engines().values() if option_named(e.settings, axis) is not None]
    mine = " and ".join(repr(e.name) for e in chosen)
    if owners:
        tail = f", {' and '.join(map(repr, owners))} {'has' if len(owners) == 1 else 'have'}"
    else:
        close = nearest(axis, [o.name for e in chosen for o in options_of(e.settings)])
        tail = f", did you mean {close!r}?" if close else ""
    msg = f"engine {mine} has no {axis}{tail}"
    raise SettingError(msg)


def _check(axis: str, value: object, chosen: Sequence[Engine]) -> None:
    """Refuse a value that no cell could use, before any work is done."""
    name = "num_blocks" if axis == "capacity" else axis
    for engine in chosen:
        option = option_named(engine.settings, name)
        if option is None:
            continue
        try:
            option.check(value)
        except ValueError as error:
            problem = str(error)
            it = "it " if problem.startswith("must ") else ""
            msg = f"{axis} is {value!r}, {it}{problem}"
            raise SettingError(msg) from None


def run_cells(
    forests: Forests,
    wanted: Sequence[tuple[Engine, Mapping[str, object]]],
    reduce: Callable[[Cell], T],
) -> Iterator[T]:
    """Run engines with options on all cores; yield what ``reduce`` makes of each cell, in order.

    The trace is compiled once for every kind of forest that the cells need. A cell whose options
    meet an error has it as its ``error``. Outcomes are reduced where they are made, so that only
    what is kept of them takes memory.
    """
    cells = [_settle(forests.trace, forests, engine, given) for engine, given in wanted]

    def one(cell: Cell) -> T:
        if cell.settings is None:
            return reduce(cell)
        try:
            outcome = cell.engine(forests.of(cell.settings), cell.settings)
        except ValueError as error:  # an InputError is one
            return reduce(replace(cell, settings=None, error=str(error)))
        return reduce(replace(cell, outcome=outcome))

    with ThreadPoolExecutor(max(1, min(len(cells), os.cpu_count() or 1))) as pool:
        yield from pool.map(one, cells)


def compile_for(forests: Forests, wanted: Sequence[tuple[Engine, Mapping[str, object]]]) -> Forests:
    """Compile what cells need, before the forests are shipped to workers."""
    for engine, given in wanted:
        _settle(forests.trace, forests, engine, given)
    return forests


def _settle(trace: Trace, forests: Forests, engine: Engine, given: Mapping[str, object]) -> Cell:
    """Settle one cell's options, and compile what it needs: before threads could do so twice."""
    try:
        settings = settled(trace, engine, without_capacity(engine, given))
        forests.of(settings)
    except ValueError as error:
        return Cell(engine, dict(given), error=str(error))
    return Cell(engine, dict(given), settings)


def without_capacity(engine: Engine, given: Mapping[str, object]) -> JsonObject:
    """Turn usable blocks into blocks as the engine counts them."""
    options = dict(given)
    if "capacity" in options:
        capacity = options.pop("capacity")
        if isinstance(capacity, int):
            capacity += engine.capabilities.null_blocks
        options["num_blocks"] = capacity
    return options


class Forests:
    """The forests of one trace, by how they are compiled."""

    def __init__(self, source: Trace | Forest) -> None:
        self._given = source if isinstance(source, Forest) else None
        self.trace = source.trace if isinstance(source, Forest) else source
        self._made: dict[tuple[bool, bool], Forest] = {}
        if self._given is not None:
            self._made[self._given.outputs, self._given.partial_blocks] = self._given

    def of(self, settings: EngineSettings) -> Forest:
        """Return the forest that settled settings need, compiled at most once."""
        kind = (bool(settings.cache_outputs), bool(getattr(settings, "partial_blocks", False)))
        if kind not in self._made:
            self._made[kind] = compile_trace(self.trace, outputs=kind[0], partial_blocks=kind[1])
        return forest_for(self._made[kind], settings)
