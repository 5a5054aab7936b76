"""Random settings on random traces through the command line: an answer, or one line.

    python -m tests.trust.attack SECONDS [SEED]

Options and their choices come from each command's own help, values from a list of what breaks
programs. A traceback, a panic, a second line or a command that does not end is printed with the
arguments that make it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from prefixsim import Trace
from prefixsim.cli import main

__all__ = ["attack", "odd_files", "options_of"]

COMMANDS = ("replay", "curve", "sweep", "explain", "lint", "report", "compare", "info", "convert",
            "generate", "compile")  # fmt: skip
NUMBERS = ("0", "1", "2", "7", "16", "17", "64", "1000", "-1", "1.5", "0.5", "1e300", "1e-300",
           "nan", "inf", "-inf", "4294967295", "4294967296", "2147483648", "9223372036854775807",
           "9223372036854775808", "18446744073709551616", "1" + "0" * 40, "0x10",
           "1_000")  # fmt: skip
SIZES = ("1GB", "40GiB", "1B", "0B", "-1GB", "1e30GB", "20k", "3M", "9999T", "1.5M", "GB")
WORDS = ("", " ", "a", "\x1b[2J", "\n", "\u202e", "\ud800", "'", "..", "/", "a,b", ",", "=", "1:2",
         "5:1", "closed:3", "closed:0", "start", "trace", "sequential", "20ms", "h100", "1s", "0ms",
         "-5ms", "1e99s", "qwen3-8b", "fp8", "bf16", "on", "off", "lru", "slru", "tlru", "hrrn",
         "dram:1GB", "dram:100+disk:5", "dram", "hbm=1,dram=2", "0.33", "0.5.9", "unified-0.5.23",
         "write_back", "all")  # fmt: skip
UNTOUCHED = {"--help", "--version", "--model", "--trust-remote-code", "--output-dir", "--port"}
"""Options that need a network or are tried elsewhere."""
OF_PROGRAMS = ("got an unexpected", "object is not", "object has no", "NoneType", "C long",
               "unsupported operand", "positional argument", "index out of")  # fmt: skip
"""What only programmers say."""
SECONDS_EACH = 60


class StuckError(BaseException):
    """A command that does not end."""


def _stuck(_number: int, _frame: FrameType | None) -> None:
    raise StuckError


def options_of(command: str) -> list[tuple[str, list[str]]]:
    """Return the options of a command, each with the words of its help that may be choices."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([command, "--help"])
    found = []
    for block in re.split(r"\n(?=  -)", out.getvalue())[1:]:
        names = re.match(r"  (?:-\w, )?(--[\w-]+)(?:, (--[\w-]+))?(?: (\S+))?", block)
        if names is not None and names[1] not in UNTOUCHED:
            takes = names[3] is not None and re.match(r"[A-Z\[]", names[3])
            choices = re.findall(r"[\w.-]{2,}", block[names.end() :]) if takes else []
            found.append((names[1], choices if takes else ["FLAG"]))
            if names[2] is not None:
                found.append((names[2], ["FLAG"]))
    return found


def odd_files(folder: Path) -> list[str]:
    """Write small traces of all kinds, and files that are none."""
    prompts = [[i % 3] * (i % 5 * 9 + 1) + [i] * 7 for i in range(30)]
    sessions = [f"s{i % 4}" for i in range(30)]
    whole = Trace.from_prompts(
        prompts, output_len=[i % 9 for i in range(30)], session=sessions, salt=["a", None, "b"] * 10
    )
    known = Trace.from_prompts(prompts, outputs=[[1, 2, i] for i in range(30)], session=sessions)
    hashes = Trace.from_prompts(prompts).take(range(30))
    for name, trace in (("whole", whole), ("known", known), ("one", whole.take([0]))):
        for ending in ("jsonl", "parquet", "arrow", "jsonl.gz", "jsonl.zst"):
            trace.write(folder / f"{name}.{ending}")
    hashes.take([]).write(folder / "empty.parquet")
    lines = {
        "lengths.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,4,1\n",
        "mooncake.jsonl": "".join(
            json.dumps(
                {"timestamp": i, "input_length": 1000, "output_length": 9, "hash_ids": [1, i]}
            )
            + "\n"
            for i in range(5)
        ),
        "huge.jsonl": json.dumps({"timestamp": 0, "token_ids": [1] * 40, "output_len": 4294967295}),
        "late.jsonl": json.dumps({"timestamp": 1e18, "token_ids": [1] * 40, "output_len": 2}),
        "early.jsonl": json.dumps({"timestamp": -5.5, "token_ids": [4294967295] * 40}),
        "zero.jsonl": json.dumps({"timestamp": 0, "token_ids": [], "output_len": 0}),
        "deep.jsonl": "[" * 100_000,
        "chat.jsonl": json.dumps({"conversations": [{"from": "human", "value": "hi"}]}),
        "openai.jsonl": json.dumps({"ts": 1, "messages": [{"role": "user", "content": "hi"}]}),
        "text.jsonl": json.dumps({"timestamp": 1, "input": "hi", "output": "x", "session_id": "1"}),
        "none.txt": "",
        "list.json": "[1, 2]",
        "config.json": json.dumps({"model_type": "qwen3", "num_hidden_layers": 10**12}),
        "odd_config.json": json.dumps({"model_type": [], "head_dim": -1, "layer_types": {}}),
        "coefficients.json": json.dumps({"a": float("inf")}),
        "steps.csv": "tokens,seconds\n1,nan\n",
    }
    for name, text in lines.items():
        (folder / name).write_text(text)
    whole_file = (folder / "whole.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole_file[: len(whole_file) // 2])
    (folder / "folder.jsonl").mkdir()
    (folder / "forests").mkdir()
    files = sorted(str(path) for path in folder.iterdir() if path.name != "forests")
    return [*files, str(folder / "missing.jsonl"), str(folder / "*.parquet")]


def arguments(
    draw: random.Random, files: list[str], out: Path, known: dict[str, list[tuple[str, list[str]]]]
) -> list[str]:
    """Return a random call."""
    command = draw.choice(COMMANDS)
    options = []
    for name, choices in draw.sample(
        known[command], k=min(len(known[command]), draw.choice([0, 1, 1, 2, 2, 3, 5, 8]))
    ):
        if choices == ["FLAG"]:
            options.append(name)
            continue
        if name in {"--output", "--requests-out", "--kv-events", "--steps-out", "--rejects",
                    "--sglang-steps-out", "--anonymize-key-file"}:  # fmt: skip
            ending = draw.choice(
                ["html", "json", "csv", "parquet", "jsonl", "jsonl.gz", "png", "xyz"]
            )
            options += [name, str(out / f"{draw.randrange(4)}.{ending}")]
            continue
        if name == "--cache-dir":
            options += [name, draw.choice([str(out / "forests"), *files])]
            continue
        pool = draw.choice(
            [NUMBERS, NUMBERS, SIZES, WORDS, choices or WORDS, choices or WORDS, files]
        )
        value = draw.choice(list(pool))
        if draw.random() < 0.1:
            value += "," + draw.choice(NUMBERS)
        if name == "--requests" and command == "generate" and re.fullmatch(r"\d{5,}", value):
            value = "50"
        options.append(f"{name}={value}")
    if command == "generate":
        small = [] if any(o.startswith("--requests") for o in options) else ["--requests", "50"]
        if not any(o.startswith(("-o", "--output")) for o in options):
            options += ["-o", str(out / "g.jsonl")]
        return [command, draw.choice(["chat", "agent", "parallel", "rag", "x"]), *small, *options]
    if command == "report" and not any(o in {"-o", "--output"} for o in options):
        options += ["-o", str(out / "r.html")]
    traces = draw.sample(files, k=draw.choice([1, 1, 1, 1, 2]))
    if command == "convert":
        traces.append(
            str(out / f"c.{draw.choice(['jsonl', 'parquet', 'csv', 'jsonl.gz', 'arrow'])}")
        )
    return [command, *traces, *options]


def complaint(call: list[str]) -> str | None:
    """Run a call; return what is wrong with how it ends."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(SECONDS_EACH)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(call)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # a panic is one, too
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    told = err.getvalue()
    lines = [
        line
        for line in told.splitlines()
        if not line.startswith(("prefixsim: warning: ", "prefixsim: note: "))
    ]
    if code not in {0, 2}:
        return f"exit {code}: {told}"
    if code == 2 and (len(lines) != 1 or not lines[0].startswith("prefixsim: ")):
        return f"not one line: {told!r}"
    if code == 2 and any(word in told for word in OF_PROGRAMS):
        return f"speaks of the program: {told!r}"
    if any(not c.isprintable() and c != "\n" for c in told):
        return f"obeyed by terminals: {told!r}"
    return None


def attack(seconds: float, seed: int) -> Iterator[tuple[list[str], str]]:
    """Yield calls that end badly, for so long."""
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, _stuck)
    draw = random.Random(seed)
    known = {command: options_of(command) for command in COMMANDS}
    tried = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as out:
        os.chdir(out)  # where some commands write
        files = odd_files(Path(folder))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            call = arguments(draw, files, Path(out), known)
            tried += 1
            if told := complaint(call):
                yield call, told
    sys.stderr.write(f"{tried} calls, seed {seed}\n")


if __name__ == "__main__":
    for found, told in attack(float(sys.argv[1]), int((sys.argv[2:] or ["1"])[0])):
        sys.stdout.write(f"{found}\n{told}\n\n")
        sys.stdout.flush()
