"""KV cache groups and the size of the pool they share, as vLLM 0.33 plans them.

The source is vLLM's planner (``vllm/v1/core/kv_cache_utils.py``: ``get_kv_cache_groups``,
``unify_kv_cache_spec_page_size``, ``get_kv_cache_config_from_groups``; the block size of models
with states: ``vllm/platforms/interface.py``), whose recorded plans are the tests.

::

    layers          one specification each      groups of equal size         one pool
    F S S F S S ──▶ F: 0 3   S: 1 2 4 5  ──▶  S: 1 4 │ S: 2 5 │ F: 0 3  ──▶  blocks of 2 pages

A block id is one unit of memory whatever group uses it, so every group is charged the bytes of
the widest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm
from pathlib import Path

from prefixsim.errors import InputError
from prefixsim.hardware.kv_bytes import kv_bytes_per_token
from prefixsim.hardware.layers import KINDS, Kind, Layer
from prefixsim.sizes import parse_bytes

__all__ = ["Group", "Groups", "Planning", "Pool", "groups_of", "model_pool", "pool_of"]

_LEAST_BLOCK = 16


@dataclass(frozen=True)
class Planning:
    """Settings of the server that decide the plan, under vLLM's names.

    Attributes
    ----------
    max_model_len : int
        Tokens of a request at most.
    block_size : int
        Tokens of a block of attention, as asked for.
    max_num_batched_tokens : int
        Tokens of a step.
    async_scheduling, enable_prefix_caching : bool
    num_speculative_tokens : int
        Draft tokens of a step.
    prefix_match_unit : int or None
        Tokens of a hash; ``None``: the greatest common divisor of the block sizes.
    disable_hybrid : bool
        Layers with a window or chunk keep everything, as full attention does.
    """

    max_model_len: int
    block_size: int = 16
    max_num_batched_tokens: int = 8192
    async_scheduling: bool = True
    enable_prefix_caching: bool = True
    num_speculative_tokens: int = 0
    prefix_match_unit: int | None = None
    disable_hybrid: bool = False


@dataclass(frozen=True)
class Group:
    """Layers that share one table of blocks.

    Attributes
    ----------
    kind : str
    layers : tuple of int
        Their places in the model.
    block_size : int
        Tokens of a block.
    page_bytes : int
        Bytes of a block in one layer, padding included; where layers differ, in the first.
    span : int or None
        Tokens of the window or of the chunk.
    max_blocks_per_request : int
        Blocks of a request of the greatest length.
    """

    kind: Kind
    layers: tuple[int, ...]
    block_size: int
    page_bytes: int
    span: int | None
    max_blocks_per_request: int

    def __str__(self) -> str:
        span = "" if self.span is None else f" of {self.span:,}"
        return f"{len(self.layers)} layers of {KINDS[self.kind]}{span}, block {self.block_size:,}"


@dataclass(frozen=True)
class Groups:
    """The groups of a model, whatever the memory.

    Attributes
    ----------
    block_size : int
        Tokens of a block of attention; with states, large enough that a page holds one.
    groups : tuple of Group
        In the order of their numbers.
    bytes_per_block : int
        Bytes of a block of the pool: all layers of the widest group.
    scheduler_block_size : int
        Least common multiple of the groups' block sizes: where their hits can agree.
    hash_block_size : int
        Tokens of a hash.
    """

    block_size: int
    groups: tuple[Group, ...]
    bytes_per_block: int
    scheduler_block_size: int
    hash_block_size: int

    @property
    def blocks_per_request(self) -> int:
        """Blocks of one request of the greatest length, over all groups."""
        return sum(group.max_blocks_per_request for group in self.groups)


@dataclass(frozen=True)
class Pool:
    """Groups and how much of the pool there is.

    Attributes
    ----------
    groups : Groups
    num_blocks : int
        Blocks, the null block included.
    max_concurrency : float
        Requests of the greatest length at once.
    capacity_tokens : int
        Their tokens.
    """

    groups: Groups
    num_blocks: int
    max_concurrency: float
    capacity_tokens: int


@dataclass(frozen=True)
class _Spec:
    """A layer with the blocks it is given."""

    layer: Layer
    block_size: int
    page_bytes: int


def groups_of(layers: Sequence[Layer], planning: Planning) -> Groups:
    """Divide the layers of a model into KV cache groups.

    Raises
    ------
    InputError
        If no layer keeps tokens, or the sizes of a state are not known.

    Examples
    --------
    gpt-oss-20b: every other of 24 layers has a window of 128 tokens.

    >>> full = Layer("full", heads=8, width=128, element_bytes=2)
    >>> sliding = Layer("sliding_window", heads=8, width=128, element_bytes=2, span=128)
    >>> plan = groups_of([sliding, full] * 12, Planning(max_model_len=131072))
    >>> [str(group) for group in plan.groups]
    ['12 layers of sliding window of 128, block 16', '12 layers of full attention, block 16']
    >>> plan.bytes_per_block
    393216
    """
    if planning.disable_hybrid:
        layers = [_widened(layer) for layer in layers]
    block_size, specs = _specs(layers, planning)
    if _one_group(layers):
        plans = [tuple(range(len(specs)))]
        bytes_per_block = sum(spec.page_bytes for spec in specs)
    else:
        specs = _equal_pages(specs)
        plans = _split(specs)
        bytes_per_block = max(sum(specs[i].page_bytes for i in plan) for plan in plans)
    groups = tuple(_group(plan, specs[plan[0]], planning) for plan in plans)
    sizes = [group.block_size for group in groups]
    scheduler = lcm(*sizes)
    hashes = gcd(*sizes)
    if len(groups) > 1:
        hashes = planning.prefix_match_unit or hashes
        if not planning.enable_prefix_caching:
            hashes = scheduler
    return Groups(block_size, groups, bytes_per_block, scheduler, hashes)


def pool_of(layers: Sequence[Layer], planning: Planning, available_bytes: int) -> Pool:
    """Compute how many blocks fit into the memory that a GPU has left for the cache.

    Raises
    ------
    InputError
        As :func:`groups_of`, and if one request of the greatest length does not fit, with which
        vLLM refuses to start.
    """
    groups = groups_of(layers, planning)
    blocks = available_bytes // groups.bytes_per_block
    needed = groups.blocks_per_request
    if blocks < needed + 1:
        msg = (
            f"{available_bytes:,} bytes hold {blocks:,} blocks, a request of "
            f"{planning.max_model_len:,} tokens needs {needed + 1:,} with the null block: "
            "give more memory, or a smaller max_model_len"
        )
        raise InputError(msg)
    concurrency = blocks / needed
    return Pool(groups, blocks, concurrency, int(concurrency * planning.max_model_len))


def model_pool(
    config: str | Path | Mapping[str, object],
    memory: str | int,
    planning: Planning,
    *,
    dtype: str | None = None,
    tensor_parallel: int = 1,
) -> Pool:
    """Compute the pool of a model from its configuration.

    Parameters
    ----------
    config, dtype, tensor_parallel
        As for :func:`prefixsim.hardware.kv_bytes.kv_bytes_per_token`.
    memory : str or int
        What each GPU has left for the cache, as ``30GiB`` or bytes.
    planning : Planning
        Draft layers are not in a configuration and not counted.

    Raises
    ------
    InputError
        As :func:`pool_of`, and if the configuration is not usable.

    Examples
    --------
    >>> pool = model_pool("qwen3-next-80b-a3b", "30GiB", Planning(max_model_len=262144))
    >>> pool.num_blocks, pool.groups.block_size, pool.capacity_tokens
    (2409, 544, 1294067)
    """
    sizes = kv_bytes_per_token(
        config,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        num_speculative_tokens=planning.num_speculative_tokens,
    )
    return pool_of(sizes.specs, planning, parse_bytes(memory))


def _widened(layer: Layer) -> Layer:
    local = layer.kind in ("sliding_window", "chunked_local")
    return replace(layer, kind="full", span=None) if local else layer


def _specs(layers: Sequence[Layer], planning: Planning) -> tuple[int, list[_Spec]]:
    """Give each layer its blocks: the block size of attention, and one for each layer."""
    attention = [layer for layer in layers if layer.kind != "mamba"]
    states = [layer for layer in layers if layer.kind == "mamba"]
    size = planning.block_size
    if not attention:
        msg = "no layer keeps tokens: there is no prefix cache to plan"
        raise InputError(msg)
    if states and not all(layer.states for layer in states):
        msg = "the sizes of the recurrent state are not known: the pool cannot be planned"
        raise InputError(msg)
    token = attention[0].token_bytes
    if states:
        unit = max(_LEAST_BLOCK, size)
        alignment = states[0].checkpoint_alignment
        if planning.enable_prefix_caching and alignment is not None:
            unit = lcm(unit, alignment)
        most = max(layer.state_bytes for layer in states)
        size = max(size, unit * -(-most // (unit * token)))
    of_state = size if planning.enable_prefix_caching else planning.max_model_len
    return size, [
        _Spec(layer, of_state, size * token)
        if layer.kind == "mamba"
        else _Spec(layer, size, size * layer.token_bytes)
        for layer in layers
    ]


def _one_group(layers: Sequence[Layer]) -> bool:
    """Whether all layers are equal, or differ only in sizes that one table of blocks allows."""
    first = layers[0]
    if first.kind == "mamba":
        return len(set(layers)) == 1
    return all((layer.kind, layer.span) == (first.kind, first.span) for layer in layers)


def _equal_pages(specs: list[_Spec]) -> list[_Spec]:
    """Bring all pages to the largest: by a larger block where that divides, else by padding."""
    most = max(spec.page_bytes for spec in specs)
    equal = []
    for spec in specs:
        factor, rest = divmod(most, spec.page_bytes)
        grows = spec.layer.kind != "mamba" and not rest
        size = spec.block_size * factor if grows else spec.block_size
        equal.append(_Spec(spec.layer, size, most))
    return equal


def _split(specs: list[_Spec]) -> list[tuple[int, ...]]:
    """Split layers of one specification into groups of about the same number of layers."""
    buckets: dict[_Spec, list[int]] = {}
    for place, spec in enumerate(specs):
        buckets.setdefault(spec, []).append(place)
    sizes = [len(places) for places in buckets.values()]
    wanted = max(sizes) if 2 * max(sizes) < 3 * min(sizes) else min(sizes)
    groups = []
    for places in buckets.values():
        count = -(-len(places) // wanted)
        groups += [tuple(places[start::count]) for start in range(count)]
    return groups


def _group(places: tuple[int, ...], spec: _Spec, planning: Planning) -> Group:
    """Describe a group: what one request of the greatest length takes of it."""
    layer, size, length = spec.layer, spec.block_size, planning.max_model_len
    step = planning.max_num_batched_tokens * (2 if planning.async_scheduling else 1)
    span = layer.span or 0
    if layer.kind == "full":
        blocks = -(-length // size)
    elif layer.kind == "sliding_window":
        blocks = -(-min(span - 1 + step, length) // size) + 1
    elif layer.kind == "chunked_local":
        blocks = -(-min(span + step, length) // size)
    else:
        blocks = 1 + planning.num_speculative_tokens
        if planning.enable_prefix_caching:
            blocks += 1 + (layer.checkpoint_alignment is not None)
    return Group(layer.kind, places, size, spec.page_bytes, layer.span, blocks)
