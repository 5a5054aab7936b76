"""vLLM's server log: what ``--enable-log-requests`` and ``--enable-log-outputs`` print.

Up to 0.11 the prompt is in the line of the request; later it is in ``Request ID details`` (DEBUG),
and from 0.31 the request's JSON in ``Request ID JSON body`` (DEBUG, or what
``VLLM_REQUEST_BODY_LOG_LEVEL`` says), under an id of its own: bodies are joined to requests by
their order. Stamps are whole seconds without a year (that of the file is taken) or zone (UTC).
Source: ``vllm/entrypoints/logger.py`` (0.11), ``vllm/entrypoints/serve/utils/request_logger.py``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Family, Head, ReadOptions
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._bodies import read_request
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._lines import LogLines
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format

__all__ = ["FORMAT"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(
    r"(?:\([^)]*pid=\d+\) )?(?:DEBUG|INFO|WARNING|ERROR) (?P<time>\d\d-\d\d \d\d:\d\d:\d\d) "
    r"\[[^\]]*\] (?P<said>.*)",
    re.DOTALL,
)
_SAID = re.compile(
    r"(?P<kind>Received request|Request|Generated response) (?P<id>\S+?)"
    r"(?P<stream> \(streaming (?:delta|complete)\))?"
    r"(?:: | (?P<part>details|JSON body): )(?P<rest>.*)",
    re.DOTALL,
)
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None"""
_PROMPT = re.compile(rf"prompt: (?P<text>{_TEXT}),", re.DOTALL)
_OUTPUT = re.compile(rf"output: (?P<text>{_TEXT}),", re.DOTALL)
_IDS = re.compile(r"(?:prompt|output)_token_ids: (?P<ids>[\[(][\d, ]*[\])])")
_PARAMETER = r"\b{}=(?P<value>[^,)]+)"
_LORA = re.compile(r"lora_request: LoRARequest\(lora_name='(?P<name>[^']+)'")
_MOST_WAITING = 256


class _Said(NamedTuple):
    """A line: when, about which request, and what."""

    time: float
    kind: str
    id: str
    stream: str
    part: str
    rest: str


@dataclass(slots=True)
class _Served:
    """What several lines say of one request."""

    piece: Piece[_Said]
    id: str
    time: float
    parameters: str = ""
    details: str = ""
    body: JsonObject | None = None
    outputs: list[str] = field(default_factory=list)
    output_ids: list[list[int]] = field(default_factory=list)
    streamed: list[int] = field(default_factory=list)
    whole: str | None = None


def _matches(head: Head) -> Confidence:
    lines = head.text.split("\n")
    said = any((m := _LINE.match(_plain(line))) and _SAID.match(m["said"]) for line in lines)
    return Confidence.CERTAIN if said else Confidence.NO


def _plain(line: str) -> str:
    return _COLOUR.sub("", line) if "\x1b" in line else line


def _rows(path: Path, options: ReadOptions) -> LogLines[_Said]:
    """Read the lines of a file; their year is that of its last change, or the year before."""
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return LogLines(path, partial(_parse, changed), options)


def _parse(changed: datetime, line: str, number: int) -> _Said | None:
    del number
    found = _LINE.match(_plain(line)) or _json_line(line)
    if found is None:
        return None
    said = _SAID.match(found["said"])
    if said is None:
        return None
    return _Said(
        _seconds(found["time"], changed),
        said["kind"],
        said["id"],
        said["stream"] or "",
        said["part"] or "",
        said["rest"],
    )


def _json_line(line: str) -> dict[str, str] | None:
    """Return time and message of a line that vLLM's JSON formatter wrote."""
    if not line.startswith("{"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    message = row.get("message") if isinstance(row, dict) else None
    return (
        {"time": str(row.get("asctime", "")), "said": message} if isinstance(message, str) else None
    )


def _seconds(stamp: str, changed: datetime) -> float:
    """Return the time of a stamp; a date after the file's last change is of the year before."""
    try:
        if stamp[4:5] == "-":
            return datetime.fromisoformat(stamp.replace(",", ".")).replace(tzinfo=UTC).timestamp()
        time = datetime.strptime(f"{changed.year}-{stamp}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise BadFieldError("time", f"{stamp!r} is no date and time") from None
    if (time - changed).days > 1:
        time = time.replace(year=changed.year - 1)
    return time.timestamp()


def _join(pieces: Sequence[Piece[_Said]]) -> Iterable[Call]:
    served: dict[str, _Served] = {}
    bodies: list[tuple[str, str]] = []
    done: list[_Served] = []
    for piece in pieces:
        said: _Said = piece.value
        if said.part == "JSON body":
            bodies = [*bodies[-_MOST_WAITING:], (said.id, said.rest)]
        elif said.kind == "Generated response":
            request = served.get(said.id) or served.get(f"{said.id}_0")
            if request is not None:
                _answer(request, said)
        elif said.kind == "Request":
            served[said.id] = _Served(piece, said.id, said.time, details=said.rest)
        else:
            request = served.get(said.id)
            if request is None or request.parameters:
                request = served[said.id] = _Served(piece, said.id, said.time)
            request.parameters = said.rest
            request.body = _body(request, bodies, served)
            done.append(request)
    for request in done:
        yield attempt(request.piece, partial(_fill, request))


def _body(
    request: _Served, bodies: list[tuple[str, str]], served: dict[str, _Served]
) -> JsonObject | None:
    """Take the body of a request: the first waiting one that can be its own."""
    list_of, _, number = request.id.rpartition("-")
    if request.id.startswith("cmpl-") and number != "0" and f"{list_of}-0" in served:
        return served[f"{list_of}-0"].body
    for at, (name, text) in enumerate(bodies):
        try:
            body = json.loads(text)
        except ValueError:
            continue
        if isinstance(body, dict) and _can_be(request, name, body):
            del bodies[at]
            return body
    return None


def _can_be(request: _Served, name: str, body: JsonObject) -> bool:
    """Whether a body may be that of a request: its API and its parameters agree."""
    if name.startswith("resp_") or request.id.startswith("resp_"):
        return request.id in {f"{name}_0", name}
    if ("prompt" in body) != request.id.startswith("cmpl-"):
        return False
    asked = {"n": body.get("n", 1), "max_tokens": body.get("max_tokens"), "seed": body.get("seed")}
    return all(
        value is None or _parameter(request, name) in (None, str(value))
        for name, value in asked.items()
    )


def _parameter(request: _Served, name: str) -> str | None:
    found = re.search(_PARAMETER.format(name), request.parameters)
    return found["value"] if found else None


def _answer(request: _Served, said: _Said) -> None:
    ids, text = _IDS.search(said.rest), _OUTPUT.match(said.rest)
    known = list(ast.literal_eval(ids["ids"])) if ids else None
    if said.stream.endswith("delta)"):
        request.streamed += known or []
    elif said.stream:
        request.whole = _text(text) if text else request.whole
    else:
        if known is not None:
            request.output_ids.append(known)
        if text:
            request.outputs.append(_text(text) or "")


def _text(found: re.Match[str] | None) -> str | None:
    """Return the text that Python's ``repr`` wrote."""
    if found is None or found["text"] == "None":
        return None
    value = ast.literal_eval(found["text"])
    return value if isinstance(value, str) else None


def _fill(request: _Served, call: Call) -> None:
    call.time, call.id, call.outcome = request.time, request.id, "ok"
    call.lost.add("second")
    said = request.details or request.parameters
    call.rendered = _text(_PROMPT.match(said))
    ids = _IDS.search(said)
    if ids:
        call.prompt_ids = [list(ast.literal_eval(ids["ids"]))]
        call.prompt_tokens = len(call.prompt_ids[0])
    if request.body is not None:
        read_request(call, request.body)
        if call.prompts:
            call.part = int(request.id.rpartition("-")[2])
    number = _parameter(request, "n")
    call.sequences = int(number) if number is not None and number.isdecimal() else 1
    call.skips_cache = _parameter(request, "prompt_logprobs") not in (None, "None")
    lora = _LORA.search(request.parameters)
    call.salt = lora["name"] if lora and not call.salt else call.salt
    call.outputs = [request.whole] if request.whole is not None else (request.outputs or None)
    if request.streamed and call.sequences == 1:
        call.output_ids = [request.streamed]
    elif request.output_ids:
        call.output_ids = request.output_ids
    if call.output_ids:
        call.output_tokens = sum(map(len, call.output_ids))


FORMAT = log_format(
    LogSource(
        name="vllm-log",
        title="vLLM server log of requests (--enable-log-requests)",
        matches=_matches,
        join=_join,
        rows=_rows,
        family=Family.TEXT,
        keeps={
            "prompt": "VLLM_LOGGING_LEVEL=DEBUG; from 0.33 VLLM_REQUEST_BODY_LOG_LEVEL=INFO",
            "truncated": "no --max-log-len",
            "session": "nothing: vLLM logs no session; prefixsim record does",
            "cached_tokens": "nothing: vLLM logs none; prefixsim record does",
            "usage": "VLLM_LOGGING_LEVEL=DEBUG",
            "second": "--logging-config.formatter json",
        },
    )
)
