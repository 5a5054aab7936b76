"""Optional dependencies: imported when first needed, or one line that says how to add them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from prefixsim.errors import MissingExtraError

__all__ = ["missing", "require"]


def require(module: str, *, extra: str | None) -> ModuleType:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
        As in an ``import`` statement.
    extra : str or None
        The extra of ``prefixsim`` that brings it; ``None`` for a package that no extra brings, and
        that is installed under its own name.

    Raises
    ------
    MissingExtraError
        If it is not installed. The message is one line with the command that adds it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # it is there, and something that it needs is not
        raise MissingExtraError(_advice(package, extra), name=package) from None


def missing(module: str, *, extra: str) -> str | None:
    """Return the line that :func:`require` would raise; ``None`` where the module is there."""
    return None if find_spec(module) else _advice(module, extra)


def _advice(package: str, extra: str | None) -> str:
    command = f'"prefixsim[{extra}]"' if extra else package
    return f"{package} is not installed: pip install {command}"
