"""What a block's hash covers: blocks told apart by their tokens with or without their prefix.

A KV block holds the keys and values of its tokens *in their context*: servers hash a block together
with its parent's hash ("chained"), and may use it again only behind the same prefix. A simulator
that hashes the tokens of a block alone ("unchained") also counts text that comes back elsewhere, as
hits that no server can have. This module counts both ways, and with or without the trailing partial
blocks that no server shares, so that figures of other simulators can be compared with ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.table import Table, written
from prefixsim.trace import Trace

__all__ = ["BlockCount", "Hashing", "block_counts", "count_blocks", "count_table"]

Hashing = Literal["chained", "unchained"]

_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BlockCount:
    """Blocks of a trace in an infinite cache, counted one way.

    Attributes
    ----------
    hashing : {"chained", "unchained"}
    partial_blocks : bool
    block_size : int
    total_blocks, unique_blocks, blocks_reused : int
        A block is reused if an equal one stood earlier in the trace, in its own prompt included.
        Servers also compute the last token of every prompt, which no block count here regards.
    blocks, found : ndarray of uint32, shape (requests,)
        Blocks of each prompt, and those of them that are reused.
    """

    hashing: Hashing
    partial_blocks: bool
    block_size: int
    total_blocks: int
    unique_blocks: int
    blocks_reused: int
    blocks: npt.NDArray[np.uint32]
    found: npt.NDArray[np.uint32]

    @property
    def block_reuse_rate(self) -> float:
        """Blocks reused of all blocks; 0 if there are none."""
        return self.blocks_reused / self.total_blocks if self.total_blocks else 0.0

    def to_dict(self) -> JsonObject:
        """Return the settings and totals under their machine-readable names."""
        return {
            "hashing": self.hashing,
            "partial_blocks": self.partial_blocks,
            "block_size": self.block_size,
            "total_blocks": self.total_blocks,
            "unique_blocks": self.unique_blocks,
            "blocks_reused": self.blocks_reused,
            "block_reuse_rate": self.block_reuse_rate,
        }


def count_blocks(
    trace: Trace,
    *,
    block_size: int = 16,
    hashing: Hashing = "chained",
    partial_blocks: bool = False,
) -> BlockCount:
    """Count the blocks of a trace in an infinite cache.

    Parameters
    ----------
    trace : Trace
        Of token ids.
    block_size : int
        Tokens.
    hashing : {"chained", "unchained"}
        Whether a block is told apart by every token before it too, or by its own alone.
    partial_blocks : bool
        Whether the tokens after the last full block of a prompt are a block, equal to another
        partial block of the same tokens.

    Raises
    ------
    InputError
        If the trace holds no tokens, or an option is not usable.

    Examples
    --------
    >>> trace = Trace.from_prompts([[1, 2, 3, 4], [9, 9, 3, 4]])
    >>> count_blocks(trace, block_size=2).blocks_reused
    0
    >>> count_blocks(trace, block_size=2, hashing="unchained").blocks_reused
    1
    """
    if trace.prompts is None or trace.kind != "tokens":
        msg = f"{trace.name}: holds no token ids, and hash ids and texts cannot be hashed anew"
        raise InputError(msg)
    if block_size < 1:
        msg = f"block size {block_size} is not usable, give a number of tokens above 0"
        raise InputError(msg)
    if hashing not in get_args(Hashing):
        msg = f"unknown hashing '{hashing}', choose one of chained, unchained"
        raise InputError(msg)
    lengths = trace.prompts.lengths.astype(np.int64)
    rounding = block_size - 1 if partial_blocks else 0
    blocks = (lengths + rounding) // block_size
    ids = _content_ids(trace, lengths, blocks, block_size)
    if hashing == "chained":
        ids = _chained_ids(ids, blocks)
    unique, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), dtype=bool)
    again[first] = False
    owner = np.repeat(np.arange(len(blocks)), blocks)
    found = np.bincount(owner[again], minlength=len(blocks))
    return BlockCount(
        hashing=hashing,
        partial_blocks=partial_blocks,
        block_size=block_size,
        total_blocks=len(ids),
        unique_blocks=len(unique),
        blocks_reused=int(again.sum()),
        blocks=blocks.astype(np.uint32),
        found=found.astype(np.uint32),
    )


def block_counts(trace: Trace, block_size: int) -> tuple[BlockCount, ...]:
    """Count the blocks of a trace all four ways, the servers' way first."""
    return tuple(
        count_blocks(trace, block_size=block_size, hashing=hashing, partial_blocks=partial)
        for hashing in get_args(Hashing)
        for partial in (False, True)
    )


def count_table(name: str, counts: tuple[BlockCount, ...]) -> Table:
    """Return counts of one trace as a table."""
    hashes = {"chained": "with their prefix", "unchained": "without their prefix"}
    rows = [
        (
            hashes[count.hashing],
            "full and partial" if count.partial_blocks else "full",
            written(count.total_blocks, "count"),
            written(count.unique_blocks, "count"),
            written(count.blocks_reused, "count"),
            written(count.block_reuse_rate, "rate"),
        )
        for count in counts
    ]
    header = ("hashes", "blocks", "total", "unique", "reused", "block reuse rate")
    title = f"{name}: blocks in an infinite cache, by what a hash covers"
    return Table(title, header, rows, words=2)


def _content_ids(trace: Trace, lengths: _Ids, blocks: _Ids, block_size: int) -> _Ids:
    """Give equal blocks (salt and tokens, compared as they are) equal numbers.

    A row is a salt, the number of tokens, and the tokens.
    """
    assert trace.prompts is not None
    rows = np.zeros((int(blocks.sum()), block_size + 2), dtype=np.uint32)
    at = 0
    for i, (length, count) in enumerate(zip(lengths.tolist(), blocks.tolist(), strict=True)):
        part = rows[at : at + count]
        at += count
        part[:, 0] = 0 if trace.salt is None else trace.salt.codes[i]
        part[:, 1] = block_size
        full = length // block_size
        prompt = trace.prompts[i]
        part[:full, 2:] = prompt[: full * block_size].reshape(full, block_size)
        if full < count:
            rest = length - full * block_size
            part[full, 1] = rest
            part[full, 2 : 2 + rest] = prompt[full * block_size :]
    return _numbered(rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0])


def _chained_ids(content: _Ids, blocks: _Ids) -> _Ids:
    """Give blocks of equal content and equal prefix equal numbers, place by place in the prompt."""
    ids = np.empty_like(content)
    begin = np.cumsum(blocks) - blocks
    parent = np.zeros(len(blocks), dtype=np.int64)
    known = 0
    for place in range(int(blocks.max(initial=0))):
        prompts = np.flatnonzero(blocks > place)
        at = begin[prompts] + place
        pairs = np.stack((parent[prompts], content[at]), axis=1)
        ids[at] = known + _numbered(np.ascontiguousarray(pairs).view("i8,i8")[:, 0])
        known = int(ids[at].max()) + 1
        parent[prompts] = ids[at]
    return ids


def _numbered(values: npt.NDArray[np.void]) -> _Ids:
    """Give equal values equal numbers, from 0."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
