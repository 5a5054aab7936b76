"""Why a replay of tiers differs from the surface: rules taken away one by one, each replayed."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim._json import JsonObject
from prefixsim.study.replay import replay
from prefixsim.study.result import Result
from prefixsim.table import Table, written

__all__ = ["GapStep", "gap_tables", "surface_gap"]


@dataclass(frozen=True)
class GapStep:
    """One change on the way from a replay to the surface.

    Attributes
    ----------
    change : str
        What is different from here on.
    gained_tokens : int
        Hit tokens more than before this change; negative if they are fewer.
    hit_tokens : int
        From here on.
    """

    change: str
    gained_tokens: int
    hit_tokens: int

    def to_dict(self) -> JsonObject:
        """Return the step; plain values."""
        return dict(vars(self))


def surface_gap(result: Result) -> list[GapStep]:
    """Replay a hierarchy with its rules made those of the surface, one after the other.

    Gains add up to the difference between the surface and the replay. What they are depends on the
    order, which is the engine's.

    Parameters
    ----------
    result : Result

    Returns
    -------
    list of GapStep
        Empty if the engine does not tell, or its rules are the surface's.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(48), range(100, 148), range(48)])
    >>> result = prefixsim.replay(trace, num_blocks=3, lower_tiers="dram:9:uses=2")
    >>> [(step.change, step.gained_tokens) for step in surface_gap(result)]
    [('rarely used blocks are written too', 32)]
    """
    steps = []
    before = int(result.summary["hit_tokens"])
    for change, settings in result.engine.steps_towards_surface(result.settings):
        changed = replay(result.metrics.forest, engine=result.engine, settings=settings)
        hits = int(changed.outcome.hit_tokens[result.metrics.start :].sum(dtype="uint64"))
        steps.append(GapStep(change, hits - before, hits))
        before = hits
    return steps


def gap_tables(result: Result) -> list[Table]:
    """Return :func:`surface_gap` as a table; nothing if there is nothing to tell."""
    steps = surface_gap(result)
    if not steps:
        return []
    tokens = max(1, int(result.summary["prompt_tokens"]))
    rows = [["as replayed", "", written(result.summary["token_hit_rate"], "rate")]]
    rows += [
        [step.change, f"{step.gained_tokens:+,}", written(step.hit_tokens / tokens, "rate")]
        for step in steps
    ]
    title = "what sets it apart from the surface (each replayed, one change after the other)"
    return [Table(title, ["change", "more hit tokens", "token hit rate"], rows)]
