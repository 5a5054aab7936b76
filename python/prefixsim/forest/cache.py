"""A folder of compiled forests, named by the digests of their traces."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from prefixsim.errors import InputError
from prefixsim.forest.forest import Forest, compile  # noqa: A004
from prefixsim.trace import Trace

__all__ = ["load_or_compile"]

_SUFFIX = ".forest"


def load_or_compile(
    trace: Trace,
    cache_dir: str | Path | None = None,
    *,
    outputs: bool = False,
    partial_blocks: bool = False,
) -> Forest:
    """Compile a trace, or load its forest from ``cache_dir`` if it was compiled before.

    Parameters
    ----------
    trace : Trace
    cache_dir : path, optional
        Folder of compiled forests, named by the digests of their traces. A file that turns out
        unusable is written anew. ``None``: compile, keep nothing.
    outputs, partial_blocks : bool, optional
        As for :func:`compile`.
    """
    if cache_dir is None:
        return compile(trace, outputs=outputs, partial_blocks=partial_blocks)
    flags = ("-outputs" if outputs else "") + ("-partial" if partial_blocks else "")
    digest = trace.digest
    path = Path(cache_dir) / f"{digest}{flags}{_SUFFIX}"
    if path.exists():
        with suppress(InputError, MemoryError):  # on any doubt, compile
            forest = Forest.load(path, trace, digest=digest)
            if (forest.outputs, forest.partial_blocks) == (outputs, partial_blocks):
                return forest
    forest = compile(trace, outputs=outputs, partial_blocks=partial_blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    forest.save(path, digest=digest)
    return forest
