"""The collection of garbage after builds, and the file `gc` in the store that says otherwise than the policy's defaults."""

from __future__ import annotations

import os
import time

from builder.cli.flags import byte_size
from builder.dockerfile.durations import nanoseconds
from builder.errors import StoreError, UsageError, did_you_mean
from builder.events import Debug
from builder.report import units
from builder.store.files import read_file
from builder.store.policy import DAY, Policy, is_due, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import Emit
    from builder.store.store import Store

_LIMIT = 1 << 16
_NAMES = ("off", "max-used-space", "min-free-space", "reserved-space", "unused-for", "failed-steps-for")


def collect(store: Store, emit: Emit) -> None:
    """Collect garbage where it is due. Raises StoreError."""
    policy = read_policy(store.root)
    keeping = store.housekeeping()
    if not is_due(policy, store.root, keeping.collected(), int(time.time())):
        return
    begun = time.monotonic()
    removed = keeping.collect(rules(policy, store.root))
    freed = units.size(sum(one.size for one in removed))
    emit(Debug(f"collected garbage in {units.duration(time.monotonic() - begun)}: {len(removed)} things, {freed}"))


def read_policy(root: str) -> Policy:
    """What the file `gc` says; the defaults without one. Raises StoreError for what it cannot mean."""
    path = os.path.join(root, "gc")
    try:
        text = read_file(path)[:_LIMIT].decode("utf-8", "replace")
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    policy = Policy()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if words:
            try:
                policy = _changed(policy, words)
            except UsageError as error:
                raise StoreError(f"{path}, line {number}: {error.message}", hint=error.hint) from error
    return policy


def _changed(policy: Policy, line: str) -> Policy:
    name, equals, value = (part.strip() for part in line.partition("="))
    if (name, equals) == ("off", ""):
        return policy._replace(off=True)
    match name if equals else "":
        case "max-used-space":
            return policy._replace(max_used_space=byte_size(value))
        case "min-free-space":
            return policy._replace(min_free_space=byte_size(value))
        case "reserved-space":
            return policy._replace(reserved_space=byte_size(value))
        case "unused-for":
            return policy._replace(unused_for=seconds(value))
        case "failed-steps-for":
            return policy._replace(failed_steps_for=seconds(value))
    raise UsageError(f"'{line}' means nothing", hint=did_you_mean(name, _NAMES) or f"known: {', '.join(_NAMES)}")


def seconds(text: str) -> int:
    """A duration as docker's flags take it, ``24h`` or ``1h30m``, and ``30d`` beside that. Raises UsageError."""
    days, d, rest = text.partition("d")
    if not d:
        days, rest = "", text
    nanos = nanoseconds(rest) if rest or not d else 0
    if nanos is None or nanos < 0 or (d and not (days.isascii() and days.isdigit() and len(days) < 7)):
        raise UsageError(f"'{text}' is not a duration", hint="a duration looks like 90m, 24h or 30d")
    return int(days or 0) * DAY + nanos // 10**9
