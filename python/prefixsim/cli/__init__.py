"""The command line: one module per command, one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from prefixsim import __version__
from prefixsim.errors import PrefixsimError

__all__ = ["app", "main"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

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


def _register() -> None:
    """Import the command modules, which add themselves to :data:`app`."""


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Bad input is one line on standard error and code 2; Ctrl-C is code 130.
    """
    _register()
    try:
        result = app(args, standalone_mode=False, prog_name="prefixsim")
    except PrefixsimError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(_describe(error), EXIT_BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        # Usage errors of the parser; typer carries its own copy of click, so no class to name.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        message = " ".join(format_message().split())
        return _fail(f"{message} (see 'prefixsim --help')", EXIT_BAD_INPUT)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"prefixsim: {message}\n")
    return code


def run() -> None:
    """Entry point of the ``prefixsim`` script."""
    sys.exit(main())
