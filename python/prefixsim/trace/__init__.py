"""Traces: requests in columns, and what can be done with the columns alone."""

from prefixsim.trace.trace import Codes, Ragged, Strings, Trace, TraceKind

__all__ = ["Codes", "Ragged", "Strings", "Trace", "TraceKind"]
