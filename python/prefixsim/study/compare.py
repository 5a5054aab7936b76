"""Servers and their settings side by side on one trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, load, timed
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.own_policies import check_labels
from prefixsim.study.grid import Cell, Forests, combinations, compile_for, listed, run_cells
from prefixsim.study.many import Grid, key_of
from prefixsim.study.overload import estimated, overload_in
from prefixsim.study.replay import prepared
from prefixsim.table import Table
from prefixsim.trace import Trace
from prefixsim.trace.columns import Array

__all__ = ["MOST_RUNS", "Comparison", "compare", "differences"]

MOST_RUNS = 1000

Task = tuple[Engine, JsonObject]
Run = tuple[JsonObject, JsonObject]


@dataclass(frozen=True)
class Comparison:
    """Runs of one trace with different engines or settings.

    Attributes
    ----------
    trace : Trace
    axes : tuple of str
        Settings in which the runs differ; ``engine`` among them.
    fixed : dict
        Settings that all runs share.
    runs : list of (dict, dict)
        Settings and summary of each.
    engines : list of Engine
    """

    trace: Trace
    axes: tuple[str, ...]
    fixed: JsonObject
    runs: list[tuple[JsonObject, JsonObject]]
    engines: list[Engine]

    def to_dict(self) -> JsonObject:
        """Return plain values: the trace, its digest, and settings and summary of each run."""
        rows = [{"settings": settings, "summary": summary} for settings, summary in self.runs]
        return {"trace": self.trace.name, "digest": self.trace.digest, "runs": rows}


def compare(
    trace: Trace | Forest | str | Path,
    *,
    engine: str | Engine | Sequence[str | Engine] | None = None,
    model: str | None = None,
    ray: str | None = None,
    resume: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **axes: object,
) -> Comparison:
    """Run servers for every combination of the settings given, on all cores.

    Parameters
    ----------
    trace : Trace, Forest or path
    engine : str, Engine or sequence of them, optional
        Default: ``vllm``.
    model : str, optional
        Tokenizer of a text trace.
    ray : str, optional
        Address of a Ray cluster that the runs are spread over: ``local``, ``auto``, ``host:port``.
    resume : path, optional
        Results are kept here as they come; those that are there are not made again.
    progress : callable, optional
        Called with the runs done and all runs.
    **axes
        object option of the engines: one value, or a list of values to go through.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If an option is unknown, a run is not possible, or there are more than :data:`MOST_RUNS`.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48)], output_len=[5, 5])
    >>> found = prefixsim.compare(trace, num_blocks=100, enable_caching=[True, False])
    >>> [summary["hit_tokens"] for _, summary in found.runs]
    [32, 0]
    """
    source = prepared(trace, model)
    columns = source.trace if isinstance(source, Forest) else source
    asked = {name: listed(value) for name, value in axes.items()}
    check_labels(asked.get("policy", ()))
    chosen = timed() if engine is None else engine
    wanted = combinations(chosen, asked)
    if len(wanted) > MOST_RUNS:
        msg = f"{len(wanted):,} runs are too many for one comparison, give at most {MOST_RUNS:,}"
        raise InputError(msg)
    forests = Forests(source)
    grid = Grid[Forests, Task, Run](
        kind="compare",
        shared=compile_for(forests, wanted) if ray else forests,
        tasks=wanted,
        key=lambda task: key_of(task[0].name, task[1]),
        work=_runs,
        kept=list,
        found=tuple,
    )
    runs = grid.run(lambda: columns.digest, ray=ray, resume=resume, progress=progress)
    several = [name for name, values in asked.items() if len(values) > 1]
    used = [load(e) for e in listed(chosen)]
    if len(used) > 1:
        several.insert(0, "engine")
    fixed = {name: values[0] for name, values in asked.items() if name not in several}
    if len(used) == 1:
        fixed = {"engine": used[0].name, **fixed}
    return Comparison(columns, tuple(several), fixed, runs, used)


def _runs(forests: Forests, wanted: Sequence[Task]) -> Iterator[tuple[int, Run]]:
    """Yield the number, and settings and summary, of each combination."""
    return enumerate(run_cells(forests, wanted, lambda cell: _run(forests.trace, cell)))


def _run(trace: Trace, cell: Cell) -> tuple[JsonObject, JsonObject]:
    if cell.outcome is None or cell.settings is None:
        raise SettingError(cell.error or "no outcome")
    outcome = cell.outcome
    prompt, hit = trace.prompt_tokens, int(outcome.hit_tokens.sum(dtype="uint64"))
    plain = {
        k: v if isinstance(v, str | int | float | bool | None) else str(v)
        for k, v in cell.given.items()
    }
    settings = {
        "engine": cell.engine.name,
        **plain,
        "block_size": cell.settings.tokens_per_block,
        "num_blocks": cell.settings.blocks,
    }
    summary = {
        "requests": len(trace),
        "prompt_tokens": prompt,
        "hit_tokens": hit,
        "token_hit_rate": hit / prompt if prompt else 0.0,
        "computed_tokens": int(outcome.computed_tokens.sum(dtype="uint64")),
        "evictions": outcome.counters.get("evictions", 0),
        **_tiers(outcome.tier_hit_tokens),
        **outcome.summary,
    }
    if estimated(outcome.config):
        summary["estimate"] = True
    over = overload_in(trace, outcome.columns, outcome.config)
    if over is not None:
        summary |= {"overload": over.to_dict(), "overload_words": str(over)}
    return settings, summary


def _tiers(tiers: Mapping[str, Array]) -> JsonObject:
    if not tiers:
        return {}
    return {"tier_hit_tokens": {name: int(c.sum(dtype="uint64")) for name, c in tiers.items()}}


def differences(engines: Sequence[Engine]) -> Table | None:
    """Say in words in what the rules of engines differ; ``None`` if they say the same."""
    rows = []
    aspects = dict.fromkeys(aspect for e in engines for aspect in e.capabilities.differs)
    for aspect in aspects:
        words = {e.name: e.capabilities.differs.get(aspect, "") for e in engines}
        if len(set(words.values())) > 1:
            rows += [[aspect, name, text] for name, text in words.items() if text]
    if not rows:
        return None
    return Table("where their rules differ", ["", "engine", "rule"], rows, words=3)
