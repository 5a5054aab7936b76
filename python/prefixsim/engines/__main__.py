"""``python -m prefixsim.engines``: every engine with its options, as Markdown."""

from __future__ import annotations

import sys

from prefixsim.engines import engines
from prefixsim.engines.contract import EngineSettings
from prefixsim.settings import markdown, options_of

__all__ = ["page"]


def page() -> str:
    """Return the options that all engines have, then those of each."""
    parts = ["## Options of every engine\n", markdown(options_of(EngineSettings))]
    for engine in engines().values():
        own = [o for o in options_of(engine.settings) if o.name in engine.own_options]
        parts += [f"## `{engine.name}`\n", f"This is {engine.title}.\n"]
        can = engine.capabilities
        facts = [
            f"- time: {'requests wait, run and overlap' if can.has_time else 'none'}",
            f"- null blocks: {can.null_blocks}",
            f"- outputs: {'cached' if can.caches_outputs else 'left out'}, if nobody says",
            *(
                f"- {aspect}: {words}"
                for aspect, words in can.differs.items()
                if aspect != "outputs"
            ),
            *(f"- record `{record.flag}`: {record.help}" for record in can.records),
        ]
        parts.append("\n".join(facts) + "\n")
        if own:
            parts.append(markdown(own))
        if can.refused:
            parts.append("Settings of the server that it does not follow, and refuses:\n")
            lines = ["| setting | why |", "|---|---|"]
            lines += [f"| `{name}` | {reason} |" for name, reason in can.refused.items()]
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
