"""OpenTelemetry traces of calls of models: OTLP JSON, and that of the console exporter.

Which attributes hold what is said by the dialects: the GenAI semantic conventions and OpenLLMetry
(:mod:`.otel_genai`), OpenInference (:mod:`.openinference`), Langfuse's SDK (:mod:`.langfuse`).
Sessions may stand in a parent span, which may come in a later line; content may be in log records,
in another file. So everything is read before anything is joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Head
from prefixsim.formats._rows import BadFieldError, JsonRows
from prefixsim.formats.logs import langfuse_spans, openinference, otel_genai
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import as_object, label, seconds
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format

__all__ = ["FORMAT"]

_DIALECTS = (langfuse_spans, openinference, otel_genai)
_SESSIONS = (
    "session.id",
    "traceloop.association.properties.session_id",
    "gen_ai.conversation.id",
    "langfuse.session.id",
)
_USERS = (
    "user.id",
    "traceloop.association.properties.user_id",
    "langfuse.user.id",
    "gen_ai.user",
    "llm.user",
    "enduser.id",
)
# Spans of this scope never hold content; the instrumentation's span around them does.
_SDK_SCOPE = "com.anthropic.sdk.python"
_SCALARS = ("stringValue", "boolValue", "doubleValue", "bytesValue")


@dataclass(slots=True)
class _Span:
    """A span, or a log record (``name`` empty), with its attributes as a plain object."""

    piece: Piece[None]
    trace: str
    id: str
    parent: str
    name: str
    scope: str
    attributes: JsonObject
    start: object
    end: object
    failed: bool
    body: object = None
    records: list[_Span] = field(default_factory=list)


def _matches(head: Head) -> Confidence:
    row = head.row
    console = {"context", "start_time", "attributes"} <= row.keys()
    known = "resourceSpans" in row or "resourceLogs" in row or console
    return Confidence.CERTAIN if known else Confidence.NO


def _value(tagged: object) -> object:
    """Return what a tagged value of OTLP says; ``{}`` is null."""
    if not isinstance(tagged, dict) or not tagged:
        return None
    kind, value = next(iter(tagged.items()))
    if kind in _SCALARS:
        return value
    if kind == "intValue":
        return int(value)
    if kind == "arrayValue":
        return [_value(v) for v in value.get("values", [])]
    if kind == "kvlistValue":
        return _attributes(value.get("values", []))
    return None


def _attributes(pairs: object) -> JsonObject:
    if isinstance(pairs, dict):
        return pairs
    return {
        pair["key"]: _value(pair.get("value"))
        for pair in (pairs if isinstance(pairs, list) else ())
    }


def _parse(row: object, line: int) -> list[_Span]:
    if not isinstance(row, dict):
        raise BadFieldError("", "expected a JSON object")
    piece = Piece(line, None)
    try:
        if "context" in row:
            return [_console(row, piece)]
        found = []
        for resource in (*row.get("resourceSpans", ()), *row.get("resourceLogs", ())):
            for scope in (*resource.get("scopeSpans", ()), *resource.get("scopeLogs", ())):
                name = as_object(scope.get("scope")).get("name", "")
                found += [_span(span, name, piece) for span in scope.get("spans", ())]
                found += [_record(record, name, piece) for record in scope.get("logRecords", ())]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadFieldError(
            "", "expected a batch of OTLP, or a span of the console exporter"
        ) from None
    return found


def _span(span: JsonObject, scope: str, piece: Piece[None]) -> _Span:
    status = span.get("status") or {}
    return _Span(
        piece,
        span.get("traceId", ""),
        span.get("spanId", ""),
        span.get("parentSpanId", ""),
        span.get("name", ""),
        scope,
        {"otel.scope.name": scope, **_attributes(span.get("attributes"))},
        span.get("startTimeUnixNano"),
        span.get("endTimeUnixNano"),
        failed=status.get("code") in (2, "STATUS_CODE_ERROR"),
    )


def _record(record: JsonObject, scope: str, piece: Piece[None]) -> _Span:
    attributes = _attributes(record.get("attributes"))
    name = record.get("eventName") or attributes.get("event.name") or ""
    time = record.get("timeUnixNano") or record.get("observedTimeUnixNano")
    return _Span(
        piece,
        record.get("traceId", ""),
        record.get("spanId", ""),
        "",
        f"event {name}",
        scope,
        attributes,
        time,
        None,
        failed=False,
        body=_value(record.get("body")),
    )


def _console(row: JsonObject, piece: Piece[None]) -> _Span:
    context = row["context"]
    return _Span(
        piece,
        context.get("trace_id", ""),
        context.get("span_id", ""),
        row.get("parent_id") or "",
        row.get("name", ""),
        as_object(row.get("instrumentation_scope")).get("name", ""),
        as_object(row.get("attributes")),
        row.get("start_time"),
        row.get("end_time"),
        failed=as_object(row.get("status")).get("status_code") == "ERROR",
    )


def _join(pieces: Sequence[Piece[list[_Span]]]) -> Iterable[Call]:
    spans: dict[tuple[str, str], _Span] = {}
    records: list[_Span] = []
    for piece in pieces:
        for span in piece.value:
            span.piece = Piece(piece.line, None, piece.file)
            if span.name.startswith("event "):
                records.append(span)
            else:
                spans[span.trace, span.id] = span
    loose: dict[tuple[str, str], _Span] = {}
    for record in records:
        key = (record.trace, record.id)
        owner = spans.get(key) or loose.setdefault(key, _owner(record))
        owner.records.append(record)
    calls = [s for s in (*spans.values(), *loose.values()) if _is_call(s)]
    content = any(s.scope != _SDK_SCOPE for s in calls)
    for span in calls:
        if not (content and span.scope == _SDK_SCOPE):
            yield attempt(span.piece, partial(_fill, span, spans))


def _owner(record: _Span) -> _Span:
    """Return a call that is known by its log records alone; they are written about its end."""
    return _Span(
        record.piece, record.trace, record.id, "", "", record.scope, {}, record.start, None, False
    )


def _is_call(span: _Span) -> bool:
    return any(d.is_call(span.attributes, [r.name[6:] for r in span.records]) for d in _DIALECTS)


def _fill(span: _Span, spans: dict[tuple[str, str], _Span], call: Call) -> None:
    attributes = span.attributes
    call.time = seconds({"start": span.start}, ("start",))
    ended = seconds({"end": span.end}, ("end",))
    if call.time is not None and ended is not None:
        call.duration = ended - call.time
    call.outcome = "error" if span.failed else "ok"
    above: _Span | None = span
    seen = 0
    while above is not None and seen < 64:
        call.session = call.session or label(above.attributes, _SESSIONS)
        call.user = call.user or label(above.attributes, _USERS)
        above = spans.get((above.trace, above.parent))
        seen += 1
    records = [(r.name[6:], r.attributes, r.body) for r in span.records]
    for dialect in _DIALECTS:
        if dialect.is_call(attributes, [r[0] for r in records]):
            call.id = span.id if dialect.NAMES_SPANS else None
            dialect.read(call, attributes, records)
            break
    if not span.name:
        call.lost.add("end")


FORMAT = log_format(
    LogSource(
        name="otel",
        title="OpenTelemetry GenAI spans and log records: OTLP JSON, console exporter JSON",
        matches=_matches,
        rows=lambda path, options: JsonRows(path, _parse, options),
        join=_join,
        keeps={
            "prompt": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_AND_EVENT (older: "
            "true, and the log records beside the spans, by one pattern); OpenLLMetry: "
            "TRACELOOP_TRACE_CONTENT=true",
            "truncated": "no OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, nor one of the collector",
            "session": "session.id on the span of the turn (or traceloop.association.properties)",
            "cached_tokens": "an instrumentation that writes gen_ai.usage.cache_read.input_tokens",
            "usage": "stream_options: {include_usage: true} in streamed requests",
            "images": "nothing: OpenLLMetry drops the whole prompt of a call with images",
            "end": "the spans beside the log records, by one pattern",
        },
    )
)
