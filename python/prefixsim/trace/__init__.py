"""Traces: requests in columns, and what can be done with the columns alone."""

from prefixsim.trace.trace import LATEST_S, Codes, Ragged, Strings, Trace, TraceKind

__all__ = ["LATEST_S", "Codes", "Ragged", "Strings", "Trace", "TraceKind"]
