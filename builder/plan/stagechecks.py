"""Checks of what a stage's instructions mean once their variables are known (moby/buildkit, dockerfile2llb/convert.go and
validations.go). Pure. Only stages that are built are looked at."""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Cmd, Entrypoint, Env, Healthcheck, Label, ShellForm
from builder.dockerfile.checks.warning import Warn, finding
from builder.errors import Span, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.dockerfile.ast import Instruction, Word
    from builder.oci.platform import Platform
    from builder.plan.state import State

_SECRET = frozenset((
    "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token",
))  # fmt: skip
_HARMLESS = frozenset(("public", "file", "version"))


def check(state: State, instruction: Instruction) -> Iterator[Warn]:
    """What there is to say of an instruction, before it is applied to `state`."""
    match instruction:
        case Arg(items=items):
            for name, _, span in items:
                yield from _secret("ARG", name, _start(span, len(name)))
        case Env(pairs=pairs, legacy=legacy):
            for key, _ in pairs:
                yield from _legacy(instruction, key, legacy)
                yield from _secret("ENV", key.text.strip("\"'"), key.span)
        case Label(pairs=pairs, legacy=legacy):
            for key, _ in pairs:
                yield from _legacy(instruction, key, legacy)
        case Cmd(command=command) | Entrypoint(command=command):
            yield from _only_one(state, instruction)
            if isinstance(command, ShellForm) and not state.config.shell:
                yield finding("JSONArgsRecommended", instruction.span, _keyword(instruction))
        case Healthcheck():
            yield from _only_one(state, instruction)


def first_workdir(word: Word, path: str) -> Iterator[Warn]:
    """`path` is the expanded `word` of the first WORKDIR, which decides what all later ones mean."""
    if not path.startswith("/"):
        yield finding("WorkdirRelativePath", word.span, path)


def port(word: Word, text: str) -> Iterator[Warn]:
    """`text` is one port of an EXPOSE, expanded from `word`."""
    protocol = text.rpartition(":")[2].partition("/")[2]
    if protocol != protocol.lower():
        yield finding("ExposeProtoCasing", word.span, text)
    if ":" in text:
        yield finding("ExposeInvalidFormat", word.span, text)


def base_platform(image: str, span: Span, actual: Platform, expected: Platform) -> Iterator[Warn]:
    if actual[:2] != expected[:2]:
        yield finding("InvalidBaseImagePlatform", span, image, str(actual.normal()), str(expected.normal()))


def undefined_variable(word: Word, name: str, variables: Mapping[str, str]) -> Warn:
    from builder.dockerfile.checks.suggest import near

    return finding("UndefinedVar", variable_span(word, name), name, near(name, variables))


def variable_span(word: Word, name: str) -> Span:
    """Of the first `$name` or `${name` in the word; of the word where its columns are not those of its text."""
    span, text = word.span, word.text
    start, end = _place(text, name)
    if not end or span.line != span.end_line or span.end_column - span.column != len(text):
        return span
    return Span(span.line, span.column + start, span.line, span.column + end)


def _place(text: str, name: str) -> tuple[int, int]:
    """Start and end of a variable in a word; zeros when it is not there."""
    start = text.find("$")
    while start >= 0:
        braces = text.startswith("{", start + 1)
        begin = start + 1 + braces
        end = begin + len(name)
        if text.startswith(name, begin) and not (text[end : end + 1].isalnum() or text[end : end + 1] == "_"):
            return start, end + (braces and text.startswith("}", end))
        start = text.find("$", start + 1)
    return 0, 0


def _secret(keyword: str, name: str, span: Span) -> Iterator[Warn]:
    parts = name.lower().split("_")
    if not _SECRET.isdisjoint(parts) and _HARMLESS.isdisjoint(parts):
        yield finding("SecretsUsedInArgOrEnv", span, keyword, name)


def _legacy(instruction: Env | Label, key: Word, legacy: bool) -> Iterator[Warn]:
    if legacy:
        yield finding("LegacyKeyValueFormat", key.span, _keyword(instruction))


def _only_one(state: State, instruction: Cmd | Entrypoint | Healthcheck) -> Iterator[Warn]:
    kind = type(instruction).__name__
    if kind in state.last:
        yield finding("MultipleInstructionsDisallowed", state.last[kind], _keyword(instruction))
    state.last[kind] = instruction.span


def _keyword(instruction: Instruction) -> str:
    return instruction.text.split(None, 1)[0]


def _start(span: Span, length: int) -> Span:
    """The first characters of a span of one line."""
    return span._replace(end_column=span.column + length) if span.line == span.end_line else span


def unknown_stages(names: Sequence[str], labels: Sequence[str]) -> list[Warn]:
    """For names of `--no-cache-filter` that no stage has; buildx says nothing, and a typing error costs a day."""
    known = {label.lower() for label in labels}
    return [Warn("UnknownStage", _unknown(name, labels)) for name in names if name.lower() not in known]


def _unknown(name: str, labels: Sequence[str]) -> str:
    hint = did_you_mean(name, labels)
    return f"--no-cache-filter names a stage '{name}' that the Dockerfile does not have" + (f" ({hint})" if hint else "")
