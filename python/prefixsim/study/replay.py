"""Replay a trace through a simulated prefix cache.

In four steps: the source becomes columns of ids, the engine and its settings are chosen, the forest
is compiled and replayed, and what was measured becomes a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as changed
from pathlib import Path

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, choose, engines, settings_for
from prefixsim.engines.cache_size import block_size_for, blocks_in
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.formats import read_trace
from prefixsim.sizes import Size
from prefixsim.study.metrics import Metrics, first_measured
from prefixsim.study.result import Result
from prefixsim.trace import Trace

__all__ = ["forest_for", "prepared", "replay", "settled", "with_tokens"]


def replay(
    trace: Trace | Forest | str | Path,
    *,
    engine: str | Engine | None = None,
    settings: EngineSettings | None = None,
    warmup: float = 0.0,
    model: str | None = None,
    cache_dir: str | Path | None = None,
    warm_start: str | Path | None = None,
    **options: object,
) -> Result:
    """Replay a trace through a simulated prefix cache.

    Parameters
    ----------
    trace : Trace, Forest or path
        A compiled forest saves compiling the trace again for the next replay.
    engine : str or Engine, optional
        ``ideal`` is the ideal cache, ``block-manager`` is vLLM's KV cache manager, ``vllm`` is that
        with vLLM's scheduler and time; or one of your own, see :mod:`prefixsim.engines.contract`.
        Default: the first engine that has the options given, which is ``block-manager`` for a
        bounded cache and ``ideal`` for an unbounded one, where both have the same hits.
    settings : EngineSettings, optional
        The engine's options as one object, in place of ``options``.
    warmup : float, optional
        Share of the requests, from the start, that fill the cache but are not measured.
    model : str, optional
        Tokenizer of a text trace: hub name, local folder, or ``demo``.
    cache_dir : path, optional
        Keep the token ids of a text trace here, see
        :func:`~prefixsim.text.text_trace.tokenize_trace`.
    warm_start : path, optional
        A recording of KV events (:mod:`prefixsim.formats.recording`) whose cache is there when the
        first request comes. Its chains become requests before it, which are not measured.
    **options
        Options of the engine. All have ``block_size`` (tokens; default: 16 for token ids, for hash
        ids the tokens each stands for), ``num_blocks`` (blocks, ``"40GB"`` with ``model_config`` or
        ``bytes_per_token``, or ``None`` for no limit), ``enable_caching`` and ``cache_outputs``;
        ``docs/engines.md`` lists those of each engine.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If an option is out of range, or the trace cannot be replayed with it.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(16)])
    >>> result = prefixsim.replay(trace, block_size=16)
    >>> result.outcome.hit_tokens.tolist()
    [0, 32, 0]
    >>> round(result.summary["token_hit_rate"], 4)
    0.3077
    """
    if settings is not None and options:
        msg = f"settings and {next(iter(options))}: give either the settings or single options"
        raise InputError(msg)
    if not 0 <= warmup < 1:
        msg = f"warmup is {warmup}, give a share of the requests: at least 0 and less than 1"
        raise InputError(msg)
    source = prepared(trace, model, cache_dir)
    columns = source.trace if isinstance(source, Forest) else source
    chosen = _engine_of(engine, settings, options)
    wanted = settled(columns, chosen, options if settings is None else settings)
    recorded = 0
    if warm_start is not None:
        from prefixsim.study.warm_start import prepend_cached

        if isinstance(source, Forest) or chosen.capabilities.has_time:
            msg = "a warm start takes a trace, not a forest, and an engine without time"
            raise InputError(msg)
        nulls = chosen.capabilities.null_blocks
        usable = None if wanted.blocks is None else max(wanted.blocks - nulls, 1)
        most = None if usable is None else usable * wanted.tokens_per_block
        source, recorded = prepend_cached(columns, warm_start, most_tokens=most)
        columns = source
    start = recorded + first_measured(len(columns) - recorded, warmup)
    wanted = changed(wanted, measured_from=start)
    return _run(forest_for(source, wanted), chosen, wanted, warmup)


def prepared(
    trace: Trace | Forest | str | Path, model: str | None, cache_dir: str | Path | None = None
) -> Trace | Forest:
    """Return a trace with ids: read if it is a path, tokenized if it is one of texts."""
    if isinstance(trace, Forest):
        return trace
    return with_tokens(trace if isinstance(trace, Trace) else read_trace(trace), model, cache_dir)


def with_tokens(trace: Trace, model: str | None, cache_dir: str | Path | None = None) -> Trace:
    """Return the trace, tokenized if it is one of texts."""
    if trace.kind != "text":
        return trace
    from prefixsim.text.text_trace import tokenize_trace
    from prefixsim.text.tokenize import DEFAULT_MODEL

    return tokenize_trace(trace, model or DEFAULT_MODEL, cache_dir=cache_dir)


def _engine_of(
    engine: str | Engine | None, settings: EngineSettings | None, options: Mapping[str, object]
) -> Engine:
    if engine is None and settings is not None:
        known = [e for e in engines().values() if e.settings is type(settings)]
        if len(known) != 1:
            msg = f"{type(settings).__name__} are the settings of no one engine, name it too"
            raise InputError(msg)
        engine = known[0]
    chosen = choose(engine, options)
    if settings is not None and not isinstance(settings, chosen.settings):
        wanted = chosen.settings.__name__
        msg = f"engine {chosen.name!r} takes {wanted}, not {type(settings).__name__}"
        raise InputError(msg)
    return chosen


def settled(
    trace: Trace, engine: Engine, options: Mapping[str, object] | EngineSettings
) -> EngineSettings:
    """Return an engine's settings with all that depends on the trace filled in.

    The block size becomes a number, a size in bytes a number of blocks, and whether outputs are
    cached is settled.

    Raises
    ------
    InputError
        If the engine has no such option, or the trace cannot be replayed with it.
    """
    found = options if isinstance(options, EngineSettings) else settings_for(engine, options)
    usual = engine.capabilities.default_block_size
    size = block_size_for(trace, found.block_size, default=usual)
    memory = getattr(found, "kv_memory", None)
    if memory is not None:
        if found.num_blocks is not None:
            msg = "kv_memory and num_blocks: both are the size of the cache, give one of them"
            raise SettingError(msg)
        sized: JsonObject = {"num_blocks": _in_bytes(memory), "kv_memory": None}
        found = changed(found, **sized)
    found = changed(found, block_size=size).for_model()
    block_size_for(trace, found.tokens_per_block)  # what a model makes of it
    blocks = blocks_in(
        found.num_blocks,
        size,
        bytes_per_token=found.bytes_per_token,
        model_config=found.model_config,
        kv_cache_dtype=found.kv_cache_dtype,
        tensor_parallel=found.tensor_parallel,
    )
    outputs = found.cache_outputs
    if outputs is None:
        has_them = trace.kind == "tokens" and trace.outputs is not None
        outputs = engine.capabilities.caches_outputs and has_them
    return changed(found, num_blocks=blocks, cache_outputs=outputs)


def _in_bytes(value: int | Size) -> Size:
    return value if isinstance(value, Size) else Size(f"{value}B", value, in_bytes=True)


def forest_for(source: Trace | Forest, settings: EngineSettings) -> Forest:
    """Return a forest that is compiled as the settings need it.

    Raises
    ------
    InputError
        If a forest was given that was compiled otherwise.
    """
    wanted = {
        "outputs": bool(settings.cache_outputs),
        "partial_blocks": bool(getattr(settings, "partial_blocks", False)),
    }
    if isinstance(source, Trace):
        return compile_trace(source, **wanted)
    for name, value in wanted.items():
        if getattr(source, name) != value:
            msg = f"{source.trace.name}: compile the trace with {name}={value} for this replay"
            raise InputError(msg)
    return source


def _run(forest: Forest, engine: Engine, settings: EngineSettings, warmup: float) -> Result:
    trace, size, start = forest.trace, settings.tokens_per_block, settings.measured_from
    try:
        outcome = engine(forest, settings)
        window = forest.profile(size)
        if start:
            rest = trace.take(np.arange(start, len(trace)))
            window = forest_for(rest, settings).profile(size)
    except InputError:
        raise
    except ValueError as error:  # from the core, which does not know the trace's name
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    metrics = Metrics(forest, outcome, size, start, window)
    config = {**outcome.config, "warmup": warmup}
    if "warm_start" in trace.meta:
        config["warm_start"] = trace.meta["warm_start"]
    return Result(metrics, config, engine=engine, settings=settings)
