"""Recorded truth: where it lies, and the list of its cases.

The folder is ``../shared/golden`` beside the checkout, or what ``PREFIXSIM_GOLDEN`` names. A test
of recorded cases runs once for each case that the folder lists, so a case that is added is run
and one that is tampered with fails under its own name.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

__all__ = ["cases", "golden_root", "read_json", "records"]


def golden_root() -> Path:
    """The folder of recorded truth, which need not exist."""
    named = os.environ.get("PREFIXSIM_GOLDEN")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "golden"


def read_json(path: Path) -> Any:
    """The content of a JSON file, gzipped or not."""
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def cases(family: str, pattern: str) -> list[ParameterSet]:
    """One parameter, a path, for each file of a family of recordings; for ``parametrize``.

    Parameters
    ----------
    family
        A folder of :func:`golden_root`, as ``vllm``.
    pattern
        A glob inside it, as ``cases/*.json.gz``.
    """
    folder = golden_root() / family
    paths = sorted(folder.glob(pattern))
    if not paths:
        return [_absent(f"no recordings {folder / pattern}")]
    return [pytest.param(path, id=_name(path)) for path in paths]


def records(family: str, name: str, *, key: str = "results") -> list[ParameterSet]:
    """One parameter, a record, for each of one file's list ``key``; named if the record is."""
    path = golden_root() / family / name
    if not path.is_file():
        return [_absent(f"no recording {path}")]
    found = read_json(path)[key]
    return [pytest.param(record, id=record.get("name", str(i))) for i, record in enumerate(found)]


def _absent(reason: str) -> ParameterSet:
    return pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")


def _name(path: Path) -> str:
    """The name of a case: that of its file without the endings of its format."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
