"""A seeded generator of sample conversations in ShareGPT form."""

from __future__ import annotations

import random
from collections.abc import Iterator

from prefixsim._json import JsonObject
from prefixsim.traffic.demo.grammar import DOMAINS, FOLLOW_UPS, OPENINGS, SYSTEM_PROMPTS, Domain

__all__ = ["DEFAULT_CONVERSATIONS", "sample_conversations"]

DEFAULT_CONVERSATIONS = 1000
"""Conversations of the sample unless another number is asked for."""

_MOST_TURNS = 40
_TURN_TAIL, _TURN_SCALE = 1.2, 1.6  # Pareto law of the number of turns
_SHARE_WITH_SYSTEM = 0.6
_SHARE_WITH_MATERIAL = 0.25
_SHARE_GREETED = 0.08
_SHARE_UNANSWERED = 0.03

_SENTENCES = (
    "Start with the {part}: it decides how {quality} the {thing} becomes.",
    "In most cases you can {verb} the {thing} in about {number} minutes.",
    "A {thing} in {place} needs a little more care than usual.",
    "If the {part} looks {quality}, {verb2} it before you go on.",
    "The {part} and the {part2} depend on each other, so change one at a time.",
    "Many people {verb} the {part} too early and wonder why it ends up {quality}.",
    "As a rule of thumb, plan {number} percent more than you think you need.",
    "That is {quality}, but it can be fixed.",
    "It's easiest to {verb} everything in {place}, then {verb2} the rest later.",
    "You don't have to {verb} the {part2}; a simple {thing2} works as well.",
    "When in doubt, write down what the {part} was like before and after.",
    "Compare it with a {thing2}: there the {part2} matters less.",
)
_INTROS = (
    "Good question.",
    "Sure, here is what I would do.",
    "Happy to help!",
    "It depends on the {part}.",
    "Short answer: yes, if the {part} is not {quality}.",
    "There are {number} things to consider.",
    "To {verb} a {thing}, think of the {part} first.",
)
_CODE = (
    "```python\ndef {f}_{g}(items, limit={number}):\n    total = 0\n    for item in items:\n"
    '        if item.{f} > limit:\n            raise ValueError("{f} is {quality}")\n'
    "        total += item.{g}\n    return total\n```",
    "```sql\nSELECT {f}, COUNT(*) AS n\nFROM {g}\n"
    "WHERE {f} > {number}\nGROUP BY {f}\nORDER BY n DESC;\n```",
    '```json\n{{"name": "{f}", "limit": {number}, "tags": ["{g}", "{quality}"]}}\n```',
)


def sample_conversations(
    count: int = DEFAULT_CONVERSATIONS, *, seed: int = 0
) -> Iterator[JsonObject]:
    """Yield synthetic conversations, the same ones for the same seed.

    Numbers of turns are heavy-tailed; part of the conversations begin with one of a few shared
    system prompts, some with a greeting of the assistant, and some end without an answer.

    Parameters
    ----------
    count : int
    seed : int

    Yields
    ------
    dict
        ``{"id": ..., "conversations": [{"from": ..., "value": ...}, ...]}``

    Examples
    --------
    >>> next(sample_conversations(1))["id"]
    'sample-000000'
    """
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(SYSTEM_PROMPTS))]
    for i in range(count):
        domain = rng.choice(DOMAINS)
        messages = []
        if rng.random() < _SHARE_WITH_SYSTEM:
            prompt = rng.choices(SYSTEM_PROMPTS, weights)[0]
            messages.append({"from": "system", "value": prompt})
        if rng.random() < _SHARE_GREETED:
            messages.append({"from": "gpt", "value": "Hello! How can I help you today?"})
        turns = min(int(_TURN_SCALE * rng.paretovariate(_TURN_TAIL)), _MOST_TURNS)
        for turn in range(turns):
            messages.append({"from": "human", "value": _question(rng, domain, turn)})
            last = turn == turns - 1
            if not (last and rng.random() < _SHARE_UNANSWERED):
                messages.append({"from": "gpt", "value": _answer(rng, domain)})
        yield {"id": f"sample-{i:06d}", "conversations": messages}


def _fill(rng: random.Random, domain: Domain, pattern: str) -> str:
    thing, thing2 = rng.sample(domain.things, 2)
    part, part2 = rng.sample(domain.parts, 2)
    verb, verb2 = rng.sample(domain.verbs, 2)
    return pattern.format(
        thing=thing,
        thing2=thing2,
        part=part,
        part2=part2,
        verb=verb,
        verb2=verb2,
        quality=rng.choice(domain.qualities),
        place=rng.choice(domain.places),
        number=rng.randint(2, 40),
        f=part.replace(" ", "_").replace("-", "_"),
        g=thing.replace(" ", "_").replace("-", "_"),
    )


def _question(rng: random.Random, domain: Domain, turn: int) -> str:
    question = _fill(rng, domain, rng.choice(FOLLOW_UPS if turn else OPENINGS))
    if rng.random() < _SHARE_WITH_MATERIAL:
        blocks = [_paragraph(rng, domain, rng.randint(2, 6)) for _ in range(rng.randint(1, 3))]
        return "\n\n".join([question, "This is what I have so far:", *blocks])
    return question


def _paragraph(rng: random.Random, domain: Domain, sentences: int) -> str:
    chosen = rng.sample(_SENTENCES, min(sentences, len(_SENTENCES)))
    return " ".join(_fill(rng, domain, s) for s in chosen)


def _answer(rng: random.Random, domain: Domain) -> str:
    blocks = [_fill(rng, domain, rng.choice(_INTROS)) + " " + _paragraph(rng, domain, 2)]
    for _ in range(min(int(rng.paretovariate(1.2)), 8)):
        shape = rng.random()
        if domain.code and shape < 0.3:
            blocks.append(_fill(rng, domain, rng.choice(_CODE)))
        elif shape < 0.5:
            steps = range(1, rng.randint(3, 6))
            blocks.append("\n".join(f"{k}. {_paragraph(rng, domain, 1)}" for k in steps))
        else:
            blocks.append(_paragraph(rng, domain, rng.randint(2, 5)))
    return "\n\n".join(blocks)
