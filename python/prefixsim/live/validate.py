"""A server's reported cached tokens against a replay of what it was asked, request by request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, choose, settings_for, timed
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.formats import ReadOptions, read_trace
from prefixsim.formats.logs import read_calls
from prefixsim.formats.native_jsonl import FORMAT as NATIVE
from prefixsim.live.fit import fit_latency
from prefixsim.live.journal import repair
from prefixsim.live.metrics import values
from prefixsim.live.record import METRICS, REQUESTS, SERVER
from prefixsim.study.replay import forest_for, replay, settled
from prefixsim.table import Table
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.trace import Trace

__all__ = ["Recorded", "Validation", "read_recorded", "validate"]

UNKNOWN = -1
_COUNTERS = (
    ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
    ("vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_queries_total"),
    ("sglang:cached_tokens_total", "sglang:prompt_tokens_total"),
)
# The engine of a server that does not say what it is.
_TIMED = timed().name
_BLOCK_SIZES = (8, 16, 32, 64, 128, 256)
# A setting is worth naming if with it so much of the error is gone.
_EXPLAINS = 0.5


@dataclass(frozen=True)
class Recorded:
    """What a server was asked and what it reported.

    Attributes
    ----------
    trace : Trace
        Token or hash ids.
    reported : ndarray of int64, shape (requests,)
        Cached tokens; -1 where the server did not say.
    settings : dict
        What the server said of its cache.
    counters : tuple of int, or None
        Hits and queries that the server counted meanwhile.
    """

    trace: Trace
    reported: npt.NDArray[np.int64]
    settings: JsonObject = field(default_factory=dict)
    counters: tuple[int, int] | None = None


def read_recorded(path: str | Path, model: str | None = None) -> Recorded:
    """Read a recording's folder, or any log of calls with cached tokens.

    Raises
    ------
    InputError
        If texts are to be tokenized and there is no ``model``, or no request has cached tokens.
    """
    path = Path(path)
    requests = path / REQUESTS if path.is_dir() else path
    if path.is_dir() and not requests.is_file():
        msg = f"{path}: holds no {REQUESTS}, so it is no recording"
        raise InputError(msg)
    if path.is_dir():
        repair(requests)
    trace, reported = _read_requests(requests)
    if trace.kind == "text":
        if model is None:
            msg = f"{requests}: holds text, give --model, the tokenizer of the model served"
            raise InputError(msg)
        trace = tokenize_trace(trace, model)
    if not (reported >= 0).any():
        msg = (
            f"{requests}: no answer says its cached tokens; vLLM does so with "
            "--enable-prompt-tokens-details, SGLang with --enable-cache-report"
        )
        raise InputError(msg)
    folder = path if path.is_dir() else path.parent
    return Recorded(trace, reported, _settings(folder / SERVER), _counters(folder / METRICS))


def _read_requests(path: Path) -> tuple[Trace, npt.NDArray[np.int64]]:
    """Return the trace of a recording, and what was reported of each request."""
    with path.open("rb") as file:
        head = file.readline()
    if b'"request":' not in head and (b'"token_ids":' in head or b'"hash_ids":' in head):
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
        order = np.argsort([row["timestamp"] for row in rows], kind="stable")
        said = [rows[i].get("cached_tokens") for i in order]
        trace = NATIVE.read(path, ReadOptions(sort=True))
        trace = trace.replace(timestamp=trace.timestamp - trace.timestamp[0], name=path.parent.name)
        return trace, np.array([UNKNOWN if s is None else s for s in said], dtype=np.int64)
    found = read_calls(path, sort=True)
    alone = np.bincount(found.rows, minlength=len(found.calls))
    said = [found.calls[row].cached_tokens if alone[row] == 1 else None for row in found.rows]
    return found.trace, np.array([UNKNOWN if s is None else s for s in said], dtype=np.int64)


def _settings(path: Path) -> JsonObject:
    if not path.is_file():
        return {}
    found: JsonObject = json.loads(path.read_bytes()).get("settings", {})
    return found


def _counters(path: Path) -> tuple[int, int] | None:
    """Return how much the server's counters grew from the first look to the last."""
    if not path.is_file():
        return None
    repair(path)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    if len(rows) < 2:
        return None
    first, last = values(rows[0]["text"]), values(rows[-1]["text"])
    for hits, queries in _COUNTERS:
        if hits in last and queries in last:
            return (
                int(last[hits] - first.get(hits, 0.0)),
                int(last[queries] - first.get(queries, 0.0)),
            )
    return None


@dataclass(frozen=True)
class Validation:
    """Predicted against reported.

    Attributes
    ----------
    facts : dict
        JSON-ready: ``requests``, ``equal``, ``reported_rate``, ``predicted_rate``,
        ``error_points``, ``parts``, ``suggestions``, ``settings``.
    predicted : ndarray of int64, shape (requests,)
    """

    facts: JsonObject
    predicted: npt.NDArray[np.int64]

    @property
    def error_points(self) -> float:
        """Predicted minus reported hit rate, in percentage points."""
        return float(self.facts["error_points"])

    def tables(self) -> list[Table]:
        """Return what ``prefixsim validate`` prints."""
        facts = self.facts
        rows = [
            ["requests compared", f"{facts['requests']:,}"],
            ["equal, request by request", f"{facts['equal']:,}"],
            ["reported token hit rate", f"{100 * facts['reported_rate']:.2f} %"],
            ["predicted token hit rate", f"{100 * facts['predicted_rate']:.2f} %"],
            ["error", f"{facts['error_points']:+.2f} points"],
            ["mean error of a request", f"{facts['mean_absolute_tokens']:,.1f} tokens"],
        ]
        if "counted_rate" in facts:
            rows.append(["the server's own counters", f"{100 * facts['counted_rate']:.2f} %"])
        parts = [[name, f"{points:+.2f} points"] for name, points in facts["parts"].items()]
        tables = [
            Table("", ["", ""], rows),
            Table("", ["what the prediction depends on", "without it"], parts),
        ]
        if facts["suggestions"]:
            told = [
                [s["setting"], f"{s['error_points']:+.2f} points", f"{s['equal']:,} equal"]
                for s in facts["suggestions"]
            ]
            tables.append(Table("", ["explains the difference", "error", ""], told))
        return tables


def validate(
    recorded: Recorded, engine: str | Engine | None = None, **options: object
) -> Validation:
    """Replay what was recorded with the server's settings, and compare.

    Parameters
    ----------
    recorded : Recorded
    engine : str or Engine, optional
        An engine with time; default: that of the server, as far as it said what it is.
    **options
        Settings of the engine, in place of what the server said of itself. ``latency`` is fitted
        to when answers came if it is not given.

    Raises
    ------
    InputError
        If the engine has no time, or cannot serve the requests with these settings.
    """
    run = _Run.of(recorded, engine, options)
    predicted = run.hits()
    facts = _compare(recorded, predicted)
    parts: dict[str, JsonObject] = {
        "arrival order (one after the other)": {"arrivals": "sequential"},
        "capacity (an infinite cache)": {"num_blocks": None},
    }
    rate = facts["predicted_rate"]
    facts["parts"] = {
        name: 100 * (_compare(recorded, run.hits(**change))["predicted_rate"] - rate)
        for name, change in parts.items()
        if any(getattr(run.settings, name) != value for name, value in change.items())
    }
    facts["suggestions"] = list(_suggest(recorded, run, predicted, facts))
    config = run.settings.to_config(run.engine.name)
    facts["settings"] = {name: str(value) for name, value in config.items()}
    if recorded.counters is not None and recorded.counters[1] > 0:
        facts["counted_rate"] = recorded.counters[0] / recorded.counters[1]
    facts["settings_said"] = recorded.settings
    return Validation(facts, predicted)


@dataclass(frozen=True)
class _Run:
    """A trace, and the engine and settings it is replayed with."""

    trace: Trace
    engine: Engine
    settings: EngineSettings

    @classmethod
    def of(
        cls, recorded: Recorded, engine: str | Engine | None, options: Mapping[str, object]
    ) -> Self:
        """Choose engine and settings: what is given, then what the server said of itself."""
        trace, said = recorded.trace, dict(recorded.settings)
        server = said.pop("engine", None)
        chosen = choose(engine or (server if isinstance(server, str) else _TIMED), options)
        if not chosen.capabilities.has_time:
            msg = f"engine {chosen.name!r} has no time, and so is no server to compare with"
            raise SettingError(msg)
        known = {f.name for f in fields(chosen.settings)}
        waits = trace.session is not None and trace.answer_s is not None
        usual: JsonObject = {"arrivals": "sessions" if waits else "trace"}
        usual |= {name: value for name, value in said.items() if name in known}
        if trace.kind == "hashes":
            usual["block_size"] = trace.id_block_size
        settings = settings_for(chosen, {**usual, **options})
        came = trace.answer_s is not None and bool((trace.answer_s > 0).any())
        if "latency" not in options and came:
            settings = fit_latency(trace, settings, chosen)
        return cls(trace, chosen, settled(trace, chosen, settings))

    def hits(self, trace: Trace | None = None, **change: Any) -> npt.NDArray[np.int64]:
        """Return the hit tokens of each request, with other settings or a changed trace."""
        settings = replace(self.settings, **change)
        source: Trace | Forest = self._forest if trace is None else trace
        result = replay(source, engine=self.engine, settings=settings)
        return result.outcome.hit_tokens.astype(np.int64)

    @cached_property
    def _forest(self) -> Forest:
        return forest_for(self.trace, self.settings)


def _compare(recorded: Recorded, predicted: npt.NDArray[np.int64]) -> JsonObject:
    known = recorded.reported >= 0
    said, found = recorded.reported[known], predicted[known]
    tokens = max(int(recorded.trace.prompt_len[known].sum(dtype=np.uint64)), 1)
    return {
        "requests": int(known.sum()),
        "equal": int((said == found).sum()),
        "reported_rate": float(said.sum() / tokens),
        "predicted_rate": float(found.sum() / tokens),
        "error_points": float(100 * (found.sum() - said.sum()) / tokens),
        "mean_absolute_tokens": float(np.abs(found - said).mean()),
    }


def _suggest(
    recorded: Recorded, run: _Run, predicted: npt.NDArray[np.int64], facts: JsonObject
) -> Iterator[JsonObject]:
    """Yield single changes of the settings with which most of the error is gone, the best first."""
    error = facts["mean_absolute_tokens"]
    if error == 0.0:
        return
    found = []
    for name, hits in _variants(run, predicted):
        compared = _compare(recorded, hits)
        if compared["mean_absolute_tokens"] <= _EXPLAINS * error:
            found.append({"setting": name, **compared})
    found.sort(key=lambda each: each["mean_absolute_tokens"])
    for each in found[:3]:
        yield {n: each[n] for n in ("setting", "error_points", "equal", "mean_absolute_tokens")}


def _variants(
    run: _Run, predicted: npt.NDArray[np.int64]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yield what would have been hit under other settings."""
    trace, size, blocks = run.trace, run.settings.tokens_per_block, run.settings.blocks
    yield "caching is off", np.zeros(len(trace), np.int64)
    dropped = np.maximum(predicted - size, 0)
    yield "EAGLE or MTP (the last matched block is dropped)", dropped
    if trace.kind == "tokens":
        for other in _BLOCK_SIZES:
            if other != size:
                change: JsonObject = {"block_size": other}
                if blocks is not None:
                    change["num_blocks"] = max(blocks * size // other, 2)
                yield f"block size {other} (--block-size {other})", _or_nothing(run, change)
    if blocks is not None:
        for factor in (0.25, 0.5, 2.0, 4.0):
            others = max(int(blocks * factor), 2)
            yield (
                f"capacity of {others:,} blocks (--num-blocks {others})",
                _or_nothing(run, {"num_blocks": others}),
            )
    if trace.salt is not None:
        yield "no isolation by cache_salt or model", run.hits(trace.replace(salt=None))
    elif trace.session is not None:
        apart = trace.replace(salt=trace.session)
        yield "sessions are isolated (cache_salt)", run.hits(apart)


def _or_nothing(run: _Run, change: JsonObject) -> npt.NDArray[np.int64]:
    """Return hits; of settings under which a request can never be served, none."""
    try:
        return run.hits(**change)
    except InputError:
        return np.zeros(len(run.trace), np.int64)


def trace_of_recording(path: str | Path) -> Trace:
    """Return the trace of a recording's folder, texts as they are."""
    folder = Path(path)
    repair(folder / REQUESTS)
    return read_trace(folder / REQUESTS, sort=True)
