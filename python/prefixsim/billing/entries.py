"""Replays of caches whose entries end at certain places: breakpoints, units, stored prefixes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prefixsim.billing.places import Breakpoints, Places
from prefixsim.billing.rules import Provider

__all__ = ["Kept", "replay_entries", "replay_units", "stored_prefixes"]


@dataclass
class Kept:
    """What was read and written.

    Attributes
    ----------
    read, written : ndarray of int64, shape (requests,)
    reread_tokens : int
        Of the written tokens, those read before they were gone.
    token_seconds : float
        Tokens kept times the seconds they were kept.
    """

    read: npt.NDArray[np.int64]
    written: npt.NDArray[np.int64]
    reread_tokens: int = 0
    token_seconds: float = 0.0


@dataclass
class _Entry:
    """What one write kept: tokens up to a place, behind the entry before it."""

    tokens: int
    since: float
    used: float
    unread: bool = True


@dataclass
class _Cache:
    """Entries by the node at which they end."""

    ttl: float
    kept: Kept
    entries: dict[int, _Entry] = field(default_factory=dict)

    def alive(self, node: int, now: float) -> bool:
        """Whether an entry ends at a node and is not gone."""
        entry = self.entries.get(node)
        return entry is not None and now - entry.used <= self.ttl

    def use(self, node: int, now: float) -> None:
        """Read up to a node's entry, or through it to a deeper one: its time begins anew."""
        entry = self.entries[node]
        entry.used = now
        if entry.unread:
            entry.unread = False
            self.kept.reread_tokens += entry.tokens

    def write(self, node: int, tokens: int, now: float) -> None:
        """Make an entry that ends at a node."""
        old = self.entries.get(node)
        if old is not None:
            self.kept.token_seconds += self._held(old, now)
        self.entries[node] = _Entry(tokens, now, now)

    def close(self) -> Kept:
        """Let every entry live to its end, and return what was kept."""
        self.kept.token_seconds += sum(self._held(e, np.inf) for e in self.entries.values())
        return self.kept

    def _held(self, entry: _Entry, until: float) -> float:
        return entry.tokens * (min(until, entry.used + self.ttl) - entry.since)


def _nothing(places: Places) -> Kept:
    requests = len(places.length)
    return Kept(np.zeros(requests, dtype=np.int64), np.zeros(requests, dtype=np.int64))


def replay_entries(places: Places, provider: Provider, breakpoints: Breakpoints) -> Kept:
    """Replay a cache whose entries end at breakpoints.

    A request reads the longest entry that ends at one of its breakpoints or at most ``look_back``
    content blocks before one, and writes what is between it and its later breakpoints. Reading an
    entry begins its time anew, and that of the entries it goes on from.

    Parameters
    ----------
    places : Places
    provider : Provider
    breakpoints : {"end", "shared", "shared+end"}
    """
    kept = _nothing(places)
    cache = _Cache(provider.ttl_s, kept)
    for request, node in enumerate(places.prompt_node):
        now, length = places.time[request], places.length[request]
        path = places.path(node)
        spare = provider.breakpoints - (breakpoints != "shared")
        own = [] if breakpoints == "end" else places.best(path, spare)
        stops = [(place, places.depth[place]) for place in own if place != node]
        if breakpoints != "shared" or node in own:
            stops.insert(0, (node, length))
        if not stops:
            continue
        found = _found((places, cache), request, path, stops, provider.look_back)
        read = 0
        if found is not None:
            read = length if found == node else places.depth[found]
            for place in path[path.index(found) :]:
                if cache.alive(place, now):
                    cache.use(place, now)
        kept.read[request] = min(read, length)
        before = read
        for place, end in reversed(stops):
            if end > before:
                cache.write(place, end - before, now)
                kept.written[request] += end - before
                before = end
    return cache.close()


def _found(
    kept_at: tuple[Places, _Cache],
    request: int,
    path: list[int],
    stops: list[tuple[int, int]],
    look_back: int,
) -> int | None:
    """Return the node of the longest living entry that the breakpoints of a request find."""
    places, cache = kept_at
    now = places.time[request]
    deepest = stops[0][1]
    for place in path:
        depth = places.depth[place]
        if depth > deepest or not cache.alive(place, now):
            continue
        if places.boundaries is None or any(place == stop for stop, _ in stops):
            return place
        at = places.blocks_at(request, depth)
        for _, end in stops:
            if depth <= end and places.blocks_at(request, end) - at <= look_back:
                return place
    return None


def replay_units(places: Places, provider: Provider) -> Kept:
    """Replay a cache of units: ends of prompts and of outputs, and detected common prefixes.

    A common prefix becomes a unit when a second request parts from what an earlier one had, so a
    third one reads it. A hit needs a whole unit.

    Parameters
    ----------
    places : Places
        With outputs, if the trace has them.
    provider : Provider
    """
    kept = _nothing(places)
    cache = _Cache(provider.ttl_s, kept)
    seen = {node for node, depth in enumerate(places.depth) if depth == 0}
    for request, node in enumerate(places.prompt_node):
        now, length = places.time[request], places.length[request]
        path = places.path(node)
        found = next((place for place in path if cache.alive(place, now)), None)
        read = 0
        if found is not None:
            read = places.depth[found]
            for place in path[path.index(found) :]:
                if cache.alive(place, now):
                    cache.use(place, now)
        kept.read[request] = min(read, length)
        for place in _new_units(places, seen, places.output_node[request], node):
            if cache.alive(place, now):
                cache.entries[place].used = now  # written again
            elif places.depth[place] > read:
                cache.write(place, places.depth[place] - read, now)
                kept.written[request] += places.depth[place] - read
                read = places.depth[place]
    return cache.close()


def _new_units(places: Places, seen: set[int], last: int, prompt: int) -> list[int]:
    """Return the places that a request makes units, the shortest first, and note what it saw."""
    units = {last, prompt}
    node = last
    while node not in seen:
        seen.add(node)
        above = places.parent[node]
        if above in seen:
            units.add(above)
        node = above
    kept = [place for place in units if places.depth[place] >= places.minimum]
    return sorted(kept, key=places.depth.__getitem__)


def stored_prefixes(places: Places, provider: Provider) -> Kept:
    """Replay prefixes that the user stores: the most shared one of each request, once asked for.

    Parameters
    ----------
    places : Places
    provider : Provider
    """
    kept = _nothing(places)
    made: dict[int, float] = {}
    read_again: defaultdict[int, int] = defaultdict(int)
    for request, node in enumerate(places.prompt_node):
        now = places.time[request]
        best = places.best(places.path(node), 1)
        if not best:
            continue
        place = best[0]
        tokens = places.depth[place]
        if place in made and now - made[place] <= provider.ttl_s:
            read_again[place] += 1
            if read_again[place] == 1:
                kept.reread_tokens += tokens
        else:
            made[place] = now
            read_again[place] = 0
            kept.written[request] = tokens
            kept.token_seconds += tokens * provider.ttl_s
        kept.read[request] = tokens
    return kept
