"""prefixsim's own JSONL: one request a line, for reading by eye and by other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import Field, Rows
from prefixsim.formats.mooncake import check_hash_ids
from prefixsim.formats.openai_log import MESSAGES
from prefixsim.trace import Trace

__all__ = ["FORMAT", "row_of"]

_FIELDS = (
    Field("request_id", "text"),
    Field("session", "label"),
    Field("turn", "u32"),
    Field("timestamp", "f64", required=True),
    Field("answer_s", "f64"),
    Field("prompt_len", "u32"),
    Field("output_len", "u32"),
    Field("salt", "label"),
    Field("category", "label"),
    Field("block_size", "u32"),
    Field("text", "text"),
    Field("output_text", "text"),
    Field("texts", "label"),
    Field("token_ids", "u32_list"),
    Field("output_token_ids", "u32_list"),
    Field("hash_ids", "u64_list"),
)
_CONTENT = ("token_ids", "hash_ids", "text")


def _matches(head: Head) -> Confidence:
    row = head.row
    fits = "timestamp" in row and any(n in row for n in ("prompt_len", "token_ids", "text"))
    return Confidence.POSSIBLE if fits else Confidence.NO


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = Rows(path, _FIELDS, options)
    given = [name for name in _CONTENT if rows.has(name)]
    every = np.ones(len(rows), dtype=bool)
    if len(given) > 1:
        rows.refuse(every, given[1], lambda _: f"a trace has either {given[0]} or {given[1]}")
    changes = _content(rows, given[0] if given else None)
    outputs = rows.lists("output_token_ids") if rows.has("output_token_ids") else None
    output_len = rows.numbers("output_len")
    if outputs is not None:
        rows.refuse(
            rows.has("output_len") & (outputs.lengths != output_len),
            "output_token_ids",
            lambda row: f"{outputs.lengths[row]} tokens, but output_len is {output_len[row]}",
        )
        output_len = outputs.lengths.astype(np.uint32)
    return rows.finish(
        Trace(
            timestamp=rows.numbers("timestamp"),
            output_len=output_len,
            outputs=outputs,
            output_texts=rows.strings("output_text") if rows.has("output_text") else None,
            request_id=rows.strings("request_id") if rows.has("request_id") else None,
            session=rows.labels("session") if rows.has("session") else None,
            turn=rows.numbers("turn") if rows.has("turn") else None,
            answer_s=rows.numbers("answer_s") if rows.has("answer_s") else None,
            salt=rows.labels("salt") if rows.has("salt") else None,
            category=rows.labels("category") if rows.has("category") else None,
            **changes,
        )
    )


def _content(rows: Rows, content: str | None) -> JsonObject:
    """Return the columns that describe the prompts."""
    prompt_len = rows.numbers("prompt_len")
    if content == "token_ids":
        tokens = rows.lists("token_ids")
        lengths = tokens.lengths.astype(np.uint32)
        rows.refuse(
            rows.has("prompt_len") & (lengths != prompt_len),
            "token_ids",
            lambda row: f"{lengths[row]} tokens, but prompt_len is {prompt_len[row]}",
        )
        return {"prompts": tokens, "prompt_len": lengths}
    if content == "hash_ids":
        sizes = rows.numbers("block_size")
        size = int(sizes[0]) if len(sizes) else 0
        rows.refuse(
            (sizes != size) | (sizes == 0),
            "block_size",
            lambda row: f"{sizes[row]}, expected the tokens per hash id, the same in every row",
        )
        ids = rows.lists("hash_ids")
        check_hash_ids(rows, ids, prompt_len, max(size, 1))
        return {"prompts": ids, "prompt_len": prompt_len, "id_block_size": size}
    if content == "text":
        stated = rows.labels("texts")
        kinds = [stated[row] for row in range(len(stated))]
        first = kinds[0] if kinds else ""
        rows.refuse(
            np.array([kind not in {"", MESSAGES} or kind != first for kind in kinds], dtype=bool),
            "texts",
            lambda row: f"{kinds[row]!r}, expected {MESSAGES!r} in every row or in none",
        )
        meta = {"texts": first} if first else {}
        return {"texts": rows.strings("text"), "prompt_len": prompt_len, "meta": meta}
    return {"prompt_len": prompt_len}


def _row(trace: Trace, i: int) -> JsonObject:
    row: JsonObject = {}
    if trace.request_id is not None:
        row["request_id"] = trace.request_id[i]
    if trace.session is not None:
        row["session"] = trace.session[i]
    if trace.turn is not None:
        row["turn"] = int(trace.turn[i])
    if trace.answer_s is not None and trace.answer_s[i]:
        row["answer_s"] = float(trace.answer_s[i])
    row["timestamp"] = float(trace.timestamp[i])
    row["prompt_len"] = int(trace.prompt_len[i])
    row["output_len"] = int(trace.output_len[i])
    if trace.salt is not None and trace.salt[i]:
        row["salt"] = trace.salt[i]
    if trace.category is not None:
        row["category"] = trace.category[i]
    if trace.kind == "hashes":
        row["block_size"] = trace.id_block_size
    if trace.texts is not None:
        row["text"] = trace.texts[i]
        if "texts" in trace.meta:
            row["texts"] = trace.meta["texts"]
    if trace.output_texts is not None:
        row["output_text"] = trace.output_texts[i]
    return row


def _lists(trace: Trace) -> dict[str, str]:
    name = "token_ids" if trace.kind == "tokens" else "hash_ids"
    return {name: "prompts", "output_token_ids": "outputs"}


def row_of(trace: Trace, i: int) -> JsonObject:
    """Return one request of a trace as a row, with its lists."""
    row = _row(trace, i)
    for name, column in _lists(trace).items():
        lists = getattr(trace, column)
        if lists is not None:
            row[name] = lists[i].tolist()
    return row


FORMAT = Format(
    name="jsonl",
    title="prefixsim JSONL: timestamp (s) and token_ids, hash_ids or text per request",
    family=Family.JSON,
    matches=_matches,
    read=_read,
    open_writer=lambda path: JsonlWriter(path, _row, _lists),
    endings=(".jsonl", ".jsonl.gz", ".jsonl.zst"),
)
