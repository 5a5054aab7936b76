"""The contract of an engine: one declaration, and everything else follows from it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import prefixsim
from prefixsim import engines
from prefixsim.cli import COMMANDS, command, main
from prefixsim.engines import Capabilities, Engine, EngineSettings, Outcome, Record
from prefixsim.errors import InputError
from prefixsim.settings import build, options_of, schema, setting
from prefixsim.trace import Trace

PACKAGE = Path(prefixsim.__file__).parent
WITH_ENGINES = ("replay", "explain", "fleet", "report", "compare", "sweep", "validate", "reorder")


@dataclass(frozen=True)
class ToySettings(EngineSettings):
    """A toy with two options."""

    share_kept: float = setting(1.0, help="Share of every hit that is kept.", least=0, most=1)
    mode_of_toy: str = setting("plain", help="How it plays.", choices=("plain", "fancy"))


def toy(forest: prefixsim.Forest, settings: ToySettings) -> Outcome:
    most = forest.profile(settings.tokens_per_block).replay("lru")["hit_blocks"]
    blocks = (most * settings.share_kept).astype(np.uint32)
    tokens = blocks * np.uint32(settings.tokens_per_block)
    half = tokens // np.uint32(2)
    return Outcome(
        "toy",
        settings.to_config("toy"),
        tokens,
        blocks,
        forest.trace.prompt_len - tokens,
        tier_hit_tokens={"hbm": tokens - half, "dram": half},
        replica=np.zeros(len(tokens), dtype=np.uint32),
        loaded_tokens=half,
        stored_tokens=half,
        records={"diary": lambda path: Path(path).write_text("dear diary")},
    )


@pytest.fixture
def toy_engine() -> Iterator[Engine]:
    record = Record("diary", "--diary-out", "Write a diary.")
    capabilities = Capabilities(records=(record,))
    yield engines.register(Engine("toy", "a toy", ToySettings, toy, capabilities))
    engines.unregister("toy")


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    prompts = [[100 * (i % 3) + t for t in range(20 + 7 * i)] for i in range(12)]
    Trace.from_prompts(prompts, output_len=[3] * 12).write(path)
    return path


def test_commands_that_take_an_engine() -> None:
    assert {n for n in COMMANDS if command(n).engines != "none"} == set(WITH_ENGINES)


@pytest.mark.usefixtures("toy_engine")
@pytest.mark.parametrize("name", WITH_ENGINES)
def test_a_registered_engine_is_in_every_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--share-kept" in told
    assert "--mode-of-toy" in told
    assert "plain, fancy" in " ".join(told.split())
    assert ("--diary-out" in told) == (command(name).engines == "one")
    assert "Engine toy:" in told


@pytest.mark.usefixtures("toy_engine")
def test_a_registered_engine_runs_in_every_command(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--engine", "toy", "--block-size", "4"]
    diary = tmp_path / "diary.txt"
    one = [*options, "--share-kept", "0.5", "--json"]
    assert main(["replay", str(chats), *one, "--diary-out", str(diary)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert diary.read_text() == "dear diary"
    assert told["config"]["engine"] == "toy"
    assert (told["config"]["share_kept"], told["config"]["mode_of_toy"]) == (0.5, "plain")
    tiers = told["summary"]["tiers"]
    assert tiers["hbm"]["hit_tokens"] + tiers["dram"]["hit_tokens"] == told["summary"]["hit_tokens"]
    assert told["summary"]["loaded_tokens"] == tiers["dram"]["hit_tokens"]
    assert main(["explain", str(chats), *one]) == 0
    fall = json.loads(capsys.readouterr().out)
    assert fall["waterfall"]["classes"]["hit"]["tokens"] == told["summary"]["hit_tokens"]
    assert main(["sweep", str(chats), *options, "--share-kept", "0,0.5,1", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["share_kept"] for run in runs] == [0.0, 0.5, 1.0]
    assert [run["hit_tokens"] for run in runs] == sorted(run["hit_tokens"] for run in runs)
    several = ["--engine", "toy,ideal", "--mode-of-toy", "plain,fancy", "--rank-by", ""]
    assert main(["compare", str(chats), *several, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    kinds = [(run["settings"]["engine"], run["settings"].get("mode_of_toy")) for run in runs]
    assert kinds.count(("ideal", None)) == 2  # with caching and without
    assert {("toy", "plain"), ("toy", "fancy")} <= set(kinds)
    assert main(["compare", str(chats), "--engine", "toy,vllm,ideal"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[2:8]].index("vllm") == 0  # it alone has a TTFT
    assert any(row.split()[:2] == ["scheduling", "vllm"] for row in rows)
    assert main(["compare", str(chats), "--engine", "toy,ideal"]) == 0
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert main(["report", str(chats), *options, "--share-kept", "0.5,1", "-o", str(page)]) == 0
    assert "toy" in page.read_text()


@pytest.mark.usefixtures("toy_engine")
def test_tiers_and_replicas_are_columns(chats: Path) -> None:
    requests = prefixsim.replay(chats, engine="toy", block_size=4).requests
    names = ["hit_tokens_hbm", "hit_tokens_dram", "replica", "loaded_tokens", "stored_tokens"]
    assert [name for name in requests.column_names if name in names] == names


def test_an_engine_need_not_be_registered(chats: Path) -> None:
    engine = Engine("toy", "a toy", ToySettings, toy)
    result = prefixsim.replay(chats, engine=engine, share_kept=0.5)
    assert result.engine is engine
    assert result.again(share_kept=0.0).summary["hit_tokens"] == 0
    same = prefixsim.replay(chats, engine=engine, settings=ToySettings(share_kept=0.5))
    assert same.outcome.hit_tokens.tolist() == result.outcome.hit_tokens.tolist()


@dataclass(frozen=True)
class Silent(EngineSettings):
    """An option nobody explains."""

    speed: int = setting(1, help="")


@dataclass(frozen=True)
class Strange(EngineSettings):
    """An option of a type that nothing can read."""

    speed: complex = setting(1j, help="Speed.")


@dataclass(frozen=True)
class Clash(EngineSettings):
    """An option that means something else in another engine."""

    max_num_seqs: str = setting("few", help="How many.")


@dataclass(frozen=True)
class SameFlag(EngineSettings):
    """An option under a flag that another engine's option has."""

    rules: str = setting("old", help="Rules.", flag="--vllm-version")


def lonely(forest: prefixsim.Forest) -> None:
    """Takes too little."""


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        (Engine("Toy", "t", ToySettings, toy), "a name is lower-case words"),
        (Engine("vllm", "t", ToySettings, toy), "is there already"),
        (Engine("lru", "t", ToySettings, toy), "is there already"),
        (Engine("toy", "t", dict, toy), "derived from EngineSettings"),  # type: ignore[arg-type]
        (Engine("toy", "t", Silent, toy), "option speed has no help"),
        (Engine("toy", "t", Strange, toy), "complex needs read=..."),
        (Engine("toy", "t", Clash, toy), "engine 'vllm' has it as int"),
        (Engine("toy", "t", SameFlag, toy), "which is version of engine 'vllm'"),
        (Engine("toy", "t", ToySettings, lonely), "must take a forest and settings"),  # type: ignore[arg-type]
        (Engine("toy", "t", ToySettings, "no.such:thing"), "cannot be imported"),
        (Engine("toy", "t", ToySettings, 7), "must be a function"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_at_once(engine: Engine, problem: str) -> None:
    known = engines.engine_names()
    with pytest.raises(InputError, match=re.escape(problem)):
        engines.register(engine)
    assert engines.engine_names() == known


@pytest.mark.parametrize("name", engines.engine_names())
def test_every_engine_declares_itself_well(name: str) -> None:
    engine = engines.load(name)
    assert pickle.loads(pickle.dumps(engine)) == engine
    options = options_of(engine.settings)
    assert len({flag for option in options for flag in option.flags}) == sum(
        len(option.flags) for option in options
    )
    for option in options:
        assert option.help.endswith(".") or option.choices, option.name
        assert option.check(option.default) == option.default, option.name
    declared = schema(engine.settings)["properties"]
    assert set(declared) == {option.name for option in options}
    assert build(engine.settings, {}) == engine.settings()
    json.dumps(schema(engine.settings))


def test_no_engine_is_named_outside_engines() -> None:
    # "tiers" is also a key of summaries, so that quotes around it tell nothing.
    names = "|".join(name for name in engines.engine_names() if name != "tiers")
    quoted = re.compile(rf"""["'](?:{names})["']""")
    prose = re.compile(r"\"\"\".*?\"\"\"|#[^\n]*", re.S)
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        # Formats lie below engines, and one may be called like one.
        if any(path.is_relative_to(PACKAGE / folder) for folder in ("engines", "formats")):
            continue
        code = prose.sub("", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(PACKAGE)}: {m[0]}" for m in quoted.finditer(code)]
    assert found == []


def test_the_engine_that_has_the_options_is_meant(chats: Path) -> None:
    trace = Trace.read(chats)
    for options, name in (
        ({}, "ideal"),
        ({"num_blocks": 50}, "block-manager"),
        ({"num_blocks": 50, "concurrency": 2}, "block-manager"),
        ({"concurrency": 2}, "block-manager"),
        ({"num_blocks": 50, "policy": "clairvoyant"}, "ideal"),
        ({"num_blocks": 200, "max_num_batched_tokens": 512}, "vllm"),
    ):
        assert prefixsim.replay(trace, **options).engine.name == name
    with pytest.raises(InputError, match="did you mean 'num_blocks'"):
        prefixsim.replay(trace, num_block=5)
    with pytest.raises(InputError, match="no engine has all of"):
        prefixsim.replay(trace, policy="clairvoyant", concurrency=3)


def test_sizes_in_bytes_are_blocks(chats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sized = ["--num-blocks", "1MiB", "--bytes-per-token", "1024", "--block-size", "4"]
    for engine in ("ideal", "block-manager", "vllm"):
        assert main(["replay", str(chats), "--engine", engine, *sized, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["config"]["num_blocks"] == 2**20 // 4096
    assert main(["replay", str(chats), "--num-blocks", "1MiB"]) == 2
    assert "--bytes-per-token, or --model-config" in capsys.readouterr().err
