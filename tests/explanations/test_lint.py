"""Prompt lint: seeded defects are found with their cost; clean traffic is silent."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import prefixsim
from prefixsim.explanations._resync import gaps_between
from prefixsim.explanations.lint import Lint, lint
from prefixsim.trace import Ragged, Trace


class Words:
    """A tokenizer of words, spaces and signs that decodes exactly."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.pieces: list[str] = []

    def encode(self, text: str) -> list[int]:
        ids = []
        for piece in re.findall(r"[^\W\d]+|\d{1,3}|\s|[^\w\s]|_", text):
            if piece not in self.known:
                self.known[piece] = len(self.pieces)
                self.pieces.append(piece)
            ids.append(self.known[piece])
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[i] for i in ids)


WORDS = Words()
RNG = np.random.default_rng(11)
LEXICON = ["".join(RNG.choice(list("abcdefghijklmnop"), 7)) for _ in range(4000)]


def prose(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(LEXICON, words))


SYSTEM = f"You are an assistant. {prose(150, 1)}."
TOOLS = [f"Tool {name}: {prose(30, i)}.\n" for i, name in enumerate(("search", "code", "mail"), 50)]


def checked(prompts: list[str], *, hours: float = 2.0, session: list[str] | None = None) -> Lint:
    n = len(prompts)
    times = np.linspace(0, hours * 3600, n).tolist()
    trace = Trace.from_prompts(
        [WORDS.encode(p) for p in prompts], timestamp=times, session=session, name="seeded"
    )
    return lint(prefixsim.compile(trace), WORDS.decode)


def question(i: int) -> str:
    return f"\nUser: {prose(12, 1000 + i)}"


def clock(i: int) -> str:
    return f"{i % 24:02}:{7 * i % 60:02}:{13 * i % 60:02}"


def uuid(i: int) -> str:
    digits = np.random.default_rng(i).bytes(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


NAMES = ["Alice", "Bob", "Chandra", "Dmitri", "Eve", "Fatima", "Goran", "Hana", "Ivo", "Jun"]
SHARED = len(WORDS.encode(SYSTEM + "\nUser: "))
N = 20

DEFECTS: dict[str, Callable[[int], str]] = {
    "timestamp": lambda i: f"Now: 2026-03-{i % 28 + 1:02} {clock(i)}. ",
    "uuid": lambda i: f"Request {uuid(i)}: ",
    "id": lambda i: f"Ticket {48151 + 7919 * i}: ",
    "name": lambda i: f"You talk to {NAMES[i % len(NAMES)]}{'son' * (i // len(NAMES))}. ",
    "whitespace": lambda i: "Rules:" + (" " if i % 2 else "\n" * (i // 2 + 1)),
    "text": lambda i: f"Mood: {prose(9, 7000 + i)}. ",
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_seeded_defect_is_found_with_its_cost(kind: str) -> None:
    heads = [DEFECTS[kind](i) for i in range(N)]
    found = checked([head + SYSTEM + question(i) for i, head in enumerate(heads)])
    assert [f.kind for f in found.findings] == [kind]
    finding = found.findings[0]
    if kind == "whitespace":  # of two ways to write it, one in two is new
        again = len({*heads})
        assert finding.requests == again - 1
        tokens = finding.requests * SHARED
    else:
        assert finding.requests == N - 1
        tokens = (N - 1) * SHARED
    # A few tokens around the piece may be alike by chance.
    assert tokens <= finding.tokens <= tokens + 4 * N
    assert finding.tokens_per_hour == pytest.approx(finding.tokens / 2)
    example = finding.examples[0]
    assert heads[int(example.request)].startswith(
        example.before[: len(example.before)].lstrip()[:3]
    )
    assert example.here != example.there


def test_reordered_tools() -> None:
    prompts = []
    orders = [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1)]
    for i in range(12):
        tools = "".join(TOOLS[k] for k in orders[i % 6])
        prompts.append(f"Use these tools.\n{tools}{SYSTEM}{question(i)}")
    found = checked(prompts)
    assert {f.kind for f in found.findings} == {"reordered"}
    tokens = sum(f.tokens for f in found.findings)
    after = len(WORDS.encode(SYSTEM))
    each = [len(WORDS.encode(tool)) for tool in TOOLS]
    # Five new orders; of each, between one tool and all of them are lost, and what follows.
    assert 5 * (after + min(each)) <= tokens <= 5 * (after + sum(each) + 16)


def test_two_defects_are_two_findings() -> None:
    body = prose(40, 2)
    prompts = [
        f"Now: {clock(i)}. {body}. Session {uuid(i)}. {SYSTEM}{question(i)}" for i in range(N)
    ]
    found = checked(prompts)
    assert [f.kind for f in found.findings] == ["timestamp", "uuid"]
    first, second = (f.tokens / (N - 1) for f in found.findings)
    assert second == pytest.approx(SHARED, abs=4)
    between = len(WORDS.encode(f". {body}. Session "))
    assert first - second == pytest.approx(between, abs=4)


def test_a_clock_in_every_turn_loses_the_conversation() -> None:
    prompts, sessions = [], []
    for chat in range(6):
        said = ""
        for turn in range(4):
            said += f"\nUser: {prose(30, 100 * chat + turn + 9000)}"
            prompts.append(f"It is {clock(5 * chat + 31 * turn)} now. {SYSTEM}{said}")
            sessions.append(f"chat {chat}")
    found = checked(prompts, session=sessions)
    assert [f.kind for f in found.findings] == ["timestamp"]
    turn_tokens = len(WORDS.encode(f"\nUser: {prose(30, 9000)}"))
    later = 6 * (SHARED * 3 + turn_tokens * (1 + 2 + 3))
    first = 5 * SHARED
    assert found.findings[0].tokens == pytest.approx(later + first, rel=0.02)


def test_clean_traffic_is_silent() -> None:
    single = [SYSTEM + question(i) + f" at {clock(i)} {uuid(i)}" for i in range(40)]
    assert checked(single).findings == []
    prompts, sessions = [], []
    for chat in range(10):
        said = SYSTEM
        for turn in range(5):
            said += question(10 * chat + turn)
            prompts.append(said)
            sessions.append(f"chat {chat}")
            said += f"\nBot: {prose(20, 10 * chat + turn + 5000)}"
    assert checked(prompts, session=sessions).findings == []
    assert checked([prose(200, i) for i in range(30)]).findings == []
    assert checked([]).findings == []


def test_rare_or_cheap_findings_are_left_out() -> None:
    heads = [DEFECTS["uuid"](i) for i in range(3)]
    prompts = [head + SYSTEM + question(i) for i, head in enumerate(heads)]
    assert checked(prompts).findings == []
    assert len(checked([*prompts, DEFECTS["uuid"](9) + SYSTEM]).findings) == 1


def test_long_traces_are_sampled_and_scaled() -> None:
    head = DEFECTS["uuid"]
    trace = Trace.from_prompts([WORDS.encode(head(i) + SYSTEM + question(i)) for i in range(400)])
    forest = prefixsim.compile(trace)
    whole, part = (lint(forest, WORDS.decode, max_requests=n) for n in (1000, 100))
    assert (whole.looked_at, part.looked_at) == (400, 100)
    assert part.notes == ["every 4th request looked at, figures scaled up"]
    assert part.findings[0].tokens == pytest.approx(whole.findings[0].tokens, rel=0.03)


def test_without_a_tokenizer_pieces_have_no_kind() -> None:
    head = DEFECTS["timestamp"]
    trace = Trace.from_prompts([WORDS.encode(head(i) + SYSTEM) for i in range(9)])
    found = lint(prefixsim.compile(trace))
    assert {f.kind for f in found.findings} == {"text"}


def test_hash_ids_tell_only_how_many_share_nothing() -> None:
    trace = Trace(
        timestamp=np.arange(3.0),
        prompt_len=np.full(3, 1024, dtype=np.uint32),
        output_len=np.zeros(3, dtype=np.uint32),
        prompts=Ragged.from_lists([[1, 2], [1, 3], [4, 5]], np.uint64),
        id_block_size=512,
    )
    found = lint(prefixsim.compile(trace))
    assert found.findings == []
    assert "2 of 3 requests differ from every earlier one" in found.notes[0]


def test_gaps_are_exact() -> None:
    a = np.arange(100, dtype=np.uint32)
    b = np.concatenate([np.array([900, 901, 902]), a[1:60], np.array([950]), a[62:]]).astype(
        np.uint32
    )
    first, second = gaps_between(b, a)
    assert (first.start, first.end, first.other_start, first.other_end) == (0, 3, 0, 1)
    assert (first.alike, second.alike) == (59, 38)
    assert (second.start, second.end, second.other_start, second.other_end) == (62, 63, 60, 62)
    assert gaps_between(a, a[::-1].copy()) == []
