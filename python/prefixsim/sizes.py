"""Counts, sizes and times as people write them: ``20k`` blocks, ``40GB``, ``5m``, ``inf``.

Counts go by thousands: ``k`` is 10^3, ``M`` 10^6, ``G`` 10^9, ``T`` 10^12. Bytes end in ``B``, with
the same factors, or with ``Ki``, ``Mi``, ``Gi`` and ``Ti`` for 2^10, 2^20, 2^30 and 2^40. Times are
seconds, or end in ``s``, ``m``, ``h`` or ``d``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from prefixsim.errors import InputError

__all__ = ["Size", "parse_bytes", "parse_count", "parse_seconds", "parse_size", "seconds_text"]

_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_UNBOUNDED = ("inf", "infinite", "infinity", "unbounded")
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_LARGEST = 2**63 - 1
_MOST_DIGITS = 60


def parse_count(text: str | int) -> int | None:
    """Return a count of at least 1; ``None`` for ``inf``, without bound.

    Raises
    ------
    InputError
        If the text is no whole number of at least 1.

    Examples
    --------
    >>> parse_count("5000"), parse_count("20k"), parse_count("1.5M"), parse_count("inf")
    (5000, 20000, 1500000, None)
    """
    amount = _amount(text, _THOUSANDS, "")
    if amount == 0:
        msg = f"{str(text).strip()!r} is no count: write it like 5000, 20k, 3M or inf"
        raise InputError(msg)
    return amount


def parse_bytes(text: str | int) -> int:
    """Return a number of bytes from ``40GB`` (10^9), ``40GiB`` (2^30) or a plain number.

    Raises
    ------
    InputError
        If the text is no number of bytes of at least 1.

    Examples
    --------
    >>> parse_bytes("40GB"), parse_bytes("1.5 KiB")
    (40000000000, 1536)
    """
    amount = _amount(text, _THOUSANDS | _BINARY, "[bB]?", whole=False)
    if not amount:
        msg = f"{str(text).strip()!r} is no number of bytes: write it like 40GB or 40GiB"
        raise InputError(msg)
    return amount


@dataclass(frozen=True)
class Size:
    """The size of a cache as it was written: in blocks, in bytes, or without bound.

    Attributes
    ----------
    text : str
        As it was written.
    amount : int or None
        Blocks, or bytes; ``None`` if the cache is unbounded.
    in_bytes : bool
    """

    text: str
    amount: int | None
    in_bytes: bool = False

    def __str__(self) -> str:
        return self.text

    def blocks(self, block_size: int, bytes_per_token: float | None = None) -> int | None:
        """Return the size in blocks of ``block_size`` tokens; ``None`` if it is unbounded.

        Parameters
        ----------
        block_size : int
            Tokens of a block.
        bytes_per_token : float, optional
            KV cache bytes of a token, needed for a size in bytes.

        Raises
        ------
        InputError
            If bytes per token are needed and not known, or if not even one block fits.

        Examples
        --------
        >>> parse_size("40GB").blocks(16, bytes_per_token=131072)
        19073
        """
        if self.amount is None or not self.in_bytes:
            return self.amount
        if bytes_per_token is None:
            msg = f"{self.text}: a size in bytes needs the bytes of a token"
            raise InputError(msg)
        blocks = int(self.amount // (block_size * bytes_per_token))
        if blocks < 1:
            msg = f"{self.text}: less than one block of {block_size} tokens"
            raise InputError(msg)
        return blocks


def parse_size(text: str | int) -> Size:
    """Return the size of a cache: blocks (``5000``, ``20k``), bytes (``40GB``) or ``inf``.

    Raises
    ------
    InputError
        If the text is none of these.

    Examples
    --------
    >>> parse_size("20k"), parse_size("40GiB").amount, parse_size("inf").amount
    (Size(text='20k', amount=20000, in_bytes=False), 42949672960, None)
    """
    written = str(text).strip()
    amount = _amount(written, _THOUSANDS, "")
    if amount != 0:
        return Size(written, amount)
    amount = _amount(written, _THOUSANDS | _BINARY, "[bB]", whole=False)
    if amount:
        return Size(written, amount, in_bytes=True)
    msg = f"{written!r} is no size: give blocks like 5000, 20k, 3M, bytes like 40GB, 40GiB, or inf"
    raise InputError(msg)


def parse_seconds(text: str) -> float:
    """Return a time in seconds: ``300``, ``0.5s``, ``5m``, ``1h``, ``2d`` or ``inf``.

    Raises
    ------
    InputError
        If the text is none of these.

    Examples
    --------
    >>> parse_seconds("300"), parse_seconds("5m"), parse_seconds("1.5h"), parse_seconds("inf")
    (300.0, 300.0, 5400.0, inf)
    """
    written = text.strip()
    if written.lower() in _UNBOUNDED:
        return math.inf
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)", written.lower())
    if match is None or match[2] not in _SECONDS:
        msg = f"{written!r} is no time: give seconds like 300, or 5m, 1h, 2d, or inf"
        raise InputError(msg)
    return float(match[1]) * _SECONDS[match[2]]


def seconds_text(seconds: float) -> str:
    """Write a time for people, in the largest unit that it has one of.

    Examples
    --------
    >>> seconds_text(0.5), seconds_text(300), seconds_text(5400), seconds_text(172800)
    ('0.5 s', '5 min', '1.5 h', '2 d')
    """
    if math.isinf(seconds):
        return "for ever"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.4g} {name}"
    return f"{seconds:.4g} s"


def _amount(
    text: str | int, factors: dict[str, int], ending: str, *, whole: bool = True
) -> int | None:
    """Return the number of units, ``None`` without bound, 0 if the text is no such number."""
    written = str(text).strip()
    if written.lower() in _UNBOUNDED:
        return None
    match = re.fullmatch(rf"([0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*?){ending}", written)
    if match is None or match[2].lower() not in factors:
        return 0
    digits, _, decimals = match[1].replace("_", "").partition(".")
    if len(digits + decimals) > _MOST_DIGITS:
        return 0
    value, rest = divmod(int(digits + decimals) * factors[match[2].lower()], 10 ** len(decimals))
    return 0 if value > _LARGEST or (whole and rest) else value
