"""The flags of COPY and ADD that say more than yes or no. Pure.

Sources: the Dockerfile reference, "COPY", and moby/buildkit, dockerfile2llb/convert_copy.go.
"""

from __future__ import annotations

from builder.errors import DockerfileError
from builder.plan.state import flag_word, told_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import Flag
    from builder.errors import Span
    from builder.plan.modes import Mode
    from builder.plan.state import State


def mode(state: State, flag: Flag) -> tuple[str, Mode | None]:
    """`--chmod`: its text, and the mode; None for one that expands to nothing, which changes none."""
    from builder.plan.modes import mode as parsed  # for those who use it

    word = flag_word(flag)
    text = state.word(word)
    return text, told_at(word, parsed, text) if text else None


def exclusion(state: State, flag: Flag) -> list[str]:
    """The pattern of an `--exclude`; none where it expands to nothing. Raises DockerfileError for a bad one."""
    word = flag_word(flag)
    text = state.word(word)
    told_at(word, _check_pattern, text)
    return [text] if text else []


def check_owner(keyword: str, chown: str, span: Span) -> None:
    """Refuse names in the `--chown` of a `--link`, which sees no /etc/passwd; `root` alone is known to be 0."""
    for what, name in zip(("user", "group"), chown.split(":", 1)):
        if name and name != "root" and not (name.isascii() and name.isdigit()):
            raise DockerfileError(
                f"{keyword} --link cannot look up the {what} '{name}': it sees no file of the image, and no /etc/passwd",
                span,
                hint="give numbers, as in --chown=1000:1000, or leave --link out",
            )


def _check_pattern(text: str) -> None:
    from builder.dockerfile.ignore import Matcher, cleaned  # for those who use it

    Matcher.of(cleaned([text]))
