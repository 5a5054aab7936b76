"""Optional dependencies: imported when first needed, or one line that says how to add them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from prefixsim.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str | None) -> Any:
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
        command = f'"prefixsim[{extra}]"' if extra else package
        msg = f"{package} is not installed: pip install {command}"
        raise MissingExtraError(msg, name=package) from None
