"""Hints that need the whole instruction, where the error comes from one word of it. Pure."""

from __future__ import annotations

import json
import re

from builder.dockerfile.ast import Copy, Volume
from builder.dockerfile.words import UNCLOSED_DOUBLE, UNCLOSED_SINGLE
from builder.errors import did_you_mean
from builder.plan.expand import needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.dockerfile.ast import Instruction, Word
    from builder.errors import DockerfileError

_PIECE = re.compile(r"""(?<!\S)(?:"([^"]*)"|'([^']*)'|([^\s"']+))(?!\S)""")


def empty_argument(word: Word, variables: Mapping[str, str], escape: str) -> str:
    """For a word that expands to nothing: the variable that was probably meant, or the one to give a value."""
    for name in sorted(needed(word, escape)):
        if not variables.get(name):
            known = [other for other, value in variables.items() if value and other != name]
            return did_you_mean(name, known) or f"give {name} a value, by ARG or ENV"
    return "write something between the quotes"


def quoted_names(error: DockerfileError, instruction: Instruction) -> str | None:
    """For `COPY "a b" /x`: words of COPY, ADD and VOLUME end at white space, quoted or not, so that a quote is left open. None
    for other errors."""
    if error.message not in (UNCLOSED_SINGLE, UNCLOSED_DOUBLE):
        return None
    match instruction:
        case Copy(json=False, sources=sources, dest=dest, heredocs=()):
            words, keyword = (*sources, dest), instruction.keyword
        case Volume(json=False, paths=paths):
            words, keyword = paths, "VOLUME"
        case _:
            return None
    text = " ".join(word.text for word in words)
    meant = [double or single or plain for double, single, plain in _PIECE.findall(text)]
    # Something else is wrong when the pieces are not the whole text.
    if _PIECE.sub("", text).strip() or len(text) > 200:
        return None
    return f"names with spaces need the JSON form: {keyword} {json.dumps(meant, ensure_ascii=False)}"
