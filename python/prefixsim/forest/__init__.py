"""Compiled prompts: every sequence of a trace in one radix tree."""

from prefixsim.forest.forest import Forest, ForestStats, compile, load_or_compile  # noqa: A004

__all__ = ["Forest", "ForestStats", "compile", "load_or_compile"]
