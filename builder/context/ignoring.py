"""What a build context leaves out, as those ask who list one. Pure."""

from __future__ import annotations

from builder.errors import BuildError

MAX_IGNORED_DEPTH = 200
"""Levels of ignored folders that are searched for what `!` brings back. The search recurses, and nobody nests that deeply."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Ignore(Protocol):
        """What .dockerignore says (`builder.dockerfile.ignore.Matcher`)."""

        def ignored(self, path: bytes) -> bool: ...

        def may_contain(self, directory: bytes) -> bool: ...

        def leaves_nothing_of(self, source: str) -> bool: ...


class NothingIgnored:
    """A context without .dockerignore."""

    def ignored(self, path: bytes) -> bool:
        return False

    def may_contain(self, directory: bytes) -> bool:
        return True

    def leaves_nothing_of(self, source: str) -> bool:
        return False


def too_deep() -> BuildError:
    return BuildError(
        f"folders of the context that .dockerignore leaves out are nested more than {MAX_IGNORED_DEPTH} levels deep",
        hint="write the pattern with '!' so that it does not begin with '*', or leave the folder out by a later line",
    )
