"""Mooncake JSONL: arrival times in milliseconds, one chained hash id per 512 prompt tokens.

Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import Field, Rows
from prefixsim.trace import Ragged, Trace

__all__ = ["FORMAT", "HASH_BLOCK_SIZE", "check_hash_ids"]

HASH_BLOCK_SIZE = 512

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


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = Rows(path, _FIELDS, options)
    ids = rows.lists("hash_ids")
    prompt_len = rows.numbers("input_length")
    check_hash_ids(rows, ids, prompt_len, HASH_BLOCK_SIZE)
    return rows.finish(
        Trace(
            timestamp=rows.numbers("timestamp") / 1e3,
            prompt_len=prompt_len,
            output_len=rows.numbers("output_length"),
            prompts=ids,
            id_block_size=HASH_BLOCK_SIZE,
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
    title="Mooncake JSONL: timestamp (ms), input_length, output_length, hash_ids per 512 tokens",
    family=Family.JSON,
    matches=_matches,
    read=_read,
    open_writer=_open_writer,
)
