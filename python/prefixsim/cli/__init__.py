"""The command line: one module per command, one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from prefixsim import __version__
from prefixsim._printable import printable
from prefixsim.cli._streams import reserve_closed
from prefixsim.errors import InputError, PrefixsimError, SettingError
from prefixsim.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefixsim.cli._options import Command

__all__ = ["COMMANDS", "main", "run"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "demo": "Show what a prefix cache does for chat, on synthetic chats.",
    "trace": "Turn chat data into a single-turn and a multi-turn trace.",
    "generate": "Write a synthetic trace, streamed: memory does not grow with its size.",
    "replay": "Replay traces through a simulated prefix cache: hit rates, sharing, reuse.",
    "compile": "Compile a trace ahead; other commands find it with the same --cache-dir.",
    "curve": "Hit rates of a cache of every size, exactly: LRU, and the best any policy could do.",
    "sweep": "Replay every combination of engines and their options, on all cores.",
    "explain": "Tell where every missed prompt token went, and what would recover it.",
    "lint": "Find what in the prompts keeps prefixes from being shared.",
    "report": "Write an HTML page to pass around: figures, losses and what would recover them.",
    "fleet": "Route a trace over replicas: hits, balance and what routing costs, router by router.",
    "plan": "Plan servers for a trace and a model: GPUs, replicas, memory, routers and costs.",
    "bill": "Tell what API providers would charge for a trace, with prompt caching and without.",
    "compare": "Compare servers and settings: every combination of the values given.",
    "reorder": "Put an offline batch in the order that shares most, and measure the gain.",
    "bounds": "Bound what reuse at any place could find, beside what prefixes give.",
    "info": "Say what is in a trace: requests, sessions, lengths, rate, and its ceiling hit rate.",
    "record": "Record a server's calls, KV events and counters, as a proxy in front of it.",
    "validate": "Compare a recorded server's cached tokens with a replay of what it was asked.",
    "convert": "Convert, slice, merge, rescale, sample, isolate or anonymize traces.",
}
"""Commands in the order of the help, each in the module of its name."""

_ABOUT = "What would a prefix cache do for my traffic? Exact simulation of LLM prefix caches."
_SHELLS = ("bash", "zsh", "tcsh")


def command(name: str) -> Command:
    """Import a command's module and return its declaration."""
    declared: Command = import_module(f"prefixsim.cli.{name}").COMMAND
    return declared


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Bad input is one line on standard error and code 2; Ctrl-C is code 130.
    """
    try:
        code = _run(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if BrokenPipeError in (type(error), type(error.__context__)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        described = _describe(error)
        if described is None:
            raise
        return _fail(*described)
    return code


def _run(args: list[str]) -> int:
    if not args:
        sys.stdout.write(_help())
        return EXIT_BAD_INPUT
    first = args[0]
    if first in ("-h", "--help"):
        sys.stdout.write(_help())
    elif first == "--version":
        sys.stdout.write(f"prefixsim {__version__}\n")
    elif first == "--print-completion":
        sys.stdout.write(_completion(args[1] if len(args) > 1 else ""))
    elif first in COMMANDS:
        return _call(command(first), args[1:])
    else:
        kind = "option" if first.startswith("-") else "command"
        close = nearest(first, [*COMMANDS, "--version", "--help", "--print-completion"])
        hint = f", did you mean {close}?" if close else ""
        msg = f"no {kind} {first!r}{hint} (see 'prefixsim --help')"
        raise InputError(msg)
    return 0


def _call(called: Command, args: list[str]) -> int:
    from prefixsim.cli._options import REQUIRED, parse, parser_of
    from prefixsim.settings import options_of
    from prefixsim.text.remote_code import remote_code

    positional = [option for option in options_of(called.options) if option.positional]
    needs = any(option.default in (REQUIRED, ()) for option in positional)
    if "-h" in args or "--help" in args or (needs and not args):
        sys.stdout.write(parser_of(called).format_help())
        return 0 if args else EXIT_BAD_INPUT
    options, choice = parse(called, args)
    trusted = bool(getattr(options, "trust_remote_code", False))
    if trusted:
        sys.stderr.write(
            "prefixsim: --trust-remote-code: Python files of the tokenizer run with your rights\n"
        )
    given = choice.given if called.engines != "none" else vars(options)
    if given.get("model_config") is not None:
        from prefixsim.cli._model import tell_model

        tell_model(given)
    with remote_code(trusted):
        if called.engines == "none":
            called.run(options)
        else:
            called.run(options, choice)
    return 0


def _help() -> str:
    wide = max(map(len, COMMANDS))
    lines = [f"  {name:<{wide}}  {summary}" for name, summary in COMMANDS.items()]
    return (
        f"Usage: prefixsim COMMAND [OPTIONS]\n\n{_ABOUT}\n\nCommands:\n"
        + "\n".join(lines)
        + "\n\nOptions:\n"
        "  --version                 Print the version and leave.\n"
        f"  --print-completion SHELL  Print completions for {', '.join(_SHELLS)}.\n"
        "  -h, --help                Show this; 'prefixsim COMMAND --help' shows a command's.\n"
    )


def _completion(shell: str) -> str:
    """Return a script that completes commands and options, to be read by the shell."""
    if shell not in _SHELLS:
        msg = f"--print-completion {shell}: choose one of {', '.join(_SHELLS)}"
        raise InputError(msg)
    import shtab

    from prefixsim.cli._options import parser_of

    root = argparse.ArgumentParser(prog="prefixsim", description=_ABOUT)
    root.add_argument("--version", action="store_true", help="Print the version and leave.")
    commands = root.add_subparsers()
    for name in COMMANDS:
        parser_of(command(name), commands)
    script: str = shtab.complete(root, shell=shell)
    return f"{script}\n"


def _describe(error: BaseException) -> tuple[str, int] | None:
    """Say in one line what the caller did wrong, and the exit code; ``None``: it is our fault."""
    if isinstance(error, SettingError):
        from prefixsim.cli._options import as_typed

        return as_typed(str(error)), EXIT_BAD_INPUT
    if isinstance(error, PrefixsimError):
        return str(error), EXIT_BAD_INPUT
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}", EXIT_BAD_INPUT
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory", EXIT_BAD_INPUT
    return None


def _fail(message: str, code: int) -> int:
    if message:
        sys.stderr.write(f"prefixsim: {printable(' '.join(message.split()))}\n")
    return code


def run() -> None:
    """Entry point of the ``prefixsim`` script."""
    if reserve_closed():
        sys.exit(_fail("standard output is closed, redirect it to a file", EXIT_BAD_INPUT))
    sys.exit(main())
