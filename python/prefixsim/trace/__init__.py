"""Traces: requests in columns, and what can be done with the columns alone."""

from prefixsim.trace.columns import Codes, Ragged, Strings, offsets_of
from prefixsim.trace.request import Request
from prefixsim.trace.trace import LATEST_S, Trace, TraceKind

__all__ = ["LATEST_S", "Codes", "Ragged", "Request", "Strings", "Trace", "TraceKind", "offsets_of"]
