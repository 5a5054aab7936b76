"""Envoy's access log in JSON, with bodies that Lua or an external processor put into it.

The names are the operator's; these are those of the examples: ``start_time``, ``request_body``,
``response_body``, ``x_session_id``.
"""

from __future__ import annotations

from prefixsim.formats.logs._places import Places
from prefixsim.formats.logs._source import has_fields, log_format, row_source

__all__ = ["FORMAT"]

_SESSION = ("x_session_id", "x-session-id", "session_id")

FORMAT = log_format(
    row_source(
        "envoy",
        "Envoy access log, JSON: start_time, response_code, request_body, response_body",
        Places(
            time=("start_time",),
            duration=("duration",),
            duration_unit=1e3,
            body=("request_body",),
            answer=("response_body",),
            url=("path",),
            session=_SESSION,
            outcome=("response_code",),
        ),
        matches=has_fields("start_time", "response_code"),
        keeps={
            "prompt": "a Lua or ext_proc filter that puts the request's body into the access log, "
            "with a buffer that holds the longest prompt",
            "session": "a header of the client, as %REQ(X-SESSION-ID)% under x_session_id",
            "cached_tokens": "the body of the answer under response_body",
            "usage": "the body of the answer under response_body",
        },
    )
)
