"""Strict JSON of results: NumPy numbers become plain ones, what is not a number becomes null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from prefixsim._printable import HIDDEN

__all__ = ["JsonFields", "JsonObject", "dumps", "plain"]

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object with documented names: a summary, a configuration, provenance."""

JsonFields: TypeAlias = Mapping[str, Any]
"""A JSON object that is read, and not changed."""

# What JSON need not escape, but a terminal may obey; and lone surrogates.
_CONTROLS = {code: f"\\u{code:04x}" for code in HIDDEN if code >= 0x20}


def plain(value: object) -> Any:
    """Return ``value`` made of dict, list, str, int, float, bool and None only."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def dumps(value: object) -> str:
    """Serialize to indented, strict JSON that ends with a newline."""
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text if text.isascii() else text.translate(_CONTROLS)
