"""The places of a forest at which a provider's entries may end."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from prefixsim.forest import Forest
from prefixsim.trace import Ragged

__all__ = ["BREAKPOINTS", "Breakpoints", "Places"]

Breakpoints = Literal["end", "shared", "shared+end"]
"""Where a request has breakpoints: at its end, where prompts with its beginning part, or both."""

BREAKPOINTS: tuple[Breakpoints, ...] = ("end", "shared", "shared+end")


class Places:
    """Nodes of a forest, each the end of a prompt or the end of what several have in common.

    Parameters
    ----------
    forest : Forest
        Of the requests whose prompts can be cached.
    minimum : int
        Tokens below which no entry ends.
    boundaries : Ragged, optional
        Of each request, the tokens at which its content blocks end.

    Attributes
    ----------
    parent, depth : list of int
        Of each node: the node before it, and the tokens up to its end. Hash ids that stand for
        fewer tokens than a block are no node: what ends in one ends at the last whole block.
    prompt_node, output_node : list of int
        Of each request: where its prompt ends, and its output if outputs are known.
    length : list of int
        Tokens of each prompt.
    time : list of float
        Seconds.
    """

    def __init__(self, forest: Forest, minimum: int, boundaries: Ragged | None = None) -> None:
        parts = forest.core.parts()
        unit = forest.core.tokens_per_id
        trace = forest.trace
        self.minimum = minimum
        self.parent: list[int] = parts["parent"].tolist()
        self.depth: list[int] = (parts["end"].astype(np.int64) * unit).tolist()
        self.prompt_node: list[int] = parts["prompt_node"].tolist()
        self.output_node: list[int] = parts.get("output_node", parts["prompt_node"]).tolist()
        self.length: list[int] = trace.prompt_len.tolist()
        self.time: list[float] = trace.timestamp.tolist()
        self.boundaries = boundaries
        self._ends: npt.NDArray[np.int64] = parts["prompt_node"].astype(np.int64)

    def path(self, node: int) -> list[int]:
        """Return the nodes up to one, the deepest first, that are no shorter than the minimum."""
        parent, depth, minimum = self.parent, self.depth, self.minimum
        found = []
        while depth[node] >= minimum:
            found.append(node)
            node = parent[node]
        return found

    @cached_property
    def visits(self) -> npt.NDArray[np.int64]:
        """Of each node, the requests whose prompts go through it or end there."""
        parent = np.asarray(self.parent, dtype=np.int64)
        depth = np.asarray(self.depth, dtype=np.int64)
        found = np.bincount(self._ends, minlength=len(parent)).astype(np.int64)
        for node in np.argsort(-depth, kind="stable").tolist():
            if depth[node] > 0:
                found[parent[node]] += found[node]
        return found

    @cached_property
    def worth(self) -> npt.NDArray[np.int64]:
        """Of each node, the tokens that requests after the first could read up to it; 0 if alone.

        A node counts only where requests part: where it has several children, or one ends there.
        """
        parent = np.asarray(self.parent, dtype=np.int64)
        visits = self.visits
        depth = np.asarray(self.depth, dtype=np.int64)
        inner = depth > 0
        passing = np.bincount(parent[inner], weights=visits[inner] > 0, minlength=len(parent))
        ends = np.bincount(self._ends, minlength=len(parent)) > 0
        parts = (passing > 1) | ((passing > 0) & ends)
        worth = depth * np.maximum(visits - 1, 0)
        found: npt.NDArray[np.int64] = np.where(parts & (depth >= self.minimum), worth, 0)
        return found

    def best(self, path: list[int], count: int) -> list[int]:
        """Return the places on a path that most could be read from, the deepest first.

        Each counts what it adds to those that are deeper: a place close above a much used one adds
        little.
        """
        worth, depth, visits = self.worth, self.depth, self.visits
        useful = [node for node in path if worth[node] > 0]
        if len(useful) <= count:
            return useful
        chosen: list[int] = []
        for _ in range(count):
            best, most = -1, 0
            for node in useful:
                if node in chosen:
                    continue
                above = max((depth[c] for c in chosen if depth[c] < depth[node]), default=0)
                below = max((visits[c] for c in chosen if depth[c] > depth[node]), default=1)
                gain = (depth[node] - above) * int(visits[node] - below)
                if gain > most:
                    best, most = node, gain
            if best < 0:
                break
            chosen.append(best)
        return sorted(chosen, key=lambda node: -depth[node])

    def blocks_at(self, request: int, tokens: int) -> int:
        """Return the number of the content block of a request that has so many tokens before it."""
        assert self.boundaries is not None
        return int(np.searchsorted(self.boundaries[request], tokens, side="left"))
