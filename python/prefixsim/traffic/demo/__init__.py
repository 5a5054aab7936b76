"""Embedded sample data: a seeded chat workload and a small tokenizer, both synthetic.

They make the demonstration and offline use possible. The texts come from a small grammar and repeat
more than real ones, so the numbers they give show how the program works, not what a cache does for
real traffic.
"""

from __future__ import annotations

from prefixsim.traffic.demo.workload import DEFAULT_CONVERSATIONS, sample_conversations

__all__ = ["DEFAULT_CONVERSATIONS", "sample_conversations"]
