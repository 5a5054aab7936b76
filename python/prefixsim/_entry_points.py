"""What other installed packages offer under an entry point group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from prefixsim.errors import InputError

__all__ = ["offered"]

T = TypeVar("T")


def offered(group: str, kind: type[T], public_name: str) -> Iterator[T]:
    """Load what packages offer under a group; each must be of a kind.

    Parameters
    ----------
    group : str
        ``prefixsim.engines`` and the like.
    kind : type
    public_name : str
        Of the kind, for messages: ``prefixsim.engines.Engine``.

    Raises
    ------
    InputError
        If one cannot be loaded or used.
    """
    from importlib import metadata  # noqa: PLC0415 - slow to load, and seldom needed

    word = kind.__name__.lower()
    for point in metadata.entry_points(group=group):
        try:
            item = point.load()
        except Exception as error:
            msg = f"{word} {point.name!r} of {point.value} cannot be loaded: {error}"
            raise InputError(msg) from error
        if not isinstance(item, kind):
            msg = f"{word} {point.name!r}: {point.value} is no {public_name}"
            raise InputError(msg)
        yield item
