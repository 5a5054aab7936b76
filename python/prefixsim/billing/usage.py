"""What a provider's cache reads and writes for each request: exact replays of its rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefixsim.billing.entries import replay_entries, replay_units, stored_prefixes
from prefixsim.billing.places import Breakpoints, Places
from prefixsim.billing.rules import Provider
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.trace import Ragged, Trace

__all__ = ["Breakpoints", "Replayer", "Usage"]

_HOUR = 3600.0
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Usage:
    """Tokens of each request by what is charged for them.

    Attributes
    ----------
    read, written : ndarray of int64, shape (requests,)
        Prompt tokens read from the cache; tokens newly kept in it.
    rest : ndarray of int64, shape (requests,)
        Prompt tokens that are neither. The three add up to the prompt, but for two rules: a prefix
        that the user stores is paid for beside the prompt, and units hold outputs, too; there,
        ``rest`` is what was not read.
    reread_tokens : int
        Of the written tokens, those that were read before they were gone.
    token_hours : float
        Tokens kept times the hours they were kept.
    """

    read: Counts
    written: Counts
    rest: Counts
    reread_tokens: int
    token_hours: float


class Replayer:
    """A trace, ready to be replayed under the rules of any provider.

    Parameters
    ----------
    trace : Trace
        Of token ids or chained hash ids.
    boundaries : Ragged, optional
        Of each request, the tokens at which its content blocks end, ascending.
    """

    def __init__(self, trace: Trace, boundaries: Ragged | None = None) -> None:
        self.trace = trace
        self.boundaries = boundaries
        self._forests: dict[tuple[int, bool], tuple[npt.NDArray[np.intp], Forest]] = {}
        self._places: dict[tuple[int, bool], Places] = {}

    def usage(self, provider: Provider, breakpoints: Breakpoints = "end") -> Usage:
        """Return what is read and written under a provider's rules.

        Parameters
        ----------
        provider : Provider
        breakpoints : {"end", "shared", "shared+end"}
            Where entries may end, for providers with breakpoints.
        """
        if provider.rule == "prefix":
            return self._prefix(provider)
        rows, forest = self._long_enough(provider.minimum, provider.rule == "units")
        places = self._places_of(provider, rows, forest)
        lengths = self.trace.prompt_len.astype(np.int64)
        if provider.rule == "stored":
            kept = stored_prefixes(places, provider)
        elif provider.rule == "units":
            kept = replay_units(places, provider)
        else:
            kept = replay_entries(places, provider, breakpoints)
        read, written = np.zeros_like(lengths), np.zeros_like(lengths)
        read[rows], written[rows] = kept.read, kept.written
        rest = lengths - read - written if provider.rule == "entries" else lengths - read
        return Usage(read, written, rest, kept.reread_tokens, kept.token_seconds / _HOUR)

    def _prefix(self, provider: Provider) -> Usage:
        """Replay a cache of every prefix, kept for a time after its last use."""
        rows, forest = self._long_enough(provider.minimum, False)
        lengths = self.trace.prompt_len.astype(np.int64)
        time = self.trace.timestamp[rows]
        unit = self.trace.id_block_size
        profile = forest.profile(unit)
        request, previous, blocks = profile.gaps(profile.reusable_blocks)
        size = blocks.astype(np.int64) * unit
        gap = time[request] - time[previous]
        alive = gap <= provider.ttl_s
        hits = np.zeros(len(rows), dtype=np.int64)
        np.add.at(hits, request[alive], size[alive])
        hits = _rounded(hits, provider)
        cached = _rounded(lengths[rows], provider)
        read, written = np.zeros_like(lengths), np.zeros_like(lengths)
        read[rows], written[rows] = hits, cached - hits
        # A stretch that is read was written at its previous use, as far as it was not read there.
        end = _ends(request, size)
        start = end - size
        last = np.minimum(end, hits[request]) - np.maximum(start, hits[previous])
        kept = np.minimum(gap, provider.ttl_s)
        seconds = float((size * kept).sum()) + profile.unique_blocks * unit * provider.ttl_s
        return Usage(
            read=read,
            written=written,
            rest=lengths - read - written,
            reread_tokens=int(np.maximum(last[alive], 0).sum()),
            token_hours=seconds / _HOUR,
        )

    def _long_enough(self, minimum: int, outputs: bool) -> tuple[npt.NDArray[np.intp], Forest]:
        """Return the rows whose prompts can be cached at all, and their forest."""
        outputs = outputs and self.trace.outputs is not None and self.trace.kind == "tokens"
        key = (minimum, outputs)
        if key not in self._forests:
            long = self.trace.prompt_len >= minimum
            rows = np.flatnonzero(long | outputs)  # an output may make a short prompt long enough
            part = self.trace if len(rows) == len(self.trace) else self.trace.take(rows)
            self._forests[key] = (rows, compile_trace(part, outputs=outputs))
        return self._forests[key]

    def _places_of(self, provider: Provider, rows: npt.NDArray[np.intp], forest: Forest) -> Places:
        key = (provider.minimum, forest.outputs)
        if key not in self._places:
            bounds = None if self.boundaries is None else self.boundaries.take(rows)
            self._places[key] = Places(forest, provider.minimum, bounds)
        return self._places[key]


def _rounded(tokens: Counts, provider: Provider) -> Counts:
    """Round down to the minimum and whole granules above it; below the minimum, to none."""
    above = (tokens - provider.minimum) // provider.granularity * provider.granularity
    found: Counts = np.where(tokens < provider.minimum, 0, provider.minimum + above)
    return found


def _ends(request: npt.NDArray[np.uint32], size: Counts) -> Counts:
    """Return where stretches end, which follow each other from the start of each request."""
    total = np.cumsum(size)
    first = np.r_[True, request[1:] != request[:-1]] if len(request) else np.zeros(0, bool)
    before = np.where(first, total - size, 0)
    found: Counts = total - np.maximum.accumulate(before) if len(size) else total
    return found
