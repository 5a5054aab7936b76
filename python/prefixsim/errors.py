"""The exceptions of prefixsim."""

from __future__ import annotations

__all__ = ["InputError", "MissingExtraError", "PrefixsimError", "SettingError"]


class PrefixsimError(Exception):
    """Base of every exception that prefixsim raises on purpose."""


class InputError(PrefixsimError, ValueError):
    """Something the caller gave is not usable.

    The message is one line, ``file:line: what is wrong, what to do`` where a file is
    concerned. The command line prints it and exits with code 2.
    """


class SettingError(InputError):
    """A setting is not usable. The message names settings as keyword arguments.

    The command line names them as its options.
    """


class MissingExtraError(PrefixsimError, ImportError):
    """An optional dependency that the call needs is not installed.

    The message is one line with the command that adds it.
    """
