"""A replay's result: summary, per-request table, charts, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefixsim import _json
from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, load
from prefixsim.engines.outcome import Outcome
from prefixsim.settings import options_of
from prefixsim.study.metrics import Metrics
from prefixsim.study.overload import Overload, estimated, overload_in
from prefixsim.study.tables import summary_tables
from prefixsim.table import html
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import pyarrow as pa

    from prefixsim.explanations.waterfall import Waterfall
    from prefixsim.forest import Forest

__all__ = [
    "Result",
    "describe_config",
    "labels",
    "results_json",
]


def describe_config(config: JsonObject) -> str:
    """Say a replay's configuration in words, the usual left out."""
    words = [f"block size {config['block_size']}"]
    if not config["enable_caching"]:
        words.append("prefix caching off")
    elif config["num_blocks"] is None:
        words.append("unbounded cache")
    else:
        words.append(f"{config['num_blocks']:,} blocks")
    words.append(f"engine {config['engine']}")
    if config.get("policy", "lru") != "lru":
        words.append(f"policy {config['policy']}")
    if "max_num_batched_tokens" in config:
        seqs, tokens = config["max_num_seqs"], config["max_num_batched_tokens"]
        words.append(f"{seqs:,} at once, {tokens:,} tokens a step")
    words += _scheduling(config)
    if config["concurrency"] > 1:
        words.append(f"concurrency {config['concurrency']}")
    if config["cache_outputs"]:
        words.append("outputs cached")
    if config["partial_blocks"]:
        words.append("partial blocks kept")
    if not config["last_token_rule"]:
        words.append("whole prompts may hit")
    if config["warmup"]:
        words.append(f"after {config['warmup']:.0%} warm-up")
    return " · ".join(words)


def _scheduling(config: JsonObject) -> list[str]:
    """Say what a server with groups, drafts and batches in flight does."""
    words = []
    if config.get("kv_groups"):
        words.append(f"groups {config['kv_groups']}")
        if config["hit_alignment"] != config["block_size"]:
            words.append(f"hits at multiples of {config['hit_alignment']}")
    if config.get("spec_method"):
        words.append(f"{config['num_speculative_tokens']} drafts by {config['spec_method']}")
    if config.get("scheduling_policy", "fcfs") != "fcfs":
        words.append(f"by {config['scheduling_policy']}")
    if config.get("async_scheduling"):
        words.append("async scheduling")
    return words


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a replay found.

    Attributes
    ----------
    metrics : Metrics
        Every figure, computed when asked for.
    config : dict
        Every setting that decided the result.
    without_caching : Result or None
        The same with caching off, where it was asked for: what caching bought.
    engine : Engine
        The rules it was replayed with.
    settings : EngineSettings
        Its settings, as they were settled for the trace.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)])
    >>> result = prefixsim.replay(trace, block_size=8)
    >>> result.summary["hit_tokens"], result.description
    (72, 'block size 8 · unbounded cache · engine ideal')
    """

    metrics: Metrics
    config: JsonObject
    engine: Engine
    settings: EngineSettings
    without_caching: Result | None = None

    @property
    def trace(self) -> Trace:
        """The trace that was replayed."""
        return self.metrics.trace

    @property
    def outcome(self) -> Outcome:
        """The engine's columns and counters."""
        return self.metrics.outcome

    @cached_property
    def summary(self) -> JsonObject:
        """Every figure under its machine-readable name."""
        return self.metrics.summary()

    @cached_property
    def requests(self) -> pa.Table:
        """One row per request of the trace, warm-up included."""
        from prefixsim.study.request_table import request_table

        return request_table(self.trace, self.outcome)

    @cached_property
    def provenance(self) -> JsonObject:
        """What made this result: version, trace and its digest, seed, how the trace was made."""
        return provenance(self.trace, self.config)

    @property
    def description(self) -> str:
        """The configuration in words."""
        return describe_config(self.config)

    @cached_property
    def overload(self) -> Overload | None:
        """Arrivals that the server does not keep up with; ``None`` without time, or if it does."""
        return overload_in(self.trace, self.outcome.columns, self.config)

    def to_dict(self) -> JsonObject:
        """Return ``trace``, ``config``, ``provenance`` and ``summary``; plain values.

        Also ``estimate``, if times come from a roofline, and ``overload``, if the server does not
        keep up.
        """
        facts: JsonObject = {
            "trace": trace_facts(self.trace, self.provenance["digest"]),
            "config": self.config,
            "provenance": self.provenance,
            "summary": self.summary,
        }
        if estimated(self.config):
            facts["estimate"] = True
        if self.overload is not None:
            facts["overload"] = self.overload.to_dict()
        if self.without_caching is not None:
            facts["without_caching"] = self.without_caching.summary
        return facts

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_pandas(self) -> pd.DataFrame:
        """Return :attr:`requests` as a pandas data frame; needs ``pip install pandas``."""
        require("pandas", extra=None)
        return self.requests.to_pandas()

    def again(self, trace: Trace | Forest | None = None, **changes: Any) -> Result:
        """Replay with some settings changed.

        Parameters
        ----------
        trace : Trace or Forest, optional
            Instead of this result's.
        **changes
            As for :func:`prefixsim.replay`.

        Examples
        --------
        >>> import prefixsim
        >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(16)])
        >>> prefixsim.replay(trace).again(block_size=8).outcome.hit_tokens.tolist()
        [0, 40, 8]
        """
        from prefixsim.study.replay import replay

        warmup = changes.pop("warmup", self.config["warmup"])
        source = self.metrics.forest if trace is None else trace
        engine = load(changes.pop("engine", self.engine))
        known = {option.name for option in options_of(engine.settings)}
        given = {
            option.name: getattr(self.settings, option.name)
            for option in options_of(type(self.settings))
            if option.name in known
        }
        return replay(source, engine=engine, warmup=warmup, **{**given, **changes})

    def waterfall(self) -> Waterfall:
        """Tell why each prompt token was hit or lost; see :func:`prefixsim.explain`."""
        from prefixsim.explanations.waterfall import waterfall

        return waterfall(self)

    def charts(self) -> dict[str, alt.TopLevelMixin]:
        """Return the charts by name; see :func:`prefixsim.charts.replay.charts`."""
        from prefixsim.charts.replay import charts

        return charts([self])

    def plot(self, *others: Result) -> alt.TopLevelMixin:
        """Return all charts in one, this result beside ``others``."""
        from prefixsim.charts.replay import dashboard

        return dashboard([self, *others])

    def save(
        self,
        folder: str | Path,
        *,
        charts: bool = True,
        table: Literal["parquet", "csv", "jsonl"] = "parquet",
    ) -> list[Path]:
        """Write ``summary.json``, ``requests.parquet`` and charts into a folder.

        Parameters
        ----------
        folder : str or Path
            Made if it is missing.
        charts : bool, optional
            Write the charts, as PNG and SVG.
        table : {"parquet", "csv", "jsonl"}, optional
            Form of the per-request table.

        Returns
        -------
        list of Path
            The files written.
        """
        from prefixsim.reports.files import save_results

        return save_results([self], folder, charts=charts, table=table)

    def __repr__(self) -> str:
        return (
            f"<Result {self.trace.name}: {self.description}, "
            f"token hit rate {self.summary['token_hit_rate']:.4f}>"
        )

    def _repr_html_(self) -> str:
        return html(summary_tables(self))


def labels(results: Sequence[Result]) -> list[str]:
    """Return a name for each result that tells it from the others."""
    for names in (
        [r.trace.name for r in results],
        [r.description for r in results],
        [f"{r.trace.name} · {r.description}" for r in results],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{r.trace.name} ({i})" for i, r in enumerate(results, 1)]


def results_json(results: Sequence[Result]) -> str:
    """Return one JSON object for one result, a list for several."""
    objects = [result.to_dict() for result in results]
    return _json.dumps(objects[0] if len(objects) == 1 else objects)
