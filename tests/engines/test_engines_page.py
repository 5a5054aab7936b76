"""The page on engines holds what the engines declare."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from prefixsim import engines
from prefixsim.engines.__main__ import page
from prefixsim.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def test_the_option_tables_are_the_declared_options() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.endswith(page()), "write them anew: python -m prefixsim.engines"


def test_the_example_of_an_own_engine_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            exec(compile(example, str(PAGE), "exec"), {"__name__": __name__})
        assert shown.getvalue() == "32\n"
    finally:
        engines.unregister("lossy")
    with pytest.raises(InputError, match="unknown engine 'lossy'"):
        engines.load("lossy")
