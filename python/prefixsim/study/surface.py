"""The surface of a trace, asked for by sizes as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from prefixsim.engines.cache_size import blocks_in, token_bytes
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.sizes import Size, parse_size
from prefixsim.study.curves import curve as curve_of
from prefixsim.study.hit_curve import round_capacities
from prefixsim.study.tier_surface import GIB, Surface, TierSize
from prefixsim.trace import Trace

__all__ = ["TIERS", "Given", "default_sizes", "surface"]

TIERS = ("hbm", "dram", "disk")
"""Tiers in order of speed."""

Given = int | str | Size
"""A size as a caller gives it."""

_COLUMNS = 8
_FEWER_HBM = 3  # nobody buys HBM for all that a trace can use


def default_sizes(unique_blocks: int, block_bytes: float | None = None) -> list[TierSize]:
    """Return sizes that span what a trace can use: round numbers of blocks, or powers of two GiB.

    Examples
    --------
    >>> [size.text for size in default_sizes(2300)]
    ['10', '20', '50', '100', '200', '500', '1,000', '2,000', '2,300']
    """
    if block_bytes is None:
        found = round_capacities(unique_blocks)[-_COLUMNS - 1 :]
        return [TierSize(blocks, f"{blocks:,}") for blocks in found]
    sizes: list[TierSize] = []
    largest = int(np.ceil(np.log2(max(unique_blocks, 1) * block_bytes / GIB)))
    for power in range(largest - _COLUMNS, largest + 1):
        blocks = int(2.0**power * GIB // block_bytes)
        if blocks >= 1:
            text = f"{2**power:,}" if power >= 0 else f"{2.0**power:.4g}"
            sizes.append(TierSize(blocks, f"{text} GiB"))
    return sizes or [TierSize(1, "1 block")]


def surface(
    trace: Trace | Forest,
    *,
    hbm: Given | Sequence[Given] | None = None,
    dram: Given | Sequence[Given] | None = None,
    disk: Given | Sequence[Given] | None = None,
    block_size: int | None = None,
    bytes_per_token: float | None = None,
    model_config: str | Path | None = None,
    kv_cache_dtype: str | None = None,
    tensor_parallel: int = 1,
    prices: Mapping[str, float] | None = None,
    last_token_rule: bool = True,
) -> Surface:
    """Compute what tiers of memory hit, for every size of each, in one pass over the trace.

    It is exact under the conditions of :mod:`prefixsim.study.tier_surface`: requests one after the
    other, LRU in every tier, full refresh or full exclusion. :func:`prefixsim.replay` with
    ``engine="tiers"`` replays any other hierarchy.

    Parameters
    ----------
    trace : Trace or Forest
    hbm, dram, disk : int, str or sequence of them, optional
        Sizes of the tiers: blocks, or text like ``"40GB"``, ``"64GiB"``. Default of HBM and DRAM:
        round sizes up to all that the trace can use, for DRAM 0 as well; without ``disk`` there is
        none. Sizes in bytes are per GPU.
    block_size : int, optional
        Tokens. Default: 16 for token ids; for hash ids, the tokens each stands for.
    bytes_per_token : float, optional
        KV bytes of a token, for sizes in bytes.
    model_config : path or str, optional
        The model's ``config.json`` or name, in place of ``bytes_per_token``.
    kv_cache_dtype : str, optional
        Data type of the KV cache.
    tensor_parallel : int, optional
        GPUs that share the KV heads.
    prices : mapping of str to float, optional
        What a GiB of a tier costs, in any currency.
    last_token_rule : bool, optional
        Compute at least the last token of every prompt, as servers do.

    Returns
    -------
    Surface

    Raises
    ------
    InputError
        If a size or a price is not usable, or the bytes of a token are needed and not known.

    Examples
    --------
    >>> import prefixsim
    >>> prompts = [range(64), range(100, 164), range(64), range(100, 164)]
    >>> trace = prefixsim.Trace.from_prompts(prompts)
    >>> point = prefixsim.surface(trace, block_size=16, hbm=4, dram=4).points[0]
    >>> point.hit_rate("inclusive"), point.hit_rate("exclusive"), point.idle
    (0.0, 0.375, ('dram',))
    """
    lru = curve_of(trace, block_size=block_size, last_token_rule=last_token_rule)
    config = None if model_config is None else Path(model_config)
    per_token = token_bytes(bytes_per_token, config, kv_cache_dtype, tensor_parallel)
    block_bytes = None if per_token is None else per_token * lru.block_size
    usual = default_sizes(lru.unique_blocks, block_bytes)
    nothing = TierSize(0, "0")
    less = usual if len(usual) <= _FEWER_HBM else usual[:-_FEWER_HBM]
    sizes = {
        "hbm": _sizes("hbm", hbm, lru.block_size, per_token) or less,
        "dram": _sizes("dram", dram, lru.block_size, per_token) or [nothing, *usual],
    }
    if disk is not None:
        sizes["disk"] = _sizes("disk", disk, lru.block_size, per_token)
    costs = {tier: float(price) for tier, price in (prices or {}).items()}
    for tier, price in costs.items():
        if tier not in sizes:
            msg = f"prices: no tier {tier!r} here, there are {', '.join(sizes)}"
            raise InputError(msg)
        if not np.isfinite(price) or price < 0:
            msg = f"prices: {tier} is {price}, give what a GiB costs"
            raise InputError(msg)
    if costs and per_token is None:
        msg = "prices are per GiB: give bytes_per_token or model_config too"
        raise InputError(msg)
    return Surface(lru, sizes, per_token, costs)


def _sizes(
    tier: str,
    given: Given | Sequence[Given] | None,
    block_size: int,
    per_token: float | None,
) -> list[TierSize]:
    """Return sizes of a tier in blocks; none if none are given."""
    if given is None:
        return []
    several = [given] if isinstance(given, int | str | Size) else list(given)
    found = []
    for one in several:
        text = one.text if isinstance(one, Size) else str(one).strip()
        if text == "0":
            found.append(TierSize(0, "0"))
            continue
        try:
            size = one if isinstance(one, Size) else parse_size(text)
        except InputError as error:
            msg = f"{tier} {error}"
            raise InputError(msg) from None
        blocks = blocks_in(
            size if size.in_bytes else size.amount,
            block_size,
            bytes_per_token=per_token,
            label=tier,
        )
        if blocks is None or blocks >= 2**63:
            msg = f"{tier} {text}: give a size; from the unique blocks on, more adds nothing"
            raise InputError(msg)
        found.append(TierSize(blocks, text if size.in_bytes else f"{blocks:,}"))
    return found
