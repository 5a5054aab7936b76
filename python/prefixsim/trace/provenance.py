"""What results say of where they come from."""

from __future__ import annotations

from prefixsim._core import __version__
from prefixsim._json import JsonObject
from prefixsim.trace import Trace

__all__ = ["provenance", "trace_facts"]


def trace_facts(trace: Trace, digest: str) -> JsonObject:
    """Return what identifies a trace."""
    return {
        "name": trace.name,
        "format": trace.format,
        "kind": trace.kind,
        "id_block_size": trace.id_block_size,
        "requests": len(trace),
        "digest": digest,
    }


def provenance(trace: Trace, config: JsonObject) -> JsonObject:
    """Return what made a result: version, settings, trace and its digest, seed, how it was made."""
    return {
        "prefixsim": __version__,
        "config": config,
        "trace": trace.name,
        "digest": trace.digest,
        "seed": trace.meta.get("seed"),
        "trace_meta": trace.meta,
    }
