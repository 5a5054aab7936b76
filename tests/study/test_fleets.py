"""`prefixsim.fleet`: routers, figures, pools, scaling, engines, a router of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim import Trace
from prefixsim._core import RoutedRequest, RouterView
from prefixsim.errors import InputError
from prefixsim.routing import (
    Router,
    RouterSettings,
    load_router,
    register_router,
    router_names,
    routers,
    unregister_router,
)
from prefixsim.routing.durations import read_scaling, read_seconds
from prefixsim.routing.traffic import holds
from prefixsim.settings import options_of, setting
from prefixsim.study.fleet_result import FleetResult


def chats(requests: int = 300, *, seed: int = 0, sessions: bool = True) -> Trace:
    """Conversations under two system prompts."""
    rng = np.random.default_rng(seed)
    heads = [rng.integers(0, 99, 48).tolist() for _ in range(2)]
    said: dict[int, list[int]] = {}
    prompts, names = [], []
    for _ in range(requests):
        who = int(rng.integers(0, 40))
        said[who] = said.get(who, heads[who % 2]) + rng.integers(0, 99, 20).tolist()
        prompts.append(list(said[who]))
        names.append(f"user-{who}")
    return Trace.from_prompts(
        prompts,
        timestamp=[0.1 * i for i in range(requests)],
        output_len=rng.integers(0, 300, requests),
        session=names if sessions else None,
        name="chats",
    )


TRACE = chats()


def run(router: Any = ("round-robin", "dynamo"), **more: Any) -> FleetResult:
    given: dict[str, Any] = {"replicas": 4, "num_blocks": 100, "block_size": 16, **more}
    return prefixsim.fleet(given.pop("trace", TRACE), router=router, **given)


def test_every_router_adds_up() -> None:
    found = run(router_names())
    assert [r.router for r in found.runs] == router_names()
    for one in found.runs:
        s = one.summary
        assert sum(s["requests_per_replica"]) == s["requests"] == len(TRACE)
        computed = sum(s["computed_tokens_per_replica"])
        assert computed + s["hit_tokens"] == s["prompt_tokens"] == TRACE.prompt_tokens
        assert s["best_replica_hit_tokens"] - s["hit_tokens"] == s["regret_tokens"] >= 0
        causes = s["regret_by_cause"].values()
        assert sum(c["tokens"] for c in causes) == s["regret_tokens"]
        assert sum(c["requests"] for c in causes) == s["regret_requests"]
        assert s["imbalance_requests"] >= 1 and s["replication_factor"] >= 1
    pooled = found.runs[-1]
    assert pooled.summary["share_of_pooled"] == 1.0
    wanted = prefixsim.replay(TRACE, engine="ideal", num_blocks=400, block_size=16)
    assert pooled.summary["hit_tokens"] == wanted.summary["hit_tokens"]
    greedy = next(r for r in found.runs if r.router == "greedy")
    assert greedy.summary["regret_tokens"] == 0


def test_one_replica_is_a_replay() -> None:
    wanted = prefixsim.replay(TRACE, engine="ideal", num_blocks=100, block_size=16)
    for one in run(router_names(), replicas=1).runs:
        assert np.array_equal(one.hit_tokens, wanted.outcome.hit_tokens), one.router
        assert one.summary["regret_tokens"] == 0


def test_same_seed_same_bytes() -> None:
    names = [name for name in router_names() if name != "pooled"]
    assert run(names, seed=3).to_json() == run(names, seed=3).to_json()
    first, other = (run("random", seed=seed).runs[0].replica for seed in (1, 2))
    assert not np.array_equal(first, other)


def test_sessions_are_inferred() -> None:
    without = chats(sessions=False)
    names = ["sticky", "sglang-consistent-hashing", "consistent-hash", "production-stack-session"]
    given, guessed = run(names), run(names, trace=without)
    assert guessed.config["sessions"] == "inferred" and given.config["sessions"] == "trace"
    for a, b in zip(given.runs[:1], guessed.runs[:1], strict=True):
        assert np.array_equal(a.replica, b.replica)


def test_options_go_to_the_routers_that_have_them() -> None:
    found = run(
        ["round-robin", "sglang-cache-aware"],
        balance_abs_threshold=[1, 64],
        cache_threshold=0.4,
    )
    assert [r.label for r in found.runs] == [
        "round-robin",
        "sglang-cache-aware, balance_abs_threshold 1, cache_threshold 0.4",
        "sglang-cache-aware, balance_abs_threshold 64, cache_threshold 0.4",
    ]
    with pytest.raises(InputError, match="none of these routers has balance_abs_threshold"):
        run("dynamo", balance_abs_threshold=3)
    with pytest.raises(InputError, match="did you mean 'cache_threshold'"):
        run("sglang-cache-aware", cache_treshold=3)
    with pytest.raises(InputError, match="cache_threshold is 3"):
        run("sglang-cache-aware", cache_threshold=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"router": "dynamos"}, "did you mean dynamo"),
        ({"router": []}, "at least one of each"),
        ({"replicas": 0}, "give 1 to 64"),
        ({"replicas": 65}, "give 1 to 64"),
        ({"scale": "600"}, "give a time and a change"),
        ({"scale": "600s:-9"}, "no replica is left"),
        ({"scale": "9s:+1,5s:+1"}, "in order of time"),
        ({"hold": "soon"}, "a time like 20ms"),
        ({"hold": [1, 2]}, "give 300 numbers"),
        ({"event_delay": "5ms"}, "a number of requests"),
        ({"event_delay": 5, "engine": "vllm"}, "a time like 50ms"),
        ({"engine": "block-manager"}, "is no replica"),
        ({"policy": "fifo"}, "is an LRU cache of prompts"),
        ({"enable_caching": False}, "is no replica"),
        ({"decode_replicas": 0}, "give 1 to 64"),
        ({"decode_replicas": 2, "decider": "never"}, "choose always"),
        ({"decode_replicas": 2, "scale": "1s:+1"}, "without engines, scale"),
        ({"seed": -1}, "at least 0"),
        ({"router": 3}, "is no router"),
        ({"total_blocks": 5000}, "no num_blocks beside it"),
        ({"characters_per_token": 0}, "give 1 to 1000"),
        ({"arrivals": "start", "engine": "vllm"}, "those of the trace"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(**{"router": "dynamo", **given})


def test_a_router_of_ones_own() -> None:
    class Least:
        def __init__(self) -> None:
            self.ended = 0

        def route(self, request: RoutedRequest, view: RouterView) -> int:
            assert request.prompt_tokens > 0 and request.session.startswith("user-")
            assert len(view.cached_blocks) == len(view.waiting) == len(view.running) == 4
            return min(view.available, key=lambda w: view.loads[w])

        def finished(self, request: int, replica: int) -> None:
            self.ended += 1

    mine = Least()
    found = run([mine, "least-loaded"])
    assert np.array_equal(found.runs[0].replica, found.runs[1].replica)
    assert found.runs[0].router == "Least" and mine.ended > 0
    served = run([Least(), "least-loaded"], engine="vllm")
    assert np.array_equal(served.runs[0].replica, served.runs[1].replica)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(7, "no replica that takes requests"), ("x", "must return the number"), (None, "must return")],
)
def test_a_wrong_answer_is_said(answer: Any, message: str) -> None:
    class Wrong:
        def route(self, request: Any, view: Any) -> Any:
            return answer

    with pytest.raises(InputError, match=message):
        run(Wrong())


def test_what_a_router_raises_comes_through() -> None:
    class Breaks:
        def route(self, request: Any, view: Any) -> int:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(Breaks())


@dataclass(frozen=True)
class EverySettings(RouterSettings):
    every: int = setting(2, help="Go on after so many.", least=1)


class Every:
    def __init__(self, settings: EverySettings) -> None:
        self.every = settings.every

    def route(self, request: Any, view: Any) -> int:
        place: int = view.available[request.index // self.every % len(view.available)]
        return place


def test_a_registered_router_is_known_like_ours() -> None:
    register_router(Router("every", "blocks of requests", EverySettings, Every, "nothing"))
    try:
        found = run(["every", "round-robin"], every=[1, 3])
        assert [r.label for r in found.runs] == ["every, every 1", "every, every 3", "round-robin"]
        assert np.array_equal(found.runs[0].replica, found.runs[2].replica)
        with pytest.raises(InputError, match="is there already"):
            register_router(Router("every", "again", EverySettings, Every))
    finally:
        unregister_router("every")
    unusable: list[tuple[str, Any, str]] = [
        ("Bad name", Every, "lower-case words"),
        ("mine", "cache_aware", "must be callable"),
        ("mine", lambda: None, "must be callable"),
    ]
    for name, rule, message in unusable:
        with pytest.raises(InputError, match=message):
            register_router(Router(name, "", EverySettings, rule))
    with pytest.raises(InputError, match="derived from RouterSettings"):
        register_router(Router("mine", "", int, Every))  # type: ignore[arg-type]


def test_every_option_says_what_it_is() -> None:
    kinds: dict[str, type] = {}
    for router in routers().values():
        assert router.title and router.looks_at
        assert not router.knob or router.knob in router.options
        for option in options_of(router.settings):
            assert option.help.endswith(".") and kinds.setdefault(option.name, option.kind)
            assert kinds[option.name] is option.kind


def test_scaling_out_costs_what_the_rehash_moves() -> None:
    names = ["sglang-consistent-hashing", "consistent-hash", "round-robin"]
    found = run(names, scale="15s:+1")
    modulo, ring, _ = (r.summary["scaling"][0] for r in found.runs)
    assert modulo["time_s"] == 15 and modulo["replicas"] == 1
    assert modulo["requests_elsewhere"] > 2 * ring["requests_elsewhere"] > 0
    assert modulo["hit_tokens_lost"] > ring["hit_tokens_lost"]
    assert len(found.runs[0].summary["requests_per_replica"]) == 5
    fewer = run(router_names()[:-1], scale=[(10.0, -2), (20.0, 1)])
    for one in fewer.runs:
        late = one.replica[TRACE.timestamp >= 20]
        assert set(late.tolist()) <= {0, 1, 4}, one.router
        middle = one.replica[(TRACE.timestamp >= 10) & (TRACE.timestamp < 20)]
        assert set(middle.tolist()) <= {0, 1}, one.router
    assert "after each change" in found.tables()[-1].title


def test_events_that_come_late_cost_hits() -> None:
    now, late = (run("dynamo", hold=0, event_delay=delay).runs[0] for delay in (0, 100))
    assert late.summary["hit_tokens"] < now.summary["hit_tokens"]
    assert late.summary["regret_by_cause"]["missing"]["tokens"] > 0
    assert now.summary["regret_by_cause"]["missing"]["tokens"] == 0


def test_prefill_and_decode_apart() -> None:
    def figures(decider: str) -> dict[str, Any]:
        found = run("least-loaded", decode_replicas=3, decider=decider)
        return found.runs[0].summary

    always, never, some = figures("always"), figures("0"), figures("40")
    assert always["remote_requests"] == len(TRACE) and never["remote_requests"] == 0
    assert 0 < some["remote_requests"] < len(TRACE)
    assert sum(always["requests_per_replica"]) == len(TRACE)
    assert sum(never["decode_computed_tokens_per_replica"]) + never["hit_tokens"] == (
        TRACE.prompt_tokens
    )
    alone = run("least-loaded", replicas=3, hold=None).runs[0]
    assert never["hit_tokens"] > 0 and alone.summary["hit_tokens"] > 0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_engines_as_replicas(engine: str) -> None:
    size: dict[str, Any] = (
        {"num_blocks": 101} if engine == "vllm" else {"num_blocks": 1600, "block_size": 1}
    )
    names = ["round-robin", "least-loaded", "dynamo", "llm-d-precise", "sglang-cache-aware"]
    found = run(names, engine=engine, **size)
    for one in found.runs:
        s = one.summary
        assert s["ttft_s"]["median"] > 0 and s["ttft_s"]["p99"] >= s["ttft_s"]["median"]
        assert sum(s["requests_per_replica"]) == len(TRACE)
        assert s["token_hit_rate"] > 0
    one = run("round-robin", engine=engine, replicas=1, **size).runs[0]
    # Replicas of vLLM are synchronous: a router sees what the last step left.
    alone: dict[str, Any] = {"async_scheduling": False} if engine == "vllm" else {}
    wanted = prefixsim.replay(TRACE, engine=engine, **{"block_size": 16, **size, **alone})
    assert np.array_equal(one.hit_tokens, wanted.outcome.hit_tokens)
    assert np.array_equal(one.times["ttft_s"], wanted.outcome.columns["ttft_s"])


def test_engines_tell_of_their_caches() -> None:
    """An unlimited cache and little traffic: what events tell is what is found."""
    slow = TRACE.replace(timestamp=np.arange(len(TRACE)) * 100.0)
    for engine in ("vllm", "sglang"):
        found = run("dynamo", trace=slow, engine=engine, num_blocks=None, cache_outputs=False)
        one = found.runs[0]
        assert np.array_equal(one.raw["hit_tokens"], one.hit_tokens), engine
        assert one.summary["predicted"]["not_predicted_tokens"] == 0
    late = run("dynamo", trace=slow, engine="vllm", num_blocks=None, event_delay="1000000s")
    assert late.runs[0].summary["predicted"]["tokens"] == 0
    with pytest.raises(InputError, match="leave the event delay out"):
        run("dynamo", engine="sglang", event_delay="5ms")


@pytest.mark.parametrize(
    "hybrid",
    [
        {"kv_groups": "full:1,sliding_window=32:2"},
        {"kv_groups": "full:1,mamba:1", "spec_method": "eagle", "num_speculative_tokens": 2},
    ],
)
def test_replicas_with_several_groups(hybrid: dict[str, Any]) -> None:
    own: dict[str, Any] = {"engine": "vllm", **hybrid}
    one = run("round-robin", replicas=1, num_blocks=400, **own).runs[0]
    own_alone = {**own, "block_size": 16, "num_blocks": 400, "async_scheduling": False}
    wanted = prefixsim.replay(TRACE, **own_alone)
    assert np.array_equal(one.hit_tokens, wanted.outcome.hit_tokens)
    assert np.array_equal(one.times["ttft_s"], wanted.outcome.columns["ttft_s"])
    # With little traffic what the router sees is what the request finds, and it is less than
    # one group would have.
    slow = TRACE.replace(timestamp=np.arange(len(TRACE)) * 100.0)
    found = run("dynamo", trace=slow, num_blocks=4000, cache_outputs=False, **own).runs[0]
    assert np.array_equal(found.raw["hit_tokens"], found.hit_tokens)
    plain = run("dynamo", trace=slow, engine="vllm", num_blocks=4000, cache_outputs=False).runs[0]
    assert 0 < found.hit_tokens.sum() < plain.hit_tokens.sum()
    with pytest.raises(InputError, match="leave the event delay out"):
        run("dynamo", num_blocks=400, event_delay="5ms", **own)


def test_one_memory_split() -> None:
    found = run("pooled", replicas=[1, 2, 4], num_blocks=None, total_blocks=400)
    assert [r.num_blocks for r in found.runs] == [400, 200, 100]
    assert len({r.summary["hit_tokens"] for r in found.runs}) == 1


def test_results_are_plain() -> None:
    found = run(["dynamo", "round-robin"], replicas=[2, 4])
    told = json.loads(found.to_json())
    assert [r["replicas"] for r in told["runs"]] == [2, 2, 4, 4]
    assert told["provenance"]["config"]["hold"] is None and told["advice"] == found.advice
    assert "dynamo" in found.advice and repr(found) == "<FleetResult of chats: 4 runs>"
    assert found._repr_html_().count("<table") == 2
    assert "add a router" in run("pooled").advice


def test_times_and_changes_are_read() -> None:
    assert read_seconds(" 1.5h ") == 5400
    assert read_scaling(((1, 2),)) == ((1.0, 2),)
    for wrong in ("600", "5s:2", "5s:+0", "s:+1", 7):
        with pytest.raises(ValueError, match="give"):
            read_scaling(wrong)
    trace = Trace.from_prompts([[1]] * 4, timestamp=[0, 1, 2, 3], output_len=[2, 0, 1, 9])
    assert holds(trace, "1s").tolist() == [1, 0, 0, 0]
    assert holds(trace, "7").tolist() == [7] * 4
    assert load_router("dynamo").options[0] == "overlap_score_credit"


def test_texts_are_routed_as_text() -> None:
    """What a text router matches are characters, not tokens."""
    texts = ["hello there, " * 9 + tail for tail in ("a", "b", "c", "dd")]
    trace = Trace(
        timestamp=np.arange(4.0),
        prompt_len=np.zeros(4, np.uint32),
        output_len=np.zeros(4, np.uint32),
        texts=texts,
        name="texts",
    )
    found = prefixsim.fleet(
        trace, router="sglang-cache-aware", replicas=2, block_size=4, model="demo", hold=3
    )
    assert found.runs[0].replica.tolist() == [0, 0, 0, 0]
    assert "characters_per_token" not in found.config
