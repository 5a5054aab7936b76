"""OpenAI-style request logs: JSONL of chat-completion requests, as servers and gateways keep them.

A row is the request itself, or an object that holds it under ``body`` or ``request``; then time and
ids may stand outside or inside. Prompts are kept as the JSON of their messages and tools until
:func:`prefixsim.text.text_trace.tokenize_trace` renders them with a chat template, so the trace
says ``meta["texts"] == "messages"``.

Time is a number in s, ms, µs or ns, told apart by size (below 1e11, 1e14 and 1e17), or an ISO 8601
date, UTC if it names no zone. Times count from the first request, whose epoch time is in ``meta``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prefixsim._json import JsonObject
from prefixsim._printable import encodable
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import BadFieldError, JsonRows
from prefixsim.trace import Codes, Strings, Trace
from prefixsim.trace.salts import salt_name

__all__ = ["FORMAT", "MESSAGES"]

MESSAGES = "messages"
"""``meta["texts"]`` of a trace whose texts are the JSON of messages."""

_NESTED = ("body", "request")
_TIMES = ("timestamp", "time", "ts", "created", "created_at")
_IDS = ("request_id", "id", "custom_id")
_SESSIONS = ("session_id", "session", "conversation_id", "conversation", "chat_id", "thread_id")
# What decides the rendered prompt besides the messages.
_RENDERED = ("tools", "chat_template_kwargs")
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
_LARGEST = 2**32 - 1


class _Row(NamedTuple):
    time: float
    text: str
    output: str
    prompt_len: int
    output_len: int
    request_id: str
    session: str
    user: str
    salt: str
    model: str


def _parts(row: JsonObject) -> list[JsonObject]:
    """Return the objects that fields are looked for in, the outermost first."""
    parts = [row]
    for name in _NESTED:
        inner = row.get(name)
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            try:
                inner = json.loads(inner)
            except ValueError:
                raise BadFieldError(name, "a string that is not valid JSON") from None
        if isinstance(inner, dict):
            parts.append(inner)
    return parts


def _matches(head: Head) -> Confidence:
    try:
        parts = _parts(head.row)
    except (BadFieldError, RecursionError):
        return Confidence.NO
    fits = any(isinstance(part.get("messages"), list) for part in parts) and any(
        name in part for part in [*parts, _response(parts)] for name in _TIMES
    )
    return Confidence.POSSIBLE if fits else Confidence.NO


def _response(parts: Sequence[JsonObject]) -> JsonObject:
    """Return the completion, which some logs nest once more under ``body``."""
    request: JsonObject = next(
        (p["response"] for p in parts if isinstance(p.get("response"), dict)), {}
    )
    inner = request.get("body")
    return inner if isinstance(inner, dict) else request


def _find(parts: Sequence[JsonObject], names: Sequence[str]) -> tuple[str, object]:
    """Return the first field that is there, and not null, with its name."""
    for name in names:
        for part in parts:
            if part.get(name) is not None:
                return name, part[name]
    return names[0], None


def _label(parts: Sequence[JsonObject], *names: str) -> str:
    name, value = _find(parts, names)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadFieldError(name, "expected a string")
    return encodable(str(value))


def _seconds(parts: Sequence[JsonObject]) -> float:
    name, value = _find(parts, _TIMES)
    if value is None:
        raise BadFieldError("timestamp", f"missing (looked for {', '.join(_TIMES)})")
    if isinstance(value, str):
        try:
            value = float(text := value)
        except ValueError:
            return _iso(name, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFieldError(name, "expected a number or an ISO 8601 date")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadFieldError(name, "is not a finite number")
    return number / next(unit for limit, unit in _UNITS if abs(number) < limit)


def _iso(name: str, value: str) -> float:
    try:
        moment = datetime.fromisoformat(value.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise BadFieldError(name, f"{value[:40]!r} is not an ISO 8601 date") from None


def _check_messages(messages: object) -> list[object]:
    if not isinstance(messages, list) or not messages:
        raise BadFieldError("messages", "expected an array of messages")
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, dict):
            raise BadFieldError(where, "expected an object with role and content")
        if not isinstance(message.get("role"), str):
            raise BadFieldError(f"{where}.role", "expected a string")
        content = message.get("content")
        if isinstance(content, list):
            for k, part in enumerate(content):
                _check_part(part, f"{where}.content[{k}]")
        elif content is not None and not isinstance(content, str):
            raise BadFieldError(f"{where}.content", "expected a string or an array of parts")
    return messages


def _check_part(part: object, where: str) -> None:
    if isinstance(part, str):
        return
    if not isinstance(part, dict):
        raise BadFieldError(where, "expected an object or a string")
    if not isinstance(part.get("text", ""), str):
        raise BadFieldError(f"{where}.text", "expected a string")


def _prompt(parts: Sequence[JsonObject]) -> str:
    """Return the JSON of everything that a chat template sees."""
    holder = next((p for p in parts if "messages" in p), None)
    if holder is None:
        raise BadFieldError("messages", "missing")
    prompt: JsonObject = {"messages": _check_messages(holder["messages"])}
    for name, kind, told in zip(_RENDERED, (list, dict), ("an array", "an object"), strict=True):
        value = holder.get(name)
        if value is not None and not isinstance(value, kind):
            raise BadFieldError(name, f"expected {told}")
        if value:
            prompt[name] = value
    return encodable(json.dumps(prompt, ensure_ascii=False, separators=(",", ":")))


def _count(usage: JsonObject, name: str) -> int:
    value = usage.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise BadFieldError(f"usage.{name}", "expected a whole number from 0")
    return value


def _answer(response: JsonObject) -> str:
    """Return the text of the first choice; calls of tools as the JSON that models write."""
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise BadFieldError("response.choices[0].message.content", "expected a string")
    calls = message.get("tool_calls")
    texts = [content or "", *map(_call, calls if isinstance(calls, list) else [])]
    return encodable("\n".join(text for text in texts if text))


def _call(call: object) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return ""
    name, arguments = (
        json.dumps(function.get("name"), ensure_ascii=False),
        function.get("arguments"),
    )
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {name}, "arguments": {arguments}}}'


def _parse(row: object) -> _Row:
    if not isinstance(row, dict):
        raise BadFieldError("", "expected a JSON object")
    parts = _parts(row)
    response = _response(parts)
    usage = _find([response, *parts], ("usage",))[1]
    usage = usage if isinstance(usage, dict) else {}
    metadata = [p["metadata"] for p in parts if isinstance(p.get("metadata"), dict)]
    return _Row(
        time=_seconds([*parts, response]),
        text=_prompt(parts),
        output=_answer(response),
        prompt_len=_count(usage, "prompt_tokens"),
        output_len=_count(usage, "completion_tokens"),
        request_id=_label([*parts, response], *_IDS),
        session=_label([*parts, *metadata], *_SESSIONS),
        user=_label(parts, "user"),
        salt=_label(parts, "cache_salt"),
        model=_label(parts, "model"),
    )


def _labels(values: Sequence[str]) -> Codes | None:
    return Codes.from_strings(values) if any(values) else None


def _salts(rows: Sequence[_Row]) -> Iterator[str]:
    """Isolate models from each other, if there are several: they share no cache."""
    several = len({row.model for row in rows}) > 1
    for row in rows:
        yield salt_name(row.model, row.salt) if several else row.salt


def _read(path: Path, options: ReadOptions) -> Trace:
    checked = JsonRows(path, lambda row, _: _parse(row), options)
    rows = checked.rows
    time = np.array([row.time for row in rows])
    start = float(time.min()) if len(rows) else 0.0
    outputs = [row.output for row in rows]
    ids = [row.request_id for row in rows]
    trace = Trace(
        timestamp=time - start,
        prompt_len=np.array([row.prompt_len for row in rows], dtype=np.uint32),
        output_len=np.array([row.output_len for row in rows], dtype=np.uint32),
        texts=Strings.from_list([row.text for row in rows]),
        output_texts=Strings.from_list(outputs) if any(outputs) else None,
        request_id=Strings.from_list(ids) if any(ids) else None,
        session=_labels([row.session for row in rows]),
        salt=_labels(list(_salts(rows))),
        category=_labels([row.user for row in rows]),
        meta={"epoch_s": start, "texts": MESSAGES},
    )
    return checked.finish(trace)


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
    if last >= _UNITS[0][0]:
        return f"times of {last:g} s would be read as milliseconds"
    return None


FORMAT = Format(
    name="openai",
    title="OpenAI request log JSONL: messages, tools, created or timestamp, user, cache_salt",
    family=Family.JSON,
    matches=_matches,
    read=_read,
    open_writer=lambda path: JsonlWriter(path, _row, lambda _: {}, check=_check_writable),
)
