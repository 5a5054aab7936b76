"""Amazon Bedrock's model invocation log: InvokeModel (Anthropic's bodies) and Converse.

Bodies over 100 KB are objects of their own, named by ``inputBodyS3Path``. Counts of input tokens do
not hold what was read from the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import Places, at, label
from prefixsim.formats.logs._source import (
    LogSource,
    Piece,
    attempt,
    call_of_row,
    has_fields,
    log_format,
    object_rows,
)

__all__ = ["FORMAT"]

_MODEL = re.compile(r"(?:[a-z]{2}\.)?anthropic\.(?P<model>.+?)(?:-\d{8})?-v\d+(?::\d+)?")
_PLACES = Places(
    time=("timestamp",),
    body=("input/inputBodyJson",),
    answer=("output/outputBodyJson",),
    session=("requestMetadata/session", "requestMetadata/session_id"),
    user=("requestMetadata/user",),
    outcome=("errorCode",),
)


def _model(name: str | None) -> str | None:
    """Return the name that Anthropic gives a model of Bedrock's catalogue; others as they are."""
    found = _MODEL.fullmatch(name) if name else None
    return found["model"] if found else name


def _fill(row: JsonObject, call: Call) -> None:
    call.api = "messages"
    call_of_row(row, _PLACES, call)
    call.id = call.id or label(row, ("requestId",))
    call.model = call.model or _model(label(row, ("modelId",)))
    call.stream = "Stream" in str(row.get("operation", ""))
    call.lost.add("second")
    if row.get("errorCode"):
        call.outcome = "error"
    elif at(row, "input/inputBodyS3Path") is not None and not call.has_prompt:
        call.give_up("truncated")


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    for piece in pieces:
        yield attempt(piece, partial(_fill, piece.value))


FORMAT = log_format(
    LogSource(
        name="bedrock",
        title="Amazon Bedrock model invocation log: timestamp, input, output",
        matches=has_fields("schemaType", "modelId", "input"),
        rows=object_rows,
        join=_join,
        keeps={
            "prompt": "model invocation logging with text data delivery on",
            "truncated": "the objects that inputBodyS3Path names (bodies over 100 KB)",
            "session": "session in the requestMetadata of each call",
            "second": "nothing: Bedrock logs whole seconds",
        },
    )
)
