"""One request of a trace, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Request", "request_at"]


@dataclass(frozen=True, eq=False)
class Request:
    """One request of a trace.

    What the trace does not know is ``None``.

    Attributes
    ----------
    row : int
        Where it is in the trace.
    request_id : str
        What the trace calls it, else the row.
    timestamp : float
        Arrival in seconds.
    prompt_len, output_len : int
        In tokens.
    prompt, output : ndarray of uint32 or uint64, or None
        Token ids, or chained hash ids of the prompt.
    text, output_text : str or None
        Of requests that are not tokenized.
    session, salt, category : str or None
    turn : int or None
        0-based position in its session.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([[1, 2, 3], [1, 2]], output_len=[5, 6])
    >>> trace[1]
    <Request 1 at 1.000 s: 2 prompt tokens, 6 output tokens>
    >>> trace[1].prompt.tolist()
    [1, 2]
    """

    row: int
    request_id: str
    timestamp: float
    prompt_len: int
    output_len: int
    prompt: npt.NDArray[np.generic] | None = None
    output: npt.NDArray[np.generic] | None = None
    text: str | None = None
    output_text: str | None = None
    session: str | None = None
    turn: int | None = None
    salt: str | None = None
    category: str | None = None

    def __repr__(self) -> str:
        facts = [f"{self.prompt_len:,} prompt tokens", f"{self.output_len:,} output tokens"]
        if self.text is not None:
            facts[0] = f"{len(self.text):,} characters"
        for name in ("session", "turn", "salt", "category"):
            value = getattr(self, name)
            if value is not None:
                facts.append(f"{name} {value}")
        return f"<Request {self.request_id} at {self.timestamp:,.3f} s: {', '.join(facts)}>"


def request_at(columns: Mapping[str, Any], row: int) -> Request:
    """Return the record of one row of a trace's columns, by name; absent ones are ``None``."""

    def cell(name: str) -> Any:
        return None if columns[name] is None else columns[name][row]

    turn = cell("turn")
    return Request(
        row=row,
        request_id=str(row) if columns["request_id"] is None else cell("request_id"),
        timestamp=float(cell("timestamp")),
        prompt_len=int(cell("prompt_len")),
        output_len=int(cell("output_len")),
        prompt=cell("prompts"),
        output=cell("outputs"),
        text=cell("texts"),
        output_text=cell("output_texts"),
        session=cell("session") or None,
        turn=None if turn is None else int(turn),
        salt=cell("salt") or None,
        category=cell("category") or None,
    )
