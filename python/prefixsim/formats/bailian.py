"""Qwen-Bailian JSONL: sessions through parent chats, one chained hash id per 16 prompt tokens.

Source: github.com/alibaba-edu/qwen-bailian-usagetraces-anon.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._rows import Field, Rows
from prefixsim.formats.mooncake import check_hash_ids
from prefixsim.trace import Codes, Trace

__all__ = ["FORMAT", "HASH_BLOCK_SIZE"]

HASH_BLOCK_SIZE = 16

_FIELDS = (
    Field("chat_id", "label", required=True),
    Field("parent_chat_id", "label"),
    Field("timestamp", "f64", required=True),
    Field("input_length", "u32", required=True),
    Field("output_length", "u32", required=True),
    Field("type", "label"),
    Field("turn", "u32"),
    Field("hash_ids", "u64_list", required=True),
)
_NO_PARENT = ("", "-1")


def _matches(head: Head) -> Confidence:
    own = {"chat_id", "timestamp", "hash_ids"} <= head.row.keys()
    return Confidence.CERTAIN if own else Confidence.NO


def _roots(chat: Codes, parent: Codes) -> tuple[Codes, npt.NDArray[np.uint32]]:
    """Follow parents to the first chat: the session, and the 0-based turn in it."""
    root: dict[str, tuple[str, int]] = {}
    session, turn = [], np.zeros(len(chat), dtype=np.uint32)
    for row in range(len(chat)):
        name, above = chat[row], parent[row]
        first, depth = (name, 0)
        if above not in _NO_PARENT:
            before, turns = root.get(above, (above, 0))
            first, depth = before, turns + 1
        root[name] = (first, depth)
        session.append(first)
        turn[row] = depth
    return Codes.from_strings(session), turn


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = Rows(path, _FIELDS, options)
    ids = rows.lists("hash_ids")
    prompt_len = rows.numbers("input_length")
    check_hash_ids(rows, ids, prompt_len, HASH_BLOCK_SIZE)
    chat = rows.labels("chat_id")
    session, turn = _roots(chat, rows.labels("parent_chat_id"))
    return rows.finish(
        Trace(
            timestamp=rows.numbers("timestamp"),
            prompt_len=prompt_len,
            output_len=rows.numbers("output_length"),
            prompts=ids,
            id_block_size=HASH_BLOCK_SIZE,
            request_id=[chat[row] for row in range(len(rows))],
            session=session,
            turn=turn,
            category=rows.labels("type") if rows.has("type") else None,
        )
    )


FORMAT = Format(
    name="bailian",
    title="Qwen-Bailian JSONL: chat_id, parent_chat_id, timestamp (s), hash_ids per 16 tokens",
    family=Family.JSON,
    matches=_matches,
    read=_read,
)
