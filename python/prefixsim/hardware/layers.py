"""What each layer of a model keeps in the KV cache of one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "Kind", "Layer"]

Kind = Literal["full", "sliding_window", "chunked_local", "mamba"]
"""Every token; tokens in a window; those of the current chunk; one state, whatever the length."""

KINDS: dict[Kind, str] = {
    "full": "full attention",
    "sliding_window": "sliding window",
    "chunked_local": "chunked local attention",
    "mamba": "recurrent state",
}
"""The kinds in words."""


@dataclass(frozen=True)
class Layer:
    """One layer's share of the cache, on each GPU.

    Two layers that are equal have the same specification in vLLM
    (``vllm/v1/kv_cache_interface.py``), which is what its KV cache groups are made of.

    Attributes
    ----------
    kind : str
    heads : int
        KV heads on this GPU; 0 for a state.
    width : int
        Elements of a token in each head, key and value together.
    element_bytes : int
        Bytes of an element of keys and values.
    span : int or None
        Tokens of the window or of the chunk.
    states : tuple of (int, int)
        Elements and bytes per element of each tensor of a request's state; empty where the
        configuration does not give their sizes.
    checkpoint_alignment : int or None
        Tokens between the states that the kernels can export inside a prefill; ``None``: they
        export none.
    """

    kind: Kind
    heads: int = 0
    width: int = 0
    element_bytes: int = 0
    span: int | None = None
    states: tuple[tuple[int, int], ...] = ()
    checkpoint_alignment: int | None = None

    @property
    def token_bytes(self) -> int:
        """Bytes of one token; 0 for a state."""
        return self.heads * self.width * self.element_bytes

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of one request; 0 for attention."""
        return sum(elements * size for elements, size in self.states)
