"""Langfuse: batches of its SDK 2 (``/api/public/ingestion``), and exports of observations.

Batches hold events; those of one generation are merged, later fields win, and session and user are
in the event of its trace. An export has one observation a row. Inputs are messages, an object with
tools and messages, or texts. How tokens are counted differs: SDK rows have the provider's names,
exports of observations count cached tokens apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Head
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._bodies import read_answer, read_usage
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._messages import content_text, messages_of, tools_of
from prefixsim.formats.logs._places import as_object, count, label, opened, seconds
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format, object_rows

__all__ = ["FORMAT", "read_counts", "read_input", "read_output"]

_EVENTS = ("trace-create", "generation-create", "generation-update")
_CACHED = ("input_cached_tokens", "cache_read_input_tokens", "input_cache_read")
_WRITTEN = ("cache_creation_input_tokens", "input_cache_creation")


def _matches(head: Head) -> Confidence:
    row = head.row
    batch = row.get("batch")
    if isinstance(batch, list) and batch and isinstance(batch[0], dict):
        return Confidence.CERTAIN if {"type", "body"} <= batch[0].keys() else Confidence.NO
    export = {"start_time", "input", "type"} <= row.keys() and "trace_id" in row
    return Confidence.CERTAIN if export else Confidence.NO


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    traces: dict[str, JsonObject] = {}
    generations: dict[str, JsonObject] = {}
    where: dict[str, Piece[JsonObject]] = {}
    for piece in pieces:
        if "batch" not in piece.value:
            if piece.value.get("type") == "GENERATION":
                yield attempt(piece, partial(_fill_export, piece.value))
            continue
        for event in piece.value["batch"]:
            body = as_object(as_object(event).get("body"))
            name, kind = str(body.get("id")), as_object(event).get("type")
            into = traces if kind == "trace-create" else generations
            if kind in _EVENTS:
                where.setdefault(name, piece)
                said = {key: value for key, value in body.items() if value is not None}
                into.setdefault(name, {}).update(said)
    for name, body in generations.items():
        trace = traces.get(str(body.get("traceId")), {})
        yield attempt(
            where[name],
            partial(_fill, body, trace),
        )


def _fill(body: JsonObject, trace: JsonObject, call: Call) -> None:
    call.id = label(body, ("id",))
    call.time = seconds(body, ("startTime",))
    ended = seconds(body, ("endTime",))
    if call.time is not None and ended is not None:
        call.duration = ended - call.time
    call.session = label(trace, ("sessionId",))
    call.user = label(trace, ("userId",)) or label(body, ("user_id",))
    call.model = label(body, ("model",))
    call.outcome = "error" if body.get("level") == "ERROR" else "ok"
    read_input(call, body.get("input"))
    choices = as_object(body.get("modelParameters")).get("n")
    call.sequences = choices if isinstance(choices, int) and choices > 0 else 1
    if call.outcome != "error":
        read_output(call, body.get("output"))
        read_counts(call, body.get("usageDetails"))


def _fill_export(row: JsonObject, call: Call) -> None:
    call.id = label(row, ("id",))
    call.time = seconds(row, ("start_time",))
    call.session = label(row, ("session_id",))
    call.user = label(row, ("user_id",))
    call.model = label(row, ("provided_model_name", "model"))
    call.outcome = "error" if row.get("level") == "ERROR" else "ok"
    read_input(call, row.get("input"))
    if call.outcome != "error":
        read_output(call, row.get("output"))
        read_counts(call, row.get("usage_details"))


def read_input(call: Call, value: object) -> None:
    """Read the input of a generation: messages, tools and messages, a text, or several texts."""
    value = opened(value)
    call.tools = []
    if isinstance(value, dict) and "messages" in value:
        call.tools = tools_of(value.get("tools"))
        value = value["messages"]
    if isinstance(value, str):
        call.prompts = [value]
    elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        call.prompts = value
    elif isinstance(value, list) and value:
        call.messages = messages_of(value, "input")
    elif value is not None:
        raise BadFieldError("input", "expected messages or a text")


def read_output(call: Call, value: object) -> None:
    """Read the output of a generation: a message, its parts, several of them, or a text."""
    value = opened(value)
    if value is None:
        return
    if isinstance(value, str):
        call.outputs, call.output_calls = [value], []
    elif isinstance(value, dict) and ("choices" in value or "output" in value):
        read_answer(call, value)
    else:
        values = value if isinstance(value, list) else [value]
        whole = [{"role": "assistant", **v} for v in values if isinstance(v, dict)]
        answers = messages_of(whole, "output") if whole else []
        call.outputs = [content_text(answer.get("content")) for answer in answers]
        call.output_calls = [c for answer in answers for c in answer.get("tool_calls") or ()]


def read_counts(call: Call, value: object) -> None:
    """Read counts of tokens, in the provider's names or in Langfuse's, which leave cached out."""
    usage = as_object(value)
    if not any(usage.get(name) for name in usage if name != "total"):
        return
    if "input" not in usage:
        read_usage(call, usage, "usage_details")
        return
    cached = count(usage, _CACHED)
    fresh = count(usage, ("input",)) or 0
    call.prompt_tokens = fresh + (cached or 0) + (count(usage, _WRITTEN) or 0)
    call.output_tokens = count(usage, ("output",))
    call.cached_tokens = cached


FORMAT = log_format(
    LogSource(
        name="langfuse",
        title="Langfuse: batches of the SDK 2, exports of observations",
        matches=_matches,
        rows=object_rows,
        join=_join,
        keeps={
            "prompt": "generations with an input (no masking)",
            "session": "session_id on the trace",
            "usage": "stream_options: {include_usage: true} in streamed requests",
            "cached_tokens": "a provider's usage with cached tokens, as the SDK passes it on",
        },
    )
)
