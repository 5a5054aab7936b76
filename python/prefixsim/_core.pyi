"""Typed surface of the Rust extension."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__version__: str
DEBUG_BUILD: bool

def digest_columns(columns: Sequence[npt.NDArray[np.uint8]]) -> str: ...
