"""Running counts of traces that are being made, which ``trace_summary.json`` tells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from prefixsim._json import JsonObject
from prefixsim.stats import distribution_of_counts

__all__ = ["ConversationCounts", "KindCounts"]


@dataclass(slots=True)
class KindCounts:
    """Running counts over one of the two traces; memory grows with distinct lengths only."""

    requests: int = 0
    prompt_lengths: Counter[int] = field(default_factory=Counter)
    output_lengths: Counter[int] = field(default_factory=Counter)
    last_timestamp: float = 0.0

    def add(self, prompt: int, output: int, timestamp: float) -> None:
        """Count one request."""
        self.requests += 1
        self.prompt_lengths[prompt] += 1
        self.output_lengths[output] += 1
        self.last_timestamp = timestamp

    def summary(self, unit: str) -> JsonObject:
        """Return totals and distributions; ``unit`` is ``tokens`` or ``characters``."""
        name = "prompt_len" if unit == "tokens" else "prompt_len_characters"
        return {
            "requests": self.requests,
            f"prompt_{unit}": sum(v * n for v, n in self.prompt_lengths.items()),
            "output_tokens": sum(v * n for v, n in self.output_lengths.items()),
            "duration_s": self.last_timestamp,
            name: distribution_of_counts(self.prompt_lengths),
            "output_len": distribution_of_counts(self.output_lengths),
        }


@dataclass(slots=True)
class ConversationCounts:
    """Running counts over conversations: what was used, dropped, and used as it is."""

    used: int = 0
    without_messages: int = 0
    without_user_turn: int = 0
    begin_with_assistant: int = 0
    turns_without_answer: int = 0
    empty_user_messages: int = 0
    system_messages: int = 0
    tool_messages: int = 0
    messages_after_last_turn: int = 0
    turns: Counter[int] = field(default_factory=Counter)

    def dropped(self) -> dict[str, int]:
        """Conversations that make no request, by reason."""
        return {
            "conversations_without_messages": self.without_messages,
            "conversations_without_user_turn": self.without_user_turn,
        }

    def kept(self) -> dict[str, int]:
        """Irregular content that was kept, by kind."""
        return {
            "conversations_that_begin_with_assistant": self.begin_with_assistant,
            "turns_without_answer": self.turns_without_answer,
            "empty_user_messages": self.empty_user_messages,
            "system_messages": self.system_messages,
            "tool_messages": self.tool_messages,
        }
