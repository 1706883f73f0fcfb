"""`# check=skip=A,B;error=true;experimental=C`: which rules are told of, and whether they stop the build.

Source: the reference, "check" under "Parser directives"; the build arg BUILDKIT_DOCKERFILE_CHECK takes the directive's place
(moby/buildkit, frontend/dockerfile/linter/linter.go).
"""

from __future__ import annotations

from builder.dockerfile.space import SPACE
from builder.errors import DockerfileError, did_you_mean
from builder.values import NamedTuple

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"

_KEYS = ("skip", "error", "experimental")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Options(NamedTuple):
    """`skip` and `experimental` have names of rules, as written, or `all` alone."""

    skip: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    error: bool = False

    def tells(self, rule: str, *, experimental: bool) -> bool:
        """Whether the rule speaks. `skip` does not silence an experimental one: not naming it does."""
        if experimental:
            return self.experimental == ("all",) or rule in self.experimental
        return self.skip != ("all",) and rule not in self.skip


def parse(text: str) -> Options:
    """The options that `text` says. Raises DockerfileError, without a span, for what BuildKit refuses too."""
    text = text.strip(SPACE)
    found: dict[str, str] = {}
    for part in text.split(";", 2) if text else ():
        key, equals, value = (piece.strip(SPACE) for piece in part.partition("="))
        if not equals or key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or "as in # check=skip=JSONArgsRecommended;error=true"
            raise DockerfileError(f"invalid check option '{_shown(part if not equals else key)}'", hint=hint)
        if key == "error" and value not in _TRUE + _FALSE:
            raise DockerfileError(f"the check option 'error' is true or false, not '{_shown(value)}'", hint="write error=true")
        found[key] = value
    return Options(_names(found.get("skip")), _names(found.get("experimental")), found.get("error") in _TRUE)


def _names(value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(name.strip(SPACE) for name in value.split(","))


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
