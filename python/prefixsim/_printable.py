"""Text of files and traces made fit to encode, and for a terminal: shown, and never obeyed."""

from __future__ import annotations

__all__ = ["HIDDEN", "encodable", "printable"]

HIDDEN = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
}
"""Control characters (escape sequences begin with one), line ends, marks that turn the direction of
writing, and surrogates, which cannot be encoded."""

_SHOWN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in sorted(HIDDEN)
} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_SHOWN_LINES = {code: shown for code, shown in _SHOWN.items() if code != ord("\n")}


def encodable(text: str) -> str:
    r"""Replace lone surrogates, which cannot be encoded, by U+FFFD; pairs become one character.

    Examples
    --------
    >>> encodable("a\ud800b") == "a\ufffdb", encodable("\ud83d\ude00") == "\U0001f600"
    (True, True)
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def printable(text: str, *, lines: bool = False) -> str:
    r"""Replace what a terminal would obey by its escape, ``\x1b`` for example.

    Parameters
    ----------
    text : str
    lines : bool, optional
        Keep line ends.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_SHOWN_LINES if lines else _SHOWN)
