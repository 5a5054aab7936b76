"""The page on policies names every policy and holds the parameters that they declare."""

from __future__ import annotations

from pathlib import Path

from prefixsim.eviction import POLICIES, parameter_table

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


def test_every_policy_and_parameter_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert parameter_table() in text, "write it anew: python -m prefixsim.eviction"
    missing = [name for name in POLICIES if f"| `{name}` |" not in text.split("Parameters and")[0]]
    assert missing == []
