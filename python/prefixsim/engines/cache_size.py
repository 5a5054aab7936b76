"""Sizes as people give them: of blocks, and of caches in blocks, bytes, or without limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim.errors import InputError, SettingError
from prefixsim.sizes import Size, parse_size

if TYPE_CHECKING:
    from prefixsim.trace import Trace

__all__ = [
    "DEFAULT_BLOCK_SIZE",
    "block_size_for",
    "blocks_in",
    "read_cache_size",
    "token_bytes",
]

DEFAULT_BLOCK_SIZE = 16
"""Tokens; for traces of token ids."""


_ADVICE = "give blocks like 5000, 20k, 3M, bytes like 40GB, 40GiB, or 'inf'"


def read_cache_size(value: object) -> int | Size | None:
    """Return blocks, a :class:`~prefixsim.sizes.Size` in bytes, or ``None`` for no limit.

    Raises
    ------
    ValueError
        If the value says no size.

    Examples
    --------
    >>> read_cache_size("20k"), read_cache_size("40GB").amount, read_cache_size("inf")
    (20000, 40000000000, None)
    """
    if value is None or isinstance(value, Size):
        return value
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        raise ValueError(_ADVICE)
    if value.strip().lstrip("-").isdecimal():
        return int(value)  # also what is too small, for which the bounds have a better word
    if value.strip().lower() == "none":
        return None
    try:
        size = parse_size(value)
    except InputError:
        raise ValueError(_ADVICE) from None
    return size if size.in_bytes else size.amount


def blocks_in(
    size: int | Size | None,
    block_size: int,
    *,
    bytes_per_token: float | None = None,
    model_config: Path | None = None,
    kv_cache_dtype: str | None = None,
    tensor_parallel: int = 1,
    label: str = "num_blocks",
) -> int | None:
    """Return a cache's size in blocks.

    Raises
    ------
    InputError
        If a size in bytes comes without the bytes per token, or holds no block.
    """
    if not isinstance(size, Size):
        return size
    per_token = token_bytes(bytes_per_token, model_config, kv_cache_dtype, tensor_parallel)
    if per_token is None:
        msg = (
            f"{label} {size.text}: bytes need bytes_per_token, or model_config, the model's "
            "config.json"
        )
        raise SettingError(msg)
    try:
        return size.blocks(block_size, per_token)
    except InputError as error:
        msg = f"{label} {error} ({per_token:,.0f} bytes per token), give more memory"
        raise SettingError(msg) from None


def token_bytes(
    bytes_per_token: float | None,
    model_config: Path | None,
    kv_cache_dtype: str | None = None,
    tensor_parallel: int = 1,
) -> float | None:
    """Return the KV bytes of a token: as given, or computed from a model's configuration.

    Raises
    ------
    InputError
        If both are given, or the configuration is not usable.
    """
    if bytes_per_token is not None:
        if model_config is not None:
            msg = "bytes_per_token and model_config: both say the same, give one of them"
            raise SettingError(msg)
        return bytes_per_token
    if model_config is None:
        return None
    from prefixsim.hardware.kv_bytes import kv_bytes_per_token

    found = kv_bytes_per_token(model_config, dtype=kv_cache_dtype, tensor_parallel=tensor_parallel)
    return float(found.per_token)


def block_size_for(
    trace: Trace, block_size: int | None, *, default: int = DEFAULT_BLOCK_SIZE
) -> int:
    """Return the block size to use, checked against the ids of the trace.

    Where none is given it is ``default`` for token ids, else the tokens each hash id stands for.

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
        return default if trace.kind == "tokens" else unit
    if not 1 <= block_size <= 2**32 - 2:
        bound = "at least 1" if block_size < 1 else f"at most {2**32 - 2:,}"
        msg = f"block_size is {block_size}, it must be {bound}"
        raise SettingError(msg)
    if block_size % unit:
        msg = (
            f"{trace.name}: each hash id stands for {unit} tokens, so the block size must be a "
            f"multiple of {unit} ({unit}, {2 * unit}, {4 * unit}...), not {block_size}"
        )
        raise InputError(msg)
    return block_size
