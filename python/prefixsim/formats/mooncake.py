"""Mooncake JSONL: arrival times in milliseconds, one chained hash id per block of prompt tokens.

The published files have blocks of 512 tokens; others use the format with blocks of their own. The
files do not say which, but a prompt of L tokens has n ids only if (n - 1) * size < L <= n * size.

Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import Field, Rows
from prefixsim.trace import Ragged, Trace

__all__ = ["FORMAT", "HASH_BLOCK_SIZE", "check_hash_ids"]

HASH_BLOCK_SIZE = 512
"""Of the published files, and of any that it fits."""

_FIELDS = (
    Field("timestamp", "f64", required=True),
    Field("input_length", "u32", required=True),
    Field("output_length", "u32", required=True),
    Field("hash_ids", "u64_list", required=True),
)


def _matches(head: Head) -> Confidence:
    own = {"timestamp", "input_length", "hash_ids"} <= head.row.keys()
    return Confidence.CERTAIN if own else Confidence.NO


def check_hash_ids(
    rows: Rows, ids: Ragged, prompt_len: npt.NDArray[np.uint32], block_size: int
) -> None:
    """Refuse rows whose number of hash ids does not cover their prompt."""
    expected = (prompt_len.astype(np.uint64) + np.uint64(block_size - 1)) // np.uint64(block_size)
    given = ids.lengths
    rows.refuse(
        given != expected,
        "hash_ids",
        lambda row: (
            f"{given[row]} ids for {prompt_len[row]} tokens, expected {expected[row]} "
            f"(one per {block_size} tokens)"
        ),
    )


def _id_block_size(path: Path, ids: Ragged, prompt_len: npt.NDArray[np.uint32]) -> int:
    """Return the one size of block that most rows fit; 512 where it does and no other stands out.

    Raises
    ------
    InputError
        If several sizes fit, or none fits more than half of the rows.
    """
    lengths, counts = prompt_len.astype(np.int64), ids.lengths.astype(np.int64)
    telling = (lengths > 0) & (counts > 0)
    lengths, counts = lengths[telling], counts[telling]
    least = -(-lengths // np.maximum(counts, 1))
    most = np.where(counts > 1, (lengths - 1) // np.maximum(counts - 1, 1), np.int64(2**32 - 2))
    fits = least <= most
    least, most = least[fits], most[fits]
    if not len(least):
        return HASH_BLOCK_SIZE
    # Where a row's sizes begin and end; between two such places the rows that fit are the same.
    at, which = np.unique(np.concatenate([least, most + 1]), return_inverse=True)
    steps = np.repeat([1, -1], len(least))
    fitting = np.cumsum(np.bincount(which, weights=steps)).astype(np.int64)
    best = int(fitting.max())
    fit_ours = int(((least <= HASH_BLOCK_SIZE) & (most >= HASH_BLOCK_SIZE)).sum())
    first = int(np.argmax(fitting))
    low, high = int(at[first]), int(at[first + 1]) - 1
    if fit_ours == best or (low < high and 2 * fit_ours > len(lengths)):
        return HASH_BLOCK_SIZE  # the rows that do not fit are named, or left out
    advice = "give --id-block-size, the tokens of a block"
    if 2 * best <= len(lengths):
        msg = (
            f"{path}: hash_ids: no size of block fits more than {best:,} of {len(lengths):,} rows; "
            f"{advice}"
        )
        raise InputError(msg)
    if low < high:
        msg = f"{path}: hash_ids: each may stand for {low:,} to {high:,} tokens; {advice}"
        raise InputError(msg)
    return low


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = Rows(path, _FIELDS, options)
    ids = rows.lists("hash_ids")
    prompt_len = rows.numbers("input_length")
    size = options.id_block_size or _id_block_size(path, ids, prompt_len)
    check_hash_ids(rows, ids, prompt_len, size)
    return rows.finish(
        Trace(
            timestamp=rows.numbers("timestamp") / 1e3,
            prompt_len=prompt_len,
            output_len=rows.numbers("output_length"),
            prompts=ids,
            id_block_size=size,
        )
    )


def _open_writer(path: Path) -> JsonlWriter:
    return JsonlWriter(
        path,
        lambda trace, i: {
            "timestamp": round(trace.timestamp[i] * 1e3),
            "input_length": int(trace.prompt_len[i]),
            "output_length": int(trace.output_len[i]),
        },
        lists=lambda _: {"hash_ids": "prompts"},
        check=_check_writable,
    )


def _check_writable(trace: Trace) -> str | None:
    if trace.kind != "hashes" or trace.id_block_size != HASH_BLOCK_SIZE:
        return f"the mooncake format holds hash ids of {HASH_BLOCK_SIZE} tokens only"
    return None


FORMAT = Format(
    name="mooncake",
    title="Mooncake JSONL: timestamp (ms), input_length, output_length, hash_ids of blocks",
    family=Family.JSON,
    matches=_matches,
    read=_read,
    open_writer=_open_writer,
)
