"""Vertex AI's request-response log, exported from BigQuery, one request a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefixsim._json import JsonObject
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import Places
from prefixsim.formats.logs._source import (
    LogSource,
    Piece,
    has_fields,
    log_format,
    object_rows,
    row_join,
)

__all__ = ["FORMAT"]

_PLACES = Places(
    time=("logging_time",),
    body=("full_request",),
    answer=("full_response",),
    model=("model",),
    outcome=("full_response/error/code",),
)


def _join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
    for call in row_join(_PLACES)(pieces):
        call.lost.add("end")
        yield call


FORMAT = log_format(
    LogSource(
        name="vertex",
        title="Vertex AI request-response log: logging_time, full_request, full_response",
        matches=has_fields("logging_time", "full_request"),
        rows=object_rows,
        join=_join,
        keeps={
            "prompt": "request-response logging of the endpoint, with a sampling_rate of 1",
            "session": "labels of the request; the log has no session of its own",
            "end": "nothing: the log has only the time at which the answer was ready",
        },
    )
)
