"""``python -m prefixsim.routing``: every router with its options, as Markdown."""

from __future__ import annotations

import sys

from prefixsim.routing import routers
from prefixsim.settings import markdown, options_of

__all__ = ["page"]


def page() -> str:
    """Return the list of routers, then the options of each that has some."""
    lines = ["| router | what it is | looks at |", "|---|---|---|"]
    lines += [f"| `{r.name}` | {r.title} | {r.looks_at} |" for r in routers().values()]
    parts = ["\n".join(lines) + "\n"]
    for router in routers().values():
        options = options_of(router.settings)
        if options:
            knob = f"Main setting: `{router.knob}`.\n\n" if router.knob else ""
            parts.append(f"## `{router.name}`\n\n{knob}{markdown(options)}")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
