"""Seeded traces of a size that shows speed, made in seconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefixsim.trace import Codes, Ragged, Trace

SYSTEM_PROMPTS = 5


def conversations(
    requests: int,
    *,
    turns: int = 8,
    system: int = 400,
    turn: int = 311,
    unit: int = 1,
    sessions: bool = True,
    seed: int = 0,
) -> Trace:
    """Conversations under a few shared system prompts, interleaved.

    Parameters
    ----------
    requests : int
    turns : int, optional
        Requests of a conversation.
    system, turn : int, optional
        Tokens of a system prompt, and mean tokens that a turn adds.
    unit : int, optional
        Tokens of an id: 1 for a trace of tokens, else one of hash ids.
    sessions : bool, optional
        Whether the trace tells which requests belong together.
    """
    rng = np.random.default_rng(seed)
    count = -(-requests // turns)
    steps = rng.integers(1, max(2, 2 * turn // unit), (count, turns))
    ends = (system // unit + np.cumsum(steps, axis=1)).astype(np.uint64)
    # Conversations start all over the trace; their turns follow each other at random distances.
    times = rng.random((count, 1)) * 8 + np.cumsum(rng.random((count, turns)), axis=1)
    order = np.argsort(times, axis=None, kind="stable")[:requests]
    owner, step = np.divmod(order, turns)
    lengths = ends[owner, step]
    offsets = np.zeros(requests + 1, np.uint64)
    np.cumsum(lengths, out=offsets[1:])
    values: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
    size = int(offsets[-1])
    values = np.empty(size, np.uint32) if unit == 1 else np.empty(size, np.uint64)
    texts = _texts(rng, ends[:, -1].astype(np.intp), system // unit, values.dtype)
    at = offsets.astype(np.intp).tolist()
    for i, session in enumerate(owner.tolist()):
        values[at[i] : at[i + 1]] = texts[session][: at[i + 1] - at[i]]
    return Trace(
        timestamp=np.sort(times, axis=None)[:requests] * 60,
        prompt_len=(lengths * np.uint64(unit)).astype(np.uint32),
        output_len=np.zeros(requests, np.uint32),
        prompts=Ragged(offsets, values),
        id_block_size=unit,
        session=Codes(owner.astype(np.uint32), [str(i) for i in range(count)])
        if sessions
        else None,
        turn=step.astype(np.uint32),
        name=f"{requests:,} requests in conversations of {turns} turns",
        meta={"seed": seed},
    )


def _texts(
    rng: np.random.Generator, lengths: npt.NDArray[np.intp], system: int, dtype: npt.DTypeLike
) -> list[npt.NDArray[np.generic]]:
    """Text of each conversation; hash ids are distinct wherever the text before them is."""
    top = 50_000 if dtype == np.uint32 else 1 << 62
    heads = [rng.integers(0, top, system, dtype) for _ in range(SYSTEM_PROMPTS)]
    texts = []
    for i, length in enumerate(lengths.tolist()):
        text = rng.integers(0, top, length, dtype)
        text[:system] = heads[i % SYSTEM_PROMPTS]
        texts.append(text)
    return texts
