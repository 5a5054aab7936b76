"""A file of prices for tests: 3.00 $ a million prompt tokens, reads a tenth, writes 1.25 times."""

from __future__ import annotations

from datetime import date
from pathlib import Path

__all__ = ["DAY", "price_file"]

DAY = date(2026, 11, 24)

_TEXT = """
date = 2026-11-01

[openai.example]
input = 3.00
read = 0.30
output = 15.00

[anthropic.example]
input = 3.00
read = 0.30
write = { 5m = 3.75, 1h = 6.00 }
output = 15.00

[[anthropic.example.longer]]
above = 200000
input = 6.00
read = 0.60
write = { 5m = 7.50, 1h = 12.00 }
output = 22.50

[gemini-explicit.example]
input = 3.00
read = 0.30
output = 15.00
storage = 1.00
minimum = 1024

[deepseek.example]
input = 0.5
read = 0.05
"""


def price_file(folder: Path) -> Path:
    """Write the file into a folder and return its path."""
    path = folder / "prices.toml"
    path.write_text(_TEXT, encoding="utf-8")
    return path
