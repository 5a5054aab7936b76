"""The hierarchy of tiers in Rust beside a block-by-block one in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim import _core
from prefixsim.engines.tiers import LowerTier
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.trace import Trace
from tests.golden import golden_root
from tests.oracle import forest as oracle
from tests.oracle import tiers as tiered
from tests.strategies import Small, small_traces


@st.composite
def hierarchies(draw: st.DrawFn) -> list[tiered.Tier]:
    """One to three tiers of any rules."""
    policies = st.sampled_from(["lru", "fifo", "lfu", "mru"])
    tiers = [tiered.Tier(draw(st.integers(1, 7)), draw(policies))]
    for _ in range(draw(st.integers(0, 2))):
        write = draw(st.sampled_from(["through", "back"]))
        tiers.append(
            tiered.Tier(
                draw(st.integers(0, 9)),
                draw(policies),
                exclusive=write == "back" and draw(st.booleans()),
                write=write,
                min_uses=draw(st.sampled_from([1, 1, 2, 3])),
                sees=draw(st.sampled_from(["all", "from-loads", "misses"])),
                head_first=draw(st.booleans()),
                latency=draw(st.sampled_from([0.0, 0.5, 3.0])),
                seconds_per_block=draw(st.sampled_from([0.0, 0.5, 2.0])),
            )
        )
    return tiers


def as_arguments(tier: tiered.Tier) -> Any:
    names = ("capacity", "policy", "exclusive", "write", "min_uses", "sees", "head_first")
    return {name: getattr(tier, name) for name in (*names, "latency", "seconds_per_block")}


@given(
    small_traces(),
    hierarchies(),
    st.integers(1, 2),
    st.sampled_from([None, 1.0, 0.4]),
    st.tuples(st.booleans(), st.booleans()),
)
def test_every_request_is_served_as_the_oracle_serves_it(
    small: Small,
    tiers: list[tiered.Tier],
    block_size: int,
    compute: float | None,
    switches: tuple[bool, bool],
) -> None:
    rule, outputs = switches
    forest = prefixsim.compile(small.trace(), outputs=outputs)
    requests = oracle.requests_of(
        small.prompts,
        block_size,
        salts=small.salts,
        outputs=small.outputs if outputs else None,
        last_token_rule=rule,
    )
    for request in requests:
        request.limit = min(request.limit, request.full)
    arguments = [as_arguments(tier) for tier in tiers]
    run = _core.replay_tiers(
        forest.profile(block_size), arguments, compute=compute, last_token_rule=rule
    )
    served = tiered.replay(requests, tiers, compute)
    for k in range(len(tiers)):
        assert run["hits"][k].tolist() == [s.hits[k] for s in served]
        assert run["written"][k].tolist() == [s.written[k] for s in served]
        assert run["gone"][k].tolist() == [s.lost.get(f"tier {k}", 0) for s in served]
    assert run["too_rare"].tolist() == [s.lost.get("threshold", 0) for s in served]
    assert run["stranded"].tolist() == [s.lost.get("stranded", 0) for s in served]
    assert run["slow"].tolist() == [s.lost.get("slow", 0) for s in served]
    assert run["evictions"].tolist() == [s.evictions for s in served]


@given(small_traces(), st.integers(1, 7))
def test_one_tier_is_the_ideal_cache(small: Small, capacity: int) -> None:
    profile = prefixsim.compile(small.trace()).profile(1)
    run = _core.replay_tiers(profile, [as_arguments(tiered.Tier(capacity))])
    ideal = profile.replay("lru", capacity)
    assert run["hits"][0].tolist() == ideal["hit_blocks"].tolist()
    assert int(run["evictions"].sum()) == ideal["evictions"]


@given(small_traces(), hierarchies(), st.sampled_from([None, 3.0]))
def test_the_engine_gives_what_the_core_gives_in_tokens(
    small: Small, tiers: list[tiered.Tier], rate: float | None
) -> None:
    forest = prefixsim.compile(small.trace())
    lower = [
        LowerTier(
            f"t{k}", t.capacity, t.policy, t.exclusive, t.write, t.min_uses, t.sees, t.head_first,
            bandwidth=1 / t.seconds_per_block if t.seconds_per_block else None, latency=t.latency,
        )
        for k, t in enumerate(tiers[1:], start=1)
    ]  # fmt: skip
    result = prefixsim.replay(
        forest, engine="tiers", block_size=2, num_blocks=tiers[0].capacity,
        hbm_policy=tiers[0].policy, lower_tiers=lower, bytes_per_token=0.5, prefill_rate=rate,
    )  # fmt: skip
    compute = None if rate is None else 2 / rate
    run = _core.replay_tiers(forest.profile(2), [as_arguments(t) for t in tiers], compute=compute)
    outcome = result.outcome
    assert outcome.hit_blocks.tolist() == np.sum(run["hits"], axis=0).tolist()
    assert (outcome.hit_tokens + outcome.computed_tokens).tolist() == [*map(len, small.prompts)]
    if lower:
        columns = outcome.extra_columns()
        for k, tier in enumerate(["hbm", *(t.name for t in lower)]):
            assert columns[f"hit_tokens_{tier}"].tolist() == (2 * run["hits"][k]).tolist()
            assert columns[f"evicted_tokens_{tier}"].tolist() == (2 * run["gone"][k]).tolist()
        seconds = sum(
            (run["hits"][k] > 0) * t.latency + run["hits"][k] * t.seconds_per_block
            for k, t in enumerate(tiers[1:], start=1)
        )
        assert columns["load_s"].tolist() == pytest.approx(np.asarray(seconds).tolist())
    lost = sum(outcome.evicted_tokens.values(), np.zeros(len(small.prompts), np.uint32))
    assert lost.tolist() == result.waterfall().tokens("evicted").tolist()


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ("dram", "give tiers like dram:64GiB"),
        ("hbm:5", "other than 'hbm'"),
        ("dram:x", "give blocks like 5000"),
        ("dram:5:lruu", "did you mean lru"),
        ("dram:5:uses=0", "must be at least 1"),
        ("dram:5+dram:6", "two tiers have one name"),
        ("dram:5:exclusive:write-through", "written back, not through"),
        ("dram:5:latency=3", "is no rule of a tier"),
        ("dram:5:bandwidth=10GB", "needs bytes_per_token or model_config"),
        ("dram:5GB", "bytes need bytes_per_token"),
        (7, "give tiers like dram:64GiB"),
    ],
)
def test_what_is_wrong_is_one_line(tiers: Any, said: str) -> None:
    trace = Trace.from_prompts([range(64)])
    with pytest.raises(InputError, match=said) as caught:
        prefixsim.replay(trace, num_blocks=5, lower_tiers=tiers)
    assert "\n" not in str(caught.value)


def test_a_tier_is_written_as_it_is_read() -> None:
    text = "dram:64GiB:write-back:mru:head-first:uses=2:sees=misses:bandwidth=25GB:latency=1ms"
    trace = Trace.from_prompts([range(64)])
    config = prefixsim.replay(
        trace, num_blocks=5, lower_tiers=f"{text}+disk:inf:exclusive", bytes_per_token=2.0**20
    ).config
    assert config["engine"] == "tiers"
    assert config["lower_tiers"] == f"{text}+disk:inf:exclusive"
    assert config["lower_tier_blocks"] == {"dram": 4096, "disk": None}


@pytest.fixture(scope="module")
def mooncake() -> Forest:
    path = golden_root().parent / "data/mooncake/conversation_trace.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no trace {path}")
    return prefixsim.compile(Trace.read(path))


# SEMANTICS.md of the golden data, section 9: HBM and DRAM in blocks, then token hit rates in % of
# an inclusive tier, an exclusive one, one by vLLM's rule, one that sees only misses, and one that
# is written on eviction and keeps what is loaded.
_RULES = ("", ":exclusive", ":sees=from-loads", ":sees=misses", ":write-back")
_MOONCAKE = [
    (1365, 5461, 13.560, 16.554, 13.565, 13.548, 16.235),
    (1365, 21845, 30.763, 31.431, 30.763, 30.764, 31.266),
    (5461, 2730, 13.560, 19.229, 13.560, 13.560, 19.061),
    (5461, 5461, 13.560, 22.961, 13.560, 14.151, 22.662),
    (5461, 10922, 22.961, 27.625, 22.959, 22.170, 27.058),
    (5461, 21845, 30.763, 32.958, 30.764, 30.644, 32.533),
    (5461, 43690, 36.028, 36.205, 36.028, 36.028, 36.132),
    (10922, 10922, 22.961, 30.762, 22.961, 23.939, 30.487),
    (10922, 21845, 30.763, 34.640, 30.765, 30.153, 34.152),
    (10922, 43690, 36.028, 36.560, 36.028, 35.766, 36.459),
]


@pytest.mark.parametrize("row", _MOONCAKE, ids=lambda row: f"{row[0]}+{row[1]}")
def test_golden_tiers_rules_on_mooncake(mooncake: Forest, row: tuple[float, ...]) -> None:
    hbm, dram, *rates = row
    for rule, rate in zip(_RULES, rates, strict=True):
        summary = prefixsim.replay(
            mooncake, engine="tiers", num_blocks=int(hbm), lower_tiers=f"dram:{dram}{rule}"
        ).summary
        assert round(100 * summary["token_hit_rate"], 3) == rate, rule
