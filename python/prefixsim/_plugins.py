"""What is known by name: our own, what callers register, what installed packages offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from prefixsim.errors import InputError
from prefixsim.settings import nearest

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind by name, as engines and routers are.

    Parameters
    ----------
    kind : type
        Its name in lower case is what messages call one.
    public_name : str
        Of the kind, for messages: ``prefixsim.engines.Engine``.
    built_in : mapping of str to str
        Ours: name to ``module:attribute``, imported when asked for.
    group : str
        Of the entry points under which packages offer more.
    aliases : mapping of str to str, optional
        Other names of ours.
    """

    def __init__(
        self,
        kind: type[T],
        public_name: str,
        built_in: Mapping[str, str],
        group: str,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.public_name = public_name
        self.built_in = built_in
        self.group = group
        self.aliases = aliases or {}
        self._word = kind.__name__.lower()
        self._registered: dict[str, T] = {}
        self._discovered = False

    def check_name(self, name: str) -> None:
        """Raise :class:`InputError` if a name is taken or unusable."""
        if not name or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
            msg = f"{self._word} {name!r}: a name is lower-case words joined by hyphens"
            raise InputError(msg)
        if name in self.built_in or name in self.aliases or name in self._registered:
            msg = f"{self._word} {name!r} is there already, give it another name"
            raise InputError(msg)

    def add(self, name: str, item: T) -> None:
        """Add one whose name :meth:`check_name` has let pass."""
        self._registered[name] = item

    def remove(self, name: str) -> None:
        """Take one away that :meth:`add` added."""
        self._registered.pop(name, None)

    def offers(self) -> Iterator[T]:
        """Load what installed packages offer, once; nothing when asked again.

        Raises
        ------
        InputError
            If one cannot be loaded or used.
        """
        for _, item in self.named_offers():
            yield item

    def named_offers(self) -> Iterator[tuple[str, T]]:
        """As :meth:`offers`, each with the name of its entry point."""
        if not self._discovered:
            self._discovered = True
            yield from _offered(self.group, self.kind, self.public_name)

    def names(self) -> list[str]:
        """Return the names, ours first."""
        return [*self.built_in, *self._registered]

    def all(self) -> dict[str, T]:
        """Return all by name, ours first."""
        return {**{name: self._built_in(name) for name in self.built_in}, **self._registered}

    def knows(self, name: str) -> bool:
        """Whether there is one of this name so far."""
        return name in self.built_in or name in self._registered

    def get(self, name: str) -> T:
        """Return one by name.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        if name in self._registered:
            return self._registered[name]
        if name not in self.built_in:
            close = nearest(name, self.names())
            hint = f" (did you mean {close}?)" if close else ""
            msg = f"unknown {self._word} {name!r}{hint}, choose one of {', '.join(self.names())}"
            raise InputError(msg)
        return self._built_in(name)

    def _built_in(self, name: str) -> T:
        module, _, attribute = self.built_in[name].partition(":")
        item: T = getattr(import_module(module), attribute)
        return item


def _offered(group: str, kind: type[T], public_name: str) -> Iterator[tuple[str, T]]:
    """Load what packages offer under a group, with its name; each must be of a kind.

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
        yield point.name, item
