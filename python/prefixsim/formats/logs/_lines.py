"""Lines that a server printed, parsed one by one; most say nothing about requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from prefixsim.formats._format import ReadOptions
from prefixsim.formats._rows import BadFieldError, CheckedRows, numbered_lines

__all__ = ["LogLines"]


R = TypeVar("R")


class LogLines(CheckedRows, Generic[R]):
    r"""The lines of a server's log that say something about requests.

    Lines end at "\n" alone: prompts may hold other ends of lines.

    Attributes
    ----------
    rows : list
        What ``parse`` returned, where it was not ``None``.
    """

    def __init__(
        self, path: Path, parse: Callable[[str, int], R | None], options: ReadOptions
    ) -> None:
        super().__init__(path, options)
        self.rows: list[R] = []
        lines = []
        for number, raw in numbered_lines(path, options):
            try:
                value = parse(raw.decode("utf-8", "replace"), number)
            except BadFieldError as bad:
                self._bad(number, str(bad), raw)
                if self._unreadable is not None:
                    break
                continue
            if value is not None:
                self.rows.append(value)
                lines.append(number)
        self._set_lines(np.array(lines, dtype=np.uint64))
