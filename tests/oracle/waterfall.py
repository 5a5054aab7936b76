"""The loss waterfall token by token, every pair of prompts compared."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracle.forest import lru, requests_of


def common(a: Sequence[int], b: Sequence[int]) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def classes_of(
    prompts: Sequence[Sequence[int]],
    salts: Sequence[str],
    block_size: int,
    capacity: int | None,
    *,
    outputs: Sequence[Sequence[int]] | None = None,
    last_token_rule: bool = True,
) -> list[list[str]]:
    """Name the class of each token of each prompt; an ideal LRU cache of ``capacity`` blocks."""
    options = {"salts": salts, "outputs": outputs, "last_token_rule": last_token_rule}
    requests = requests_of(prompts, block_size, **options)  # type: ignore[arg-type]
    hits, infinite = lru(requests, capacity).hits, lru(requests, None).hits
    text = [[*p, *(outputs[i][:-1] if outputs else [])] for i, p in enumerate(prompts)]
    named = []
    for i, prompt in enumerate(prompts):
        same = max((common(prompt, text[j]) for j in range(i) if salts[j] == salts[i]), default=0)
        anyone = max((common(prompt, text[j]) for j in range(i)), default=0)
        classes = []
        for at in range(len(prompt)):
            block = at // block_size
            if block < hits[i]:
                classes.append("hit")
            elif block < infinite[i]:
                classes.append("evicted")
            elif at < same and (block + 1) * block_size <= same:
                classes.append("last_token")
            elif at < same:
                classes.append("rounding")
            elif at < anyone:
                classes.append("isolated")
            else:
                classes.append("cold")
        named.append(classes)
    return named
