"""Single requests explained, and ``prefixsim explain`` and ``lint`` as their users run them."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.explanations.request import RequestExplanation, explain_request, find_request
from prefixsim.explanations.waterfall import ALONG, CLASSES
from prefixsim.reports.draw import bar, curve, line_of
from prefixsim.trace import Trace
from tests.oracle.forest import Block, requests_of
from tests.oracle.waterfall import common
from tests.strategies import Small, small_traces


def departures(
    prompts: list[list[int]], salts: list[str], block_size: int, capacity: int
) -> list[dict[Block, tuple[int, int | None]]]:
    """For each request, before it runs: last user of each block, and who it gave way to."""
    cache: OrderedDict[Block, None] = OrderedDict()
    used: dict[Block, int] = {}
    gone: dict[Block, int | None] = {}
    seen = []
    for i, request in enumerate(requests_of(prompts, block_size, salts=salts)):
        seen.append({block: (used[block], gone.get(block)) for block in used})
        kept = request.blocks[:capacity]
        for block in kept:
            cache.pop(block, None)
        while len(cache) + len(kept) > capacity:
            block, _ = cache.popitem(last=False)
            gone[block] = i
        for block in reversed(kept):
            cache[block] = None
        for block in request.blocks:
            used[block] = i
            if block in cache or block not in kept:
                gone[block] = None
    return seen


@given(small_traces(), st.integers(1, 3), st.integers(1, 6))
def test_each_stretch_tells_where_its_tokens_came_from_and_went(
    small: Small, size: int, capacity: int
) -> None:
    result = prefixsim.replay(small.trace(), engine="lru", block_size=size, num_blocks=capacity)
    fall = result.waterfall()
    truth = departures(small.prompts, small.salts, size, capacity)
    for row, prompt in enumerate(small.prompts):
        explained = explain_request(fall, row)
        ends = [0, *(s.end for s in explained.stretches)]
        assert [s.start for s in explained.stretches] == ends[:-1]
        assert ends[-1] == len(prompt)
        classes = explained.to_dict()["classes"]
        assert classes == {name: int(fall.tokens(name)[row]) for name in ALONG}
        for s in explained.stretches:
            if s.name == "cold":
                assert s.source is None
                continue
            assert s.source is not None
            assert s.source < row
            assert small.prompts[s.source][: s.end] == prompt[: s.end]
            if s.name in {"rounding", "isolated"}:
                continue
            assert small.salts[s.source] == small.salts[row]
            for at in range(s.start // size, s.end // size):
                block = (small.salts[row], *prompt[: (at + 1) * size])
                user, gone = truth[row][block]
                assert user == s.source
                if s.name == "evicted":
                    assert s.evicted_by == gone
                    assert s.never_kept == (gone is None)
        d = explained.divergence
        shared = max((common(prompt, p) for p in small.prompts[:row]), default=0)
        if d is None:
            assert shared in {0, len(prompt)}
        else:
            assert d.at == shared == common(prompt, small.prompts[d.other])
            assert all(common(prompt, p) < shared for p in small.prompts[d.other + 1 : row])


def test_blocks_and_text_of_a_request() -> None:
    words = ["you", "are", "a", "helpful", "assistant", "that", "likes", "cats", "dogs"]
    words += ["rain", "and", "sun"]
    first = [0, 1, 2, 3, 4, 5, 6, 7, 10]
    second = [0, 1, 2, 3, 4, 5, 6, 8, 11, 9]
    trace = Trace.from_prompts([first, second], timestamp=[0.0, 2.5]).replace(request_id=["a", "b"])
    fall = prefixsim.replay(trace, block_size=4).waterfall()
    explained = explain_request(fall, 1, lambda ids: " ".join(words[i] for i in ids))
    assert explained.blocks() == ["hit", "rounding", "cold"]
    d = explained.divergence
    assert d is not None
    assert (d.at, d.other, d.before) == (7, 0, "you are a helpful assistant that likes")
    assert (d.here, d.there) == ("dogs sun rain", "cats and")
    found = explained.to_dict()
    assert found["stretches"][0]["last_used_by"] == "a"
    assert found["divergence"]["other"] == "a"
    assert find_request(trace, "b") == 1
    with pytest.raises(InputError, match="no request '1'; its requests have ids like 'a'"):
        find_request(trace, "1")
    plain = trace.replace(request_id=None)
    assert find_request(plain, "1") == 1
    with pytest.raises(InputError, match="rows 0 to 1"):
        find_request(plain, "2")
    with pytest.raises(InputError, match="no request 7"):
        explain_request(fall, 7)


def test_a_prompt_parts_from_what_was_answered() -> None:
    trace = Trace.from_prompts([[1, 2], [1, 2, 3, 4, 9]], outputs=[[3, 4, 5, 6], [7]])
    fall = prefixsim.replay(trace, block_size=1, cache_outputs=True).waterfall()
    d = explain_request(fall, 1, lambda ids: " ".join(map(str, ids))).divergence
    assert d is not None
    assert (d.at, d.here, d.there) == (4, "9", "5 6")


def test_classes_of_an_engine_with_time() -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 999, 640).tolist()
    prompts = [[*shared, *rng.integers(0, 999, 40).tolist()] for _ in range(30)]
    trace = Trace.from_prompts(prompts, timestamp=[0.0] * 30, output_len=[60] * 30)
    settings: dict[str, Any] = {"engine": "vllm", "block_size": 16, "max_num_batched_tokens": 256}
    together = prefixsim.replay(trace, num_blocks=None, **settings).waterfall()
    assert together.totals["evicted"] == together.totals["preempted"] == 0
    apart = trace.replace(timestamp=np.arange(30.0) * 100)
    assert prefixsim.replay(apart, **settings).waterfall().totals["in_flight"] == 0
    tight = prefixsim.replay(trace, num_blocks=60, **settings)
    fall = tight.waterfall()
    assert sum(fall.totals.values()) == trace.prompt_tokens
    again = tight.outcome.columns["preempted_tokens"]
    assert fall.totals["preempted"] == again.sum()
    assert fall.totals["hit"] == tight.summary["hit_tokens"] - again.sum()
    # Recomputed prompt tokens, less those that were never found, are at most what was preempted.
    assert again.sum() <= tight.outcome.computed_tokens.sum() - (
        trace.prompt_tokens - tight.summary["hit_tokens"]
    )
    assert not again[tight.outcome.columns["preemptions"] == 0].any()


def test_in_flight_is_what_another_request_is_still_computing() -> None:
    # Two equal prompts in the same moment; a step computes 64 tokens of them.
    trace = Trace.from_prompts([range(640), range(640)], timestamp=[0.0, 0.0], output_len=[1, 1])
    config: dict[str, Any] = {"engine": "vllm", "block_size": 16, "max_num_batched_tokens": 96}
    config["long_prefill_token_threshold"] = 64
    fall = prefixsim.replay(trace, **config).waterfall()
    assert fall.totals["in_flight"] > 0
    assert fall.totals["hit"] + fall.totals["in_flight"] == 624
    assert fall.totals["last_token"] == 16
    one = next(r for r in fall.remedies if r.settings == {"engine": "ideal"})
    assert one.gained_tokens == fall.totals["in_flight"]


def test_results_can_be_replayed_with_a_change() -> None:
    trace = Trace.from_prompts([range(64)] * 3, output_len=[9] * 3, timestamp=[0.0, 1.0, 2.0])
    result = prefixsim.replay(trace, engine="vllm", latency="7ms", max_num_seqs=2)
    same = result.again()
    assert same.config == result.config
    assert result.again(num_blocks=50).config["num_blocks"] == 50
    assert result.again(trace.take([0])).summary["requests"] == 1


def test_characters() -> None:
    assert bar(1 / 16, 2) == "▏ "
    assert (bar(-1, 3), bar(2, 3)) == ("   ", "███")
    letters = {"hit": "H", "cold": "C"}
    assert len(line_of(["hit"] * 5000 + ["cold"] * 5000, letters, 10)) == 10
    lines = curve([1.0, 10.0, 100.0], [0.0, 0.5, 1.0], width=20, height=4, mark=10)
    assert lines[0].startswith("100 % │")
    assert "▲10" in lines[-1]
    assert (lines[-1].split()[0], lines[-1].split()[-1]) == ("1", "100")
    dots = [[ord(c) - 0x2800 for c in line[7:]] for line in lines[:4]]
    assert all(any(row) for row in dots)
    # From the lower left to the upper right, without a hole.
    assert dots[0][-1]
    assert dots[-1][0]
    assert all(any(column) for column in zip(*dots, strict=True))
    assert curve([], []) == []


def test_terminals_get_drawings(
    chats: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["explain", str(chats), "--engine", "lru", "--num-blocks", "10"]) == 0
    text = capsys.readouterr().out
    steps = [line for line in text.splitlines() if "█" in line]
    assert [line.split()[0] for line in steps][:2] == ["hit", "cold"]
    ends = [len(line.rstrip(" .0123456789%").rstrip()) for line in steps]
    assert ends == sorted(ends)
    assert main(["curve", str(chats), "--policy", "lru,clairvoyant"]) == 0
    text = capsys.readouterr().out
    assert text.count("100 % │") == 2
    assert main(["explain", str(chats), "--request", "r30"]) == 0
    assert "HHHH" in capsys.readouterr().out


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    head = rng.integers(0, 256, 40).tolist()
    prompts = [[*head, *rng.integers(0, 256, 30).tolist()] for _ in range(20)]
    prompts += [prompts[i] for i in range(20)]
    path = tmp_path / "chats.jsonl"
    trace = Trace.from_prompts(prompts, session=[f"s{i % 20}" for i in range(40)])
    trace.replace(request_id=[f"r{i}" for i in range(40)]).write(path)
    return path


def test_explain_prints_tables_or_json(chats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["explain", str(chats), "--engine", "lru", "--num-blocks", "10"]
    assert main(options) == 0
    text = capsys.readouterr().out
    for words in ("hit", "evicted", "policy", "what would recover them", "who loses most"):
        assert words in text
    assert main([*options, "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["trace", "config", "provenance", "waterfall"]
    fall = found["waterfall"]
    assert list(fall["classes"]) == list(CLASSES)
    assert sum(c["tokens"] for c in fall["classes"].values()) == fall["prompt_tokens"] == 2800
    evicted = fall["classes"]["evicted"]
    assert evicted["policy_tokens"] + evicted["capacity_tokens"] == evicted["tokens"]
    assert all(len(rows) <= 2 for top in fall["top"].values() for rows in top.values())


def test_explain_one_request(chats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["explain", str(chats), "--engine", "lru", "--num-blocks", "10", "--request", "r30"]
    assert main(options) == 0
    text = capsys.readouterr().out
    assert text.startswith("  HHEE")
    assert "last used by r10" in text
    assert "evicted for r1" in text
    assert main([*options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["request"]
    assert found["request_id"] == "r30"
    assert sum(found["classes"].values()) == found["prompt_len"] == 70


def test_what_cannot_be_explained_is_one_line(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = tmp_path / "h.jsonl"
    row = {"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}
    hashes.write_text(json.dumps(row) + "\n")
    for args in (
        ["explain", str(chats), "--request", "nobody"],
        ["explain", str(chats), "--engine", "magic"],
        ["explain", str(hashes), "--request", "0", "--model", "demo"],
        ["lint", str(tmp_path / "missing.jsonl")],
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert err.startswith("prefixsim: ")
        assert err.count("\n") == 1
    assert main(["lint", str(hashes)]) == 0
    assert "hash ids tell nothing" in capsys.readouterr().out


def test_lint_of_text_with_the_embedded_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "You are a helpful assistant. Answer shortly, cite sources, and never guess. " * 6
    path = tmp_path / "texts.jsonl"
    rows = [
        {
            "timestamp": 60.0 * i,
            "text": f"Today is 2026-05-{i + 10} 0{i}:15. {body}",
            "output_len": 5,
        }
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["lint", str(path), "--model", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["lint"]
    assert [f["kind"] for f in found["findings"]] == ["timestamp"]
    assert found["findings"][0]["requests"] == 7
    assert main(["lint", str(path), "--model", "demo"]) == 0
    text = capsys.readouterr().out
    assert "timestamp" in text
    assert "move the time behind the shared text" in text
    assert main(["report", str(path), "--model", "demo", "-o", str(tmp_path / "r.html")]) == 0
    assert "Prompt lint" in (tmp_path / "r.html").read_text()


def test_notebooks_show_tables() -> None:
    trace = Trace.from_prompts([range(40), range(48), range(16)])
    fall = prefixsim.replay(trace).waterfall()
    assert "<table" in fall._repr_html_()
    explained = explain_request(fall, 1)
    assert isinstance(explained, RequestExplanation)
    assert "<table" in explained._repr_html_()
    from prefixsim.explanations.lint import lint

    assert "nothing found" in lint(prefixsim.compile(trace))._repr_html_()


def test_the_vllm_engine_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(4)
    head = rng.integers(0, 99, 160).tolist()
    prompts = [[*head, *rng.integers(0, 99, 20).tolist()] for _ in range(12)]
    trace = Trace.from_prompts(
        prompts, timestamp=[0.0] * 12, outputs=[rng.integers(0, 99, 30).tolist()] * 12
    )
    path = tmp_path / "burst.jsonl"
    trace.write(path)
    args = [str(path), "--num-blocks", "60", "--latency", "10ms", "--max-num-batched-tokens", "64"]
    assert main(["explain", *args, "--long-prefill-token-threshold", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["engine"] == "vllm"
    assert found["config"]["cache_outputs"] is True
    classes = found["waterfall"]["classes"]
    assert sum(c["tokens"] for c in classes.values()) == 12 * 180
    page = tmp_path / "r.html"
    assert main(["report", *args, "-o", str(page)]) == 0
    capsys.readouterr()
    both = ["--engine", "lru,vllm", "--num-blocks", "60", "-o", str(page)]
    assert main(["report", str(path), *both]) == 0
    assert '<section id="comparison">' in page.read_text()
    assert main(["explain", str(path), "--engine", "lru", "--latency", "10ms"]) == 2
    assert "'vllm' and 'sglang' have" in capsys.readouterr().err
