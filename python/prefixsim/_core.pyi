"""Typed surface of the Rust extension."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

__version__: str
DEBUG_BUILD: bool

def json_lists(
    offsets: npt.NDArray[np.uint64], values: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
) -> list[bytes]: ...
def digest_columns(columns: Sequence[npt.NDArray[np.uint8]]) -> str: ...

@final
class JsonlReader:
    def __new__(
        cls, fields: Sequence[tuple[str, str, bool]], *, skip_bad_rows: bool = False
    ) -> JsonlReader: ...
    @property
    def rows(self) -> int: ...
    def feed(self, block: bytes) -> None: ...
    def end(self) -> None: ...
    def finish(self) -> dict[str, Any]: ...
