"""The exceptions of prefixsim."""

from __future__ import annotations

from prefixsim._printable import printable

__all__ = ["InputError", "MissingExtraError", "PrefixsimError", "SettingError"]


class PrefixsimError(Exception):
    """Base of every exception that prefixsim raises on purpose.

    Examples
    --------
    >>> import prefixsim
    >>> try:
    ...     prefixsim.replay(prefixsim.Trace.from_prompts([[1]]), block_size=0)
    ... except prefixsim.PrefixsimError as error:
    ...     print(type(error).__name__)
    SettingError
    """


class InputError(PrefixsimError, ValueError):
    """Something the caller gave is not usable.

    The message is one line, ``file:line: what is wrong, what to do`` where a file is
    concerned. The command line prints it and exits with code 2.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40)])
    >>> prefixsim.curve(trace, block_size=16, capacity=0)
    Traceback (most recent call last):
    prefixsim.errors.InputError: capacity is 0 blocks, it must be at least 1
    """

    def __init__(self, *told: object) -> None:
        super().__init__(*(_one_line(part) for part in told))


class SettingError(InputError):
    """A setting is not usable. The message names settings as keyword arguments.

    The command line names them as its options.
    """


class MissingExtraError(PrefixsimError, ImportError):
    """An optional dependency that the call needs is not installed.

    The message is one line with the command that adds it.

    Examples
    --------
    >>> from prefixsim._extras import require
    >>> require("no_such_package", extra="report")
    Traceback (most recent call last):
    prefixsim.errors.MissingExtraError: ...
    """


def _one_line(told: object) -> object:
    """Show what a message quotes of a file, whose line ends and escapes are not obeyed."""
    if not isinstance(told, str) or told.isprintable():
        return told
    return printable(" ".join(told.split()))
