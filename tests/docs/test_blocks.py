"""What the pages show is what happens: commands and code of README and docs, run page by page.

A comment before a block says ``not run`` and why, or which recorded ``data`` it needs. Set
``PREFIXSIM_UPDATE_DOCS`` to write the outputs anew, then read the change.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefixsim.engines import engine_names, unregister
from tests.docs.blocks import Block, read_page

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
KINDS = {"console", "python", "json", "text", "yaml", "toml", "jsonl", "mermaid"}
UPDATE = "PREFIXSIM_UPDATE_DOCS" in os.environ


def name(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def recorded() -> Path | None:
    """Return the real traces beside the checkout, if they are there."""
    folder = TOP.parent / "shared/data/mooncake"
    return folder if folder.is_dir() else None


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_shows_what_happens(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = read_page(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["page"])
    before = set(engine_names())
    try:
        differences = page.run(tmp_path, recorded(), update=UPDATE)
    finally:  # pages may register engines
        for added in set(engine_names()) - before:
            unregister(added)
    if UPDATE:
        path.write_text("\n".join(page.text) + "\n", encoding="utf-8")
    assert not differences, "\n\n".join(differences)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_block_says_what_it_is(path: Path) -> None:
    unknown = [block.line for block in read_page(path).blocks if block.kind not in KINDS]
    assert unknown == []


def page_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    text = "```console\n$ echo one\none\n$ echo two\nthree\n```\n"
    differences = read_page(page_of(tmp_path, text)).run(tmp_path, None, update=False)
    assert differences == ["line 1: $ echo two\n- three\n+ two"]


def test_a_failing_command_is_found(tmp_path: Path) -> None:
    text = "```console\n$ prefixsim replay nowhere.jsonl\n```\n"
    differences = read_page(page_of(tmp_path, text)).run(tmp_path, None, update=False)
    assert len(differences) == 1 and differences[0].endswith("(exit code 2)")


def test_wrong_code_is_found(tmp_path: Path) -> None:
    text = "```python\nx = 2\n```\n```python\n>>> x + 1\n4\n```\n"
    (difference,) = read_page(page_of(tmp_path, text)).run(tmp_path, None, update=False)
    assert "Expected:\n    4\nGot:\n    3" in difference


def test_dots_stand_for_any_lines_and_marks_are_heard(tmp_path: Path) -> None:
    text = (
        "```console\n$ printf 'a\\nb\\nc\\n'\na\n...\nc\n```\n"
        "<!-- not run: it would fail -->\n```console\n$ false\n```\n"
        "<!-- data: nothing.gz -->\n\n```python\nraise SystemExit\n```\n"
    )
    page = read_page(page_of(tmp_path, text))
    assert page.run(tmp_path, None, update=False) == []
    assert page.blocks[1].not_run == "it would fail"


def test_outputs_are_written_anew(tmp_path: Path) -> None:
    text = "```console\n$ echo one \\\n    two\n?\n$ echo three\n```\nend"
    page = read_page(page_of(tmp_path, text))
    assert page.run(tmp_path, None, update=True) == []
    assert "\n".join(page.text) == (
        "```console\n$ echo one \\\n    two\none two\n$ echo three\n```\nend"
    )


def test_output_before_a_command_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with a command"):
        Block("console", 3, ["hello"]).commands()
