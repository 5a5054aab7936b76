"""LiteLLM: payloads of its loggers (S3, GCS, custom callbacks) and rows of its spend table.

Payload (``StandardLoggingPayload``): ``startTime`` in seconds, prompt in ``messages`` and
``model_parameters``. Row of ``LiteLLM_SpendLogs``: ISO times, prompt in ``proxy_server_request``. A
call may have several rows (a stream of the Responses API, a retry): one is kept, success first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Head
from prefixsim.formats.logs._bodies import (
    read_answer,
    read_input,
    read_request,
)
from prefixsim.formats.logs._call import Api, Call
from prefixsim.formats.logs._messages import content_text
from prefixsim.formats.logs._places import as_object, count, label, outcome, seconds
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format, object_rows

__all__ = ["FORMAT"]

_APIS: dict[str, Api] = {
    "text_completion": "completions",
    "atext_completion": "completions",
    "responses": "responses",
    "aresponses": "responses",
    "anthropic_messages": "messages",
}
_CACHED = ("metadata/usage_object/prompt_tokens_details/cached_tokens",)
_CACHED_OF_SPEND = ("metadata/additional_usage_values/prompt_tokens_details/cached_tokens",)
_CUT = re.compile(r"\(litellm_truncated skipped \d+ chars")
_REDACTED = "redacted-by-litellm"


def _matches(head: Head) -> Confidence:
    known = {"call_type", "startTime"} <= head.row.keys()
    ours = {"litellm_call_id", "model_group", "api_base"} & head.row.keys()
    return Confidence.CERTAIN if known and ours else Confidence.NO


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    rows: dict[str, Piece[JsonObject]] = {}
    for piece in pieces:
        name = str(piece.value.get("litellm_call_id") or f"{piece.file}:{piece.line}")
        if name not in rows or _succeeded(piece.value):
            rows[name] = piece
    for piece in rows.values():
        yield attempt(piece, partial(_fill, piece.value))


def _succeeded(row: JsonObject) -> bool:
    return row.get("status") != "failure"


def _fill(row: JsonObject, call: Call) -> None:
    spend = "proxy_server_request" in row
    call.time = seconds(row, ("startTime",))
    ended = seconds(row, ("endTime",))
    if call.time is not None and ended is not None:
        call.duration = ended - call.time
    call.id = label(row, ("request_id", "id"))
    call.session = label(row, ("session_id", "trace_id"))
    call.user = label(row, ("end_user", "model_parameters/user"))
    call.model = label(row, ("model_group", "model"))
    call.api = _APIS.get(str(row.get("call_type")), "chat")
    call.outcome = outcome(row.get("status") or "success")
    _read_prompt(row, call, spend=spend)
    if call.outcome != "error":
        read_answer(call, row.get("response"))
        _read_counts(row, call, spend=spend)


def _read_counts(row: JsonObject, call: Call, *, spend: bool) -> None:
    """Read the counts of tokens; 0 prompt tokens mean that nothing was reported."""
    call.prompt_tokens = call.output_tokens = call.cached_tokens = None
    call.prompt_tokens = _counted(row, "prompt_tokens")
    if call.prompt_tokens is None:
        return
    call.output_tokens = count(row, ("completion_tokens",))
    call.cached_tokens = count(row, _CACHED_OF_SPEND if spend else _CACHED)


def _counted(row: JsonObject, name: str) -> int | None:
    value = row.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _read_prompt(row: JsonObject, call: Call, *, spend: bool) -> None:
    """Read the prompt: a spend row has the body, a payload has its parts apart."""
    parameters = as_object(row.get("proxy_server_request" if spend else "model_parameters"))
    stream = parameters.get("stream")
    call.stream = bool(stream) if spend else bool(row.get("stream") or stream)
    if spend:
        if parameters:
            read_request(call, parameters)
    else:
        _read_payload(row, parameters, call)
    written = str(row.get("proxy_server_request" if spend else "messages"))
    if _REDACTED in written:
        call.give_up("redacted")
    elif _CUT.search(written):
        call.give_up("truncated")


def _read_payload(row: JsonObject, parameters: JsonObject, call: Call) -> None:
    messages: object = as_object(row) and row.get("messages")
    if not messages:
        return
    if call.api == "responses":
        read_request(call, {**parameters, "input": messages})
        read_input(call, messages, parameters.get("instructions"))
    elif call.api == "completions" and isinstance(messages, list):
        prompts = [content_text(message.get("content")) for message in messages]
        read_request(call, {**parameters, "prompt": prompts})
    else:
        read_request(call, {**parameters, "messages": messages})


FORMAT = log_format(
    LogSource(
        name="litellm",
        title="LiteLLM: payloads of its loggers (S3, GCS, callbacks) and spend log rows",
        matches=_matches,
        rows=object_rows,
        join=_join,
        keeps={
            "prompt": "general_settings: store_prompts_in_spend_logs: true",
            "truncated": "MAX_STRING_LENGTH_PROMPT_IN_DB above the longest prompt (default 2048)",
            "redacted": "litellm_settings: turn_off_message_logging: false",
            "session": "the header x-litellm-session-id, or litellm_session_id in the SDK",
            "usage": "stream_options: {include_usage: true} in streamed requests",
            "cached_tokens": "stream_options: {include_usage: true}; a server that reports them",
            "previous": "the log of the earlier response too, by a pattern that names both files",
        },
    )
)
