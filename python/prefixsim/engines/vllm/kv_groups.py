"""KV cache groups: layers that share a block table, given by hand or planned from a model.

The text form lists groups with commas, each as ``type[=span][/mark][@block_size][:count]``::

    full:1,sliding_window=1024:5         one of full attention, five with a window of 1,024 tokens
    full@544,mamba@544:3                 blocks of 544 tokens
    full/draft,sliding_window=128        the first holds a drafter's layers
    full@64,mamba/checkpoint=1@64:2      states are exported inside a prefill, at any token
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import gcd, lcm
from typing import TYPE_CHECKING, get_args

from prefixsim.errors import SettingError
from prefixsim.hardware.layers import KINDS, Kind, Layer
from prefixsim.hardware.pool import Group

if TYPE_CHECKING:
    from prefixsim import _core

__all__ = ["Grouping", "KvGroup", "KvGroups", "planned_groups", "read_groups", "written_groups"]

_GROUP = re.compile(
    r"(?P<kind>[a-z_]+)(?:=(?P<span>\d+))?(?P<marks>(?:/[a-z]+(?:=\d+)?)*)"
    r"(?:@(?P<block>\d+))?(?::(?P<count>\d+))?"
)
_MOST_GROUPS = 64
_LONGEST = 2**24
"""Tokens of a request at most; a state that nothing shares has one block for all of them."""


@dataclass(frozen=True)
class KvGroup:
    """One KV cache group.

    Attributes
    ----------
    kind : str
        ``full``, ``sliding_window``, ``chunked_local`` or ``mamba``.
    block_size : int or None
        Tokens of a block; ``None``: as the setting says.
    span : int
        Tokens of the window or of the chunk; 0 for the other kinds.
    checkpoint : int
        Tokens between the states that a prefill can export; 0: it exports none.
    draft : bool
        Holds layers of the drafter.
    """

    kind: Kind
    block_size: int | None = None
    span: int = 0
    checkpoint: int = 0
    draft: bool = False

    @property
    def size(self) -> int:
        """The block size, which is settled before an engine runs."""
        assert self.block_size is not None
        return self.block_size

    def __str__(self) -> str:
        span = f"={self.span}" if self.span else ""
        marks = "/draft" if self.draft else ""
        if self.checkpoint:
            marks += f"/checkpoint={self.checkpoint}"
        block = "" if self.block_size is None else f"@{self.block_size}"
        return f"{self.kind}{span}{marks}{block}"


class KvGroups(tuple[KvGroup, ...]):
    """Groups in the order of their numbers; as text, what :func:`read_groups` reads."""

    __slots__ = ()

    def __str__(self) -> str:
        return written_groups(self)

    def __repr__(self) -> str:
        return repr(str(self))


def read_groups(text: object) -> KvGroups:
    """Return the groups that a text lists.

    Raises
    ------
    ValueError
        With the problem in words.

    Examples
    --------
    >>> read_groups("full:1,sliding_window=1024:5")
    'full,sliding_window=1024:5'
    """
    if isinstance(text, tuple) and all(isinstance(group, KvGroup) for group in text):
        return KvGroups(text)
    found: list[KvGroup] = []
    for part in str(text).split(","):
        group, count = _read(part.strip())
        found += [group] * count
        if len(found) > _MOST_GROUPS:
            raise ValueError(f"{len(found)} groups, give at most {_MOST_GROUPS}")
    return KvGroups(found)


def _read(part: str) -> tuple[KvGroup, int]:
    match = _GROUP.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is no group, write full:1 or sliding_window=1024:5")
    kinds = get_args(Kind)
    kind = next((known for known in kinds if known == match["kind"]), None)
    if kind is None:
        raise ValueError(f"no kind {match['kind']!r}, choose one of {', '.join(kinds)}")
    local = kind in ("sliding_window", "chunked_local")
    span, block, count = (int(match[name] or 0) for name in ("span", "block", "count"))
    if local and span < 2:
        raise ValueError(f"{part!r}: say of how many tokens, like {kind}=1024")
    if not local and match["span"] is not None:
        raise ValueError(f"{part!r}: {KINDS[kind]} has no span, leave ={span} out")
    if (match["block"] is not None and not 1 <= block <= _LONGEST) or span > _LONGEST:
        raise ValueError(f"{part!r}: give 1 to {_LONGEST:,} tokens")
    if match["count"] is not None and not 1 <= count <= _MOST_GROUPS:
        raise ValueError(f"{part!r}: give 1 to {_MOST_GROUPS} groups")
    draft, checkpoint = False, 0
    for mark in match["marks"].split("/")[1:]:
        name, _, value = mark.partition("=")
        if name == "draft" and not value:
            draft = True
        elif name == "checkpoint" and kind == "mamba" and int(value or 0) > 0:
            checkpoint = int(value)
        else:
            raise ValueError(f"{part!r}: no mark /{mark}, there are /draft and, of states, "
                             "/checkpoint=TOKENS")  # fmt: skip
    return KvGroup(kind, block or None, span, checkpoint, draft), count or 1


def written_groups(groups: Sequence[KvGroup]) -> str:
    """Write groups as text, equal ones together."""
    parts = []
    for text, run in groupby(map(str, groups)):
        count = len(list(run))
        parts.append(text if count == 1 else f"{text}:{count}")
    return ",".join(parts)


def planned_groups(
    groups: Sequence[Group], layers: Sequence[Layer], prefix_match_unit: int | None
) -> tuple[KvGroup, ...]:
    """Return planned groups as the engine takes them.

    Parameters
    ----------
    groups : sequence of Group
        Of :func:`prefixsim.hardware.pool.groups_of`.
    layers : sequence of Layer
        What they were planned of.
    prefix_match_unit : int or None
        As it was asked for.
    """

    def checkpoint(group: Group) -> int:
        alignment = layers[group.layers[0]].checkpoint_alignment
        if alignment is None or alignment == 1:
            return alignment or 0
        return lcm(prefix_match_unit, alignment) if prefix_match_unit else group.block_size

    return tuple(
        KvGroup(group.kind, group.block_size, group.span or 0, checkpoint(group))
        for group in groups
    )


@dataclass(frozen=True)
class Grouping:
    """Groups over one pool, and at which lengths they can agree.

    Attributes
    ----------
    groups : tuple of KvGroup
    prefix_match_unit : int or None
        Tokens of a hash; ``None``: the greatest common divisor of the block sizes.
    """

    groups: tuple[KvGroup, ...]
    prefix_match_unit: int | None = None

    def __post_init__(self) -> None:
        unit = self.hash_block_size
        wrong = next((g for g in self.groups if g.size % unit), None)
        if wrong is not None:
            sizes = ", ".join(map(str, sorted({g.size for g in self.groups})))
            msg = (
                f"prefix_match_unit {unit}: blocks of {wrong.size} tokens are no multiple of it, "
                f"give a divisor of {sizes}"
            )
            raise SettingError(msg)
        aligned = self.hit_alignment
        chunked = next((g for g in self.groups if g.kind == "chunked_local"), None)
        if chunked is not None and chunked.size != aligned:
            msg = (
                f"kv_groups {written_groups(self.groups)}: chunked local attention needs blocks "
                f"of the {aligned} tokens that hits are multiples of, not {chunked.size}"
            )
            raise SettingError(msg)

    @classmethod
    def of(
        cls, groups: Sequence[KvGroup], block_size: int, prefix_match_unit: int | None = None
    ) -> Grouping:
        """Return groups with the block size of those that say none."""
        sized = [g if g.block_size else replace(g, block_size=block_size) for g in groups]
        unit = prefix_match_unit if len(sized) > 1 else None
        return cls(tuple(sized), unit)

    @property
    def scheduler_block_size(self) -> int:
        """Least common multiple of the block sizes."""
        return lcm(*(group.size for group in self.groups))

    @property
    def hash_block_size(self) -> int:
        """Tokens of a hash."""
        return self.prefix_match_unit or gcd(*(group.size for group in self.groups))

    @property
    def fine(self) -> bool:
        """Whether hits may end inside a block: states do, and windows have blocks of a hash."""
        unit = self.hash_block_size
        states = [g for g in self.groups if g.kind == "mamba"]
        local = [g for g in self.groups if g.kind in ("sliding_window", "chunked_local")]
        return (
            len(self.groups) > 1
            and any(g.size > unit for g in states)
            and all(g.size == unit for g in local)
        )

    @property
    def hit_alignment(self) -> int:
        """Lengths of hits are multiples of this."""
        return self.hash_block_size if self.fine else self.scheduler_block_size

    @property
    def attention_block_size(self) -> int:
        """Tokens of a block of full attention; without any, of the smallest block."""
        full = [g.size for g in self.groups if g.kind == "full"]
        return full[0] if full else min(g.size for g in self.groups)

    def _whole(self) -> int:
        """Tokens of a block that holds any request: what a state takes where nothing is shared."""
        unit = self.scheduler_block_size
        return unit * -(-_LONGEST // unit)

    def core_block_size(self, *, caching: bool) -> int:
        """Tokens of a hash in the core; without caching, what all block sizes divide."""
        if caching:
            return self.hash_block_size
        states = any(group.kind == "mamba" for group in self.groups)
        return self._whole() if states else self.scheduler_block_size

    def core(self, *, caching: bool) -> list[_core._KvGroup]:
        """Return the groups as the core takes them."""
        return [
            {
                "type": g.kind,
                "block_size": self._whole() if g.kind == "mamba" and not caching else g.size,
                "window": g.span if g.kind == "sliding_window" else 0,
                "chunk": g.span if g.kind == "chunked_local" else 0,
                "checkpoint_blocks": int(g.checkpoint > 0),
                "checkpoint_alignment": g.checkpoint,
                "eagle": g.draft,
            }
            for g in self.groups
        ]

    def __str__(self) -> str:
        return written_groups(self.groups)
