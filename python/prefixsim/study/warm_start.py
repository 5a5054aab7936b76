"""Caches that begin with what a server's recording of KV events leaves in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefixsim._core import BlockManager
from prefixsim.errors import InputError
from prefixsim.formats.kv_events import read_recording
from prefixsim.formats.recording import Recording
from prefixsim.trace import Codes, Ragged, Trace
from prefixsim.trace.joining import concat

__all__ = ["WarmStart", "prepend_cached", "warm_start"]


@dataclass(frozen=True)
class WarmStart:
    """What :func:`warm_start` did.

    Attributes
    ----------
    chains : int
        Chains allocated and freed.
    blocks : int
        Blocks that the manager has cached now.
    unreachable : int
        Recorded blocks that no prompt can find, which were left out.
    no_room : int
        Chains for which there was no room beside the requests that hold blocks.
    """

    chains: int
    blocks: int
    unreachable: int
    no_room: int


def warm_start(
    manager: BlockManager, recording: Recording | str | Path, *, rank: int | None = None
) -> WarmStart:
    """Fill a block manager with what a recording leaves cached, the order of recency kept.

    If the manager is smaller than the recorded cache, the most recently used blocks stay. Adapters
    and cache salts are one salt (``adapter/salt``, see :mod:`prefixsim.trace.salts`); look prompts
    up with the same.

    Parameters
    ----------
    manager : BlockManager
    recording : Recording or path
    rank : int, optional
        The data-parallel rank, if the recording has several.

    Examples
    --------
    >>> from prefixsim import BlockManager
    >>> from prefixsim.formats.recording import KvEvent
    >>> event = KvEvent("BlockStored", 1, 0.0, None, (7, 8), None, np.arange(8, dtype="u4"), 4)
    >>> manager = BlockManager(10, block_size=4)
    >>> warm_start(manager, Recording([event])).blocks
    2
    >>> manager.lookup([*range(8), 9])
    8
    """
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    chains, unreachable = recording.cached(rank)
    usable = math.inf if manager.num_blocks is None else manager.num_blocks - 1
    done = no_room = 0
    for i, (salt, tokens) in enumerate(chains):
        fitting = tokens[: int(min(len(tokens), usable * manager.block_size))]
        name = f"warm start {i}"
        if manager.allocate(name, fitting, salt=salt or None) is None:
            no_room += 1
            continue
        manager.free(name)
        done += 1
    return WarmStart(done, manager.num_cached, unreachable, no_room)


def prepend_cached(
    trace: Trace, recording: Recording | str | Path, *, most_tokens: int | None = None
) -> tuple[Trace, int]:
    """Put the recorded cache before a trace, as requests named ``warm-start:0`` and so on.

    Parameters
    ----------
    trace : Trace
        Of token ids.
    recording : Recording or path
    most_tokens : int, optional
        Longer chains are cut: what a cache can hold.

    Returns
    -------
    trace : Trace
    count : int
        How many requests were put before it.
    """
    if trace.kind != "tokens":
        msg = f"{trace.name}: holds {trace.kind}, a recording of KV events warms up token ids only"
        raise InputError(msg)
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    chains, _ = recording.cached()
    if not chains:
        return trace, 0
    count = len(chains)
    prompts = Ragged.from_lists([chain.tokens[:most_tokens] for chain in chains])
    nothing = np.zeros(count, dtype=np.uint32)
    ids = trace.request_id or [str(row) for row in range(len(trace))]
    warm = Trace(
        timestamp=np.full(count, trace.timestamp[0] if len(trace) else 0.0),
        prompt_len=prompts.lengths.astype(np.uint32),
        output_len=nothing,
        prompts=prompts,
        outputs=None if trace.outputs is None else Ragged.from_lists([[]] * count),
        request_id=[f"warm-start:{i}" for i in range(count)],
        turn=None if trace.turn is None else nothing,
        answer_s=None,
        salt=Codes.from_strings([chain.salt for chain in chains]),
    )
    joined = concat([warm, trace.replace(request_id=ids)])
    meta = {**trace.meta, "warm_start": recording.name}
    return joined.replace(name=trace.name, format=trace.format, meta=meta), count
