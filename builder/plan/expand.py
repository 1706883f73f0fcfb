"""Expansion of a word where it stands: the scanner's errors moved to their place in the Dockerfile. Pure.

The scanner is imported for words that have something to expand: a cached build often has none.
"""

from __future__ import annotations

from builder.errors import DockerfileError, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.dockerfile.ast import Word

    Missing = Callable[[str], None]
    """Told the name of each variable that is read and not set (`words.expand`)."""


def expand(word: Word, variables: Mapping[str, str], escape: str, missing: Missing | None = None) -> str:
    """`word` expanded and unquoted. Raises DockerfileError with the place of the wrong piece."""
    text = word.text
    if not ("$" in text or escape in text or '"' in text or "'" in text):
        return text
    from builder.dockerfile import words

    try:
        return words.expand(word.text, variables, escape=escape, missing=missing)
    except DockerfileError as error:
        raise _moved(error, word) from None


def expand_list(word: Word, variables: Mapping[str, str], escape: str, missing: Missing | None = None) -> list[str]:
    """The same for a word that may become several, or none (EXPOSE)."""
    from builder.dockerfile import words

    try:
        return words.expand_list(word.text, variables, escape=escape, missing=missing)
    except DockerfileError as error:
        raise _moved(error, word) from None


def needed(word: Word, escape: str) -> frozenset[str]:
    """The names of the variables that `word` reads. Raises DockerfileError as `expand` does."""
    if "$" not in word.text:
        return frozenset()
    from builder.dockerfile import words

    try:
        return words.needed(word.text, escape=escape)
    except DockerfileError as error:
        raise _moved(error, word) from None


def _moved(error: DockerfileError, word: Word) -> DockerfileError:
    at, inner = word.span, error.span
    # Where the text is not the source's, as in the JSON form and in quoted flags, the columns inside are others.
    if inner is not None and at.line == at.end_line and at.end_column - at.column == len(word.text):
        span = Span(at.line, at.column + inner.column - 1, at.line, at.column + inner.end_column - 1)
    else:
        span = at
    return DockerfileError(error.message, span, hint=error.hint)
