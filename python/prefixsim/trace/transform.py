"""Traces from traces: slice, rescale, sample, isolate, anonymize."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefixsim._core import keyed_hashes, tree_numbers
from prefixsim.errors import InputError
from prefixsim.trace import LATEST_S, Codes, Ragged, Trace
from prefixsim.trace.anonymous import check_key, new_key
from prefixsim.trace.joining import without
from prefixsim.trace.salts import salt_name

__all__ = [
    "add_salt",
    "anonymize",
    "chain_ids",
    "first_sessions",
    "largest_tree",
    "sample_trees",
    "scale_rate",
    "shift_times",
    "slice_requests",
    "slice_time",
]

_LARGEST_BLOCK = 2**32 - 1


def slice_time(trace: Trace, start: float | None, stop: float | None) -> Trace:
    """Keep requests with ``start <= timestamp < stop``, in seconds from the first request."""
    time = trace.timestamp - (trace.timestamp[0] if len(trace) else 0.0)
    keep = np.ones(len(trace), dtype=bool)
    if start is not None:
        keep &= time >= start
    if stop is not None:
        keep &= time < stop
    return _kept(trace, keep, "no request lies in this time range")


def slice_requests(trace: Trace, start: int | None, stop: int | None) -> Trace:
    """Keep the requests of this range of row numbers, as Python slices do."""
    keep = np.zeros(len(trace), dtype=bool)
    keep[slice(start, stop)] = True
    return _kept(trace, keep, f"the range is empty, the trace has {len(trace)} requests")


def first_sessions(trace: Trace, count: int) -> Trace:
    """Keep the sessions that begin first, whole.

    Raises
    ------
    InputError
        If the trace knows no sessions.
    """
    if trace.session is None:
        msg = f"{trace.name}: has no sessions, slice it by requests or time"
        raise InputError(msg)
    codes = trace.session.codes
    _, first_row, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first_row))
    return _kept(trace, rank[inverse] < count, "no session was asked for")


def scale_rate(trace: Trace, factor: float) -> Trace:
    """Make requests arrive ``factor`` times as fast."""
    if not (np.isfinite(factor) and factor > 0):
        msg = f"rate scale {factor:g}: must be a number above 0"
        raise InputError(msg)
    start = trace.timestamp[0] if len(trace) else 0.0
    with np.errstate(over="ignore"):
        scaled = trace.replace(timestamp=start + (trace.timestamp - start) / factor)
    if scaled.outside_time() is not None:
        msg = f"rate scale {factor:g}: times would lie beyond {LATEST_S:g} s"
        raise InputError(msg)
    return scaled


def sample_trees(trace: Trace, fraction: float, *, head: int = 16, seed: int = 0) -> Trace:
    """Keep a random share of the sharing trees, each whole.

    Requests whose first ``head`` tokens (and salt) are equal belong to one tree, so whatever they
    share stays shared, and the hit rate of what is kept is not thinned out.

    Parameters
    ----------
    trace : Trace
    fraction : float
        Share of trees to keep, 0 to 1.
    head : int, optional
        Tokens that tell trees apart; at least one id of a hashed trace.
    seed : int, optional
    """
    if not 0 < fraction <= 1:
        msg = f"sample {fraction:g}: must be above 0 and at most 1"
        raise InputError(msg)
    trees = _trees(trace, head, seed)
    chosen = np.random.default_rng(seed).random(int(trees.max(initial=0)) + 1) < fraction
    if not chosen.any():
        chosen[0] = True
    return _kept(trace, chosen[trees], "no tree was kept")


def largest_tree(trace: Trace, *, head: int = 16) -> float:
    """Share of the requests that the largest sharing tree holds; see :func:`sample_trees`."""
    return float(np.bincount(_trees(trace, head, 0)).max() / len(trace))


def _trees(trace: Trace, head: int, seed: int) -> npt.NDArray[np.uint32]:
    ids = _ids(trace, "sampled by sharing tree")
    salt = None if trace.salt is None else trace.salt.codes
    return tree_numbers(ids.offsets, ids.values, max(1, head // trace.id_block_size), seed, salt)


def shift_times(trace: Trace) -> Trace:
    """Count times from the first request, and forget when that was."""
    start = trace.timestamp[0] if len(trace) else 0.0
    return trace.replace(timestamp=trace.timestamp - start, meta=without(trace.meta, "epoch_s"))


def add_salt(trace: Trace, salt: str) -> Trace:
    """Isolate a trace: its requests share nothing with those of another salt."""
    if trace.salt is None:
        return trace.replace(salt=Codes(np.zeros(len(trace), np.uint32), [salt_name(salt)]))
    names = [salt_name(salt, name) for name in trace.salt.names]
    return trace.replace(salt=Codes(trace.salt.codes, names))


def anonymize(trace: Trace, *, block_size: int = 16, key: bytes | None = None) -> Trace:
    """Replace prompts by chained keyed hashes, and names by numbers.

    Who shares what with whom, lengths and times stay; token ids, text and names go. Prefixes equal
    by blocks stay equal under one key, so exports with the same key can be joined.

    Parameters
    ----------
    trace : Trace
    block_size : int, optional
        Tokens per hash id; for a hashed trace a multiple of its own.
    key : bytes, optional
        Secret, at least 32 random bytes. Hash ids are the first 8 bytes of a SHA-256 chain keyed
        with it. Default: random, and not kept.

    Raises
    ------
    InputError
        If the key is weak, the block size does not fit, or the trace has no ids.
    """
    key = new_key() if key is None else check_key(key)
    ids = _ids(trace, "anonymized")
    if block_size < 1 or block_size % trace.id_block_size or block_size > _LARGEST_BLOCK:
        msg = (
            f"block size {block_size}: must be a multiple of {trace.id_block_size}, "
            "the tokens per id of this trace"
        )
        raise InputError(msg)
    offsets, hashes = keyed_hashes(ids.offsets, ids.values, block_size // trace.id_block_size, key)
    return trace.replace(
        prompts=Ragged(offsets, hashes),
        id_block_size=block_size,
        outputs=None,
        texts=None,
        output_texts=None,
        request_id=None,
        session=_numbered(trace.session),
        salt=_numbered(trace.salt),
        category=_numbered(trace.category),
        name="anonymized",
        meta={"anonymized": True},
    )


def chain_ids(trace: Trace) -> Trace:
    """Replace hash ids that tell a block's own tokens only by ids chained to their prefix.

    Raises
    ------
    InputError
        If the trace has no hash ids.
    """
    if trace.prompts is None or trace.kind != "hashes":
        msg = f"{trace.name}: holds {trace.kind}, only hash ids can be chained"
        raise InputError(msg)
    offsets, ids = keyed_hashes(trace.prompts.offsets, trace.prompts.values, 1, b"")
    return trace.replace(prompts=Ragged(offsets, ids))


def _numbered(codes: Codes | None) -> Codes | None:
    if codes is None:
        return None
    return Codes(codes.codes, [name and str(i) for i, name in enumerate(codes.names)])


def _ids(trace: Trace, what: str) -> Ragged:
    if trace.prompts is None:
        advice = "tokenize it first" if trace.kind == "text" else "it has no prompts"
        msg = f"{trace.name}: a trace of {trace.kind} cannot be {what}, {advice}"
        raise InputError(msg)
    return trace.prompts


def _kept(trace: Trace, keep: npt.NDArray[np.bool_], empty: str) -> Trace:
    if not keep.any():
        msg = f"{trace.name}: {empty}"
        raise InputError(msg)
    return trace if keep.all() else trace.take(np.flatnonzero(keep))
