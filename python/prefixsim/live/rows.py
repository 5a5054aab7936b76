"""What a recording keeps of the calls that passed: their text, their token ids, or keyed hashes."""

from __future__ import annotations

import gzip
import hmac
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import opened
from prefixsim.formats.logs._streams import joined
from prefixsim.formats.logs._traces import trace_of_calls
from prefixsim.formats.native_jsonl import row_of
from prefixsim.formats.openai_log import call_of
from prefixsim.live.proxy import Exchange
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.trace import Codes, Trace
from prefixsim.trace.anonymous import key_from_file
from prefixsim.trace.transform import anonymize

__all__ = ["Keeping", "encode_rows", "row_of_exchange"]

# Fields of an answer that say nothing of the cache and may be long.
_LEFT_OUT = ("logprobs", "prompt_logprobs", "prompt_token_ids", "system_fingerprint")


@dataclass(frozen=True)
class Keeping:
    """How much of the calls is kept.

    Attributes
    ----------
    model : str or None
        Tokenizer; needed where only ids or hashes are kept.
    tokenize : bool
        Token ids in place of text.
    key_file : Path or None
        Keyed hashes of blocks in place of tokens.
    block_size : int
        Of those.
    """

    model: str | None = None
    tokenize: bool = False
    key_file: Path | None = None
    block_size: int = 16

    def __post_init__(self) -> None:
        if (self.tokenize or self.key_file is not None) and self.model is None:
            msg = "--tokenize and --anonymize need --model, the tokenizer of the model served"
            raise InputError(msg)

    @property
    def text(self) -> bool:
        """Whether texts are kept."""
        return not self.tokenize and self.key_file is None

    def told(self) -> str:
        """Say plainly what is stored."""
        if self.key_file is not None:
            return (
                f"stored: keyed hashes of blocks of {self.block_size} tokens, lengths, times, "
                f"token counts; no text, no token. Without the key in {self.key_file} nothing "
                "can be recovered; the same key makes days comparable"
            )
        if self.tokenize:
            return "stored: token ids (which are as readable as text), times, token counts"
        return (
            "stored: EVERY PROMPT AND ANSWER AS TEXT, names of users and sessions, times, token "
            "counts; no headers, so no keys. --anonymize keeps keyed hashes in place of text"
        )


def _plain(body: bytes, encoding: str) -> object:
    """Return the JSON of a body, or its text, decompressed."""
    try:
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
    except (OSError, EOFError, zlib.error):
        return None
    return opened(body.decode("utf-8", "replace"))


def row_of_exchange(exchange: Exchange) -> JsonObject:
    """Return the row of a call, in the form of a gateway's log (format ``openai``)."""
    answer = joined(_plain(exchange.answer, exchange.encoding))
    if isinstance(answer, dict):
        answer = {name: value for name, value in answer.items() if name not in _LEFT_OUT}
    row: JsonObject = {
        "timestamp": exchange.time,
        "path": exchange.path.partition("?")[0],
        "status": exchange.status,
        "first_byte_s": round(exchange.first_byte_s, 6),
        "duration_s": round(exchange.duration_s, 6),
        "request": _plain(exchange.request, ""),
        "response": answer,
    }
    if exchange.session:
        row["session_id"] = exchange.session
    if not exchange.whole:
        row["cut"] = True
    return row


def encode_rows(keeping: Keeping, exchanges: Sequence[object]) -> bytes:
    """Return the lines of some calls; those that are no calls of a model are left out."""
    rows = [row_of_exchange(e) for e in exchanges if isinstance(e, Exchange)]
    rows = [row for row in rows if isinstance(row["request"], dict)]
    if keeping.text:
        return b"".join(_line(row) for row in rows)
    calls = [call for row in rows if (call := call_of(row)) is not None]
    return b"".join(_line(row) for row in private_rows(keeping, calls))


def private_rows(keeping: Keeping, calls: Sequence[Call]) -> list[JsonObject]:
    """Return rows of the native schema without texts, with what the server reported."""
    assert keeping.model is not None
    usable = [c for c in calls if c.outcome != "error" and c.has_prompt]
    if not usable:
        return []
    found = trace_of_calls(usable, {}, name="recording")
    trace = tokenize_trace(found.trace, keeping.model)
    start = float(trace.meta.get("epoch_s", 0.0))
    reported = [found.calls[i] for i in found.rows]
    if keeping.key_file is not None:
        trace = hashed(trace, keeping)
    rows = []
    for i, call in enumerate(reported):
        row = row_of(trace, i)
        row["timestamp"] = start + float(trace.timestamp[i])
        row |= {"cached_tokens": call.cached_tokens, "prompt_tokens": call.prompt_tokens}
        rows.append(row)
    return rows


def hashed(trace: Trace, keeping: Keeping) -> Trace:
    """Return a trace with keyed hashes of blocks in place of tokens, and names as hashes."""
    assert keeping.key_file is not None
    key = key_from_file(keeping.key_file)
    known = anonymize(trace, block_size=keeping.block_size, key=key)
    return known.replace(
        session=_hashed_names(trace.session, key),
        salt=_hashed_names(trace.salt, key),
        category=None,
    )


def _hashed_names(names: Codes | None, key: bytes) -> Codes | None:
    """Return labels under keyed hashes of their names, the same every day."""
    if names is None:
        return None
    hashed = [
        hmac.digest(key, name.encode("utf-8", "surrogatepass"), "sha256")[:8].hex() if name else ""
        for name in names.names
    ]
    return Codes(names.codes, hashed)


def _line(row: JsonObject) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"
