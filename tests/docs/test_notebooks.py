"""The notebooks in examples/ run, and show the output that is kept in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat import reads

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.ipynb"))
LARGEST = 100_000  # bytes

# The kernel's connection, and its event loop on some systems, are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def read(path: Path) -> Any:
    parse: Any = reads  # has no types
    return parse(path.read_text(encoding="utf-8"), as_version=4)


def shown(notebook: Any) -> list[list[str]]:
    """Return what each cell prints and shows as text, without where a line ends in the stream."""
    texts = []
    for cell in notebook.cells:
        parts = [
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.get("outputs", [])
        ]
        texts.append("".join(parts).split())
    return texts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_kept_in_it(path: Path, tmp_path: Path) -> None:
    kept = read(path)
    run = read(path)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(run, timeout=120, kernel_name="python3", resources=resources).execute()
    assert shown(run) == shown(kept)
    assert any(shown(kept))
    assert path.stat().st_size < LARGEST


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) >= 5
