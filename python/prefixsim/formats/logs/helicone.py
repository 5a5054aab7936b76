"""Helicone's export of requests (``HeliconeRequest``), one a line."""

from __future__ import annotations

from prefixsim.formats.logs._places import Places
from prefixsim.formats.logs._source import has_fields, log_format, row_source

__all__ = ["FORMAT"]

FORMAT = log_format(
    row_source(
        "helicone",
        "Helicone export: request_created_at, request_body, response_body",
        Places(
            time=("request_created_at",),
            duration=("delay_ms",),
            duration_unit=1e3,
            body=("request_body",),
            answer=("response_body",),
            url=("request_path",),
            session=("request_properties/Helicone-Session-Id",),
            user=("request_user_id",),
            model=("request_model",),
            outcome=("response_status",),
        ),
        matches=has_fields("request_created_at", "request_body"),
        keeps={
            "prompt": "an export with --include-body (bodies may be behind signed_body_url)",
            "session": "the header Helicone-Session-Id",
        },
    )
)
