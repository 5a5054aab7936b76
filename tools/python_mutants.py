"""Mutation tests of figures and formats: a random sample of what cosmic-ray would change.

    python tools/python_mutants.py SAMPLE [SEED]

works in a copy of the sources, ``target/python-mutants``, which a later call with the same numbers
goes on with. Each mutant meets the tests named below for its module, until one fails. The score and
the survivors are printed; ``make mutants`` runs it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "target" / "python-mutants"
GOLDEN = ROOT.parent / "shared" / "golden"
PACKAGE = "python/prefixsim"
REST = ("test_formats.py", "test_registry.py", "test_bad_files.py", "test_read_fuzz.py")
TESTS = {
    "stats.py": ("tests/study/test_replay.py",),
    "sizes.py": ("tests/test_sizes.py",),
    "study/metrics.py": ("tests/study/test_replay.py", "tests/explanations/test_waterfall.py"),
    "formats/kv_events.py": ("tests/formats/test_kv_events.py",),
    "formats/recording.py": ("tests/formats/test_kv_events.py",),
    "formats/openai_log.py": ("tests/formats/test_openai_log.py",),
    "formats/logs": ("tests/formats/test_golden_logs.py", "tests/formats/test_bad_files.py"),
    "formats": tuple(f"tests/formats/{name}" for name in REST),
}
"""Of each module, or of a folder's others, the tests that are to notice."""

CONFIG = """
[cosmic-ray]
module-path = {modules}
timeout = 300.0
excluded-modules = []
test-command = "{python} {script} test"
[cosmic-ray.distributor]
name = "local"
"""


def changed() -> str:
    """Return the module of the copy that differs from the sources, from the package on."""
    for path in sorted((COPY / PACKAGE).rglob("*.py")):
        name = path.relative_to(COPY / PACKAGE)
        if path.read_bytes() != (COPY / "original" / name).read_bytes():
            return name.as_posix()
    return "sizes.py"  # nothing is changed: cosmic-ray looks whether tests pass


def test() -> int:
    """Run the tests of the module that is changed."""
    module = changed()
    tests = next(tests for name, tests in TESTS.items() if module.startswith(name))
    options = ("-x", "-q", "--no-header", "--doctest-modules", "-p", "no:cacheprovider")
    command = [sys.executable, "-B", "-m", "pytest", *options, *tests, f"{PACKAGE}/{module}"]
    return subprocess.run(command, cwd=COPY, check=False).returncode


def copy() -> None:
    """Copy what is mutated and tested."""
    COPY.mkdir(parents=True)
    for name in ("python", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, COPY / name, ignore=ignored)
        else:
            shutil.copy(source, COPY / name)
    shutil.copytree(COPY / PACKAGE, COPY / "original")
    modules = [f"{PACKAGE}/{name}" for name in ("stats.py", "sizes.py", "study/metrics.py")]
    modules.append(f"{PACKAGE}/formats")
    config = CONFIG.format(modules=modules, python=sys.executable, script=Path(__file__))
    (COPY / "config.toml").write_text(config)


def sample(size: int, seed: int) -> None:
    """Keep a random sample of the work; the rest counts as skipped."""
    with use_db(str(COPY / "work.sqlite"), WorkDB.Mode.open) as work:
        jobs = {}
        for item in work.work_items:
            (change,) = item.mutations
            place = (change.module_path.as_posix(), change.start_pos, change.operator_name)
            # Unions are annotations here, which nothing runs.
            if "BitOr" not in change.operator_name:
                jobs[*place, change.occurrence, str(change.operator_args)] = item.job_id
        chosen = random.Random(seed).sample(sorted(jobs), min(size, len(jobs)))
        kept = {jobs[place] for place in chosen}
        skipped = {item.job_id for item in work.work_items} - kept
        work.set_multiple_results(skipped, WorkResult(WorkerOutcome.SKIPPED))
    sys.stdout.write(f"{len(kept)} of {len(jobs)} mutants, seed {seed}\n")


def report() -> None:
    """Print the score and what survived."""
    with use_db(str(COPY / "work.sqlite"), WorkDB.Mode.open) as work:
        done = [r for _, r in work.results if r.worker_outcome != WorkerOutcome.SKIPPED]
    survived = [result for result in done if not result.is_killed]
    for result in survived:
        sys.stdout.write(f"survived:\n{result.diff}\n")
    sys.stdout.write(f"{len(done) - len(survived)} of {len(done)} killed\n")


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments == ["test"]:
        return test()
    size, seed = int(arguments[0]), int((arguments[1:] or ["1"])[0])
    environment = {
        **os.environ,
        "PYTHONPATH": str(COPY / "python"),
        "PREFIXSIM_GOLDEN": os.environ.get("PREFIXSIM_GOLDEN", str(GOLDEN)),
    }

    def cosmic_ray(*words: str) -> None:
        command = [sys.executable, "-m", "cosmic_ray.cli", *words]
        subprocess.run(command, cwd=COPY, env=environment, check=True)

    if not COPY.exists():
        copy()
        cosmic_ray("init", "config.toml", "work.sqlite")
        sample(size, seed)
    cosmic_ray("exec", "config.toml", "work.sqlite")
    report()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
