"""What a person should know of a Dockerfile and what does not stop its build, as a value."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.errors import Span


class Warn(NamedTuple):
    """`code` is stable, in CamelCase: a rule's name, or a name of this builder's own. `span` is None where no line is meant."""

    code: str
    message: str
    span: Span | None = None


def finding(rule: str, span: Span, *values: str) -> Warn:
    """What `rule` says at `span`; `values` fill its message."""
    # Most builds find nothing, and never need the rules.
    from builder.dockerfile.checks.rules import RULES

    return Warn(rule, RULES[rule].message(*values), span)
