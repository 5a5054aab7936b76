"""Orders of eviction of your own: what a policy in Python is, and how one is named.

The core keeps the cached tree and its leaves; a :class:`Policy` says what goes first. How it hears
of a replay is in the module of its adapters, :mod:`prefixsim._policy_adapters`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Set
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt

from prefixsim._plugins import Registry
from prefixsim._policy_adapters import Adapter, BlockAdapter, KeyAdapter, Segments
from prefixsim.errors import InputError
from prefixsim.eviction import POLICIES, parse_policy

__all__ = [
    "ENTRY_POINTS",
    "Policy",
    "PolicySetting",
    "Segments",
    "check_labels",
    "read_policy",
    "register_policy",
    "unregister_policy",
]

ENTRY_POINTS = "prefixsim.policies"
"""Group of entry points under which packages offer policies: name to a :class:`Policy` class."""


@dataclass(frozen=True, eq=False)
class PolicySetting:
    """What a policy may know of a replay before it begins.

    Attributes
    ----------
    block_size : int
        Tokens of a block.
    capacity : int or None
        Blocks of the cache; ``None``: infinite.
    timestamp : ndarray of float64, shape (requests,)
        When each request arrived, in seconds.
    category : ndarray of uint32, shape (requests,), or None
        The number of each request's category.
    """

    block_size: int
    capacity: int | None
    timestamp: npt.NDArray[np.float64]
    category: npt.NDArray[np.uint32] | None


class Policy:
    """An order of eviction of your own, for the ideal cache. Derive from it.

    Write either :meth:`priority`, which gives keys to many segments at once, or :meth:`victim`,
    which names one block at a time. An object of the class then goes wherever ``policy=`` takes a
    name.

    Attributes
    ----------
    name : str
        What tables call it. Default: ``module:Class``, by which the command line finds it, with the
        attributes that are numbers, texts or switches.
    dynamic : bool
        When :meth:`priority` is asked. ``False``: before room is made, for the segments that were
        used since it was asked last; a key stays until its segment is used again, so it may not
        depend on the time. ``True``: before room is made, for every cached segment; a request costs
        what the cache holds.
    setting : PolicySetting
        Of the replay that runs.

    Notes
    -----
    What is guaranteed: each replay runs on a deep copy of the object, made before its first
    request, so that runs know nothing of each other; requests come in the order of the trace; only
    leaves go, so that what is cached is closed under ancestors, and never a block of the running
    request; of equal keys the segment used longest ago goes first, of a segment the deepest block.

    What a policy must do: give equal answers to equal questions. An exception in it ends the replay
    with an :class:`~prefixsim.InputError` that names the policy and the request.

    Examples
    --------
    Least frequently used, the oldest of equals first:

    >>> import prefixsim
    >>> class FewestUses(prefixsim.Policy):
    ...     name = "fewest-uses"
    ...     def priority(self, segments):
    ...         return segments.uses
    >>> trace = prefixsim.Trace.from_prompts([[1, 2], [1, 2], [3, 4], [5, 6], [1, 2]])
    >>> found = prefixsim.replay(
    ...     trace, engine="ideal", policy=FewestUses(), block_size=1, num_blocks=4
    ... )
    >>> found.outcome.hit_tokens.tolist()
    [0, 1, 0, 0, 1]
    """

    name: ClassVar[str] = ""
    dynamic: bool = False
    setting: PolicySetting

    def start(self) -> None:
        """Begin a replay: :attr:`setting` is there, nothing is cached."""

    def priority(self, segments: Segments) -> npt.ArrayLike:
        """Return a key for each segment; the leaf with the smallest goes first.

        Parameters
        ----------
        segments : Segments
            Columns; in no particular order.

        Returns
        -------
        array_like of float, shape (segments,)
            Numbers, infinite ones too.
        """
        raise NotImplementedError

    def victim(self, request: int, leaves: Set[int]) -> int:
        """Return the block to drop, while ``request`` runs.

        Parameters
        ----------
        request : int
            Row of the trace.
        leaves : set of int
            The blocks that may go. Only to be looked at.
        """
        raise NotImplementedError

    def on_hit(self, request: int, blocks: npt.NDArray[np.int64]) -> None:
        """Hear that a request found blocks, in the order of its path; with :meth:`victim` only.

        Two blocks have one number exactly if they and all before them are the same.
        """

    def on_insert(self, request: int, blocks: npt.NDArray[np.int64]) -> None:
        """Hear that blocks came in with a request; with :meth:`victim` only."""

    def on_evict(self, request: int, block: int) -> None:
        """Hear that a block was dropped while a request ran; with :meth:`victim` only."""

    @property
    def label(self) -> str:
        """What tables call it."""
        cls = type(self)
        shown = [
            f":{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in vars(self).items()
            if not key.startswith("_") and isinstance(value, bool | int | float | str)
        ]
        return (cls.name or f"{cls.__module__}:{cls.__qualname__}") + "".join(shown)

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<Policy {self.label}>"

    def _begin(
        self,
        block_size: int,
        capacity: int | None,
        timestamp: npt.NDArray[np.float64],
        category: npt.NDArray[np.uint32] | None,
    ) -> Adapter:
        """Return an adapter around a copy that has seen nothing; called by the core."""
        try:
            run = copy.deepcopy(self)
            run.setting = PolicySetting(block_size, capacity, timestamp, category)
            run.start()
        except Exception as error:
            msg = f"policy {self.label}, start: {type(error).__name__}: {error}"
            raise InputError(msg) from error
        if _writes(type(self), "victim"):
            return BlockAdapter(self.label, run.victim, run.on_hit, run.on_insert, run.on_evict)
        return KeyAdapter(self.label, "always" if self.dynamic else "after use", run.priority)


def _writes(cls: type[Policy], method: str) -> bool:
    return getattr(cls, method) is not getattr(Policy, method)


def _checked(policy: Policy) -> Policy:
    """Return a policy that has one way to say what goes first."""
    cls = type(policy)
    ways = [way for way in ("priority", "victim") if _writes(cls, way)]
    if len(ways) != 1:
        problem = "both priority and victim" if ways else "neither priority nor victim"
        msg = f"policy {policy.label}: it has {problem}, write one of them"
        raise InputError(msg)
    return policy


class _PolicyClass(type):
    """What a class of policies is an instance of, for the registry."""

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, type) and issubclass(found, Policy) and found is not Policy


class _Offered(metaclass=_PolicyClass):
    """A class derived from Policy."""


_Offered.__name__ = "Policy"
_REGISTRY: Registry[_Offered] = Registry(_Offered, "prefixsim.Policy", {}, ENTRY_POINTS)


def register_policy(name: str, policy: type[Policy]) -> type[Policy]:
    """Give a class of policies a name that ``policy=`` and ``--policy`` take.

    Parameters
    ----------
    name : str
        Lower-case words joined by hyphens. Parameters behind it, as ``name:key=value``, are given
        to the class as keyword arguments.
    policy : type
        Derived from :class:`Policy`.

    Raises
    ------
    InputError
        If the name is taken or unusable, or it is no such class.
    """
    if not isinstance(policy, _Offered):
        msg = f"policy {name!r}: {policy!r} is no class derived from prefixsim.Policy"
        raise InputError(msg)
    if name in POLICIES:
        msg = f"policy {name!r} is there already, give it another name"
        raise InputError(msg)
    _REGISTRY.check_name(name)
    _REGISTRY.add(name, policy)
    return policy


def unregister_policy(name: str) -> None:
    """Take a policy away that :func:`register_policy` added."""
    _REGISTRY.remove(name)


def read_policy(value: object) -> str | Policy:
    """Return a policy as the engines take it: one of ours by name, or an object of your own.

    Parameters
    ----------
    value : str or Policy
        A name of ours, a registered one, or ``module:Class``, which is imported; each may have
        parameters as ``:key=value``.

    Raises
    ------
    InputError
        If there is no such policy, or it cannot be made.

    Examples
    --------
    >>> read_policy("s3fifo:threshold=2")
    's3fifo'
    """
    if isinstance(value, Policy):
        return _checked(value)
    text = str(value)
    name, *rest = text.split(":")
    if isinstance(value, str) and name not in POLICIES:
        if rest and "=" not in rest[0]:
            return _made(_imported(name, rest[0]), text, rest[1:])
        if not _REGISTRY.knows(name):
            for offered, cls in _REGISTRY.named_offers():
                register_policy(offered, cast("type[Policy]", cls))
        if _REGISTRY.knows(name):
            return _made(cast("type[Policy]", _REGISTRY.get(name)), text, rest)
    try:
        return parse_policy(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _imported(module: str, attribute: str) -> type[Policy]:
    """Return a class of an importable module, one in the working directory included."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        msg = f"policy {module}:{attribute} cannot be loaded: {type(error).__name__}: {error}"
        raise InputError(msg) from error
    finally:
        if added:
            sys.path.remove(here)
    if not isinstance(found, _Offered):
        msg = f"policy {module}:{attribute}: it is no class derived from prefixsim.Policy"
        raise InputError(msg)
    return cast("type[Policy]", found)


def _made(cls: type[Policy], text: str, parts: list[str]) -> Policy:
    given = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            msg = f"policy {text!r}: give parameters as key=value, not {part!r}"
            raise InputError(msg)
        given[key] = _literal(value)
    try:
        return _checked(cls(**given))
    except InputError:
        raise
    except Exception as error:
        msg = f"policy {text!r}: {type(error).__name__}: {error}"
        raise InputError(msg) from error


def _literal(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def check_labels(policies: Iterable[object]) -> None:
    """Refuse two policies of one name, which a table could not tell apart.

    Raises
    ------
    InputError
        Naming them.
    """
    known: dict[str, object] = {}
    for policy in policies:
        if isinstance(policy, Policy) and known.setdefault(policy.label, policy) is not policy:
            msg = f"policy {policy.label}: two are called so, give each a name of its own"
            raise InputError(msg)
