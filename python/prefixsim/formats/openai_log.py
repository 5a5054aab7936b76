"""OpenAI-style request logs: JSONL of requests, as servers and gateways keep them.

A row is the request itself, or an object that holds it under ``body`` or ``request``; then time and
ids may stand outside or inside. Chat, completions, responses and Anthropic's messages are told
apart by their fields. Prompts are kept as the JSON of their messages and tools until
:func:`prefixsim.text.text_trace.tokenize_trace` renders them with a chat template, so the trace
says ``meta["texts"] == "messages"``.

Time is a number in s, ms, µs or ns, told apart by size (below 1e11, 1e14 and 1e17), or an ISO 8601
date, UTC if it names no zone. Times count from the first request, whose epoch time is in ``meta``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Head
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._bodies import read_answer, read_request, read_usage
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import (
    SECONDS_BELOW,
    as_object,
    at,
    first,
    label,
    outcome,
    seconds,
)
from prefixsim.formats.logs._source import (
    LogSource,
    Piece,
    attempt,
    log_format,
    object_rows,
    session_of_user,
)
from prefixsim.formats.logs._traces import MESSAGES
from prefixsim.trace import Trace

__all__ = ["FORMAT", "MESSAGES", "call_of"]

_NESTED = ("body", "request")
_TIMES = ("timestamp", "time", "ts", "created", "created_at")
_PROMPTS = ("messages", "prompt", "input", "contents")
_URLS = ("url", "path", "endpoint")


def _within(names: Sequence[str], *outer: str) -> tuple[str, ...]:
    """Return paths of names, looked for in the row, in its request, then in what else is named."""
    holders = ("", "body/", "request/", "request/body/", *outer)
    return tuple(f"{holder}{name}" for name in names for holder in holders)


_TIME = _within(_TIMES, "response/", "response/body/")
_ID = _within(("request_id", "id", "custom_id"), "response/", "response/body/")
_SESSIONS = ("session_id", "session", "conversation_id", "conversation", "chat_id", "thread_id")
_SESSION = _within(_SESSIONS, "metadata/", "body/metadata/", "request/metadata/")
_USER = _within(("user",))
_MODEL = _within(("model",))
_SALT = _within(("cache_salt",))
_STATUS = ("status_code", "status", "response/status_code")
_ANSWER = ("response/body", "body/response/body", "response", "body/response")
_USAGE = ("usage", "body/usage", "request/usage")


def _holder(row: JsonObject) -> JsonObject:
    """Return the object that holds the prompt: the row, or its request."""
    for path in ("", "body", "request", "request/body"):
        value = at(row, path) if path else row
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except ValueError:
                raise BadFieldError(path, "a string that is not valid JSON") from None
        if isinstance(value, dict) and any(name in value for name in _PROMPTS):
            return value
    raise BadFieldError("messages", "missing")


def _matches(head: Head) -> Confidence:
    try:
        holder = _holder(head.row)
    except (BadFieldError, RecursionError):
        return Confidence.NO
    chat = isinstance(holder.get("messages"), list)
    other = not chat and (holder is not head.row or "model" in holder)
    timed = first(head.row, _TIME)[1] is not None
    return Confidence.POSSIBLE if timed and (chat or other) else Confidence.NO


def _fill(row: JsonObject, call: Call) -> None:
    call.time = seconds(row, _TIME)
    length = at(row, "duration_s")
    call.duration = float(length) if isinstance(length, int | float) else None
    if call.time is None:
        raise BadFieldError("timestamp", f"missing (looked for {', '.join(_TIMES)})")
    call.id = label(row, _ID)
    call.session = label(row, _SESSION)
    call.user = label(row, _USER)
    call.model = label(row, _MODEL)
    call.salt = label(row, _SALT) or ""
    call.outcome = outcome(first(row, _STATUS)[1]) or "ok"
    read_request(call, _holder(row), label(row, _URLS))
    if call.outcome == "ok":
        read_answer(call, first(row, _ANSWER)[1])
    read_usage(call, as_object(first(row, _USAGE)[1]))
    call.session = call.session or session_of_user(call.user)


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    for piece in pieces:
        yield attempt(piece, partial(_fill, piece.value))


def _row(trace: Trace, i: int) -> JsonObject:
    assert trace.texts is not None
    row: JsonObject = {"timestamp": trace.meta.get("epoch_s", 0.0) + float(trace.timestamp[i])}
    labels = {
        "id": trace.request_id,
        "session_id": trace.session,
        "user": trace.category,
        "cache_salt": trace.salt,
    }
    row |= {name: label[i] for name, label in labels.items() if label is not None and label[i]}
    row |= json.loads(trace.texts[i])
    usage = {
        "prompt_tokens": int(trace.prompt_len[i]),
        "completion_tokens": int(trace.output_len[i]),
    }
    row["response"] = {"usage": usage}
    if trace.output_texts is not None:
        message = {"role": "assistant", "content": trace.output_texts[i]}
        row["response"]["choices"] = [{"message": message}]
    return row


def _check_writable(trace: Trace) -> str | None:
    content = trace.meta.get("texts", trace.kind)
    if content != MESSAGES:
        return f"the openai format holds messages, not {content}"
    last = trace.meta.get("epoch_s", 0.0) + float(trace.timestamp[-1]) if len(trace) else 0.0
    if last >= SECONDS_BELOW:
        return f"times of {last:g} s would be read as milliseconds"
    return None


def call_of(row: JsonObject) -> Call | None:
    """Return the call of a row; ``None`` if it cannot be used."""
    call = attempt(Piece(0, row), partial(_fill, row))
    return None if call.bad else call


FORMAT = replace(
    log_format(
        LogSource(
            name="openai",
            title="OpenAI request log JSONL: messages, tools, created or timestamp, user, "
            "cache_salt",
            matches=_matches,
            rows=object_rows,
            join=_join,
            ordered=True,
            keeps={
                "session": "session_id in each row",
                "usage": "the answer with its usage under response",
                "cached_tokens": "the answer with usage.prompt_tokens_details.cached_tokens",
                "previous": "the log of the earlier response too",
            },
        )
    ),
    open_writer=lambda path: JsonlWriter(path, _row, lambda _: {}, check=_check_writable),
    read_together=None,
)
