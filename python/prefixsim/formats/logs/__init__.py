"""Request logs of gateways, tracers, clouds and engines: one module for each source.

A source says where its fields are (:class:`~prefixsim.formats.logs._places.Places`), or how its
pieces join; everything after that is shared: bodies of every API become messages in OpenAI's form
(:mod:`._bodies`), rows become :class:`~prefixsim.formats.logs._call.Call`, and calls a trace
(:mod:`._traces`), with a list of what the source lost and the setting of the logger that keeps it.
"""

from __future__ import annotations

from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._source import read_calls

__all__ = ["Call", "read_calls"]
