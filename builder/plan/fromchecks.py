"""Checks of FROM lines, all of them whatever the target is (moby/buildkit, dockerfile2llb/validations.go). Pure."""

from __future__ import annotations

from builder.dockerfile.ast import Flag
from builder.dockerfile.checks.suggest import near
from builder.dockerfile.checks.warning import finding
from builder.errors import BuildError, DockerfileError
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.plan.expand import expand
from builder.plan.stagechecks import variable_span
from builder.plan.stages import global_scope, split
from builder.plan.state import flag_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from builder.dockerfile.ast import Dockerfile, From, Word
    from builder.dockerfile.checks.warning import Warn


def check(dockerfile: Dockerfile, *, target: str, build_args: Mapping[str, str], predefined: Mapping[str, str]) -> list[Warn]:
    """What there is to say of the FROM lines; nothing of variables that cannot be expanded, which is an error elsewhere."""
    before, heads = split(dockerfile.instructions)
    froms = [head for head, _ in heads if head.platform is not None or "$" in head.image.text]
    if not froms:
        return []
    try:
        scope = global_scope(dockerfile, target=target, build_args=build_args, predefined=predefined)
        of_platform = {name: value for name, value in build_args.items() if name in predefined}
        defaults = global_scope(dockerfile, target=target, build_args=of_platform, predefined=predefined)
        declared = {name for arg in before for name, _, _ in arg.items}
        escape = dockerfile.directives.escape
        return [warn for head in froms for warn in _check(head, scope, defaults, declared, escape)]
    except DockerfileError:
        return []


def _check(
    head: From, scope: Mapping[str, str], defaults: Mapping[str, str], declared: Collection[str], escape: str
) -> Iterator[Warn]:
    if "$" in head.image.text:
        if not _is_reference(expand(head.image, defaults, escape)):
            yield finding("InvalidDefaultArgInFrom", head.image.span, head.image.text)
        yield from _undefined(head.image, scope, declared, escape)
    if head.platform is not None:
        # The tree has the flag's span.
        platform = flag_word(Flag("platform", head.platform.text, head.platform.span))
        yield from _undefined(platform, scope, declared, escape)
        yield from _platform(head, platform, scope, escape)


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except BuildError:
        return False
    return True


def _undefined(word: Word, scope: Mapping[str, str], declared: Collection[str], escape: str) -> Iterator[Warn]:
    missing: dict[str, None] = {}
    expand(word, scope, escape, lambda name: missing.setdefault(name))
    # Sorted: the near name must not depend on the hash seed.
    known = [*scope, *sorted(name for name in declared if name not in scope)]
    for name in missing:
        if name not in known:
            yield finding("UndefinedArgInFrom", variable_span(word, name), name, near(name, known))


def _platform(head: From, word: Word, scope: Mapping[str, str], escape: str) -> Iterator[Warn]:
    value = expand(word, scope, escape)
    names = _read(word, escape)
    if names == {"TARGETPLATFORM"}:
        if value == scope["TARGETPLATFORM"]:
            yield finding("RedundantTargetPlatform", word.span, word.text)
    elif not names:
        yield from _constant(head, word, value)


def _read(word: Word, escape: str) -> frozenset[str]:
    """The names of the variables in a word."""
    if "$" not in word.text:
        return frozenset()
    from builder.dockerfile import words

    return words.needed(word.text, escape=escape)


def _constant(head: From, word: Word, value: str) -> Iterator[Warn]:
    try:
        platform = Platform.parse(value)
    except BuildError:
        return
    stage = head.alias.text.lower() if head.alias else ""
    if platform.os not in stage and platform.architecture not in stage:
        yield finding("FromPlatformFlagConstDisallowed", word.span, value)
