"""The checks of a build in their order: what the text shows, what the plan shows, what of it is told. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import From
from builder.dockerfile.checks import textual
from builder.dockerfile.checks.options import BUILD_ARG, parse
from builder.dockerfile.text import split_lines
from builder.errors import DockerfileError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.dockerfile.ast import Dockerfile
    from builder.dockerfile.checks.options import Options
    from builder.dockerfile.checks.warning import Warn
    from builder.plan.steps import Plan


def options(dockerfile: Dockerfile, build_args: Mapping[str, str]) -> Options:
    """What the build arg or, without it, the directive says. Raises UsageError for the one, DockerfileError for the other."""
    given = build_args.get(BUILD_ARG)
    try:
        return parse((dockerfile.directives.check or "") if given is None else given)
    except DockerfileError as error:
        if given is not None:
            raise UsageError(f"{error.message}, in --build-arg {BUILD_ARG}", hint=error.hint) from None
        from builder.dockerfile.directives import place

        raise error.at(dockerfile.source, place("check", split_lines(dockerfile.source))) from None


def early(
    dockerfile: Dockerfile, options: Options, *, target: str, build_args: Mapping[str, str], predefined: Mapping[str, str]
) -> list[Warn]:
    """What can be said before there is a plan. `predefined` comes from `stages.platform_args`."""
    found = textual.check(dockerfile, experimental=bool(options.experimental))
    heads = (instruction for instruction in dockerfile.instructions if isinstance(instruction, From))
    if any(head.platform is not None or "$" in head.image.text for head in heads):
        from builder.plan import fromchecks

        found += fromchecks.check(dockerfile, target=target, build_args=build_args, predefined=predefined)
    return found


def late(plan: Plan, leaves_nothing_of: Callable[[str], bool]) -> list[Warn]:
    """What the plan shows that was not seen while it was made. `leaves_nothing_of` asks .dockerignore about a path of the main
    context."""
    from builder.plan import ignoredcopies

    return list(ignoredcopies.check(plan, leaves_nothing_of))


def told(found: Iterable[Warn], dockerfile: Dockerfile, options: Options) -> list[Warn]:
    """What is left once the options have been heard, from the top down."""
    found = list(found)
    if not found and not options.skip and not options.experimental:
        return []
    from builder.dockerfile.checks import verdict

    return verdict.told(found, dockerfile, options)


def enforce(warnings: Iterable[Warn], options: Options) -> None:
    """Raises DockerfileError where `error=true` makes one of the warnings."""
    if options.error:
        from builder.dockerfile.checks import verdict

        refusal = verdict.refusal(warnings, options)
        if refusal is not None:
            raise refusal
