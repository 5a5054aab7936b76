"""All policies on three traces: how much of what LRU leaves to the clairvoyant each one gets.

``python -m benches.policy_table FOLDER`` prints the tables of docs/policies.md in a minute or two.
The folder holds ``mooncake/conversation_trace.jsonl.gz``, ``lmcache-agent/magagent.jsonl.gz`` and
``chat/fastchat_dummy_conversation.json``, each as its project publishes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import prefixsim
from prefixsim.eviction import POLICIES

SHARES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Capacities, as shares of the distinct blocks of a trace."""

LEAST_GAP = 0.002
"""Share of the prompt tokens between LRU and the clairvoyant below which nothing is stated."""

MODEL = "demo"


def traces(folder: Path) -> dict[str, prefixsim.Forest]:
    """Return the compiled traces by their titles."""
    mooncake = prefixsim.Trace.read(folder / "mooncake/conversation_trace.jsonl.gz")
    agent = prefixsim.Trace.read(folder / "lmcache-agent/magagent.jsonl.gz", sort=True)
    with tempfile.TemporaryDirectory() as made:
        built = prefixsim.build_traces(
            folder / "chat/fastchat_dummy_conversation.json", model=MODEL, output_dir=made
        )
        chats = prefixsim.Trace.read(built.files["multi_turn"])
        return {
            "Mooncake, conversations": prefixsim.compile(mooncake),
            "LMCache's multi-agent trace": prefixsim.compile(tokens(agent)),
            "multi-turn chats in ShareGPT's format": prefixsim.compile(tokens(chats)),
        }


def tokens(trace: prefixsim.Trace) -> prefixsim.Trace:
    """Return a trace with token ids."""
    if trace.kind != "text":
        return trace
    from prefixsim.text.text_trace import tokenize_trace

    return tokenize_trace(trace, MODEL)


def table(title: str, forest: prefixsim.Forest) -> str:
    """Return the table of one trace in Markdown."""
    size = max(16, forest.trace.id_block_size)
    unique = forest.unique_blocks(size)
    capacities = [max(1, int(unique * share)) for share in SHARES]
    rows = prefixsim.sweep(
        forest, block_size=size, policy=list(POLICIES), capacity=capacities
    ).to_pylist()
    hits = {(row["policy"], row["capacity_blocks"]): row["hit_tokens"] for row in rows}
    prompt = max(1, forest.trace.prompt_tokens)
    heads = [f"{share:.1%}: {c:,}" for share, c in zip(SHARES, capacities, strict=True)]
    lines = [
        f"{title}: {len(forest.trace):,} requests, blocks of {size} tokens, {unique:,} distinct",
        "",
        f"| policy | {' | '.join(heads)} |",
        "|---|" + "--:|" * len(SHARES),
    ]
    for name in ("lru", "clairvoyant"):
        rates = [f"{hits[name, c] / prompt:.2%}" for c in capacities]
        lines.append(f"| `{name}`: hit rate | {' | '.join(rates)} |")
    gaps = [(c, hits["clairvoyant", c] - hits["lru", c]) for c in capacities]
    for name in POLICIES[2:]:
        cells = [
            f"{(hits[name, c] - hits['lru', c]) / gap:.1%}" if gap > LEAST_GAP * prompt else "-"
            for c, gap in gaps
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(folder: Path) -> str:
    """Return the tables of all traces."""
    return "\n".join(table(title, forest) for title, forest in traces(folder).items())


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1])))
