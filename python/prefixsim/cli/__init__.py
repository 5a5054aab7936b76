"""The command line: one module per command, one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from prefixsim import __version__
from prefixsim._printable import printable
from prefixsim.cli._streams import reserve_closed
from prefixsim.errors import PrefixsimError
from prefixsim.text.remote_code import remote_code

__all__ = ["app", "main"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# In the order of the help.
_COMMANDS = (
    "demo",
    "trace",
    "generate",
    "replay",
    "compile",
    "curve",
    "sweep",
    "explain",
    "lint",
    "report",
    "compare",
    "info",
    "convert",
)

app = typer.Typer(
    name="prefixsim",
    help="What would a prefix cache do for my traffic? Exact simulation of LLM prefix caches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"prefixsim {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _register(args: list[str]) -> None:
    """Import the modules of the commands, which add themselves to :data:`app`.

    Only the one that is called, if it can be told: a command starts without loading the others.
    """
    from importlib import import_module  # noqa: PLC0415

    called = [name for name in args[:1] if name in _COMMANDS]
    for name in called or _COMMANDS:
        import_module(f"prefixsim.cli.{name}")


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Bad input is one line on standard error and code 2; Ctrl-C is code 130.
    """
    try:
        _register(sys.argv[1:] if args is None else args)
        with remote_code(allowed=False):  # until the command line asks for it
            result = app(args, standalone_mode=False, prog_name="prefixsim")
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        # The parser leaves with code 1 when the reader of our output has seen enough.
        if BrokenPipeError in (type(error), type(error.__context__)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        described = _describe(error)
        if described is None:
            raise
        return _fail(*described)
    if result == EXIT_INTERRUPTED:  # the parser's way to say so
        return _fail("interrupted", EXIT_INTERRUPTED)
    return result if isinstance(result, int) else 0


def _describe(error: BaseException) -> tuple[str, int] | None:
    """Say in one line what the caller did wrong, and the exit code; ``None``: it is our fault."""
    if isinstance(error, PrefixsimError):
        return str(error), EXIT_BAD_INPUT
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}", EXIT_BAD_INPUT
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory", EXIT_BAD_INPUT
    # Usage errors of the parser; typer carries its own copy of click, so no class to name.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    message = " ".join(format_message().split())
    # Without a message, the parser has printed the help.
    return message and f"{message} (see 'prefixsim --help')", EXIT_BAD_INPUT


def _fail(message: str, code: int) -> int:
    if message:
        sys.stderr.write(f"prefixsim: {printable(' '.join(message.split()))}\n")
    return code


def run() -> None:
    """Entry point of the ``prefixsim`` script."""
    if reserve_closed():
        sys.exit(_fail("standard output is closed, redirect it to a file", EXIT_BAD_INPUT))
    sys.exit(main())
