"""Settings: frozen dataclasses whose fields say everything that is known of an option.

An engine, a policy, a router and a command each declare one such dataclass. Keyword arguments and
their errors, options of the command line, JSON schema and the tables of the documentation are made
from it, so that each option is stated once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from prefixsim.errors import InputError, SettingError

if TYPE_CHECKING:
    from prefixsim._json import JsonObject

__all__ = [
    "Option",
    "argument",
    "build",
    "markdown",
    "nearest",
    "option_named",
    "options_of",
    "schema",
    "setting",
]

_KEY = "prefixsim"
_KINDS: dict[type, str] = {bool: "on or off", int: "a whole number", float: "a number"}
_SCHEMA_TYPES = {bool: "boolean", int: "integer", float: "number"}
_SWITCHES = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One declared setting.

    Attributes
    ----------
    name : str
        The keyword argument, and the key in JSON.
    kind : type
        ``bool``, ``int``, ``float``, ``str``, ``Path``, or a type of its own with ``read``.
    default : object
    help : str
        One sentence.
    optional : bool
        ``None`` is a value.
    unit : str
        Of numbers: ``tokens``, ``blocks``, ``s``...
    choices : tuple of str, optional
        The values there are.
    parameters : bool
        A choice may carry parameters, as ``name:key=value``.
    least, most, below : float, optional
        Bounds of a number, the last one excluded itself.
    since : str
        Version of the server that has the option first.
    flags : tuple of str
        On the command line; the first is shown, the others are accepted.
    off : str
        The flag that switches a ``bool`` off.
    read : callable, optional
        Turns text, or what else a caller may give, into the value.
    none : str
        Text that stands for ``None``.
    shown_default : str
        The default in words, where its value does not say it.
    many : bool
        May be given several times; the value is a tuple.
    separator : str
        Between several values on a command line.
    positional : bool
        An argument of a command, not an option.
    owner : type
        The dataclass that declares it.
    """

    name: str
    kind: type
    default: object
    help: str
    optional: bool = False
    unit: str = ""
    choices: tuple[str, ...] | None = None
    parameters: bool = False
    least: float | None = None
    most: float | None = None
    below: float | None = None
    since: str = ""
    flags: tuple[str, ...] = ()
    off: str = ""
    metavar: str = ""
    read: Callable[[object], object] | None = None
    none: str = ""
    shown_default: str = ""
    many: bool = False
    separator: str = ","
    positional: bool = False
    owner: type = object

    def parse(self, text: str) -> object:
        """Return the value that text on a command line stands for.

        Raises
        ------
        ValueError
            With the problem in words.
        """
        text = text.strip()
        if self.optional and self.none and text.lower() == self.none:
            return None
        if self.read is not None:
            return self.checked(self.read(text))
        if self.kind is bool:
            if text.lower() not in _SWITCHES:
                raise ValueError(self._wanted())
            return _SWITCHES[text.lower()]
        if self.kind in (int, float):
            try:
                value = self.kind(text.replace("_", ""))
            except ValueError:
                raise ValueError(self._wanted()) from None
            return self.checked(value)
        return self.checked(Path(text) if self.kind is Path else text)

    def check(self, value: object) -> object:
        """Return a value that a caller gave, checked and in the option's own type.

        Raises
        ------
        ValueError
            With the problem in words.
        """
        if value is None and self.optional:
            return None
        if self.many:
            return tuple(value) if isinstance(value, Iterable) else (value,)
        if self.read is not None:
            return self.checked(self.read(value))
        if self.kind is Path and isinstance(value, str):
            return Path(value)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("must fit 64 bits")
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.kind is int and not isinstance(value, int) and hasattr(value, "__index__"):
            value = int(value)  # NumPy's integers
        wrong = not isinstance(value, self.kind) or (
            isinstance(value, bool) and self.kind is not bool
        )
        if wrong:
            raise ValueError(self._wanted())
        return self.checked(value)

    def checked(self, value: object) -> object:
        """Return the value if it is within the bounds and one of the choices."""
        choice = value.partition(":")[0] if self.parameters and isinstance(value, str) else value
        if self.choices and isinstance(choice, self.kind) and choice not in self.choices:
            raise ValueError(f"choose one of {', '.join(self.choices)}{_hint(value, self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not value == value:  # noqa: PLR0124 - not a number
                raise ValueError(self._wanted())
            if self.least is not None and value < self.least:
                raise ValueError(f"must be at least {self.least:,}")
            if self.most is not None and value > self.most:
                raise ValueError(f"must be at most {self.most:,}")
            if self.below is not None and value >= self.below:
                raise ValueError(f"must be below {self.below:,}")
        return value

    def _wanted(self) -> str:
        what = _KINDS.get(self.kind, "text")
        unit = f" of {self.unit}" if self.unit and self.kind is int else ""
        none = f", or '{self.none}'" if self.none else ""
        return f"give {what}{unit}{none}"

    @property
    def default_words(self) -> str:
        """The default as documentation shows it; empty if there is none worth saying."""
        if self.shown_default:
            return self.shown_default
        if self.default is None:
            return self.none
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return "" if self.default == () else str(self.default)


def setting(
    default: T,
    *,
    help: str,  # noqa: A002 - the word everybody uses
    unit: str = "",
    choices: Sequence[str] | None = None,
    parameters: bool = False,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    since: str = "",
    flag: str | Sequence[str] = (),
    off: str = "",
    metavar: str = "",
    read: Callable[[object], object] | None = None,
    none: str = "",
    shown_default: str = "",
    many: bool = False,
    separator: str = ",",
) -> T:
    """Declare a field of a dataclass of settings; see :class:`Option` for the words.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Toy:
    ...     ways: int = setting(4, help="Blocks of a set.", unit="blocks", least=1)
    >>> build(Toy, {"ways": 8}).ways
    8
    """
    flags = (flag,) if isinstance(flag, str) else tuple(flag)
    about = {
        "help": help, "unit": unit, "since": since, "off": off, "metavar": metavar, "none": none,
        "least": least, "most": most, "below": below, "read": read, "many": many,
        "choices": None if choices is None else tuple(choices), "flags": flags,
        "shown_default": shown_default, "separator": separator, "parameters": parameters,
    }  # fmt: skip
    return field(default=default, metadata={_KEY: about})


def argument(default: T, *, help: str, metavar: str, many: bool = False) -> T:  # noqa: A002
    """Declare an argument of a command, which has a place and no name."""
    about = {"help": help, "metavar": metavar, "many": many, "positional": True}
    return field(default=default, metadata={_KEY: about})


def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options a dataclass declares, in order.

    Raises
    ------
    InputError
        If it is no frozen dataclass, or an option has no default or a type that nothing can read.
    """
    if cls not in _declared:
        _declared[cls] = _options_of(cls)
    return _declared[cls]


_declared: dict[type, tuple[Option, ...]] = {}


def _options_of(cls: type) -> tuple[Option, ...]:
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        msg = f"{cls.__name__}: settings are a frozen dataclass, write @dataclass(frozen=True)"
        raise InputError(msg)
    hints = get_type_hints(cls)
    options = []
    for f in dataclasses.fields(cls):
        about = f.metadata.get(_KEY)
        if about is None:
            if f.default is MISSING and f.default_factory is MISSING and f.init:
                msg = f"{cls.__name__}.{f.name}: give it a default, and setting(help=...) an option"
                raise InputError(msg)
            continue
        kind, optional, choices = _kind_of(hints[f.name])
        usable = (bool, int, float, str, Path)
        if kind not in usable and about.get("read") is None and not about["many"]:
            names = ", ".join(k.__name__ for k in usable)
            msg = f"{cls.__name__}.{f.name}: {kind.__name__} needs read=..., or use {names}"
            raise InputError(msg)
        given = dict(about)
        given["choices"] = about.get("choices") or choices
        if not given.get("flags") and not given.get("positional"):
            given["flags"] = (f"--{f.name.replace('_', '-')}",)
        if kind is bool and not given.get("off"):
            given["off"] = f"--no-{given['flags'][0].removeprefix('--')}"
        owner = next(
            c for c in reversed(cls.__mro__) if f.name in vars(c).get("__annotations__", {})
        )
        options.append(Option(f.name, kind, f.default, optional=optional, owner=owner, **given))
    return tuple(options)


def option_named(cls: type, name: str) -> Option | None:
    """Return one option of a dataclass."""
    return next((o for o in options_of(cls) if o.name == name), None)


def _kind_of(hint: object) -> tuple[type, bool, tuple[str, ...] | None]:
    """Return type, whether ``None`` is allowed, and the choices of a ``Literal``."""
    optional = False
    if get_origin(hint) in (Union, UnionType):
        parts = [part for part in get_args(hint) if part is not NoneType]
        optional = len(parts) < len(get_args(hint))
        hint = parts[0]
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return type(values[0]), optional, tuple(values)
    if get_origin(hint) in (tuple, list):
        hint = get_args(hint)[0]
    return hint if isinstance(hint, type) else object, optional, None


def build(cls: type[T], values: Mapping[str, object], *, owner: str = "") -> T:
    """Make settings of keyword arguments.

    Parameters
    ----------
    cls : type
        A dataclass of settings.
    values : mapping
        By name.
    owner : str, optional
        What they are settings of, for messages: ``engine 'vllm'``.

    Raises
    ------
    InputError
        If a name is unknown or a value is not usable.
    """
    known = {option.name: option for option in options_of(cls)}
    plain = {f.name for f in dataclasses.fields(cls)} - known.keys()  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name in plain:
            checked[name] = value
            continue
        option = known.get(name)
        if option is None:
            what = owner or cls.__name__
            choices = f"it knows {', '.join(known)}" if known else "it has none of its own"
            msg = f"{what} has no option {name!r}{_hint(name, known)}: {choices}"
            raise SettingError(msg)
        try:
            checked[name] = option.check(value)
        except ValueError as error:
            msg = f"{name} is {value!r}, {_sentence(str(error))}"
            raise SettingError(msg) from None
    return cls(**checked)


def _sentence(problem: str) -> str:
    return f"it {problem}" if problem.startswith("must ") else problem


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """Return the choice that a mistyped word most likely means."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(str(word), list(choices), 1, 0.6)), None)


def _hint(word: object, choices: Sequence[str] | Mapping[str, object]) -> str:
    close = nearest(str(word), list(choices))
    return f" (did you mean {close}?)" if close else ""


def markdown(options: Sequence[Option]) -> str:
    """Return options as a table in Markdown: name, flag, meaning, default."""
    lines = ["| setting | on the command line | what it is | default |", "|---|---|---|---|"]
    for option in options:
        values = f" One of {', '.join(option.choices)}." if option.choices else ""
        unit = f" ({option.unit})" if option.unit else ""
        since = f" Since {option.since}." if option.since else ""
        flags = f"`{option.flags[0]}`" + (f", `{option.off}`" if option.kind is bool else "")
        words = f"{option.help.rstrip('.')}.{values}{since}".replace("|", "\\|")
        lines.append(f"| `{option.name}`{unit} | {flags} | {words} | {option.default_words} |")
    return "\n".join(lines) + "\n"


def schema(cls: type) -> JsonObject:
    """Return the JSON schema of a dataclass of settings."""
    properties = {}
    for option in options_of(cls):
        kind = _SCHEMA_TYPES.get(option.kind, "string")
        entry: JsonObject = {
            "type": [kind, "null"] if option.optional else kind,
            "description": option.help,
        }
        if option.choices is not None and not option.parameters:
            entry["enum"] = [*option.choices, *([None] if option.optional else [])]
        bounds = {
            "minimum": option.least,
            "maximum": option.most,
            "exclusiveMaximum": option.below,
        }
        entry |= {key: bound for key, bound in bounds.items() if bound is not None}
        if isinstance(option.default, str | int | float | None):
            entry["default"] = option.default
        if option.unit:
            entry["unit"] = option.unit
        properties[option.name] = entry
    return {"type": "object", "properties": properties, "additionalProperties": False}
