"""Salts made of several keys: a name for each tuple of keys, never the same for two of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["distinct_names", "salt_name"]


def salt_name(*keys: object) -> str:
    """Name what isolates a prompt by several keys, for example a model and a tenant.

    Keys are joined by ``/``. A ``/`` or ``%`` within a key is escaped as in a URL, and what is no
    text becomes JSON after an ``=``, so that different tuples never get one name; trailing keys
    that are ``None`` or empty are left out.

    Examples
    --------
    >>> salt_name("adapter", "tenant"), salt_name("adapter/tenant"), salt_name("adapter", None)
    ('adapter/tenant', 'adapter%2Ftenant', 'adapter')
    """
    names = [_quoted(key) for key in keys]
    while names and not names[-1]:
        names.pop()
    return "/".join(names)


def _quoted(key: object) -> str:
    if key is None:
        return ""
    if isinstance(key, str):
        text = key.replace("%", "%25")
        text = "%3D" + text[1:] if text.startswith("=") else text
    else:
        text = "=" + json.dumps(key, default=repr).replace("%", "%25")
    return "".join(map(_escaped, text)) if not text.isascii() or "/" in text else text


def _escaped(character: str) -> str:
    if character == "/":
        return "%2F"
    code = ord(character)
    return f"%u{code:X}" if 0xD800 <= code < 0xE000 else character  # cannot be encoded


def distinct_names(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Return ``names`` if they all differ, else ``longer``, else those with their numbers."""
    for choice in (names, longer):
        if len(set(choice)) == len(choice):
            return list(choice)
    return [f"{name}#{number}" for number, name in enumerate(longer, 1)]
