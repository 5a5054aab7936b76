"""The page on policies names every policy and holds the parameters that they declare."""

from __future__ import annotations

from pathlib import Path

import pytest
from benches.policy_table import page

from prefixsim.eviction import POLICIES, parameter_table

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


def test_every_policy_and_parameter_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert parameter_table() in text, "write it anew: python -m prefixsim.eviction"
    missing = [name for name in POLICIES if f"| `{name}` |" not in text.split("Parameters and")[0]]
    assert missing == []


def test_the_tables_are_what_the_command_prints() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "lmcache-agent").is_dir():
        pytest.skip("the traces are not beside the checkout")
    assert page(folder) in PAGE.read_text(encoding="utf-8"), "python -m benches.policy_table"
