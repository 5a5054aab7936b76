"""Groups by hand and of models, and the settings of vLLM that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim.cli import main
from prefixsim.engines import load, settings_for, why_refused
from prefixsim.engines.vllm.drafting import accepted_drafts, read_acceptance
from prefixsim.engines.vllm.kv_groups import Grouping, KvGroup, read_groups, written_groups
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.errors import InputError
from prefixsim.trace import Trace
from tests.engines.test_golden_vllm_hybrid_oracle import MICRO
from tests.oracle.hybrid_scheduler import config_of
from tests.oracle.kv_groups import CacheConfig, Group


@pytest.fixture
def trace() -> Trace:
    prompts = [[*range(64), 1000 + i, *range(40)] for i in range(8)]
    return Trace.from_prompts(prompts, output_len=[2] * 8)


def made(**given: Any) -> VllmSettings:
    settings = settings_for(load("vllm"), given).for_model()
    assert isinstance(settings, VllmSettings)
    return settings


@pytest.mark.parametrize(
    "text",
    [
        "full",
        "full,sliding_window=1024:5",
        "full@544,mamba@544:3",
        "full/draft,sliding_window=128@32",
        "full@64,mamba/checkpoint=1@64:2",
        "chunked_local=8192:3,full",
        "mamba/draft/checkpoint=4@8",
    ],
)
def test_groups_are_written_as_they_are_read(text: str) -> None:
    assert written_groups(read_groups(text)) == text


def test_counts_and_spaces() -> None:
    groups = read_groups("full:1, sliding_window=16:2")
    window = KvGroup("sliding_window", span=16)
    assert groups == (KvGroup("full"), window, window)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no group"),
        ("full:0", "give 1 to 64 groups"),
        ("full:65", "give 1 to 64 groups"),
        ("full:40,mamba:40", "80 groups"),
        ("ful", "no kind 'ful'"),
        ("sliding_window", "say of how many tokens"),
        ("sliding_window=1", "say of how many tokens"),
        ("full=3", "full attention has no span"),
        ("full@0", "give 1 to"),
        ("full@99999999", "give 1 to"),
        ("full/checkpoint=1", "no mark /checkpoint=1"),
        ("mamba/checkpoint", "no mark /checkpoint"),
        ("full/draft=2", "no mark /draft=2"),
        ("full;mamba", "is no group"),
    ],
)
def test_what_is_no_group(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        made(kv_groups=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("run", MICRO, ids=lambda run: run["kind"])
def test_what_follows_from_groups_is_as_recorded(run: dict[str, Any]) -> None:
    config = run["config"]
    cache = config_of(config).cache
    grouping = Grouping(
        tuple(
            KvGroup(g.type, g.block_size, g.window or g.chunk, g.checkpoint_alignment or 0)  # type: ignore[arg-type]
            for g in cache.groups
        ),
        config["prefix_match_unit"],
    )
    if not cache.caching:
        return
    derived = run["derived"]
    assert grouping.scheduler_block_size == derived["scheduler_block_size"]
    assert grouping.hash_block_size == derived["hash_block_size"]
    assert grouping.hit_alignment == derived["hit_alignment"]


@pytest.mark.parametrize(
    ("model", "given", "groups", "blocks"),
    [
        ("llama-3.1-8b", {}, None, None),
        ("gemma-3-27b", {}, "sliding_window=1024@16:6,full@16", 16384),
        ("gpt-oss-20b", {}, "sliding_window=128@16,full@16", 54613),
        ("qwen3-next-80b-a3b", {}, "mamba@544:3,full@544", 1606),
        ("qwen3-next-80b-a3b", {"block_size": 512}, "mamba@1024:3,full@1024", 853),
        ("nemotron-3-nano-30b-a3b", {}, "mamba/checkpoint=1@2096:4,full@2096", 1667),
        ("gemma-3-27b", {"disable_hybrid_kv_cache_manager": True}, None, None),
    ],
)
def test_groups_of_a_model(
    model: str, given: dict[str, Any], groups: str | None, blocks: int | None
) -> None:
    settings = made(model_config=model, num_blocks="20GiB", **given)
    assert (None if settings.grouping is None else str(settings.grouping)) == groups
    if blocks is not None:
        assert settings.blocks == blocks
        assert settings.for_model() == settings


def test_chunks_beside_a_drafter_keep_everything() -> None:
    drafter = {"spec_method": "eagle", "num_speculative_tokens": 1}
    given = {"model_config": "llama-4-scout", "tensor_parallel": 8, "num_blocks": 100}
    assert made(**given).grouping is not None
    assert made(**given, **drafter).grouping is None
    with pytest.raises(InputError, match="no chunks beside a drafter's layers"):
        made(kv_groups="full,chunked_local=64", **drafter)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"kv_groups": "full,mamba@64", "prefix_match_unit": 24}, "give a divisor of 16, 64"),
        ({"kv_groups": "full,chunked_local=64@8"}, "needs blocks of the 16 tokens"),
        ({"kv_groups": "full,mamba:3", "num_blocks": "3GB"}, "give a number of blocks"),
        ({"kv_groups": "full,mamba", "sliding_window": 8}, "both say the same"),
        ({"kv_groups": "full,mamba", "retention_interval": 24}, "must be a multiple of 16"),
        ({"kv_groups": "full,mamba", "arrivals": "sequential"}, "is of one KV cache group"),
        ({"model_config": "gemma-3-27b", "sliding_window": 8}, "has groups of its own"),
        ({"model_config": "gemma-3-27b", "version": "0.22"}, "makes 7 KV cache groups"),
        ({"model_config": "gemma-3-27b", "num_blocks": "1MB"}, "less than two blocks"),
        ({"kv_groups": "full,mamba", "version": "0.30"}, "give a version from 0.31"),
        ({"async_scheduling": True, "version": "0.28"}, "give a version from 0.31"),
        ({"prefix_match_unit": 8}, "one group has hashes of its blocks"),
        ({"spec_method": "eagle"}, "one needs the other"),
        ({"num_speculative_tokens": 2}, "one needs the other"),
        ({"spec_method": "medusa", "num_speculative_tokens": 1}, "choose one of eagle"),
        ({"eagle_hits": "drop"}, "is of drafters with layers"),
        ({"scheduling_policy": "priority"}, "one needs the other"),
        ({"priorities": "1,2"}, "one needs the other"),
        ({"priorities": "1,-2", "scheduling_policy": "priority"}, "whole numbers from 0"),
        ({"mamba_shared_prefix_checkpoint": True}, "has no effect without"),
        (
            {"spec_method": "ngram", "num_speculative_tokens": 1, "async_scheduling": True},
            "none with n-gram drafts",
        ),
        ({"async_scheduling": True, "arrivals": "sequential"}, "have no steps"),
        ({"spec_acceptance": 1.5}, "give a share like 0.7"),
    ],
)
def test_what_cannot_go_together(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        made(**given)
    assert "\n" not in str(caught.value)


def test_defaults_of_asynchronous_scheduling() -> None:
    assert made().asynchronous
    assert made(version="0.31").asynchronous
    assert not made(async_scheduling=False).asynchronous
    assert not made(version="0.30").asynchronous
    assert not made(arrivals="sequential").asynchronous
    assert not made(spec_method="ngram", num_speculative_tokens=2).asynchronous


def test_accepted_drafts_have_the_mean_of_their_share() -> None:
    taken = accepted_drafts(0.7, 3)
    assert set(taken) == {0, 1, 2, 3}
    assert sum(taken) / len(taken) == pytest.approx(0.7 + 0.7**2 + 0.7**3, abs=0.03)
    assert accepted_drafts(0.7, 3) == taken
    assert set(accepted_drafts(1, 2)) == {2}
    assert set(accepted_drafts(0, 2)) == {0}
    assert accepted_drafts(read_acceptance("2, 0,1"), 3) == [2, 0, 1]


@pytest.mark.parametrize(
    "name", ["max_num_active_seqs", "prefill_schedule_interval", "mamba_cache_mode"]
)
def test_a_setting_that_is_not_followed_is_refused_by_name(
    trace: Trace, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = why_refused(name)
    assert reason is not None
    for engine in ("vllm", None):
        with pytest.raises(InputError, match=f"{name}: engine 'vllm' does not follow it"):
            asked: dict[str, Any] = {"engine": engine, name: 4}
            prefixsim.replay(trace, **asked)
    path = tmp_path / "trace.jsonl"
    trace.write(path)
    flag = f"--{name.replace('_', '-')}"
    assert main(["replay", str(path), "--engine", "vllm", flag, "4"]) == 2
    err = capsys.readouterr().err
    assert f"{flag}: engine 'vllm' does not follow it" in err
    assert err.count("\n") == 1


def test_results_say_which_groups_were_used(trace: Trace) -> None:
    found = prefixsim.replay(trace, engine="vllm", kv_groups="full@32,mamba@32:2", num_blocks=60)
    assert found.config["kv_groups"] == "full@32,mamba@32:2"
    assert found.config["block_size"] == found.config["hit_alignment"] == 32
    assert "groups full@32,mamba@32:2 · async scheduling" in found.description
    fine = found.again(prefix_match_unit=8)
    assert (fine.config["hash_block_size"], fine.config["block_size"]) == (8, 32)
    assert "hits at multiples of 8" in fine.description
    plain = prefixsim.replay(trace, engine="vllm", num_blocks=60, async_scheduling=False)
    assert plain.config["kv_groups"] is None
    assert "async" not in plain.description


def test_several_groups_on_the_command_line(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.jsonl"
    trace.write(path)
    groups = "full,sliding_window=32:2;full@32,mamba@32"
    args = ["compare", str(path), "--engine", "vllm", "--num-blocks", "90", "--kv-groups", groups]
    assert main([*args, "--prefix-caching", "on", "--json"]) == 0
    out = capsys.readouterr().out
    assert "full,sliding_window=32:2" in out
    assert "full@32,mamba@32" in out


def test_hash_ids_must_be_whole_in_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    row = {"timestamp": 0, "input_length": 1100, "output_length": 1, "hash_ids": [1, 2, 3]}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="must be a multiple of 512"):
        prefixsim.replay(path, engine="vllm", kv_groups="full@64,mamba@64", num_blocks=99)
    drafter: dict[str, Any] = {"spec_method": "eagle", "num_speculative_tokens": 1}
    with pytest.raises(InputError, match="hash ids do not tell the next token"):
        prefixsim.replay(path, engine="vllm", num_blocks=99, **drafter)


def test_the_cache_config_of_the_oracle_agrees_on_fine_mode() -> None:
    for text, unit in (("full@16,mamba@32", None), ("full@32,mamba@32", 8), ("mamba@32", None)):
        grouping = Grouping(read_groups(text), unit)
        groups = tuple(Group(g.kind, g.size) for g in grouping.groups)
        cache = CacheConfig(groups, 9, prefix_match_unit=unit)
        assert (grouping.fine, grouping.hit_alignment) == (cache.fine, cache.alignment)
