"""What kind of text stands in the way of a shared prefix."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["ADVICE", "Kind", "kind_of", "slot_of"]

Kind = Literal["timestamp", "uuid", "id", "name", "whitespace", "reordered", "text"]

ADVICE: dict[Kind, str] = {
    "timestamp": "move the time behind the shared text, or round it (to the day, say)",
    "uuid": "leave the UUID out, or move it behind the shared text",
    "id": "leave the id or number out, or move it behind the shared text",
    "name": "move the name behind the shared text",
    "whitespace": "write the same whitespace everywhere",
    "reordered": "always put tools and documents in the same order, such as sorted",
    "text": "move what differs behind what is shared",
}
"""What to do about each kind."""

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CLOCK = r"\d{1,2}\s?:\s?\d{2}(?:\s?:\s?\d{2}(?:[.,]\d+)?)?(?:\s?[AaPp]\.?[Mm]\.?)?"
_TIMESTAMP = re.compile(
    "|".join(
        (
            rf"\d{{4}}-\d{{1,2}}-\d{{1,2}}(?:[T ,]+{_CLOCK})?(?:Z|[+-]\d{{2}}:?\d{{2}})?",
            rf"\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}(?:[ ,]+{_CLOCK})?",
            rf"(?:[A-Z][a-z]+day,?\s+)?{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}"
            rf"(?:[ ,at]+{_CLOCK})?",
            rf"\d{{1,2}}\s+{_MONTH}\.?,?\s+\d{{4}}(?:[ ,at]+{_CLOCK})?",
            _CLOCK,
            r"\b1[4-9]\d{8}(?:\d{3}|\.\d+)?\b",
        )
    )
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_ID = re.compile(
    r"\b(?=[\w-]*\d)(?:[0-9a-fA-F]{8,}|[A-Za-z]*[_-]?[\w-]*\d[\w-]*)\b|\d+(?:[.,]\d+)*"
)
_PATTERNS: dict[Kind, re.Pattern[str]] = {"uuid": _UUID, "timestamp": _TIMESTAMP, "id": _ID}
_WORD_PART = re.compile(r"[\w'\u2019-]*$")
_NAME = re.compile(r"[A-Z][\w'\u2019.-]*(?:\s+[A-Z][\w'\u2019.-]*){0,3}")
_NAMED = re.compile(r"(?:user|name|customer|client|hi|hello|dear|for|with|by)\W*$", re.IGNORECASE)
_WORDS = re.compile(r"[\w'\u2019.@-]+(?:\s+[\w'\u2019.@-]+){0,3}")


def kind_of(before: str, here: str, there: str, after: str) -> tuple[Kind, str]:
    """Name the kind of a gap from its text in two prompts and the text around it.

    Returns
    -------
    kind, lead : str
        ``lead`` is the text before the whole of it: a gap may be the end of a word or a time.
    """
    if "".join(here.split()) == "".join(there.split()):
        return "whitespace", before.rstrip()
    for kind, pattern in _PATTERNS.items():
        start = _covers(pattern, before, here, after)
        other = _covers(pattern, before, there, after)
        if start is not None and other is not None:
            return kind, before[: min(start, other)]
    begun = _WORD_PART.findall(before)[0]
    lead = before[: len(before) - len(begun)]
    words = [(begun + text).strip(" \n\t,.:;!") for text in (here, there)]
    if all(map(_NAME.fullmatch, words)):
        return "name", lead
    if _NAMED.search(lead) and all(map(_WORDS.fullmatch, words)):
        return "name", lead
    return "text", lead


def _covers(pattern: re.Pattern[str], before: str, gap: str, after: str) -> int | None:
    """Return where the first match on a gap starts, if matches cover its letters and digits."""
    start, end = len(before), len(before) + len(gap)
    known = [False] * (end - start)
    first: int | None = None
    for match in pattern.finditer(before + gap + after):
        lo, hi = max(match.start(), start), min(match.end(), end)
        if lo < hi:
            first = match.start() if first is None else first
            known[lo - start : hi - start] = [True] * (hi - lo)
    if all(k or not char.isalnum() for k, char in zip(known, gap, strict=True)):
        return first
    return None


def slot_of(lead: str) -> str:
    """Return the last words before a gap, digits made alike: where in a template it stands."""
    return re.sub(r"[0-9a-fA-F]*\d[0-9a-fA-F]*", "#", lead.replace("\ufffd", ""))[-32:].lstrip()
