"""The digest of a trace: equal if and only if the columns that decide a replay are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prefixsim._core import digest_columns
from prefixsim.trace.columns import Array

__all__ = ["content_digest"]

_VERSION = 2
"""Of what is digested; another one gives every trace another digest."""


def content_digest(trace: Mapping[str, Any], id_block_size: int) -> str:
    """Return XXH3-128 of the columns that decide a replay, with their names and types, in hex.

    What sessions are called does not matter. Names and texts are told apart by their lengths,
    since they may hold whatever would separate them.

    Parameters
    ----------
    trace : mapping
        The columns of a trace by name.
    id_block_size : int
        Tokens per id.
    """
    columns: dict[str, Array] = {
        name: trace[name] for name in ("timestamp", "prompt_len", "output_len")
    }
    for name in ("prompts", "outputs"):
        if (ragged := trace[name]) is not None:
            columns |= {f"{name} offsets": ragged.offsets, f"{name} ids": ragged.values}
    for name in ("session", "salt", "category"):
        if (codes := trace[name]) is not None:
            columns[name] = codes.codes
            columns |= {} if name == "session" else _packed(f"{name} names", codes.names)
    if trace["texts"] is not None:
        columns |= _packed("texts", trace["texts"])
    kinds = ",".join(f"{name}:{column.dtype.str}" for name, column in columns.items())
    facts = f"{_VERSION} {id_block_size} {kinds}"
    parts = [np.frombuffer(facts.encode(), dtype=np.uint8), *columns.values()]
    return digest_columns([np.ascontiguousarray(part).view(np.uint8) for part in parts])


def _packed(name: str, texts: Sequence[str]) -> dict[str, Array]:
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    return {
        f"{name} lengths": np.array([len(text) for text in encoded], dtype=np.uint64),
        f"{name} bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
    }
