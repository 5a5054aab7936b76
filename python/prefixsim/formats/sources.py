"""What functions at a prompt take for a trace: a trace, the path of one, or another table."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from prefixsim.errors import InputError
from prefixsim.formats import read_trace
from prefixsim.trace import Trace

__all__ = ["TraceSource", "trace_of"]

TraceSource: TypeAlias = Trace | str | Path
"""A trace, or the path of its file."""


def trace_of(source: TraceSource) -> Trace:
    """Return the trace itself, or read the file that is named.

    Raises
    ------
    InputError
        If the file cannot be read, or the source is neither.
    """
    if isinstance(source, Trace):
        return source
    if isinstance(source, str | Path):
        return read_trace(source)
    msg = f"{type(source).__name__} is no trace: give a Trace or the path of one"
    if hasattr(source, "__arrow_c_stream__"):
        msg += "; Trace.from_arrow takes this table"
    raise InputError(msg)
