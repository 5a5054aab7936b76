"""The kinds of traffic that can be generated, and the figures that describe them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError
from prefixsim.traffic.arrivals import LONGEST_PAUSE_S

__all__ = ["SHAPES", "Shape", "ShapeName", "draw_turns", "new_tokens", "shape_named"]

ShapeName = Literal["chat", "rag", "agent", "parallel"]

_TURN_SPREAD = 0.8  # sigma of the lognormal number of turns
_CALIBRATION_SESSIONS = 200_000
_FEWEST_NEW_TOKENS = 4
_MOST_TOKENS = float(1 << 24)  # of a mean; no model reads so many
_MOST_TURNS = 1e6


@dataclass(frozen=True, slots=True)
class Shape:
    """Figures of a kind of traffic; means unless said otherwise.

    A prompt is a system prompt, then documents, then the session's own text: what the user (or a
    tool) said and the answers so far.

    Attributes
    ----------
    title : str
    prompt_tokens, output_tokens : float
        Over all requests.
    turns : float
        Per session, heavy-tailed (lognormal), at most ``most_turns``.
    most_turns : int
    system_prompts : int
        How many different ones there are; Zipf popularity.
    system_tokens : float
    documents : int
        How many different ones there are; Zipf popularity.
    documents_per_prompt : int
    document_tokens : float
    samples : int
        How often each prompt is sent at the same time.
    think_time : float
        Seconds between an answer and the next turn, exponential.
    """

    title: str
    prompt_tokens: float
    output_tokens: float
    turns: float = 1.0
    most_turns: int = 1000
    system_prompts: int = 16
    system_tokens: float = 300.0
    documents: int = 0
    documents_per_prompt: int = 0
    document_tokens: float = 0.0
    samples: int = 1
    think_time: float = 20.0

    @property
    def shared_tokens(self) -> float:
        """Mean length of the part of a prompt that other sessions may share."""
        return self.system_tokens + self.documents_per_prompt * self.document_tokens


SHAPES: dict[str, Shape] = {
    "chat": Shape(
        "multi-turn chat behind shared system prompts",
        prompt_tokens=1800,
        output_tokens=120,
        turns=8,
    ),
    "rag": Shape(
        "questions about documents put into the prompt",
        prompt_tokens=4000,
        output_tokens=200,
        turns=1.5,
        system_prompts=4,
        system_tokens=200,
        documents=10_000,
        documents_per_prompt=4,
        document_tokens=800,
    ),
    "agent": Shape(
        "tool loops: long instructions, many short steps",
        prompt_tokens=12_000,
        output_tokens=100,
        turns=20,
        system_prompts=8,
        system_tokens=3000,
        think_time=2.0,
    ),
    "parallel": Shape(
        "parallel sampling: every prompt sent eight times at once",
        prompt_tokens=1000,
        output_tokens=400,
        samples=8,
    ),
}


def shape_named(
    name: str,
    *,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
    turns: float | None = None,
    think_time: float | None = None,
) -> Shape:
    """Return a shape with some of its figures changed.

    Raises
    ------
    InputError
        If there is no such shape, or a figure is not usable.
    """
    if name not in SHAPES:
        msg = f"unknown shape '{name}', choose one of {', '.join(get_args(ShapeName))}"
        raise InputError(msg)
    given = {
        "prompt_tokens": (prompt_tokens, 1.0, _MOST_TOKENS),
        "output_tokens": (output_tokens, 0.0, _MOST_TOKENS),
        "turns": (turns, 1.0, _MOST_TURNS),
        "think_time": (think_time, 0.0, LONGEST_PAUSE_S),
    }
    changes: dict[str, float] = {}
    for key, (value, least, most) in given.items():
        if value is None:
            continue
        if not least <= value <= most:
            msg = f"{key.replace('_', ' ')} {value:g} is not usable, give {least:g} to {most:,.0f}"
            raise InputError(msg)
        changes[key] = value
    return replace(SHAPES[name], **changes)  # type: ignore[arg-type]


def draw_turns(random: np.random.Generator, shape: Shape, sessions: int) -> npt.NDArray[np.int64]:
    """Draw the number of turns of sessions."""
    if shape.turns <= 1:
        return np.ones(sessions, dtype=np.int64)
    # Rounding up adds half a turn; below two turns the lower bound of one turn matters more.
    mean = max(shape.turns - 0.5, 0.55)
    drawn = random.lognormal(np.log(mean) - _TURN_SPREAD**2 / 2, _TURN_SPREAD, sessions)
    return np.clip(np.ceil(drawn), 1, shape.most_turns).astype(np.int64)


def earlier_turns(shape: Shape) -> float:
    """Return how many turns lie before a request in its session, on average over requests."""
    turns = draw_turns(np.random.default_rng(0), shape, _CALIBRATION_SESSIONS)
    return float((turns * (turns - 1) / 2).sum() / turns.sum())


def new_tokens(shape: Shape) -> float:
    """Return the mean length of what is new in each turn, from the means of whole prompts.

    Raises
    ------
    InputError
        If the shared parts and the answers of earlier turns alone exceed the mean prompt.
    """
    before = earlier_turns(shape)
    history = shape.shared_tokens + before * shape.output_tokens
    new = (shape.prompt_tokens - history) / (1 + before)
    if new < _FEWEST_NEW_TOKENS:
        least = history + (1 + before) * _FEWEST_NEW_TOKENS
        msg = (
            f"a mean prompt of {shape.prompt_tokens:g} tokens is too short for {shape.turns:g} "
            f"turns: give at least {np.ceil(least):g} prompt tokens, or fewer turns"
        )
        raise InputError(msg)
    return float(new)
