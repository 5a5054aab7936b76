"""Runs on a Ray cluster: the same results, whatever happens to workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim.errors import InputError, MissingExtraError
from prefixsim.study import cluster, sweeps
from prefixsim.study.cluster import run_on
from prefixsim.study.many import Grid
from prefixsim.trace import Trace
from tests.study.test_many import Case, every_kind, sweep


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Start a cluster of two worker processes and a small object store."""
    if "PREFIXSIM_CLUSTER" not in os.environ:
        pytest.skip("starting a cluster takes long: make test-all does, or set PREFIXSIM_CLUSTER=1")
    found = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found.init(
        "local",
        num_cpus=2,
        object_store_memory=80_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def trace() -> Trace:
    turns = [[*range(16 * k, 16 * k + 64 + 16 * j)] for j in range(4) for k in range(6)]
    return Trace.from_prompts(turns, output_len=[5] * len(turns))


@every_kind
def test_results_are_the_same(case: Case, trace: Trace, ray: Any) -> None:
    run, *_, count = case
    seen: list[tuple[int, int]] = []
    assert run(trace, ray="local", progress=lambda *now: seen.append(now)) == run(trace)
    assert seen == [(done, count) for done in range(1, count + 1)]
    assert ray.is_initialized()  # a cluster that was there is left alone


def test_commands_take_a_cluster_by_its_address(trace: Trace, ray: Any, tmp_path: Path) -> None:
    file, grid = tmp_path / "t.jsonl", ["--capacity", "4,40", "--block-size", "8", "--json"]
    trace.write(file)
    command = [sys.executable, "-m", "prefixsim", "sweep", str(file), *grid]
    address = ray.get_runtime_context().gcs_address
    found = [
        subprocess.run([*command, *more], capture_output=True, check=False, text=True)
        for more in ([], ["--ray", address], ["--ray", "127.0.0.1:x"])
    ]
    assert [run.returncode for run in found] == [0, 0, 2]
    assert found[0].stdout == found[1].stdout and found[0].stderr == found[1].stderr == ""
    (told,) = found[2].stderr.splitlines()
    assert "127.0.0.1:x" in told and "no cluster can be reached there" in told


def test_a_killed_worker_is_survived(
    trace: Trace, ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker dies after it has done a part of its runs, which are all done again."""
    whole = sweep(trace)
    right, died = sweeps._rows, tmp_path / "died"

    def once(forests: Any, tasks: Sequence[Any]) -> Any:
        for i, (number, row) in enumerate(right(forests, tasks)):
            yield number, row
            if i == 0 and tasks[0][1]["capacity"] == 40 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(sweeps, "_rows", once)
    file = tmp_path / "results.jsonl"
    assert sweep(trace, ray="local", resume=file) == whole
    assert died.exists()
    assert file.read_bytes().count(b"\n") == 13


def test_results_are_kept_when_workers_go_on_dying(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_RETRIES", 1)
    deadly, file = 3, tmp_path / "results.jsonl"

    def grid(work: Any) -> Grid[int, int, int]:
        return Grid("sweep", 10, range(4), str, work, kept=int, found=int)

    def dies(shared: int, tasks: Sequence[int]) -> Iterator[tuple[int, int]]:
        for i, task in enumerate(tasks):
            if task == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            yield i, shared * task

    def works(shared: int, tasks: Sequence[int]) -> Iterator[tuple[int, int]]:
        assert list(tasks) == [deadly]
        yield from ((i, shared * task) for i, task in enumerate(tasks))

    with pytest.raises(InputError, match="ray: a worker died 2 times over the same runs"):
        grid(dies).run(lambda: "digest", ray="local", resume=file)
    for address in ("local", None):
        kept = file.read_bytes()
        assert kept.count(b"\n") == 4
        assert grid(works).run(lambda: "digest", ray=address, resume=file) == [0, 10, 20, 30]
        file.write_bytes(kept)


def test_errors_are_those_of_one_machine(trace: Trace, ray: Any) -> None:
    options: dict[str, Any] = {"num_blocks": [40, 1], "engine": "vllm"}
    with pytest.raises(InputError) as alone:
        prefixsim.compare(trace, **options)
    with pytest.raises(InputError) as spread:
        prefixsim.compare(trace, ray="local", **options)
    assert str(alone.value) == str(spread.value)


def test_a_worker_with_another_version_is_refused(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    with pytest.raises(InputError, match=r"a worker has prefixsim \d.*, not 9.9.9"):
        list(run_on("local", 0, [1], lambda _, tasks: enumerate(tasks), alone=True))


def test_without_ray_one_line_says_how_to_get_it(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixsim\[ray\]"'):
        sweep(trace, ray="local")
