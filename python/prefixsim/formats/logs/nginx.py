"""nginx's access log (``escape=json``), with ``$request_body`` and answers that Lua put into it.

``msec`` is the end of a request; it began ``request_time`` before.
"""

from __future__ import annotations

from prefixsim.formats.logs._places import Places
from prefixsim.formats.logs._source import has_fields, log_format, row_source

__all__ = ["FORMAT"]

FORMAT = log_format(
    row_source(
        "nginx",
        "nginx access log, JSON: msec, request_time, request_body, response_body",
        Places(
            time=("msec", "time_iso8601"),
            duration=("request_time",),
            ends=True,
            body=("request_body",),
            answer=("response_body",),
            url=("request", "request_uri", "uri"),
            session=("http_x_session_id", "session_id"),
            outcome=("status",),
        ),
        matches=has_fields("msec", "request_time"),
        keeps={
            "prompt": "$request_body in log_format, and client_body_buffer_size above the longest "
            "prompt",
            "session": "$http_x_session_id in log_format",
            "cached_tokens": "the answer's body (body_filter_by_lua) under response_body",
            "usage": "the answer's body (body_filter_by_lua) under response_body",
        },
    )
)
