"""Parsers made of declarations: a command's own options, and those of every engine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, Record, engines
from prefixsim.engines.contract import EngineSettings
from prefixsim.errors import InputError
from prefixsim.settings import Option, options_of

__all__ = [
    "REQUIRED",
    "Command",
    "engine_options",
    "parser_of",
    "records_known",
    "router_options",
]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()
"""Default of an argument that has to be given."""

Engines = Literal["none", "one", "many"]
_SEPARATORS = {",": "commas", ";": "semicolons"}


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    name : str
    summary : str
        What it does, in a sentence.
    options : type
        Dataclass of its options.
    run : callable
        Takes an instance, and an :class:`EngineChoice` if ``engines`` is not ``none``.
    engines : {"none", "one", "many"}
        Whether it takes an engine and its options, once or as lists of values.
    routers : bool
        Whether it takes the options of routers, as lists of values.
    """

    name: str
    summary: str
    options: type
    run: Callable[..., None]
    engines: Engines = "none"
    routers: bool = False


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`InputError`."""

    def error(self, message: str) -> NoReturn:
        # 'argument --num-blocks: expected one argument' -> '--num-blocks: expected one argument'
        raise InputError(message.removeprefix("argument "))


class _Typed(argparse.Action):
    """Keeps each option's text as it was typed, and how it was spelled."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        kept = getattr(namespace, self.dest, None) or []
        text = self.const if values is None or values == [] else values
        setattr(namespace, self.dest, [*kept, (option_string, text)])


@dataclass(frozen=True)
class _Shown:
    """An option of one or several engines, and the panel of the help it is in."""

    option: Option
    panel: str


def _panel(cls: type) -> str:
    return str(vars(cls).get("PANEL") or (cls.__doc__ or cls.__name__).split("\n")[0].rstrip("."))


def engine_options(only: Sequence[Engine] | None = None) -> list[_Shown]:
    """Every option of every engine, or of a few, once: those that all have first."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for engine in _engines(only):
        for option in options_of(engine.settings):
            found.setdefault(option.name, (option, []))[1].append(engine.name)
    common = {option.name for option in options_of(EngineSettings)}
    shown = []
    for name, (option, owners) in found.items():
        if name in common:
            panel = "Cache"
        else:
            panel = f"Engine {' and '.join(owners)}" if len(owners) < 3 else "Several engines"
        shown.append(_Shown(option, panel))
    return shown


def router_options() -> list[_Shown]:
    """Every option of every router once."""
    from prefixsim.routing import routers

    found: dict[str, tuple[Option, list[str]]] = {}
    for router in routers().values():
        for option in options_of(router.settings):
            found.setdefault(option.name, (option, []))[1].append(router.name)
    return [
        _Shown(option, f"Router {' and '.join(owners)}" if len(owners) < 3 else "Several routers")
        for option, owners in found.values()
    ]


def records_known(only: Sequence[Engine] | None = None) -> list[tuple[Engine, Record]]:
    return [(e, record) for e in _engines(only) for record in e.capabilities.records]


def _engines(only: Sequence[Engine] | None) -> Sequence[Engine]:
    return list(engines().values()) if only is None else only


def _help(option: Option, many: bool) -> str:
    words = option.help
    if option.choices is not None:
        words = f"{words.rstrip('.')}: {', '.join(option.choices)}."
    if many and option.kind is not bool:
        words += f" Several with {_SEPARATORS[option.separator]}."
    default = option.default_words
    if default and not option.positional:
        words += f" Default: {default}."
    if option.since:
        words += f" Since {option.since}."
    return words.replace("%", "%%")


def _metavar(option: Option, many: bool) -> str:
    name = option.metavar or (option.unit.upper() if option.unit else "")
    if not name:
        name = {int: "N", float: "X", Path: "FILE"}.get(option.kind, "NAME")
    return f"{name}{option.separator}..." if many else name


def _add(group: argparse._ArgumentGroup, option: Option, *, many: bool = False) -> None:
    shown, hidden = option.flags[:1], option.flags[1:]
    if option.kind is bool:
        flags = [*shown, *([option.off] if option.off and _can_be_off(option, many) else [])]
        _add_switch(group, option, flags, many)
        if hidden:
            _add_switch(group, option, list(hidden), many, hide=True)
        return
    metavar = _metavar(option, many)
    short = [flag for flag in option.flags if not flag.startswith("--")]
    long = [flag for flag in option.flags if flag.startswith("--")]
    group.add_argument(
        *short, long[0], dest=option.name, action=_Typed, metavar=metavar, help=_help(option, many)
    )
    if long[1:]:
        group.add_argument(*long[1:], dest=option.name, action=_Typed, help=argparse.SUPPRESS)


def _can_be_off(option: Option, many: bool) -> bool:
    """Tell whether there is a way to switch it off: not where it is off and means nothing else."""
    return many or option.default is not False or not option.off.startswith("--no-")


def _add_switch(
    group: argparse._ArgumentGroup,
    option: Option,
    flags: Sequence[str],
    many: bool,
    *,
    hide: bool = False,
) -> None:
    words = argparse.SUPPRESS if hide else _help(option, many)
    kept: JsonObject = {"dest": option.name, "action": _Typed, "const": "on"}
    if not many:
        group.add_argument(*flags, nargs=0, help=words, **kept)
        return
    on = [flag for flag in flags if flag != option.off]
    group.add_argument(*on, nargs="?", metavar="on,off", help=words, **kept)
    if option.off in flags:
        group.add_argument(option.off, nargs=0, help=argparse.SUPPRESS, **kept)


def parser_of(
    command: Command,
    parent: argparse._SubParsersAction[argparse.ArgumentParser] | None = None,
    *,
    only: Sequence[Engine] | None = None,
) -> argparse.ArgumentParser:
    """Return the parser of a command, which knows the options of all engines or of a few.

    ``parent`` is a sub-parsers action to add it to.
    """
    settings: JsonObject = {
        "description": command.summary,
        "formatter_class": _Formatter,
        "allow_abbrev": False,
        "add_help": False,
    }
    parser: argparse.ArgumentParser
    if parent is None:
        parser = _Parser(prog=f"prefixsim {command.name}", **settings)
    else:
        parser = parent.add_parser(command.name, help=command.summary, **settings)
    options = options_of(command.options)
    for option in options:
        if option.positional:
            words = _help(option, False)
            parser.add_argument(option.name, metavar=option.metavar, nargs="*", help=words)
    groups: dict[str, argparse._ArgumentGroup] = {}

    def group(panel: str) -> argparse._ArgumentGroup:
        return (
            groups.setdefault(panel, parser.add_argument_group(panel))
            if (panel not in groups)
            else groups[panel]
        )

    own = [o for o in options if not o.positional]
    for option in own:
        if option.owner is command.options:
            _add(group("Options"), option)
    many = command.engines == "many"
    if command.engines != "none":
        _add_engines(group, many, only)
    for shown in router_options() if command.routers else ():
        _add(group(shown.panel), shown.option, many=True)
    for option in own:
        if option.owner is not command.options:
            _add(group(_panel(option.owner)), option)
    group("Help").add_argument("-h", "--help", action="help", help="Show this and leave.")
    return parser


def _add_engines(
    group: Callable[[str], Any], many: bool, only: Sequence[Engine] | None = None
) -> None:
    """Add the choice of an engine, and every option and record of every engine, or of a few."""
    group("Engine").add_argument(
        "--engine",
        dest="engine",
        action=_Typed,
        metavar="NAME,..." if many else "NAME",
        help=_engine_help(many, only),
    )
    for shown in engine_options(only):
        _add(group(shown.panel), shown.option, many=many)
    if many:
        return
    for engine, record in records_known(only):
        group(f"Engine {engine.name}").add_argument(
            record.flag, dest=f"record {record.name}", action=_Typed, metavar="FILE",
            help=record.help,
        )  # fmt: skip


def _engine_help(many: bool, only: Sequence[Engine] | None) -> str:
    words = "; ".join(f"'{e.name}': {e.title}" for e in _engines(only))
    default = "" if many else " Default: the first that has the options given."
    return f"{words}.{' Several with commas.' if many else default}".replace("%", "%%")


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal, up to 100 columns, without the list of all options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)
        self._width = min(self._width, 100)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        positionals = [a for a in actions if not a.option_strings]
        names = " ".join(str(a.metavar or a.dest) for a in positionals)
        super().add_usage(f"%(prog)s {names} [OPTIONS]".replace("  ", " "), [], groups, "Usage: ")

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {metavar}"
