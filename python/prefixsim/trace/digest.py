"""The digest of a trace: equal if and only if the columns that decide a replay are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prefixsim._core import digest_columns
from prefixsim.trace.columns import Array, Codes, Ragged

__all__ = ["content_digest"]

_VERSION = 2
"""Of what is digested; another one gives every trace another digest."""


def content_digest(
    numbers: Iterable[Array],
    lists: Mapping[str, Ragged | None],
    labels: Mapping[str, Codes | None],
    texts: Sequence[str] | None,
    id_block_size: int,
) -> str:
    """Return XXH3-128 of the columns that decide a replay, with their names and types, in hex.

    What sessions are called does not matter. Names and texts are told apart by their lengths,
    since they may hold whatever would separate them.

    Parameters
    ----------
    numbers : iterable of ndarray
        The columns that every trace has.
    lists, labels : mapping
        The other columns by name.
    texts : sequence of str or None
        Prompts that are not tokenized yet.
    id_block_size : int
        Tokens per id.
    """
    columns: dict[str, Array] = {str(i): column for i, column in enumerate(numbers)}
    for name, ragged in lists.items():
        if ragged is not None:
            columns |= {f"{name} offsets": ragged.offsets, f"{name} ids": ragged.values}
    for name, codes in labels.items():
        if codes is not None:
            columns[name] = codes.codes
            columns |= {} if name == "session" else _packed(f"{name} names", codes.names)
    if texts is not None:
        columns |= _packed("texts", texts)
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
