"""Hypothesis strategies for small traces with much in common."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from hypothesis import strategies as st

from prefixsim.trace import Trace


@dataclass(frozen=True)
class Small:
    """A trace in plain lists."""

    prompts: list[list[int]]
    outputs: list[list[int]]
    salts: list[str]
    sessions: list[str]
    times: list[float]

    def trace(self, *, sessions: bool = True) -> Trace:
        return Trace.from_prompts(
            self.prompts,
            outputs=self.outputs,
            timestamp=self.times,
            salt=self.salts,
            session=self.sessions if sessions else None,
        )


@st.composite
def small_traces(draw: st.DrawFn, max_requests: int = 14, max_salts: int = 2) -> Small:
    """Conversations that go on, branch, repeat, stop short or start anew, interleaved.

    Two or three distinct tokens only, so that unrelated prompts share prefixes by chance, too.
    """
    tokens = st.lists(st.integers(0, draw(st.integers(0, 2))), max_size=5)
    prompts: list[list[int]] = []
    outputs: list[list[int]] = []
    sessions: list[str] = []
    salts: list[str] = []
    for i in range(draw(st.integers(0, max_requests))):
        kind = draw(st.sampled_from(["new", "continue", "continue", "stop short", "repeat"]))
        before = draw(st.integers(0, i - 1)) if i and kind != "new" else None
        text: list[int] = []
        if before is not None:
            text = prompts[before] + outputs[before] * draw(st.integers(0, 1))
            if kind == "stop short":
                text = text[: draw(st.integers(0, len(text)))]
        if kind in {"new", "continue"}:
            text = text + draw(tokens)
        same = before is not None and draw(st.booleans())
        sessions.append(sessions[before] if same and before is not None else f"s{i}")
        salts.append(draw(st.sampled_from(["", "other"][:max_salts])))
        prompts.append(text)
        outputs.append(draw(st.lists(st.integers(0, 1), max_size=3)))
    steps = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.5]), min_size=len(prompts)))
    times = list(accumulate(steps[: len(prompts)]))
    return Small(prompts, outputs, salts, sessions, times)
