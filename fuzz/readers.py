"""Fuzz target of the Python readers: any bytes under any format are a trace, or one line.

``make fuzz`` runs it where atheris is installed (``pip install atheris``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["prefixsim"]):
    from prefixsim.errors import InputError
    from prefixsim.formats import read_trace
    from prefixsim.formats._registry import format_names, load_format

    # Here and not when they are needed: only what is imported inside the block is watched.
    FORMS = (None, *format_names())
    for form in FORMS[1:]:
        load_format(form)
ENDINGS = ("jsonl", "csv", "json", "parquet", "arrow", "jsonl.gz", "jsonl.zst")
FOLDER = Path(tempfile.mkdtemp(prefix="prefixsim-fuzz-"))


def readers(data: bytes) -> None:
    """Read one input; whatever is raised besides ``InputError`` is a finding."""
    if len(data) < 2:
        return
    path = FOLDER / f"in.{ENDINGS[data[1] % len(ENDINGS)]}"
    path.write_bytes(data[2:])
    try:
        read_trace(path, format=FORMS[data[0] % len(FORMS)])
    except InputError as error:
        if "\n" in str(error):
            raise AssertionError(repr(str(error))) from None


if __name__ == "__main__":
    atheris.Setup(sys.argv, readers)
    atheris.Fuzz()
