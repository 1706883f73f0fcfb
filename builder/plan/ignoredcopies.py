"""COPY and ADD of what .dockerignore leaves out (moby/buildkit, validateCopySourcePath). Pure."""

from __future__ import annotations

from builder.dockerfile.checks.warning import finding
from builder.plan.steps import ContextOrigin, CopySource, CopyStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.dockerfile.checks.warning import Warn
    from builder.plan.steps import Plan


def check(plan: Plan, leaves_nothing_of: Callable[[str], bool]) -> Iterator[Warn]:
    """Sources in the main context of which nothing is left (`builder.dockerfile.ignore.Matcher.leaves_nothing_of`)."""
    for step in plan.steps:
        if not isinstance(step, CopyStep) or step.origin != ContextOrigin(""):
            continue
        for source in step.sources:
            if isinstance(source, CopySource):
                path = _clean(source.path)
                if leaves_nothing_of(path.lstrip("/") if path != "." else ""):
                    yield finding("CopyIgnoredFile", source.span, step.keyword.capitalize(), path)


def _clean(path: str) -> str:
    """Go's filepath.Clean; a leading `..` is dropped, as COPY drops it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    cleaned = "/".join(parts)
    return "/" + cleaned if path.startswith("/") else cleaned or "."
