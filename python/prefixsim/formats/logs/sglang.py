"""SGLang's request log in JSON (``--log-requests-level 3 --log-requests-format json``).

A request is up to three lines: its body (``request.received.openai``, joined by order, as it has no
id), its arrival (``request.received``), its end (``request.finished``). Level 2, the default, cuts
texts and lists of ids over 2048 in the middle. Times are local, taken as UTC. Source:
``sglang/srt/utils/request_logger.py`` (0.5.23).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Family, Head
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._bodies import read_request
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._lines import LogLines
from prefixsim.formats.logs._messages import content_text
from prefixsim.formats.logs._places import as_object, at, count, label, seconds
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format

__all__ = ["FORMAT"]

_LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] (?P<said>.*)", re.DOTALL)
_CUT = "..."
_MOST = 2048
_TEXT_FORM = re.compile(r"(Receive|Finish|Receive OpenAI): obj=")


@dataclass(slots=True)
class _Served:
    piece: Piece[JsonObject]
    received: JsonObject
    body: JsonObject | None
    finished: JsonObject | None = None


def _matches(head: Head) -> Confidence:
    said = [m["said"] for line in head.text.split("\n") if (m := _LINE.match(line))]
    ours = any('"event": "request.' in text or _TEXT_FORM.match(text) for text in said)
    return Confidence.CERTAIN if ours else Confidence.NO


def _parse(line: str, number: int) -> JsonObject | None:
    del number
    found = _LINE.match(line)
    if found is None:
        return None
    if _TEXT_FORM.match(found["said"]):
        raise BadFieldError(
            "", "SGLang's log in text form cannot be read; --log-requests-format json writes JSON"
        )
    try:
        row = json.loads(found["said"])
    except ValueError:
        return None
    return (
        row if isinstance(row, dict) and str(row.get("event", "")).startswith("request.") else None
    )


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    bodies: list[JsonObject] = []
    served: dict[str, _Served] = {}
    for piece in pieces:
        row: JsonObject = piece.value
        event, name = row["event"], str(row.get("rid"))
        if event == "request.received.openai":
            bodies.append(as_object(row.get("obj")))
        elif event == "request.received":
            served[name] = _Served(piece, row, bodies.pop(0) if bodies else None)
        elif event == "request.finished":
            if name in served:
                served[name].finished = row
            else:
                served[name] = _Served(piece, row, None, row)
    for request in served.values():
        yield attempt(request.piece, partial(_fill, request))


def _fill(request: _Served, call: Call) -> None:
    received, finished = request.received, request.finished
    asked = as_object(received.get("obj"))
    call.time = seconds(received, ("timestamp",))
    call.id = label(received, ("rid",))
    if received is finished:  # its arrival was not logged: it ended so many seconds later
        took = at(finished, "out/meta_info/e2e_latency")
        if isinstance(took, int | float) and call.time is not None:
            call.time -= took
    call.stream = asked.get("stream") if isinstance(asked.get("stream"), bool) else None
    call.outcome = "ok"
    if request.body:
        read_request(call, request.body)
    call.session = label(received, ("obj/session_id", "obj/conversation_id"))
    call.salt = label(asked, ("extra_key", "lora_id")) or call.salt
    number = at(asked, "sampling_params/n")
    call.sequences = number if isinstance(number, int) and number > 0 else call.sequences
    call.skips_cache = asked.get("return_logprob") is True and asked.get("logprob_start_len") == 0
    ids = asked.get("input_ids")
    call.prompt_ids = [ids] if isinstance(ids, list) and ids else None
    if finished is not None:
        _read_end(finished, call)
    call.rendered = call.rendered or label(asked, ("text",))
    _look_for_cuts(call)


def _read_end(finished: JsonObject, call: Call) -> None:
    meta = as_object(at(finished, "out/meta_info"))
    call.prompt_tokens = count(meta, ("prompt_tokens",))
    call.output_tokens = count(meta, ("completion_tokens",))
    call.cached_tokens = count(meta, ("cached_tokens",))
    took = meta.get("e2e_latency")
    call.duration = float(took) if isinstance(took, int | float) else None
    text = at(finished, "out/text")
    call.outputs = [text] if isinstance(text, str) else None
    ids = at(finished, "out/output_ids")
    if isinstance(ids, list) and all(type(i) is int for i in ids):
        call.output_ids = [ids]
    call.rendered = label(finished, ("obj/text",))
    reason = at(meta, "finish_reason/type")
    call.outcome = "error" if reason == "abort" else "ok"


def _look_for_cuts(call: Call) -> None:
    """Give up what level 2 cut; ids that are whole are enough."""
    ids = call.prompt_ids[0] if call.prompt_ids else []
    whole = bool(ids) and all(type(i) is int for i in ids)
    texts = [content_text(m.get("content")) for m in call.messages or ()]
    texts += [text for text in (*(call.prompts or ()), call.rendered) if isinstance(text, str)]
    if not any(_is_cut(text) for text in texts) and (whole or not ids):
        return
    if whole:
        call.text_cut = True
    else:
        call.give_up("truncated")


def _is_cut(text: str) -> bool:
    half = _MOST // 2
    return len(text) == _MOST + len(_CUT) and text[half : half + len(_CUT)] == _CUT


FORMAT = log_format(
    LogSource(
        name="sglang-log",
        title="SGLang request log, JSON (--log-requests --log-requests-format json)",
        matches=_matches,
        join=_join,
        rows=lambda path, options: LogLines(path, _parse, options),
        family=Family.TEXT,
        keeps={
            "prompt": "--log-requests-level 3",
            "truncated": "--log-requests-level 3",
            "session": "SGLANG_LOG_REQUEST_HEADERS with the header of the session",
        },
    )
)
