"""Anthropic's Messages API, as a reverse proxy logs it: one request a line, with its answer."""

from __future__ import annotations

from prefixsim.formats._format import Confidence, Head
from prefixsim.formats.logs._bodies import api_of
from prefixsim.formats.logs._places import Places, as_object, first, label
from prefixsim.formats.logs._source import log_format, row_source

__all__ = ["FORMAT"]

_PLACES = Places(
    time=("timestamp", "time", "start_time", "created_at"),
    duration=("duration_s",),
    body=("request/body", "request", "body"),
    answer=("response/body", "response"),
    url=("path", "url"),
    session=("session_id", "session"),
    user=("user",),
    outcome=("status", "status_code", "response/status_code"),
)


def _matches(head: Head) -> Confidence:
    body = as_object(first(head.row, _PLACES.body)[1])
    if "messages" not in body or first(head.row, _PLACES.time)[1] is None:
        return Confidence.NO
    url = label(head.row, _PLACES.url)
    return Confidence.CERTAIN if api_of(body, url) == "messages" else Confidence.NO


FORMAT = log_format(
    row_source(
        "anthropic",
        "Anthropic Messages behind a proxy: timestamp, request, response",
        _PLACES,
        matches=_matches,
        keeps={
            "session": "metadata.user_id as Claude Code writes it, or session_id in the row",
            "usage": "the answer, or of a stream its events",
            "cached_tokens": "the answer, or of a stream its events",
        },
    )
)
