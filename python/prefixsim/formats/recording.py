"""What KV events of a server imply: its requests, and the cache they leave behind.

vLLM publishes what happens to its cache (``vllm/distributed/kv_events.py``): ``BlockStored`` with
the tokens of the blocks and the hash of the block before them, ``BlockRemoved``, and
``AllBlocksCleared``. Following parents to the root gives the tokens of every chain that was stored.

Which event is whose is told by the stream alone, not by times, which depend on how slow decoding
is. In a step vLLM's scheduler goes on with running requests first and then admits new ones
(``vllm/v1/core/sched/scheduler.py``), so in the events of one step:

* one block that goes on where a request stands was filled by decoding and is its output;
* several blocks there, in the step after and before it had output, are a further chunk of its
  prompt;
* anything else, and everything after the first of these in a step, is a new request, whose prompt
  is its whole chain.

What a recording cannot tell: requests that stored no block (all was cached already), tokens of
partial blocks, and a new turn that stores exactly one block after what its session had: it looks
like decoding and is taken for output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace import Codes, Ragged, Trace

__all__ = [
    "CachedChain",
    "KvEvent",
    "Recording",
]

EventType = Literal["BlockStored", "BlockRemoved", "AllBlocksCleared"]
Tokens = npt.NDArray[np.uint32]

UNKNOWN_PARENT = "parent_block_hash: not stored in this recording"
OTHER_SIZE = "block_size: not that of the first event"
_NO_TOKENS: Tokens = np.empty(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class KvEvent:
    """One event.

    Attributes
    ----------
    type : {"BlockStored", "BlockRemoved", "AllBlocksCleared"}
    line : int
        1-based line, or message, of the file.
    time : float or None
        Seconds, of the batch.
    rank : int or None
        Data-parallel rank; every rank has a cache of its own.
    block_hashes : sequence
        Names of the blocks, in order.
    parent : hashable or None
        Name of the block before the first; ``None`` at the start of a prompt.
    token_ids : ndarray of uint32
    block_size : int
    salt : str
        Adapter and cache salt.
    other : str
        Why the event is not about the cache that is looked at (another medium or group), or empty.
    """

    type: EventType
    line: int
    time: float | None = None
    rank: int | None = None
    block_hashes: Sequence[Hashable] = ()
    parent: Hashable | None = None
    token_ids: Tokens = field(default_factory=lambda: _NO_TOKENS)
    block_size: int = 0
    salt: str = ""
    other: str = ""


@dataclass(slots=True)
class _Request:
    line: int
    start: float
    step: int
    prompt_end: int
    rank: int | None
    salt: str
    output: list[int] = field(default_factory=list)


class CachedChain(NamedTuple):
    """A chain of cached blocks that is not the start of a longer one.

    Attributes
    ----------
    salt : str
    tokens : ndarray of uint32
        From the start of the prompt.
    """

    salt: str
    tokens: Tokens


class Recording:
    """What a sequence of events says about requests and cache.

    Parameters
    ----------
    events : iterable of KvEvent
    name : str, optional

    Attributes
    ----------
    counts : dict of str to int
        Events and blocks by what was made of them: ``events``, ``blocks_stored``,
        ``blocks_removed``, ``clears``, ``removals_unknown`` (blocks stored before the recording),
        and events of other media and groups, which are not looked at.
    left_out : dict of str to int
        ``BlockStored`` events that could not be used, by reason: their prompts cannot be known, as
        the block before was stored before the recording began; or blocks of another size.
    ranks : set of (int or None)
    """

    def __init__(self, events: Iterable[KvEvent], name: str = "recording") -> None:
        self.name = name
        self.counts: dict[str, int] = defaultdict(int)
        self.left_out: dict[str, int] = {}
        self.ranks: set[int | None] = set()
        self.block_size = 0
        # One node for each stored block: its place in a prompt.
        self._parent: list[int] = []
        self._salt: list[str] = []
        self._rank: list[int | None] = []
        self._used: list[int] = []  # number of the event that stored it last
        self._copies: list[int] = []
        self._tokens: list[Tokens] = []
        self._node: dict[tuple[int | None, Hashable], int] = {}
        self._requests: list[_Request] = []
        self._open: dict[int, _Request] = {}
        self._timed = False
        self._now = 0.0
        # Events of one time are those of one step of the scheduler.
        self._step = 0
        self._stamp: tuple[int | None, float | int] | None = None
        self._admits = False
        for event in events:
            self._add(event)
        blocks = np.concatenate([_NO_TOKENS, *self._tokens])
        self._blocks = blocks.reshape(-1, max(self.block_size, 1))

    def _add(self, event: KvEvent) -> None:
        self.counts["events"] += 1
        if event.other:
            self.counts[event.other] += 1
            return
        self._timed |= event.time is not None
        self._now = self._now if event.time is None else event.time
        self.ranks.add(event.rank)
        stamp = (event.rank, event.line if event.time is None else event.time)
        if stamp != self._stamp:
            self._stamp, self._step, self._admits = stamp, self._step + 1, False
        if event.type == "BlockStored":
            self._store(event)
        elif event.type == "BlockRemoved":
            self._remove(event)
        else:
            self.counts["clears"] += 1
            for node in self._nodes_of(event.rank):
                self._copies[node] = 0

    def _nodes_of(self, rank: int | None) -> Iterable[int]:
        return (i for i, r in enumerate(self._rank) if r == rank)

    def _remove(self, event: KvEvent) -> None:
        for name in event.block_hashes:
            node = self._node.get((event.rank, name))
            if node is None or not self._copies[node]:
                self.counts["removals_unknown"] += 1
                continue
            self._copies[node] -= 1
            self.counts["blocks_removed"] += 1

    def _store(self, event: KvEvent) -> None:
        self.block_size = self.block_size or event.block_size
        above = -1
        if event.parent is not None:
            above = self._node.get((event.rank, event.parent), -1)
            if above < 0:
                self._leave_out(UNKNOWN_PARENT)
                return
        if event.block_size != self.block_size:
            self._leave_out(OTHER_SIZE)
            return
        salt = self._salt[above] if above >= 0 else event.salt
        chain = []
        node = above
        for k, name in enumerate(event.block_hashes):
            tokens = event.token_ids[k * self.block_size : (k + 1) * self.block_size]
            node = self._block(event.rank, name, node, tokens, salt)
            chain.append(node)
        self.counts["blocks_stored"] += len(chain)
        self._request(event, above, chain)

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def _block(
        self, rank: int | None, name: Hashable, above: int, tokens: Tokens, salt: str
    ) -> int:
        node = self._node.get((rank, name), -1)
        known = node >= 0 and self._parent[node] == above
        if not known or not np.array_equal(self._tokens[node], tokens):
            node = len(self._parent)
            self._node[rank, name] = node
            self._parent.append(above)
            self._salt.append(salt)
            self._rank.append(rank)
            self._used.append(0)
            self._copies.append(0)
            self._tokens.append(tokens)
        self._copies[node] += 1
        self._used[node] = self.counts["events"]
        return node

    def _request(self, event: KvEvent, above: int, chain: list[int]) -> None:
        request = self._open.pop(above, None)
        if not self._timed or self._admits:
            request = None
        if request is not None and len(chain) == 1:
            request.output += chain
        elif request is not None and request.step == self._step - 1 and not request.output:
            request.prompt_end = chain[-1]
        else:
            now = self._now if self._timed else float(len(self._requests))
            salt = self._salt[chain[0]]
            request = _Request(event.line, now, self._step, chain[-1], event.rank, salt)
            self._requests.append(request)
            self._admits = True
        request.step = self._step
        self._open[chain[-1]] = request

    def _chain(self, end: int) -> list[int]:
        nodes = []
        while end >= 0:
            nodes.append(end)
            end = self._parent[end]
        return nodes[::-1]

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self._requests)

    def request_lines(self) -> npt.NDArray[np.uint64]:
        """Line, or message, of the first event of each request."""
        return np.array([r.line for r in self._requests], dtype=np.uint64)

    def trace(self) -> Trace:
        """Return the requests as a token trace, in the order of their events.

        The category is the data-parallel rank; times count from the first request.
        """
        requests = self._requests
        start = min((r.start for r in requests), default=0.0)
        prompts = Ragged.from_lists(
            [self._blocks[self._chain(r.prompt_end)].ravel() for r in requests]
        )
        outputs = Ragged.from_lists([self._blocks[r.output].ravel() for r in requests])
        salts = [r.salt for r in requests]
        ranks = ["" if r.rank is None else str(r.rank) for r in requests]
        meta: JsonObject = {
            "block_size": self.block_size,
            "kv_events": dict(self.counts),
        }
        if self._timed:
            meta["epoch_s"] = start
        return Trace(
            timestamp=np.array([r.start for r in requests], dtype=np.float64) - start,
            prompt_len=prompts.lengths.astype(np.uint32),
            output_len=outputs.lengths.astype(np.uint32),
            prompts=prompts,
            outputs=outputs,
            salt=Codes.from_strings(salts) if any(salts) else None,
            category=Codes.from_strings(ranks) if any(ranks) else None,
            name=self.name,
            meta=meta,
        )

    def cached(self, rank: int | None = None) -> tuple[list[CachedChain], int]:
        """Return what is cached at the end.

        Parameters
        ----------
        rank : int, optional
            Needed if there are several.

        Returns
        -------
        chains : list of CachedChain
            Least recently used first. A block is as recent as the last chain through it.
        unreachable : int
            Cached blocks behind one that is not; no prompt finds them.
        """
        if rank is None and len(self.ranks) > 1:
            names = ", ".join(sorted(map(str, self.ranks)))
            msg = f"{self.name}: holds the caches of ranks {names}, choose one"
            raise InputError(msg)
        chosen = rank if rank is not None else next(iter(self.ranks), None)
        used = list(self._used)
        reachable = np.zeros(len(used), dtype=bool)
        inner = np.zeros(len(used), dtype=bool)
        for node, above in enumerate(self._parent):  # parents come before their children
            here = self._copies[node] > 0 and self._rank[node] == chosen
            reachable[node] = here and (above < 0 or reachable[above])
            if reachable[node] and above >= 0:
                inner[above] = True
        for node in range(len(used) - 1, -1, -1):
            if (above := self._parent[node]) >= 0:
                used[above] = max(used[above], used[node])
        ends = sorted(np.flatnonzero(reachable & ~inner).tolist(), key=used.__getitem__)
        chains = [
            CachedChain(self._salt[end], self._blocks[self._chain(end)].ravel()) for end in ends
        ]
        present = sum(c > 0 and r == chosen for c, r in zip(self._copies, self._rank, strict=True))
        return chains, present - int(reachable.sum())
