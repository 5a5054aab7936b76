"""Portkey's log export, one request a line."""

from __future__ import annotations

from prefixsim.formats.logs._places import Places
from prefixsim.formats.logs._source import has_fields, log_format, row_source

__all__ = ["FORMAT"]

FORMAT = log_format(
    row_source(
        "portkey",
        "Portkey export: created_at, request, response, ai_model, metadata",
        Places(
            time=("created_at",),
            duration=("response_time",),
            duration_unit=1e3,
            body=("request/body", "request"),
            answer=("response/body", "response"),
            url=("request/url", "request_url"),
            session=("metadata/session_id",),
            user=("metadata/_user",),
            model=("ai_model",),
            outcome=("response_status_code", "is_success"),
        ),
        matches=has_fields("created_at", "ai_model", "response_status_code"),
        keeps={
            "prompt": "requests without the header x-portkey-debug: false",
            "session": "session_id in the header x-portkey-metadata",
        },
    )
)
