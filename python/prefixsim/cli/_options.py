"""What was typed, as dataclasses: a command's options, and a choice of engines with theirs.

A command is a frozen dataclass of options, put together from bundles by inheritance, and a function
that takes one. A command that takes an engine also gets every option of every engine, from the
engines' own declarations; see :mod:`prefixsim.settings`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefixsim._json import JsonFields, JsonObject
from prefixsim.cli._parser import (
    REQUIRED,
    Command,
    engine_options,
    parser_of,
    records_known,
    router_options,
)
from prefixsim.engines import Engine, discover, engine_names, first_engine, why_refused
from prefixsim.errors import InputError
from prefixsim.settings import Option, nearest, options_of

__all__ = [
    "REQUIRED",
    "Command",
    "EngineChoice",
    "Parsed",
    "as_typed",
    "comma_list",
    "parse",
    "parser_of",
    "usage_error",
]


@dataclass(frozen=True)
class EngineChoice:
    """The engines and engine options that were typed.

    Attributes
    ----------
    names : list of str
        After ``--engine``; empty if nothing was.
    given : dict
        Option name to value; for commands that take several, to the list of values.
    records : dict of str to Path
        Record name to the file it is to be written to.
    typed : dict of str to str
        Option name to how it was typed, for messages.
    routed : dict of str to list
        Option of routers to the list of values.
    """

    names: list[str] = field(default_factory=list)
    given: JsonObject = field(default_factory=dict)
    records: dict[str, Path] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    routed: dict[str, list[object]] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """The one engine; ``None``: the one that has the options given."""
        return self.names[0] if self.names else None


Parsed = tuple[object, EngineChoice]


def usage_error(command: str, problem: str) -> InputError:
    """Return an error that ends with where to look."""
    return InputError(f"{problem} (see 'prefixsim {command} --help')")


def parse(command: Command, args: Sequence[str]) -> Parsed:
    """Read a command's arguments.

    Raises
    ------
    InputError
        If something is unknown, missing or unusable; the option is named as it was typed.
    """
    only = [first_engine()] if command.engines == "one" else None
    values = None if only is None else _read_with(command, args, only)
    if values is None:
        only = None
        values = _read_with_all(command, args)
    own = _own(command, values)
    choice = EngineChoice() if command.engines == "none" else _choice(command, values, only)
    return own, choice


def _read_with(command: Command, args: Sequence[str], only: Sequence[Engine]) -> JsonObject | None:
    """Read arguments that need no other engines; ``None`` where some may be meant for others.

    Most commands are typed without options of engines: then one engine is loaded, not all.
    """
    try:
        namespace, rest = parser_of(command, only=only).parse_known_intermixed_args(list(args))
    except InputError:
        return None
    values = vars(namespace)
    return None if rest or values.get("engine") else values


def _read_with_all(command: Command, args: Sequence[str]) -> JsonObject:
    if command.engines != "none" and _may_be_elsewhere(args):
        discover()
    parser = parser_of(command)
    try:
        namespace, rest = parser.parse_known_intermixed_args(list(args))
    except InputError as error:
        raise usage_error(command.name, str(error)) from None
    if rest:
        raise usage_error(command.name, _unknown(rest[0], parser, command))
    return vars(namespace)


def comma_list(text: object) -> list[str]:
    """Return the items of a list as it is typed: ``a, b,c``."""
    return [part.strip() for part in str(text).split(",")]


def _may_be_elsewhere(args: Sequence[str]) -> bool:
    """Whether engines of other packages may be meant: one is named that is not ours, or all are."""
    if "-h" in args or "--help" in args:
        return True
    for before, arg in zip(["", *args], args, strict=False):
        name = arg if before == "--engine" else arg.removeprefix("--engine=")
        if (before == "--engine" or name != arg) and any(
            part not in engine_names() for part in comma_list(name)
        ):
            return True
    return False


def _unknown(text: str, parser: argparse.ArgumentParser, command: Command) -> str:
    flag = text.split("=", maxsplit=1)[0]
    if not flag.startswith("-"):
        return f"{text}: one argument too many"
    if command.engines != "none":
        name = flag.lstrip("-").replace("-", "_")
        reason = why_refused(name) or why_refused(name.removeprefix("no_"))
        if reason is not None:
            return f"{flag}: {reason.partition(': ')[2]}"
    known = [s for action in parser._actions for s in action.option_strings]
    close = nearest(flag, known)
    hint = f", did you mean {close}?" if close else ""
    return f"'prefixsim {command.name}' has no option {flag}{hint}"


def _own(command: Command, values: JsonFields) -> object:
    given: JsonObject = {}
    for option in options_of(command.options):
        kept = values.get(option.name)
        if option.positional:
            given[option.name] = _argument(command, option, kept or [])
        elif kept:
            read = [_value(flag, option, text) for flag, text in kept]
            given[option.name] = tuple(read) if option.many else read[-1]
    return command.options(**given)


def _argument(command: Command, option: Option, texts: Sequence[str]) -> object:
    read = [option.kind(text) if option.kind in (Path, str) else text for text in texts]
    if not read and option.default is REQUIRED:
        raise usage_error(command.name, f"no {option.metavar.rstrip('.')} given")
    if option.many:
        return tuple(read)
    if len(read) > 1:
        raise usage_error(command.name, f"{texts[1]}: one {option.metavar} is enough")
    return read[0] if read else option.default


def _value(flag: str, option: Option, text: str) -> object:
    if option.kind is bool and flag == option.off:
        return False
    try:
        return option.parse(text)
    except ValueError as error:
        msg = f"{flag} {text}: {error}"
        raise InputError(msg) from None


def _choice(command: Command, values: JsonFields, only: Sequence[Engine] | None) -> EngineChoice:
    many = command.engines == "many"
    names: list[str] = []
    for _, text in values.get("engine") or []:
        names += comma_list(text) if many else [text.strip()]
    given: JsonObject = {}
    typed: dict[str, str] = {}
    own = {option.name for option in options_of(command.options)}
    for shown in engine_options(only):
        option = shown.option
        kept = values.get(option.name)
        if not kept or option.name in own:
            continue
        typed[option.name] = f"{kept[-1][0]} {kept[-1][1]}"
        if many:
            texts = [
                (flag, part.strip())
                for flag, text in kept
                for part in str(text).split(option.separator)
            ]
            given[option.name] = [_value(flag, option, part) for flag, part in texts]
        else:
            given[option.name] = _value(kept[-1][0], option, kept[-1][1])
    records = {}
    for _, record in records_known(only):
        kept = values.get(f"record {record.name}")
        if kept:
            records[record.name] = Path(kept[-1][1])
            typed[record.name] = f"{kept[-1][0]} {kept[-1][1]}"
    routed = {}
    for shown in router_options() if command.routers else ():
        kept = values.get(shown.option.name) or []
        parts = [(flag, part) for flag, text in kept for part in comma_list(text)]
        if parts:
            routed[shown.option.name] = [_value(flag, shown.option, p) for flag, p in parts]
    return EngineChoice(names, given, records, typed, routed)


def as_typed(message: str) -> str:
    """Return a message about settings with their names as the command line has them."""
    for shown in [*engine_options(), *router_options()]:
        name, flag = shown.option.name, shown.option.flags[0]
        if "_" in name:
            message = re.sub(rf"(?<![\w-]){name}\b", flag, message)
        else:
            message = re.sub(rf"(?<![\w-]){name}(?==| is )", flag, message)
    return message
