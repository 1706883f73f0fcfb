"""What is told of all that was found, and whether the build stops: `# check=`, and comments above instructions."""

from __future__ import annotations

from builder.dockerfile.checks.rules import RULES
from builder.dockerfile.checks.warning import Warn
from builder.dockerfile.text import split_lines
from builder.errors import DockerfileError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.dockerfile import ast
    from builder.dockerfile.checks.options import Options


def told(found: Iterable[Warn], dockerfile: ast.Dockerfile, options: Options) -> list[Warn]:
    """Those that nobody asked to skip, each once, from the top down; those without a place come last."""
    local = list(_local(dockerfile))
    kept = [warn for warn in dict.fromkeys(found) if _tells(warn, options, local)]
    return sorted([*kept, *_unknown(dockerfile, options)], key=lambda warn: (warn.span is None, warn.span or ()))


def refusal(warnings: Iterable[Warn], options: Options) -> DockerfileError | None:
    """The error that `error=true` makes of warnings, at the first of them. Only BuildKit's rules count."""
    broken = [warn for warn in warnings if warn.code in RULES]
    if not options.error or not broken:
        return None
    names = ", ".join(dict.fromkeys(warn.code for warn in broken))
    return DockerfileError(
        f"lint violation found for rules: {names}",
        broken[0].span,
        hint="mend what the warnings say, or leave a rule out: # check=skip=NAME;error=true",
    )


def _tells(warn: Warn, options: Options, local: list[tuple[int, int, Options]]) -> bool:
    rule = RULES.get(warn.code)
    if rule is None:
        # Not one of BuildKit's: there is no name to skip it by.
        return True
    if rule.experimental:
        return options.tells(rule.name, experimental=True)
    all_options = [options]
    if warn.span is not None:
        all_options += [here for first, last, here in local if first <= warn.span.line <= last]
    return all(each.tells(rule.name, experimental=False) for each in all_options)


def _local(dockerfile: ast.Dockerfile) -> list[tuple[int, int, Options]]:
    if "check" not in dockerfile.source.text:
        return []
    from builder.dockerfile.checks.comments import local_options  # it reads the source again

    return list(local_options(dockerfile))


def _unknown(dockerfile: ast.Dockerfile, options: Options) -> list[Warn]:
    """A misspelt name would be skipped in vain."""
    names = [name for name in (*options.skip, *options.experimental) if name not in RULES and name not in ("all", "")]
    if not names:
        return []
    from builder.dockerfile.directives import place

    span = place("check", split_lines(dockerfile.source))
    return [Warn("UnknownCheck", f"there is no check '{name[:60]}'{_near(name)}", span) for name in dict.fromkeys(names)]


def _near(name: str) -> str:
    hint = did_you_mean(name, RULES)
    return f" ({hint})" if hint else ""
