"""Files and folders that appear whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefixsim import Trace, replay
from prefixsim._atomic import atomic_folder, atomic_path, atomic_write
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.formats import write_trace

ENDINGS = ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow"]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing beyond ``size`` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def trace() -> Trace:
    return Trace.from_prompts([[i * j % 997 for j in range(3000)] for i in range(30)])


@pytest.mark.parametrize("ending", ENDINGS)
def test_full_disk_names_the_file(
    ending: str, trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out" / f"copy.{ending}"
    out.parent.mkdir()
    write_trace(trace, source)
    with largest_file(5000):
        assert main(["convert", str(source), str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(out) in error
    assert names(out.parent) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_rows_make_the_same_file(ending: str, trace: Trace, tmp_path: Path) -> None:
    paths = [tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"]
    for path in paths:
        write_trace(trace, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if ending.endswith("gz"):
        assert paths[0].read_bytes()[3] == 0  # no flags: no name
        assert gzip.decompress(paths[0].read_bytes()).count(b"\n") == len(trace)


def test_a_missing_folder_is_not_made(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    write_trace(trace, source)
    out = str(tmp_path / "missing" / "x.json")
    for command in (
        ["replay", str(source), "--output-file", out],
        ["curve", str(source), "--output", out],
        ["report", str(source), "-o", out],
        ["convert", str(source), out + "l"],
    ):
        assert main(command) == 2
        assert "no folder" in capsys.readouterr().err
    assert names(tmp_path) == ["in.jsonl"]


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
def test_convert_does_not_write_over_its_input(
    link: str | None, trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = out = tmp_path / "z.jsonl"
    write_trace(trace, source)
    before = source.read_bytes()
    if link is not None:
        out = tmp_path / "y.jsonl"
        out.symlink_to(source) if link == "symbolic" else out.hardlink_to(source)
    for name in (str(source), str(tmp_path / "[z].jsonl")):
        assert main(["convert", name, str(out), "--to", "arrow"]) == 2
        assert "is also read" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from prefixsim._atomic import atomic_folder, atomic_path\n"
        "with atomic_path(sys.argv[1] + '/a.json') as p,"
        " atomic_folder(sys.argv[1], last='s') as f:\n"
        "    p.write_text('half'), (f / 'x').write_text('half')\n"
        "    print('ready', flush=True), time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        left = list(tmp_path.iterdir())
        assert len(left) == 2
        old = time.time() - 3600
        for path in left:
            os.utime(path, (old, old))
        atomic_write(tmp_path / "a.json", "1")  # the other process lives: its files stay
        with atomic_folder(tmp_path, last="s") as stage:
            (stage / "s").write_text("1")
        assert set(left) <= set(tmp_path.iterdir())
        process.kill()
    atomic_write(tmp_path / "a.json", "2")
    with atomic_folder(tmp_path, last="s") as stage:
        (stage / "s").write_text("2")
    assert names(tmp_path) == ["a.json", "s"]


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for run in ("1", "2"):
        with atomic_folder(folder, last="summary") as stage:
            for name in ("a", "b", "summary"):
                (stage / name).write_text(run)
    (folder / "mine").write_text("kept")
    with (
        pytest.raises(ZeroDivisionError),
        atomic_folder(folder, last="summary") as stage,
    ):
        (stage / "a").write_text("3")
        raise ZeroDivisionError
    assert names(folder) == ["a", "b", "mine", "summary"]
    assert {(folder / name).read_text() for name in ("a", "b", "summary")} == {"2"}


def test_a_folder_that_fails_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a" / "b", last="s"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()


def test_a_full_disk_leaves_a_folder_as_it_was(trace: Trace, tmp_path: Path) -> None:
    result = replay(trace)
    result.save(tmp_path / "out", charts=False)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    other = replay(trace, block_size=32)
    with largest_file(800), pytest.raises(OSError, match="File too large"):
        other.save(tmp_path / "out", charts=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_forbidden_folder_is_one_line(
    ending: str, trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(trace, tmp_path / "in.jsonl")
    out = f"/proc/forbidden.{ending}"  # where not even the superuser may write
    assert main(["convert", str(tmp_path / "in.jsonl"), out]) == 2
    error = capsys.readouterr().err
    assert out in error
    assert error.count("\n") == 1


def test_targets_that_are_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"), atomic_path(tmp_path):
        pass
