"""The contexts of a build, from what a request says of them to trees that COPY takes files from."""

from __future__ import annotations

from builder.context.directory import DirectoryContext
from builder.engine.executor import Contexts
from builder.events import BuildWarning
from builder.reading import read_ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.context.directory import Ignore
    from builder.engine.sources import SourceTree
    from builder.errors import SourceFile
    from builder.events import Emit
    from builder.request import Request


class BuildContexts:
    """The contexts of a build: opened when first asked for, closed with the build."""

    def __init__(self, request: Request, source: SourceFile, emit: Emit) -> None:
        self._request = request
        self._source = source
        self._emit = emit
        self._open: dict[str, DirectoryContext] = {}
        self._ignores: dict[str, Ignore] = {}

    def __enter__(self) -> BuildContexts:
        return self

    def __exit__(self, *_: object) -> None:
        for context in self._open.values():
            context.close()

    def open(self, name: str) -> SourceTree:
        known = self._open.get(name)
        if known is None:
            path = self._request.directories[name] if name else self._request.context
            known = self._open[name] = DirectoryContext(path, self._ignore(name), self._warn)
        return known

    def leaves_nothing_of(self, path: str) -> bool:
        """Whether the main context's .dockerignore hides all that a COPY of `path` could find."""
        return self._ignore("").leaves_nothing_of(path)

    def _ignore(self, name: str) -> Ignore:
        known = self._ignores.get(name)
        if known is None:
            path = self._request.directories[name] if name else self._request.context
            own = "" if name or self._request.dockerfile_text is not None else self._source.name
            known = self._ignores[name] = read_ignore(path, own)
        return known

    def handed_out(self) -> Contexts:
        return Contexts(self.open, lambda name: f"the build context '{name}'" if name else "the build context")

    def directories(self) -> Mapping[str, Callable[[], SourceTree]]:
        return {name: self._opener(name) for name in self._request.directories}

    def _opener(self, name: str) -> Callable[[], SourceTree]:
        return lambda: self.open(name)

    def _warn(self, message: str) -> None:
        self._emit(BuildWarning("ContextContent", message))
