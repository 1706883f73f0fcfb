"""Every error that a user may see, where it points, and how it is shown.

Pure: no I/O. One exception family, `BuildError`; its kinds differ in the exit code alone (SPEC section 3), so that the
command line needs no table and a caller can catch by meaning.

Values of this project are `NamedTuple`s and not dataclasses: defining 50 frozen dataclasses costs 45 ms at start-up,
50 named tuples 6 ms (measured, Python 3.11), and a fully cached build has 60 ms in all.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class SourceFile(NamedTuple):
    """A text that errors can point into: the name to show and the text, with its lines as the user wrote them."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """The text of line `number` (1-based) without its end; empty when there is no such line."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


class Span(NamedTuple):
    """A piece of a `SourceFile`: 1-based lines and columns (in characters), the end column exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class BuildError(Exception):
    """What the user did or met, said in one message.

    `message` is one sentence without a full stop, in lower case where a name does not start it. `span` and `source` say
    where; `hint` says what to do next.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        hint: str | None = None,
        source: SourceFile | None = None,
    ) -> None:
        # A URL may be in it, from a Dockerfile or from what a server says.
        self.message = _redacted(message)
        super().__init__(self.message)
        self.span = span
        self.hint = _redacted(hint) if hint else hint
        self.source = source
        self.cancelled: tuple[str, ...] = ()
        """Names of the steps that ran beside the one that failed, and were ended."""

    def at(self, source: SourceFile, span: Span | None = None) -> BuildError:
        """The same error, told where it happened unless it knows already; returns itself for `raise error.at(...)`."""
        if self.source is None:
            self.source = source
        if self.span is None:
            self.span = span
        return self


class StepError(BuildError):
    """A step of the build failed. `code` is the exit code of its command, None when there was none."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        hint: str | None = None,
        source: SourceFile | None = None,
        code: int | None = None,
        tail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, span, hint=hint, source=source)
        self.code = code
        self.tail = tail


class UsageError(BuildError):
    """The command line, or what it names (a context, a Dockerfile, an image), is not usable."""

    exit_code = 2


class DockerfileError(BuildError):
    """The Dockerfile, or the .dockerignore beside it, is wrong or asks for what is not built yet."""

    exit_code = 3


class MismatchError(BuildError):
    """What is there is not what was promised, by a lock or by an image that another is compared with."""

    exit_code = 4


class RegistryError(BuildError):
    """A registry or the network refused or failed."""

    exit_code = 5


class SandboxError(BuildError):
    """This machine does not let the builder make a sandbox."""

    exit_code = 6


class StoreError(BuildError):
    """The store is full, corrupt, or of a newer version."""

    exit_code = 7


class Interrupted(BuildError):
    """The user or the system ended the build. `signal` is the signal's number (2 or 15)."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal


_LINES, _WIDTH = 8, 120
"""Lines of an excerpt, and characters of a line, at most."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was probably meant to be, or None: at most one edit for each three characters."""
    best: tuple[int, str] | None = None
    for candidate in candidates:
        distance = _edits(name.lower(), candidate.lower())
        if distance <= max(1, len(name) // 3) and (best is None or distance < best[0]):
            best = (distance, candidate)
    return best[1] if best else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """A hint for an unknown name, None when nothing is near."""
    near = nearest(name, candidates)
    return f"did you mean '{near}'?" if near else None


def _edits(a: str, b: str) -> int:
    """Edit distance with transpositions (optimal string alignment): typing errors are mostly those."""
    if abs(len(a) - len(b)) > 8:
        return max(len(a), len(b))
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            cost = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, rows[i - 2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[len(a)][len(b)]


def render(error: BuildError, *, color: bool = False) -> str:
    """The whole message for a person, without a final line end.

    ``file:line:column: error: message``, the source line, a caret under the piece meant, the last lines of a failed
    command, and the hint.
    """
    bold, red, cyan, reset = ("\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m") if color else ("", "", "", "")
    where = ""
    if error.source is not None:
        where = _visible(error.source.name)
        if error.span is not None:
            where += f":{error.span.line}:{error.span.column}"
        where += ": "
    out = [f"{bold}{where}{red}error:{reset}{bold} {_visible(error.message)}{reset}"]
    if error.source is not None and error.span is not None:
        out += _excerpt(error.source, error.span, red, reset)
    if isinstance(error, StepError) and error.tail:
        out.append("  last output:")
        out += [f"    {_visible(line)}" for line in error.tail]
    if error.hint:
        out.append(f"  {cyan}hint:{reset} {_visible(error.hint)}")
    if error.cancelled:
        out.append("  cancelled:")
        out += [f"    {_visible(name)}" for name in error.cancelled]
    return "\n".join(out)


def _excerpt(source: SourceFile, span: Span, red: str, reset: str) -> list[str]:
    """The first line with carets under what is meant, and those that the span goes on to: a continued RUN is all of them."""
    text = _redacted(source.line(span.line), keep_width=True)
    # A line of megabytes is legal; what is shown is a window around the column.
    start = max(0, span.column - 1 - 60)
    shown = text[start : start + _WIDTH]
    last = min(span.end_line, span.line + _LINES - 1)
    gutter = max(len(str(span.line)), len(str(last)))
    end = span.end_column if span.end_line == span.line else len(text) + 1
    at = span.column - 1 - start
    width = max(1, min(end - span.column, len(shown) - at))
    lead = "".join("\t" if c == "\t" else " " for c in _visible(shown[:at]))
    out = [f"  {span.line:>{gutter}} | {_visible(shown)}", f"  {' ' * gutter} | {lead}{red}{'^' * width}{reset}"]
    for number in range(span.line + 1, last + 1):
        text = _visible(_redacted(source.line(number), keep_width=True)[:_WIDTH])
        out.append(f"  {number:>{gutter}} | {text}" if text else f"  {number:>{gutter}} |")
    if span.end_line > last:
        out.append(f"  {' ' * gutter} | ... and {span.end_line - last} more")
    return out


def _redacted(text: str, *, keep_width: bool = False) -> str:
    """`text` without the credentials of its URLs."""
    if "://" not in text:
        return text
    from builder.redact import redact  # a build without errors has no use for it

    return redact(text, keep_width=keep_width)


def _visible(text: str) -> str:
    """Control characters of a hostile file must not reach the terminal: they are shown as `\\xNN`; tabs stay."""
    return "".join(c if c in "\t\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
