"""Many runs of a trace: results kept in a file, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study import compare as compare_module
from prefixsim.study import fleets, sweeps
from prefixsim.study.results_file import ResultsFile
from prefixsim.trace import Trace

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def trace() -> Trace:
    turns = [[*range(16 * k, 16 * k + 64 + 16 * j)] for j in range(4) for k in range(6)]
    return Trace.from_prompts(turns, output_len=[5] * len(turns))


def sweep(trace: Trace, **options: Any) -> Any:
    found = prefixsim.sweep(
        trace, engine=["ideal", "vllm"], block_size=[8, 16], capacity=[4, 40, None], **options
    )
    return found.axes, found.to_pylist()


def compare(trace: Trace, **options: Any) -> Any:
    found = prefixsim.compare(trace, num_blocks=[40, 80], enable_caching=[True, False], **options)
    return found.axes, found.fixed, found.runs


def fleet(trace: Trace, **options: Any) -> Any:
    found = prefixsim.fleet(
        trace, replicas=[2, 3], router=["round-robin", "dynamo", "pooled"], num_blocks=64, **options
    )
    return found.to_json(), [table.rows for table in found.tables()]


class Case(NamedTuple):
    """A kind of run, where its work is done, and how many runs it makes."""

    run: Run
    module: Any
    work: str
    runs: int


CASES = [
    Case(sweep, sweeps, "_rows", 12),
    Case(compare, compare_module, "_runs", 4),
    Case(fleet, fleets, "_runs", 6),
]
every_kind = pytest.mark.parametrize("case", CASES, ids=[case.run.__name__ for case in CASES])


@every_kind
def test_what_was_done_is_not_done_again(
    case: Case,
    trace: Trace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, module, work, count = case
    file = tmp_path / "results.jsonl"
    whole = run(trace)
    made: list[int] = []
    seen: list[tuple[int, int]] = []
    right = getattr(module, work)

    def counted(shared: Any, tasks: Any) -> Any:
        for number, result in right(shared, tasks):
            made.append(number)
            yield number, result

    monkeypatch.setattr(module, work, counted)
    assert run(trace, resume=file) == whole
    assert len(made) == count
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + count
    for kept in (b"".join(lines), b"".join(lines[:3]), b"".join(lines[:3])[:-1], lines[0][:9], b""):
        file.write_bytes(kept)
        made.clear()
        done = max(0, kept.count(b"\n") - 1)
        seen.clear()
        assert run(trace, resume=file, progress=lambda *now: seen.append(now)) == whole
        assert len(made) == count - done
        assert seen[-1] == (count, count) and seen[0][0] == max(done, 1)
        # the same lines, if in another order
        assert sorted(file.read_bytes().splitlines(keepends=True)[1:]) == sorted(lines[1:])


def test_results_of_something_else_are_refused(trace: Trace, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    sweep(trace, resume=file)
    other = Trace.from_prompts([[1, 2, 3]])
    with pytest.raises(InputError, match=r"results.jsonl:1: holds results of another trace"):
        sweep(other, resume=file)
    with pytest.raises(InputError, match=r"results.jsonl:1: holds results of another command"):
        compare(trace, resume=file)
    head, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(head.replace(prefixsim.__version__, "0.0.1") + "".join(rest))
    with pytest.raises(InputError, match=r"results.jsonl:1: holds results of another version"):
        sweep(trace, resume=file)
    for text in ('{"a": 1}\n', "some notes", "[]\n"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"results.jsonl:1: holds no results of runs"):
            sweep(trace, resume=file)
        assert file.read_text() == text
    file.write_text(head + "x\n")
    with pytest.raises(InputError, match=r"results.jsonl:2: is no result of a run"):
        sweep(trace, resume=file)
    with pytest.raises(InputError, match="cannot be written"):
        sweep(trace, resume=tmp_path / "no" / "file")


class MostUses(prefixsim.Policy):
    def priority(self, segments: Any) -> Any:
        return -segments.uses


def test_policies_that_are_objects_are_made_again(trace: Trace, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    for _ in range(2):
        table = prefixsim.sweep(trace, policy=["lru", MostUses()], capacity=20, resume=file)
        assert [row["error"] for row in table] == [None, None]
        assert file.read_bytes().count(b"\n") == 2


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    arrays = [np.arange(5).astype(kind) for kind in ("u1", "<u4", "<u8", "<f8", "?")]
    arrays += [np.zeros((2, 3)), np.array([np.inf, 0.1, np.nan])]
    with ResultsFile(path, "fleet", "d") as file:
        file.add("a", {"arrays": arrays, "one": np.float64(0.1), "none": None})
    with ResultsFile(path, "fleet", "d") as file:
        found = file.found["a"]
    assert found["one"] == 0.1 and found["none"] is None
    for array, other in zip(arrays, found["arrays"], strict=True):
        assert array.dtype == other.dtype and array.shape == other.shape
        np.testing.assert_array_equal(array, other)
    assert json.loads(path.read_text().splitlines()[1])["run"] == "a"
