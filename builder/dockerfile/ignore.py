"""The .dockerignore: which paths of the context a build does not see. Pure.

Source: the Docker documentation, "Build context", ".dockerignore files". It is not a .gitignore: a pattern is relative to
the root of the context, and the last one that matches wins. Once a pattern has matched a folder it holds for all below it;
as in BuildKit, one that had nothing to do there (the folder was ignored already, or not yet) is asked again further down
with the longer path alone.
"""

from __future__ import annotations

from builder.dockerfile.ignorepattern import Pattern, walk
from builder.dockerfile.space import SPACE
from builder.errors import DockerfileError, SourceFile, Span
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

    from builder.dockerfile.goglob import Token
    from builder.dockerfile.ignorepattern import Reach

MAX_LINE = 65535
"""Characters in a line; a longer one is refused, as by Docker."""

_LONG = "write several patterns instead of it"
_ANY = "\ue000" * 20
"""The name of a file that no pattern means: what ignores it ignores all."""
_MAX_REMEMBERED = 10_000
"""Folders whose verdict is kept while a context is walked."""


class _Line(NamedTuple):
    """A line that is a pattern, as it stands after reading."""

    negated: bool
    pattern: str
    span: Span


class _Run(NamedTuple):
    """Patterns in a row that are all with `!`, or all without: it does not matter which of them matches."""

    negated: bool
    exact: frozenset[str]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    regex: re.Pattern[str] | None
    slow: tuple[tuple[Token, ...], ...]
    reaches: tuple[Reach, ...]

    def matches(self, path: str) -> bool:
        return (
            path in self.exact
            or path.endswith(self.suffixes)
            or path.startswith(self.prefixes)
            or (self.regex is not None and self.regex.fullmatch(path) is not None)
            or any(walk(states, path) for states in self.slow)
        )


class Matcher:
    """The patterns of one file, ready for many paths. `Matcher()` ignores nothing.

    Paths are bytes relative to the context's root, without a leading or trailing `/`; the root itself is `b""` and is never
    ignored. May be used by several threads.
    """

    __slots__ = ("_folders", "_runs")

    def __init__(self, runs: tuple[_Run, ...] = ()) -> None:
        self._runs = runs
        self._folders: dict[str, tuple[bool, ...]] = {}

    @classmethod
    def parse(cls, text: str, name: str) -> Matcher:
        """`text` is the file's, decoded with surrogate escapes where names need not be UTF-8; `name` is for errors.

        Raises DockerfileError with the line, the column and a hint for a pattern that Docker refuses.
        """
        source = SourceFile(name, text.removeprefix("\ufeff"))
        return cls(tuple(_runs(_compiled(line, source) for line in _lines(source))))

    @classmethod
    def of(cls, patterns: Iterable[tuple[bool, str]]) -> Matcher:
        """Of clean patterns, as `cleaned` gives them. Raises DockerfileError, without a usable span, for a bad one."""
        return cls(tuple(_runs((negated, Pattern.parse(pattern)) for negated, pattern in patterns)))

    def ignored(self, path: bytes) -> bool:
        """Whether the build does not see `path`. Its parents count: what lies in an ignored folder is ignored."""
        if not self._runs or not path:
            return False
        return self._judge(path.decode("utf-8", "surrogateescape"))[0]

    def may_contain(self, directory: bytes) -> bool:
        """Whether something below `directory` may not be ignored: if not, it need not be walked. True in doubt."""
        if not self._runs or not directory:
            return True
        folder = directory.decode("utf-8", "surrogateescape")
        ignored, hits = self._judge(folder)
        if not ignored:
            return True
        # What an earlier `!` re-includes below, the last pattern that ignores this folder ignores again.
        last = max(number for number, run in enumerate(self._runs) if hits[number] and not run.negated)
        return any(reach.below(folder) for run in self._runs[last + 1 :] if run.negated for reach in run.reaches)

    def leaves_nothing_of(self, source: str) -> bool:
        """Whether a COPY of `source`, cleaned and relative, can find nothing, by the patterns alone. Its wildcards stand for
        themselves. False in doubt: where a later `!` may bring something back."""
        ignored, hits = self._judge(source or _ANY)
        if not ignored:
            return False
        last = max(number for number, run in enumerate(self._runs) if hits[number] and not run.negated)
        later = [reach for run in self._runs[last + 1 :] if run.negated for reach in run.reaches]
        parts = source.split("/") if source else []
        literal = next((parts[:index] for index, part in enumerate(parts) if any(c in part for c in "*?[")), parts)
        # Below the root every `!` brings something back.
        return not any(reach.below("/".join(literal)) for reach in later) if literal else not later

    def _judge(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Whether `path` is ignored, and which runs match it or a parent."""
        folder = path.rpartition("/")[0]
        return self._step(path, self._hits(folder) if folder else (False,) * len(self._runs))

    def _step(self, path: str, inherited: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        ignored = False
        hits = list(inherited)
        for number, run in enumerate(self._runs):
            if not hits[number] and run.negated == ignored:
                hits[number] = run.matches(path)
            if hits[number]:
                ignored = not run.negated
        return ignored, tuple(hits)

    def _hits(self, folder: str) -> tuple[bool, ...]:
        """Which runs match `folder` or a parent."""
        hits = self._folders.get(folder)
        return self._learn(folder) if hits is None else hits

    def _learn(self, folder: str) -> tuple[bool, ...]:
        """The hits of each parent from the top down (there may be thousands), then those of `folder`."""
        if len(self._folders) > _MAX_REMEMBERED:
            self._folders.clear()
        hits: tuple[bool, ...] = (False,) * len(self._runs)
        end = 0
        while end < len(folder):
            end = folder.find("/", end + 1) % (len(folder) + 1)
            part = folder[:end]
            known = self._folders.get(part)
            if known is None:
                known = self._folders[part] = self._step(part, hits)[1]
            hits = known
        return hits


def cleaned(texts: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """Patterns that stand alone, as those of `--exclude`: whether there is a `!`, and the rest; none for an empty text.

    Raises DockerfileError, without a span, for a lone `!`.
    """
    for text in texts:
        pattern = _normal(text.strip(SPACE))
        if pattern == "!":
            raise DockerfileError("'!' names nothing", hint="write what to keep behind it, as in !docs/README.md")
        if pattern:
            yield pattern.startswith("!"), pattern.removeprefix("!")


def _lines(source: SourceFile) -> Iterator[_Line]:
    """The lines that are patterns, cleaned as Docker's two readers do it one after the other."""
    for number, line in enumerate(source.text.split("\n"), 1):
        if len(line) > MAX_LINE:
            raise DockerfileError(
                f"the line is longer than {MAX_LINE} characters", Span(number, 1, number, 2), hint=_LONG, source=source
            )
        text = line.strip(SPACE)
        if not text or line.startswith("#"):
            continue
        start = line.index(text) + 1
        span = Span(number, start, number, start + len(text))
        pattern = _normal(text)
        if pattern == "!":
            hint = "write what to keep behind it, as in !docs/README.md"
            raise DockerfileError("'!' names nothing", span, hint=hint, source=source)
        if pattern:
            yield _Line(pattern.startswith("!"), pattern.removeprefix("!"), span)


def _normal(text: str) -> str:
    """The pattern without what does not count: `/` in front, `.`, `..`, double and trailing slashes; `!` stays in front."""
    negated = text.startswith("!")
    path = text[negated:].strip(SPACE)
    if path:
        path = _clean(path)
    if len(path) > 1:
        path = path.removeprefix("/")
    # Docker trims and cleans once more, the `!` included: `/ /x` and `!/` come out of it as they do here.
    again = ("!" * negated + path).strip(SPACE)
    return _clean(again) if again else ""


def _clean(path: str) -> str:
    """Go's filepath.Clean."""
    rooted = path.startswith("/")
    out: list[str] = []
    for name in path.split("/"):
        if name == ".." and out and out[-1] != "..":
            out.pop()
        elif (name == ".." and not rooted) or name not in ("", ".", ".."):
            out.append(name)
    return "/" * rooted + "/".join(out) or "."


def _compiled(line: _Line, source: SourceFile) -> tuple[bool, Pattern]:
    try:
        return line.negated, Pattern.parse(line.pattern)
    except DockerfileError as error:
        # The error's own columns are those of the cleaned pattern.
        raise DockerfileError(error.message, line.span, hint=error.hint, source=source) from None


def _runs(patterns: Iterable[tuple[bool, Pattern]]) -> Iterator[_Run]:
    collected: list[Pattern] = []
    kind = False
    for negated, pattern in patterns:
        if negated != kind and collected:
            yield _run(kind, collected)
            collected = []
        kind = negated
        collected.append(pattern)
    if collected:
        yield _run(kind, collected)


def _any_of(regexes: list[str]) -> re.Pattern[str]:
    import re  # for those who use wildcards

    return re.compile("|".join(regexes), re.DOTALL)


def _run(negated: bool, patterns: list[Pattern]) -> _Run:
    forms = [pattern.form for pattern in patterns]
    regexes = [form.regex for form in forms if form.regex is not None]
    return _Run(
        negated,
        frozenset(form.exact for form in forms if form.exact is not None),
        tuple(form.prefix for form in forms if form.prefix is not None),
        tuple(form.suffix for form in forms if form.suffix is not None),
        _any_of(regexes) if regexes else None,
        tuple(form.states for form in forms if form.states),
        tuple(pattern.reach() for pattern in patterns) if negated else (),
    )
