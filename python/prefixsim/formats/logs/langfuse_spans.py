"""Langfuse's SDK from 3 on sends OpenTelemetry spans: where they keep a generation."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._json import JsonObject
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import label
from prefixsim.formats.logs.langfuse import read_counts, read_input, read_output

__all__ = ["NAMES_SPANS", "is_call", "read"]

NAMES_SPANS = True
"""Whether a call is named by its span, as the answer's id is no field of its own."""

_IS = "langfuse.observation."


def is_call(attributes: JsonObject, events: Sequence[str]) -> bool:
    """Whether a span is a generation."""
    del events
    return attributes.get(f"{_IS}type") == "generation"


def read(call: Call, attributes: JsonObject, records: Sequence[object]) -> None:
    """Read a call from the attributes of its span."""
    del records
    call.model = label(attributes, (f"{_IS}model.name",))
    if attributes.get(f"{_IS}level") == "ERROR":
        call.outcome = "error"
    read_input(call, attributes.get(f"{_IS}input"))
    if call.outcome != "error":
        read_output(call, attributes.get(f"{_IS}output"))
        read_counts(call, attributes.get(f"{_IS}usage_details"))
