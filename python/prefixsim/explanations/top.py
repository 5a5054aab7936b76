"""Who loses most in a class: requests, sessions, categories, salts, prefixes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.explanations.losses import Losses
from prefixsim.trace import Codes, Trace

__all__ = ["Loser", "Top", "name_of", "top"]


@dataclass(frozen=True)
class Loser:
    """One request, session, category, salt or prefix.

    Attributes
    ----------
    name : str
        Its id or label; for a prefix, ``tokens START-END of REQUEST``.
    tokens : int
        Lost in the class.
    requests : int
        How many requests lose them.
    request : int
        Row of one of these requests: the one that loses most; for a prefix, one that has it.
    """

    name: str
    tokens: int
    requests: int
    request: int

    def to_dict(self) -> JsonObject:
        """Return the figures under their machine-readable names."""
        return {
            "name": self.name,
            "tokens": self.tokens,
            "requests": self.requests,
            "request": self.request,
        }


@dataclass(frozen=True)
class Top:
    """Those that lose most in one class, most first.

    Attributes
    ----------
    requests : list of Loser
    prefixes : list of Loser
        Stretches of prompts that the same requests share; they do not overlap.
    labels : dict of str to list of Loser
        ``session``, ``category`` and ``salt``, where the trace has them.
    """

    requests: list[Loser]
    prefixes: list[Loser]
    labels: dict[str, list[Loser]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, list[JsonObject]]:
        """Return every list, by the name of what it lists."""
        lists = {"request": self.requests, **self.labels, "prefix": self.prefixes}
        return {name: [loser.to_dict() for loser in losers] for name, losers in lists.items()}


def name_of(trace: Trace, request: int) -> str:
    """Return the id of a request: what the trace calls it, else its row number."""
    return str(request) if trace.request_id is None else trace.request_id[request]


def top(losses: Losses, name: str, count: int = 10) -> Top:
    """Return who loses most in a class.

    Parameters
    ----------
    losses : Losses
    name : str
        The class.
    count : int, optional
        Rows of each list.
    """
    trace = losses.trace
    start, end = losses.stretch(name)
    lost = (end - start).astype(np.int64)
    order = np.argsort(-lost, kind="stable")[:count]
    requests = [
        Loser(name_of(trace, int(i)), int(lost[i]), 1, int(i)) for i in order if lost[i] > 0
    ]
    segments = losses.open_forest._core.segment_losses(start, end, count)
    columns = (segments[c].tolist() for c in ("start", "end", "tokens", "requests", "example"))
    prefixes = [
        Loser(f"tokens {a:,}-{b:,} of {name_of(trace, example)}", tokens, n, example)
        for a, b, tokens, n, example in zip(*columns, strict=True)
    ]
    labels = {
        by: _by_label(codes, lost, count)
        for by in ("session", "category", "salt")
        if (codes := getattr(trace, by)) is not None
    }
    return Top(requests, prefixes, labels)


def _by_label(labels: Codes, lost: npt.NDArray[np.int64], count: int) -> list[Loser]:
    size = len(labels.names)
    # Sums below 2^53 are exact in float64.
    tokens = np.bincount(labels.codes, weights=lost, minlength=size).astype(np.int64)
    requests = np.bincount(labels.codes[lost > 0], minlength=size)
    order = np.argsort(-tokens, kind="stable")[:count]
    losers = []
    for code in order:
        if tokens[code] > 0:
            members = np.flatnonzero(labels.codes == code)
            worst = int(members[np.argmax(lost[members])])
            name = labels.names[code] or "(none)"
            losers.append(Loser(name, int(tokens[code]), int(requests[code]), worst))
    return losers
