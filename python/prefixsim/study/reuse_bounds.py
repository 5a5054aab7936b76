"""Bounds of reuse anywhere: what caches that are not bound to prefixes could find at most.

Keys and values depend on all that stands before, so servers reuse prefixes alone. Systems like
CacheBlend (Yao et al., EuroSys 2025) reuse the keys and values of text that stood elsewhere, and
compute a share of its tokens anew to mend them. How much text comes back decides what they can
gain. It is counted in three ways, in an unlimited cache, beside what prefixes give:

* aligned blocks: full blocks whose tokens filled a block before, at any place;
* chunks: stretches between cuts that the tokens themselves decide (content-defined chunking: a cut
  follows every window of tokens whose hash begins with zeros), so that text moved by any distance
  is found again;
* anywhere: tokens of any window, of the tokens of a block, that was seen before at any place. What
  reuses stretches of at least that length, however it cuts them, finds no more.

Equal means equal: stretches of one hash are compared token by token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.replay import with_tokens
from prefixsim.study.stretches import Ints, Stretches, Text, counting, mixed
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ReuseBound", "ReuseBounds", "bound_tables", "bounds"]


@dataclass(frozen=True)
class ReuseBound:
    """What one way to reuse finds at most, of all requests or of a category.

    Attributes
    ----------
    reuse : str
        ``prefix``, which servers do; ``aligned blocks``, ``chunks`` or ``anywhere``.
    category : str or None
        ``None``: all requests.
    prompt_tokens, reusable_tokens : int
        The last token of a prompt is never reusable.
    share : float
        Reusable tokens / prompt tokens.
    saved_share : float
        Share of prompt tokens that need not be computed once part of what is no prefix is computed
        anew.
    """

    reuse: str
    category: str | None
    prompt_tokens: int
    reusable_tokens: int
    share: float
    saved_share: float


@dataclass(frozen=True, eq=False, repr=False)
class ReuseBounds:
    """Bounds of reuse of a trace.

    Attributes
    ----------
    trace : Trace
    block_size, chunk_size : int
        Tokens of a block, and of a chunk on average.
    recompute : float
        Share of the reused tokens that are no prefix which is computed anew.
    rows : list of ReuseBound
        Of all requests, then of each category.
    reusable : dict of str to ndarray of int64, shape (requests,)
        Reusable tokens of each request, by way of reuse.
    """

    trace: Trace
    block_size: int
    chunk_size: int
    recompute: float
    rows: list[ReuseBound]
    reusable: dict[str, Ints]

    def __repr__(self) -> str:
        told = ", ".join(f"{row.reuse} {row.share:.4f}" for row in self.rows if not row.category)
        return f"<ReuseBounds of {self.trace.name}: {told}>"

    def _repr_html_(self) -> str:
        return html(bound_tables(self))

    def get(self, reuse: str, category: str | None = None) -> ReuseBound:
        """Return the bound of a way to reuse, of all requests or of a category."""
        for row in self.rows:
            if (row.reuse, row.category) == (reuse, category):
                return row
        msg = f"no bound of reuse {reuse!r} for category {category!r}"
        raise InputError(msg)

    def to_dict(self) -> JsonObject:
        """Return ``trace``, ``provenance`` and ``bounds``; plain values."""
        config = {
            "block_size": self.block_size,
            "chunk_size": self.chunk_size,
            "recompute": self.recompute,
        }
        origin = provenance(self.trace, config)
        return {
            "trace": trace_facts(self.trace, origin["digest"]),
            "provenance": origin,
            "bounds": [asdict(row) for row in self.rows],
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_arrow(self) -> pa.Table:
        """Return :attr:`rows` as an Arrow table: the fields of :class:`ReuseBound`."""
        import pyarrow as pa

        columns = {
            "reuse": pa.string(),
            "category": pa.string(),
            "prompt_tokens": pa.int64(),
            "reusable_tokens": pa.int64(),
            "share": pa.float64(),
            "saved_share": pa.float64(),
        }
        return pa.Table.from_pylist([asdict(row) for row in self.rows], schema=pa.schema(columns))


def bounds(
    trace: Trace | Forest,
    *,
    block_size: int = 16,
    chunk_size: int = 64,
    recompute: float = 0.15,
    model: str | None = None,
) -> ReuseBounds:
    """Bound what reuse of text at any place could find, beside what prefixes give.

    These are bounds, not forecasts: the cache is unlimited, nothing is ever too short to be worth a
    look-up but for ``block_size``, and no answer suffers.

    Parameters
    ----------
    trace : Trace or Forest
        Of token ids, or of texts.
    block_size : int, optional
        Tokens of a block, and the shortest stretch that is reused anywhere.
    chunk_size : int, optional
        Tokens of a content-defined chunk on average, a power of two.
    recompute : float, optional
        Share of the reused tokens that are no prefix which is computed anew; CacheBlend's authors
        report that 0.15 is enough.
    model : str, optional
        Tokenizer of a trace of texts.

    Returns
    -------
    ReuseBounds

    Raises
    ------
    InputError
        If the trace has no tokens, or an option is out of range.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(100), [7, *range(100)]])
    >>> found = prefixsim.bounds(trace)
    >>> [(row.reuse, row.reusable_tokens) for row in found.rows]
    [('prefix', 0), ('aligned blocks', 0), ('chunks', 0), ('anywhere', 100)]
    """
    _check(block_size, chunk_size, recompute)
    forest = trace if isinstance(trace, Forest) else compile_trace(_of_tokens(trace, model))
    tokens = _of_tokens(forest.trace, model)
    shared = forest.profile(1).reusable_blocks.astype(np.int64)
    most = np.maximum(tokens.prompt_len.astype(np.int64) - 1, 0)
    text = Text(tokens)
    found = {
        "prefix": np.minimum(shared, most) // block_size * block_size,
        "aligned blocks": _aligned(text, shared, block_size),
        "chunks": _chunks(text, shared, block_size, chunk_size),
        "anywhere": _anywhere(text, shared, block_size),
    }
    reusable = {name: np.minimum(count, most) for name, count in found.items()}
    rows = list(_rows(tokens, reusable, recompute))
    return ReuseBounds(tokens, block_size, chunk_size, recompute, rows, reusable)


def _check(block_size: int, chunk_size: int, recompute: float) -> None:
    if block_size < 1:
        msg = f"block size {block_size}: give a number of tokens above 0"
        raise InputError(msg)
    if chunk_size < 2 or chunk_size & (chunk_size - 1):
        msg = f"chunk size {chunk_size}: give a power of two, like 64 or 128"
        raise InputError(msg)
    if not 0 <= recompute <= 1:
        msg = f"recompute is {recompute}: give a share from 0 to 1"
        raise InputError(msg)


def _of_tokens(trace: Trace, model: str | None) -> Trace:
    tokens = with_tokens(trace, model)
    if tokens.prompts is None or tokens.kind != "tokens":
        msg = f"{trace.name}: holds no token ids; reuse at any place cannot be told from hash ids"
        raise InputError(msg)
    return tokens


def _aligned(text: Text, shared: Ints, size: int) -> Ints:
    """Count tokens in full blocks that filled a block before; of shared prefixes, all are."""
    parts = []
    for first, upto in text.batches():
        sums = text.hashed(first, upto)
        begin, end = text.offsets[first:upto], text.offsets[first + 1 : upto + 1]
        skip = shared[first:upto] // size
        start, request = counting(first, begin + skip * size, (end - begin) // size - skip, size)
        parts.append((sums.of(start, size), start, np.full(len(start), size), request))
    return shared // size * size + text.seen(parts).tokens_of(len(shared))


def _anywhere(text: Text, shared: Ints, size: int) -> Ints:
    """Count tokens in windows that were seen before; windows of shared prefixes all were."""
    parts = []
    for first, upto in text.batches():
        sums = text.hashed(first, upto)
        begin, end = text.offsets[first:upto], text.offsets[first + 1 : upto + 1]
        skip = np.maximum(shared[first:upto] - size + 1, 0)
        count = np.maximum(end - begin - size + 1 - skip, 0)
        start, request = counting(first, begin + skip, count, 1)
        parts.append((sums.of(start, size), start, np.full(len(start), size), request))
    windows = text.seen(parts)
    # Windows come in order of their starts: each adds what the one before it does not cover.
    reached = np.maximum(windows.start, np.roll(windows.start + size, 1))
    if len(reached):
        reached[0] = windows.start[0]
    prefix = np.where(shared >= size, shared, 0)
    reached = np.maximum(reached, text.offsets[windows.request] + prefix[windows.request])
    added = np.maximum(windows.start + size - reached, 0)
    return prefix + Stretches(windows.start, added, windows.request).tokens_of(len(shared))


def _chunks(text: Text, shared: Ints, size: int, chunk_size: int) -> Ints:
    """Count tokens in content-defined chunks that were chunks before, none below a block."""
    parts = []
    prefix = np.zeros(len(shared), dtype=np.int64)
    for first, upto in text.batches():
        sums = text.hashed(first, upto)
        begin, end = text.offsets[first:upto], text.offsets[first + 1 : upto + 1]
        window, _ = counting(first, begin, np.maximum(end - begin - size + 1, 0), 1)
        cut = mixed(sums.of(window, size)) < np.uint64(2**64 // chunk_size)
        cuts = np.unique(np.concatenate((begin, window[cut] + size)))
        cuts = cuts[cuts < end[-1]]
        if not len(cuts):
            continue
        request = np.searchsorted(text.offsets, cuts, "right") - 1
        length = np.minimum(np.append(cuts[1:], end[-1]), text.offsets[request + 1]) - cuts
        known = cuts + length <= text.offsets[request] + shared[request]
        # What ends where a prompt ends is a chunk of that prompt, and of no longer one.
        known &= cuts + length < text.offsets[request + 1]
        whole = length >= size
        inside = known & whole
        prefix += np.bincount(
            request[inside], weights=length[inside], minlength=len(shared)
        ).astype(np.int64)
        rest = ~known & whole
        start, length = cuts[rest], length[rest]
        parts.append((sums.of(start, length), start, length, request[rest]))
    return prefix + text.seen(parts).tokens_of(len(shared))


def _rows(trace: Trace, reusable: dict[str, Ints], recompute: float) -> Iterator[ReuseBound]:
    groups: list[tuple[str | None, npt.NDArray[np.bool_]]] = [
        (None, np.ones(len(trace), dtype=bool))
    ]
    if trace.category is not None:
        codes = trace.category.codes
        names = trace.category.names
        groups += [(names[code], codes == code) for code in np.unique(codes)]
    for category, chosen in groups:
        tokens = int(trace.prompt_len[chosen].sum(dtype=np.uint64))
        prefix = int(reusable["prefix"][chosen].sum())
        for name, counts in reusable.items():
            count = int(counts[chosen].sum())
            mended = recompute * max(0, count - prefix)
            most = max(1, tokens)
            yield ReuseBound(name, category, tokens, count, count / most, (count - mended) / most)


def bound_tables(found: ReuseBounds) -> list[Table]:
    """Return bounds as a table."""
    several = any(row.category is not None for row in found.rows)
    head = ["reuse", "prompt tokens", "reusable, at most", "share", "saved, at most"]
    rows = []
    for row in found.rows:
        label = ["all" if row.category is None else row.category or "(none)"] if several else []
        figures = [written(row.prompt_tokens, "count"), written(row.reusable_tokens, "count")]
        shares = [written(row.share, "rate"), written(row.saved_share, "rate")]
        rows.append([*label, row.reuse, *figures, *shares])
    title = (
        f"{found.trace.name}: bounds of reuse in an unlimited cache, blocks of "
        f"{found.block_size}, chunks of {found.chunk_size} on average\n"
        f"saved: with {found.recompute:.0%} of what is no prefix computed anew"
    ).replace("%", " %")
    return [Table(title, ["category", *head] if several else head, rows, words=1 + several)]
