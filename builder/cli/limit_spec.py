"""What is limited, as the command line says it: one value for builds and for `pybuild run`."""

from __future__ import annotations

from builder.errors import UsageError, did_you_mean
from builder.sandbox.resources import NUMBERS, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.flags import Parsed
    from builder.sandbox.resources import Ulimit

_FORM = "it looks like --ulimit NAME=SOFT[:HARD], as nofile=1024:4096; -1 or unlimited for no limit"
_MOST = (1 << 63) - 1
"""What Docker takes; the kernel's own largest number means no limit."""


def parse_limits(parsed: Parsed) -> Limits:
    """Raises UsageError."""
    return Limits(parse_ulimits(parsed.texts("ulimit")))


def parse_ulimits(texts: tuple[str, ...]) -> tuple[Ulimit, ...]:
    """``--ulimit`` values, each name once and in order: as with Docker the last of a name wins. Raises UsageError."""
    found = {name: (name, soft, hard) for name, soft, hard in map(_ulimit, texts)}
    return tuple(found[name] for name in sorted(found))


def _ulimit(text: str) -> Ulimit:
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise UsageError(f"'{text}' is not a value of '--ulimit'", hint=_FORM)
    if name not in NUMBERS:
        hint = did_you_mean(name, NUMBERS) or "one of " + ", ".join(NUMBERS)
        raise UsageError(f"there is no ulimit '{name}'", hint=hint)
    first, colon, second = value.partition(":")
    soft = _number(first, text)
    hard = _number(second, text) if colon else soft
    if hard >= 0 and not 0 <= soft <= hard:
        raise UsageError(
            f"the soft limit of '--ulimit {text}' is above the hard one", hint="the first number is at most the second"
        )
    return name, soft, hard


def _number(text: str, shown: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _MOST):
        raise UsageError(f"'{shown}' is not a value of '--ulimit'", hint=_FORM)
    return int(text)
