"""Instructions of whole commands, counted by callgrind: the same on a busy machine and a quiet one.

    python -m benches.instructions            # compare with what was kept
    python -m benches.instructions --save     # keep what is counted, in benches/instructions.json

A command may take 3 % more than the baseline. Seconds are in ``make bench``; a count says sooner,
and without noise, that a hot path or the start has grown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benches.test_whole_process import SCRIPT
from benches.workload import conversations

from prefixsim import Trace

BASELINE = Path(__file__).with_suffix(".json")
BUDGET = 0.03
PARTS = ("replay", "curve", "info")
# One thread and fixed hashing: what is counted does not depend on the machine's load.
SETTINGS = {"PYTHONHASHSEED": "0", "RAYON_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def programs(folder: Path) -> dict[str, list[str]]:
    """What is counted, by name: arguments of Python."""
    small, tokens = folder / "small.jsonl", folder / "tokens.jsonl"
    trace = conversations(12_000, unit=512, system=1024, turn=2048)
    lengths = trace.prompt_len
    Trace(
        timestamp=np.round(trace.timestamp),
        prompt_len=lengths,
        output_len=trace.output_len,
        prompts=trace.prompts,
        id_block_size=512,
    ).write(small, format="mooncake")
    conversations(4_000).write(tokens)
    command = ["-m", "prefixsim"]
    found: dict[str, list[str]] = {"python": ["-c", "pass"], "numpy": ["-c", "import numpy"]}
    found["script, hash ids"] = ["-c", SCRIPT, str(small)]
    for part in PARTS:
        found[f"{part}, hash ids"] = [*command, part, str(small), "--json"]
    found["curve, token ids"] = [*command, "curve", str(tokens), "--json"]
    found["replay bounded, token ids"] = [*command, "replay", str(tokens), "--num-blocks", "20k"]
    return found


def count(arguments: list[str], folder: Path) -> int:
    """Instructions of a Python process under callgrind, in user space."""
    environment = {**os.environ, **SETTINGS}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, *arguments], check=True, env=environment, capture_output=True)
    run = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder / 'callgrind.out'}",
            sys.executable,
            *arguments,
        ],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    )
    collected = re.search(r"Collected : (\d+)", run.stderr)
    assert collected is not None, run.stderr
    return int(collected[1])


def compared(counts: dict[str, int], baseline: dict[str, int], tell: Callable[[str], None]) -> bool:
    """Tell each count beside the baseline; whether all are within the budget."""
    within = True
    for name, now in counts.items():
        before = baseline.get(name)
        change = f"{now / before - 1:+.1%}" if before else "new"
        over = before is not None and now > before * (1 + BUDGET)
        within &= not over
        tell(f"{name:<28}{now / 1e6:>12,.1f} M  {change}{'  over the budget' if over else ''}")
    return within


def main() -> int:
    parser = argparse.ArgumentParser(description="Count instructions of whole commands.")
    parser.add_argument("--save", action="store_true", help="make these counts the baseline")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--against", type=Path, default=BASELINE, help="counts to compare with")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.stderr.write("valgrind is not installed: apt-get install valgrind\n")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {what: count(run, folder) for what, run in programs(folder).items()}
    told = {"python": platform.python_version(), "numpy": np.__version__, "instructions": counts}
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    if options.save:
        BASELINE.write_text(json.dumps(told, indent=2) + "\n")
    baseline = json.loads(options.against.read_text()) if options.against.exists() else {}
    same = all(baseline.get(key) == told[key] for key in ("python", "numpy"))
    if baseline and not same:
        sys.stdout.write("the baseline is of other versions of Python or NumPy: no budget holds\n")
    within = compared(counts, baseline.get("instructions", {}), lambda t: print(t, flush=True))
    return 0 if within or not same else 1


if __name__ == "__main__":
    sys.exit(main())
