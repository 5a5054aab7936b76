r"""Where a text can be cut so that tokenizing the parts equals tokenizing the whole.

A byte-level BPE tokenizer first splits text into *pre-tokens* with a regular expression and then
merges bytes inside each pre-token. So a position that is a pre-token border whatever surrounds it
is a *stable cut*: the tokens of the whole are the tokens of the left part followed by those of the
right part. With stable boundaries the history of a chat is tokenized once, not once per turn.

Position ``p`` is a stable cut if ``text[p-1]`` is a letter and ``text[p]`` one of :data:`STOPS`
(white space and punctuation other than the apostrophe), because for every alternative of the
expressions in :data:`ALTERNATIVES`

* a match that contains a letter cannot go on with a stop: runs of letters end there, and the
  contractions (``'s``) end with a letter;
* a match that begins at or after ``p`` does not look back;
* the one look-ahead, ``\s+(?!\S)``, looks from white space at the next character, which for
  white space left of ``p`` is left of ``p`` too, as ``text[p-1]`` is a letter.

Unicode normalization (NFC) does not move the border either: no letter used here composes with a
stop, and each stays a letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Protocol

from prefixsim._json import JsonObject

__all__ = ["STOPS", "find_first", "find_last", "is_boundary", "refusal"]

_LETTER_RANGES = (
    ("A", "Z"),
    ("a", "z"),
    ("\u00c0", "\u00d6"),  # Latin-1
    ("\u00d8", "\u00f6"),
    ("\u00f8", "\u017e"),  # Latin Extended-A
    ("\u0391", "\u03a1"),  # Greek
    ("\u03a3", "\u03a9"),
    ("\u03b1", "\u03c9"),
    ("\u0400", "\u0481"),  # Cyrillic
    ("\u05d0", "\u05ea"),  # Hebrew
    ("\u0620", "\u063a"),  # Arabic
    ("\u0641", "\u064a"),
    ("\u0905", "\u0939"),  # Devanagari
    ("\u0e01", "\u0e30"),  # Thai
    ("\u3041", "\u3096"),  # Hiragana
    ("\u30a1", "\u30fa"),  # Katakana
    ("\u4e00", "\u9fa5"),  # CJK
    ("\uac00", "\ud7a3"),  # Hangul syllables
)
LETTERS = "".join(f"{lo}-{hi}" for lo, hi in _LETTER_RANGES)
"""Letters in the notation of a character class; a choice, far from all there are."""

STOPS = " \n\r\t.,;:!?()\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f"
"""Characters that end a run of letters in every supported expression and, unlike ``|`` and ``>``,
hardly ever follow a letter inside a special token."""

_CUT = re.compile(f"[{LETTERS}](?=[{re.escape(STOPS)}])")
_LAST_CUT = re.compile(f"(?s:.*)[{LETTERS}](?=[{re.escape(STOPS)}])")
_IS_LETTER = re.compile(f"[{LETTERS}]")

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
ALTERNATIVES: dict[str, str] = {
    **dict.fromkeys(_CONTRACTIONS, "contraction"),
    f"(?i:{'|'.join(_CONTRACTIONS)})": "contraction",
    "'(?i:[sdmt]|ll|ve|re)": "contraction",
    r" ?\p{L}+": "letters",
    r"[^\r\n\p{L}\p{N}]?\p{L}+": "letters",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+": "letters",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+": "letters",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+": "letters",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*": "letters",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_SUFFIX}": "letters",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_SUFFIX}": "letters",
    r" ?\p{N}+": "numbers",
    r"\p{N}+": "numbers",
    r"\p{N}": "numbers",
    r"\p{N}{1,3}": "numbers",
    r"\p{N}{1,3}+": "numbers",
    r" ?[^\s\p{L}\p{N}]+": "others",
    r" ?[^\s\p{L}\p{N}]++": "others",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*": "others",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*": "others",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*": "others",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*": "others",
    r"\s*[\r\n]+": "lines",
    r"\s*[\r\n]": "lines",
    r"\s+(?!\S)": "space",
    r"\s+": "space",
    r"\s": "space",
    r"\s+$": "space",
}
"""Alternatives of pre-tokenizer expressions with stable boundaries, by proof, and what they match.

Those of GPT-2, OPT, RoBERTa (``ByteLevel`` of Hugging Face tokenizers), cl100k, Llama 3, Qwen 2 to
3, o200k and the models that took one of them over.
"""


def is_boundary(text: str, position: int) -> bool:
    """Whether ``position`` is a stable cut of ``text``."""
    return 0 < position < len(text) and _CUT.match(text, position - 1) is not None


def find_first(text: str, start: int = 0) -> int:
    """Return the first stable cut after ``start``, or -1."""
    match = _CUT.search(text, start)
    return match.end() if match else -1


def find_last(text: str, low: int, high: int) -> int:
    """Return the last stable cut ``p`` with ``low < p < high``, or -1."""
    window = 64
    end = high
    while end - low >= 2:
        start = max(low, end - window)
        match = _LAST_CUT.match(text, start, end)
        if match:
            return match.end()
        end = start + 1
        window *= 2
    return -1


def alternatives(pattern: str) -> list[str]:
    """Split a regular expression at its top-level ``|``."""
    parts, depth, in_class, start, i = [], 0, False, 0, 0
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            i += 1
        elif in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
        elif c in "()":
            depth += 1 if c == "(" else -1
        elif c == "|" and depth == 0:
            parts.append(pattern[start:i])
            start = i + 1
        i += 1
    return [*parts, pattern[start:]]


class AddedToken(Protocol):
    """What decides whether an added token of a tokenizer reaches over a boundary."""

    content: str
    rstrip: bool
    single_word: bool


def refusal(tokenizer_json: str, added: Iterable[AddedToken]) -> str | None:
    """Say why a tokenizer has no stable boundaries, or ``None`` if it has.

    Parameters
    ----------
    tokenizer_json : str
        The serialized fast tokenizer (``Tokenizer.to_str()``).
    added : iterable of AddedToken
        Its added tokens.
    """
    spec = json.loads(tokenizer_json)
    model = spec["model"]
    if model.get("type") != "BPE" or model.get("dropout"):
        return f"its model is {model.get('type')}, not a deterministic BPE"
    normalizer = spec.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return f"it normalizes text with {normalizer.get('type')}"
    return _refuse_splits(spec.get("pre_tokenizer")) or _refuse_added(added)


def _refuse_splits(pre: JsonObject | None) -> str | None:
    steps = (pre or {}).get("pretokenizers", [pre] if pre else [])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return "its pre-tokenizer does not end with ByteLevel without a prefix space"
    if len(steps) == 1:
        return None if steps[0].get("use_regex", True) else "it does not split text"
    if steps[-1].get("use_regex", True):
        return "it splits text twice"
    kinds: set[str] = set()
    for step in steps[:-1]:
        pattern = (step.get("pattern") or {}).get("Regex")
        known = step.get("type") == "Split" and step.get("behavior") == "Isolated"
        if not known or step.get("invert") or pattern is None:
            return f"it splits text with {step.get('type')}"
        for part in alternatives(pattern):
            if part not in ALTERNATIVES:
                return f"it splits text at an unknown expression: {part}"
            kinds.add(ALTERNATIVES[part])
    missing = {"letters", "numbers", "others", "space"} - kinds
    return (
        f"its expression does not match all text ({', '.join(sorted(missing))})"
        if missing
        else None
    )


def _refuse_added(added: Iterable[AddedToken]) -> str | None:
    """Look for added tokens, which are found before text is split, that reach over a cut."""
    for token in added:
        content = token.content
        if _CUT.search(content):
            return f"its added token {content!r} contains a cut"
        if token.rstrip and content and _IS_LETTER.match(content[-1]):
            return f"its added token {content!r} takes up white space after a letter"
        if token.single_word and content and content[0] in STOPS:
            return f"its added token {content!r} looks at the character before it"
    return None
