"""OpenAI's and Azure's batch files: requests, answers and errors, joined by ``custom_id``.

Input, output and error file are read together when one pattern names them. There are no times of
arrival, so all requests arrive at once, in the order of the input file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Head
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._bodies import read_answer, read_request
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import as_object, at, label, outcome
from prefixsim.formats.logs._source import LogSource, Piece, attempt, log_format, object_rows

__all__ = ["FORMAT"]


def _matches(head: Head) -> Confidence:
    row = head.row
    asked = "custom_id" in row and "body" in row and "url" in row
    answered = "custom_id" in row and "response" in row and "error" in row
    return Confidence.CERTAIN if asked or answered else Confidence.NO


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    asked: dict[str, Piece[JsonObject]] = {}
    answers: dict[str, JsonObject] = {}
    for piece in pieces:
        name = str(piece.value.get("custom_id"))
        if "body" in piece.value:
            asked.setdefault(name, piece)
        else:
            answers[name] = piece.value
    for name, piece in asked.items():
        yield attempt(
            piece,
            partial(_fill, piece.value, answers.get(name)),
        )
    if not asked and pieces:
        told = "no request in it: read the input file too, by a pattern that names both"
        yield Call(pieces[0].line, file=pieces[0].file, bad=f"custom_id: {told}")


def _fill(row: JsonObject, answer: JsonObject | None, call: Call) -> None:
    body = as_object(row.get("body"))
    if not body:
        raise BadFieldError("body", "missing")
    read_request(call, body, label(row, ("url",)))
    call.outcome = "ok"
    if answer is None:
        return
    status = outcome(at(answer, "response/status_code"))
    if answer.get("error") or status == "error":
        call.outcome = "error"
        return
    model = call.model
    call.model = None
    read_answer(call, at(answer, "response/body"))
    call.model = call.model or model


FORMAT = log_format(
    LogSource(
        name="batch",
        title="OpenAI and Azure batch files: custom_id, body; custom_id, response",
        matches=_matches,
        rows=object_rows,
        join=_join,
        keeps={
            "time": "nothing: a batch has no arrivals; give them with --arrivals",
            "session": "nothing: a batch has no sessions",
            "usage": "the output file, read together with the input by one pattern",
            "cached_tokens": "the output file, read together with the input by one pattern",
        },
    )
)
