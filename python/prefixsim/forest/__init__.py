"""Compiled prompts: every sequence of a trace in one radix tree."""

from prefixsim.forest.cache import load_or_compile
from prefixsim.forest.forest import Forest, ForestStats, compile  # noqa: A004

__all__ = ["Forest", "ForestStats", "compile", "load_or_compile"]
