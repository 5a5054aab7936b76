"""The shapes of public models: facts of their ``config.json``, each with its source and date.

``catalogue.json`` holds, for each name, the fields that sizes are computed from and where they were
read. Only what could be looked up is there; a model's own ``config.json`` always comes first.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.settings import nearest

__all__ = ["catalogue", "find_model", "nearest_model"]


@cache
def catalogue() -> dict[str, JsonObject]:
    """Return all models: ``source`` and ``config`` by name.

    Examples
    --------
    >>> catalogue()["qwen3-next-80b-a3b"]["config"]["full_attention_interval"]
    4
    """
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    found: dict[str, JsonObject] = json.loads(text)
    return found


def find_model(name: str) -> JsonObject | None:
    """Return the configuration of a model; case and the part before a slash do not matter.

    Examples
    --------
    >>> find_model("Qwen/Qwen3-8B")["num_hidden_layers"]
    36
    """
    entry = catalogue().get(_short(name))
    return None if entry is None else entry["config"]


def nearest_model(name: str) -> str | None:
    """Return the name that a mistyped one most likely means."""
    return nearest(_short(name), list(catalogue()))


def _short(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", maxsplit=1)[-1].lower()
