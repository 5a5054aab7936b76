"""Orders of eviction by name: which there are, their parameters, and how they are written.

A policy is written ``name`` or ``name:key=value:key=value``, as ``s3fifo:small=0.25``. What each
does and which paper it follows is in ``docs/policies.md`` and, rule by rule, in ``rust/policy``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from prefixsim import _core

__all__ = [
    "POLICIES",
    "STACK_POLICIES",
    "PolicyParameter",
    "has_ages",
    "parameter_table",
    "parse_policy",
    "policy_parameters",
]

POLICIES: tuple[str, ...] = tuple(_core.policies())
"""Names of the orders of eviction; ``clairvoyant`` knows the future: none hits more."""

STACK_POLICIES: tuple[str, ...] = ("lru", "clairvoyant")
"""Those that never hit less in a larger cache (Mattson et al., IBM Systems Journal 9(2), 1970)."""


@dataclass(frozen=True)
class PolicyParameter:
    """A parameter of a policy.

    Attributes
    ----------
    name : str
    default : str
        The value when none is given, as it is written.
    help : str
        What it does.
    """

    name: str
    default: str
    help: str


def parse_policy(text: object) -> str:
    """Return a policy as it is written with no more than it needs: defaults are left out.

    Parameters
    ----------
    text : str
        ``name`` or ``name:key=value:...``.

    Raises
    ------
    ValueError
        If there is no such policy or parameter, or a value is out of its range.

    Examples
    --------
    >>> parse_policy("s3fifo:threshold=2:small=0.25")
    's3fifo:small=0.25'
    """
    return _core.policy_name(str(text))


def policy_parameters(policy: str) -> list[PolicyParameter]:
    """Return the parameters of a policy, in the order of its documentation.

    Examples
    --------
    >>> [parameter.name for parameter in policy_parameters("ttl")]
    ['seconds', 'renew']
    """
    return [PolicyParameter(*row) for row in _core.policy_parameters(policy)]


def has_ages(policy: object) -> bool:
    """Whether a policy tells which blocks it drops, so that their age can be measured.

    Those of your own (:class:`prefixsim.Policy`) always do.
    """
    return not isinstance(policy, str) or _core.policy_has_ages(policy)


def parameter_table() -> str:
    """Return the parameters of all policies as a table in Markdown, as docs/policies.md has it."""
    lines = ["| policy | parameter | default | what it is |", "|---|---|--:|---|"]
    for policy in POLICIES:
        lines += [
            f"| `{policy}` | `{parameter.name}` | {parameter.default} | {parameter.help} |"
            for parameter in policy_parameters(policy)
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(parameter_table())
