"""Replay a trace through a simulated prefix cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim import engines
from prefixsim.engines import Engine, Settings
from prefixsim.errors import InputError
from prefixsim.forest import compile as compile_trace
from prefixsim.study.metrics import Metrics, first_measured
from prefixsim.study.result import Result
from prefixsim.trace import Trace

if TYPE_CHECKING:
    from prefixsim.forest import Forest

__all__ = ["DEFAULT_BLOCK_SIZE", "block_size_for", "caches_outputs", "replay", "with_tokens"]

DEFAULT_BLOCK_SIZE = 16
"""Tokens; for traces of token ids."""

_MOST = 2**32 - 2


def replay(
    trace: Trace | Forest,
    *,
    block_size: int | None = None,
    num_blocks: int | None = None,
    engine: str | None = None,
    enable_caching: bool = True,
    concurrency: int = 1,
    last_token_rule: bool = True,
    cache_outputs: bool | None = None,
    partial_blocks: bool = False,
    warmup: float = 0.0,
    model: str | None = None,
    cache_dir: str | Path | None = None,
    warm_start: str | Path | None = None,
    **options: Any,
) -> Result:
    """Replay a trace through a simulated prefix cache.

    Parameters
    ----------
    trace : Trace or Forest
        A compiled forest saves compiling the trace again for the next replay.
    block_size : int, optional
        Tokens per block. Default: 16 for token ids; for hash ids, the tokens each stands for, of
        which any other block size must be a multiple.
    num_blocks : int, optional
        Blocks of the cache. Default: unbounded. For ``block-manager`` this is vLLM's
        ``num_gpu_blocks``, one of which is never used; for ``lru`` all are usable.
    engine : {"lru", "block-manager", "vllm"}, optional
        ``lru`` is the ideal cache, ``block-manager`` is vLLM's KV cache manager, ``vllm`` is that
        with vLLM's scheduler and time (:mod:`prefixsim.engines.vllm.simulate` lists its options).
        Default: ``block-manager`` for a bounded cache; ``lru`` for an unbounded one, where both
        have the same hits.
    enable_caching : bool, optional
        ``False``: nothing is ever found in the cache.
    concurrency : int, optional
        Requests that hold their blocks at once (``block-manager``).
    last_token_rule : bool, optional
        Compute at least the last token of every prompt, as servers do.
    cache_outputs : bool, optional
        Generated tokens stay in the cache, where the trace has them. Default: only with ``vllm``.
    partial_blocks : bool, optional
        A trailing partial block counts as a block of its own; no server does this.
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
        Settings that only the chosen engine knows.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If a setting is out of range, or the trace cannot be replayed with it.

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
    forest = None if isinstance(trace, Trace) else trace
    columns = with_tokens(trace, model, cache_dir) if isinstance(trace, Trace) else trace.trace
    recorded = 0
    if warm_start is not None:
        if forest is not None or engine not in (None, "lru", "block-manager"):
            msg = "a warm start takes a trace, not a forest, and engine block-manager or lru"
            raise InputError(msg)
        columns, recorded = _with_recorded(columns, warm_start, num_blocks, block_size)
    if not 0 <= warmup < 1:
        msg = f"warmup is {warmup}, give a share of the requests: at least 0 and less than 1"
        raise InputError(msg)
    settings = Settings(
        block_size=block_size_for(columns, block_size),
        num_blocks=None if num_blocks is None else _counted("num_blocks", num_blocks),
        enable_caching=enable_caching,
        concurrency=_counted("concurrency", concurrency),
        last_token_rule=last_token_rule,
        cache_outputs=caches_outputs(columns, engine, cache_outputs),
        partial_blocks=partial_blocks,
        options=options,
        measured_from=recorded + first_measured(len(columns) - recorded, warmup),
    )
    run = engines.load(engine or engines.default_engine(settings))
    if forest is None:
        forest = compile_trace(columns, **_like(settings))
    for name, wanted in _like(settings).items():
        if getattr(forest, name) != wanted:
            msg = f"{columns.name}: compile the trace with {name}={wanted} for this replay"
            raise InputError(msg)
    return _measured(forest, run, settings, warmup)


def _measured(forest: Forest, run: Engine, settings: Settings, warmup: float) -> Result:
    trace = forest.trace
    try:
        outcome = run(forest, settings)
        window = forest.profile(settings.block_size)
        start = settings.measured_from
        if start:
            rest = compile_trace(trace.take(np.arange(start, len(trace))), **_like(settings))
            window = rest.profile(settings.block_size)
    except InputError:
        raise
    except ValueError as error:  # from the core, which does not know the trace's name
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    metrics = Metrics(forest, outcome, settings.block_size, start, window)
    config = {**outcome.config, "warmup": warmup}
    if "warm_start" in trace.meta:
        config["warm_start"] = trace.meta["warm_start"]
    return Result(metrics, config, options=dict(settings.options))


def _with_recorded(
    trace: Trace, recording: str | Path, num_blocks: int | None, block_size: int | None
) -> tuple[Trace, int]:
    from prefixsim.study.warm_start import prepend_cached  # noqa: PLC0415

    size = block_size_for(trace, block_size)
    usable = None if num_blocks is None else max(num_blocks - 1, 1) * size
    return prepend_cached(trace, recording, most_tokens=usable)


def caches_outputs(trace: Trace, engine: str | None, given: bool | None) -> bool:
    """Whether generated tokens stay cached: as asked for, else as the engine does."""
    if given is not None:
        return given
    return engine == "vllm" and trace.kind == "tokens" and trace.outputs is not None


def _like(settings: Settings) -> dict[str, bool]:
    return {"outputs": settings.cache_outputs, "partial_blocks": settings.partial_blocks}


def block_size_for(trace: Trace, block_size: int | None) -> int:
    """Return the block size to use, checked against the ids of the trace.

    Raises
    ------
    InputError
        If the trace has no blocks of this size.
    """
    unit = trace.id_block_size
    if trace.kind == "lengths":
        msg = f"{trace.name}: has only lengths, a replay needs token ids, hash ids or text"
        raise InputError(msg)
    if block_size is None:
        return DEFAULT_BLOCK_SIZE if trace.kind == "tokens" else unit
    _counted("block_size", block_size)
    if block_size % unit:
        msg = (
            f"{trace.name}: each hash id stands for {unit} tokens, so the block size must be a "
            f"multiple of {unit} ({unit}, {2 * unit}, {4 * unit}...), not {block_size}"
        )
        raise InputError(msg)
    return block_size


def _counted(name: str, value: int) -> int:
    """Refuse what the core cannot count to."""
    if not 1 <= value <= _MOST:
        bound = "at least 1" if value < 1 else f"at most {_MOST:,}"
        msg = f"{name} is {value}, it must be {bound}"
        raise InputError(msg)
    return value


def with_tokens(trace: Trace, model: str | None, cache_dir: str | Path | None = None) -> Trace:
    """Return the trace, tokenized if it is one of texts."""
    if trace.kind != "text":
        return trace
    from prefixsim.text.text_trace import tokenize_trace  # noqa: PLC0415
    from prefixsim.text.tokenize import DEFAULT_MODEL  # noqa: PLC0415

    return tokenize_trace(trace, model or DEFAULT_MODEL, cache_dir=cache_dir)
