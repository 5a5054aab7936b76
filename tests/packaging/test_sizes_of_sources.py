"""No file over 400 lines, no function over 60, `Any` where third parties force it: or a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

FILES = {
    "python/prefixsim/engines/contract.py": "one contract, each part with what it promises",
    "rust/engine/vllm/offload/connector.rs": "one connector, in the order of the one it follows",
    "rust/engine/vllm/offload/host.rs": "one manager of the server, operation by operation",
    "tests/oracle/offload_scheduler.py": "a scheduler, in the order of the one it is compared with",
    "rust/read/plain.rs": "one scanner, and the test that holds it to the parser",
    "rust/engine/vllm/replay.rs": "two sources of keys beside the loop that they feed",
}
"""Longer files of Python and Rust, with the reason."""

FUNCTIONS = {
    "python/prefixsim/charts/theme.py:config": "one table of looks",
    "tests/engines/test_vllm_engine.py:test_every_step_is_the_oracles": "one story, step by step",
    "tests/oracle/scheduler.py:schedule": "in the order of the scheduler it is compared with",
}
"""Longer functions (docstrings are not counted), with the reason."""

ANY = {
    "python/prefixsim/_json.py": "JSON has no narrower type that can be read",
    "python/prefixsim/charts/theme.py": "charts of Altair, which is loaded when something is drawn",
    "python/prefixsim/cli/_parser.py": "the default of an argument of any type",
    "python/prefixsim/engines/contract.py": "an engine takes settings of its own class",
    "python/prefixsim/formats/_rows.py": "rows of JSON of any shape",
    "python/prefixsim/formats/native_files.py": "writers of Arrow, which has no types",
    "python/prefixsim/study/cluster.py": "Ray, which is loaded when runs are spread",
    "python/prefixsim/study/grid.py": "values of any option",
    "python/prefixsim/study/many.py": "results as JSON",
    "python/prefixsim/study/results_file.py": "results as JSON",
    "python/prefixsim/study/sweeps.py": "a row by number, a column by name",
    "python/prefixsim/text/pretrained.py": "tokenizers of transformers, loaded when needed",
    "python/prefixsim/trace/columns.py": "columns of several types by name",
    "python/prefixsim/trace/request.py": "cells of several types by name",
    "python/prefixsim/traffic/trace_writers.py": "outputs are text or tokens",
}
"""Modules whose types cannot be said, with the reason. Keywords that are handed on, ``**options``,
may be of any type everywhere."""


def _tracked(folder: str, ending: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob(f"*{ending}") if "__pycache__" not in p.parts)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the functions of a module with their lines, docstrings not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or 0) - node.lineno + 1
        if ast.get_docstring(node, clean=False) is not None:
            lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
        yield node.name, lines


def test_files_are_short() -> None:
    files = [
        p for folder in ("python", "tests", "benches", "tools") for p in _tracked(folder, ".py")
    ]
    files += [p for folder in ("rust", "tests") for p in _tracked(folder, ".rs")]
    lengths = {_name(p): p.read_text(encoding="utf-8").count("\n") for p in files}
    assert len(lengths) > 300
    long = {name for name, lines in lengths.items() if lines > LONGEST_FILE}
    assert long == FILES.keys(), "make it two, or give a reason; drop reasons that are not needed"


def test_functions_are_short() -> None:
    files = [
        p for folder in ("python", "tests", "benches", "tools") for p in _tracked(folder, ".py")
    ]
    long = {
        f"{_name(path)}:{name}"
        for path in files
        for name, lines in _functions(path)
        if lines > LONGEST_FUNCTION
    }
    assert long == FUNCTIONS.keys(), "split it, or give a reason; drop reasons not needed"


def _unsaid(path: Path) -> list[int]:
    """Return the lines of a module that say ``Any``, but for keywords that are handed on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    handed_on = {id(f.args.kwarg.annotation) for f in functions if f.args.kwarg is not None}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "Any" and id(node) not in handed_on
    ]


def test_types_are_said() -> None:
    unsaid = {_name(p): lines for p in _tracked("python", ".py") if (lines := _unsaid(p))}
    assert unsaid.keys() == ANY.keys(), {n: at for n, at in unsaid.items() if n not in ANY}
