"""Which stages a Dockerfile has, how they depend on each other, and which of them a target needs. Pure.

The rules are BuildKit's: a FROM sees the stages before it, `--from` sees all of them, names ignore case, a named context
(`--build-context`) hides a stage or image of its name, and what the target does not reach is not even resolved. Beyond
BuildKit, `--from` may name a later stage (SPEC section 2).
"""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Copy, From
from builder.errors import BuildError, DockerfileError, UsageError, did_you_mean
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.plan.expand import expand
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from builder.dockerfile.ast import Dockerfile, Flag, Instruction, Word
    from builder.errors import Span
    from builder.plan.steps import Warn

RESERVED = ("scratch", "context")
"""Names that stages should not have, and that no named context can take (BuildKit's validations.go and convert.go)."""


class External(NamedTuple):
    """A base or a source that no stage makes: an image, a named context, or `scratch`."""

    name: str
    span: Span
    role: str
    """`FROM` or `--from`."""


class StageReference(NamedTuple):
    """The stage `number`, from 0."""

    number: int


Origin = External | StageReference


class Stage(NamedTuple):
    number: int
    name: str
    """As written after AS, empty without one."""
    span: Span
    base: Origin
    instructions: tuple[Instruction, ...]
    copies: tuple[tuple[int, Origin], ...]
    """For each instruction (by its place) that has `--from`: where it copies from, unless that is a named folder."""

    @property
    def label(self) -> str:
        return self.name or f"stage-{self.number}"


class Stages(NamedTuple):
    all: tuple[Stage, ...]
    target: int
    needed: tuple[int, ...]
    """Indices of the stages that the target reaches, each after all that it needs."""
    global_args: tuple[tuple[str, str], ...]
    """The global scope: predefined ARGs and those before the first FROM that have a value."""
    warnings: tuple[Warn, ...]

    def externals(self) -> tuple[External, ...]:
        """What must be resolved before the plan can be made, each name once."""
        found: dict[str, External] = {}
        for index in self.needed:
            stage = self.all[index]
            for origin in (stage.base, *(origin for _, origin in stage.copies)):
                if isinstance(origin, External):
                    found.setdefault(origin.name, origin)
        return tuple(found.values())


def platform_args(target: Platform, build: Platform) -> dict[str, str]:
    """The predefined ARGs of the global scope (reference, "Automatic platform ARGs")."""
    out: dict[str, str] = {}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        out[f"{prefix}PLATFORM"] = str(platform)
        out[f"{prefix}OS"] = platform.os
        out[f"{prefix}ARCH"] = platform.architecture
        out[f"{prefix}VARIANT"] = platform.variant
    return out


def reachable(
    dockerfile: Dockerfile,
    *,
    target: str,
    build_args: Mapping[str, str],
    contexts: Collection[str],
    directories: Collection[str],
    predefined: Mapping[str, str],
) -> Stages:
    """Split into stages and find those that `target` (a name, a number, empty for the last) needs. `contexts` are the names
    of all named contexts, `directories` of those that are folders and not images; `predefined` comes from `platform_args`.

    Raises DockerfileError for what is wrong in the file and UsageError for an unknown target.
    """
    for context in contexts:
        if context.lower() in RESERVED:
            raise UsageError(f"a build context cannot have the name '{context}'", hint="the name is reserved; choose another")
    escape = dockerfile.directives.escape
    before, heads = _split(dockerfile.instructions)
    last = heads[-1][0].alias
    given = {**predefined, "TARGETSTAGE": target or (last.text.lower() if last else "default")}
    scope = _global_args(before, {name: build_args.get(name, value) for name, value in given.items()}, build_args, escape)

    warnings: list[Warn] = _directive_warnings(dockerfile)
    names: dict[str, int] = {}
    bases: list[Origin] = []
    for index, (head, _) in enumerate(heads):
        bases.append(_base(head, scope, escape, names, contexts))
        if head.alias is not None:
            warnings += _name_warnings(head.alias, names)
            names[head.alias.text.lower()] = index
    stages = [
        _stage(index, head, base, body, names, len(heads), contexts, directories)
        for index, ((head, body), base) in enumerate(zip(heads, bases))
    ]
    goal = _target(target, stages, names)
    needed = _order(stages, goal)
    for index in needed:
        _check_platform(heads[index][0], scope, escape, Platform.parse(predefined["TARGETPLATFORM"]))
    return Stages(tuple(stages), goal, needed, tuple(scope.items()), tuple(warnings))


def _split(instructions: tuple[Instruction, ...]) -> tuple[list[Arg], list[tuple[From, list[Instruction]]]]:
    """What stands before the first FROM, and each FROM with its instructions."""
    before: list[Arg] = []
    heads: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            heads.append((instruction, []))
        elif heads:
            heads[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            before.append(instruction)
    return before, heads


def _global_args(
    instructions: list[Arg], scope: Mapping[str, str], build_args: Mapping[str, str], escape: str
) -> dict[str, str]:
    """`scope`, the predefined ARGs, and those before the first FROM; each sees the ones before it."""
    found = dict(scope)
    for instruction in instructions:
        for name, default, _ in instruction.items:
            if name in build_args:
                found[name] = build_args[name]
            elif default is not None:
                found[name] = expand(default, found, escape)
    return found


def _stage(
    index: int,
    head: From,
    base: Origin,
    body: list[Instruction],
    names: Mapping[str, int],
    count: int,
    contexts: Collection[str],
    directories: Collection[str],
) -> Stage:
    name = head.alias.text if head.alias else ""
    if head.alias is not None and matching_context(name, contexts) is not None:
        # Whoever names the stage gets the context, and so does who asks for its number.
        return Stage(index, name, head.span, External(name, head.alias.span, "FROM"), (), ())
    return Stage(index, name, head.span, base, tuple(body), tuple(_copies(index, body, names, count, contexts, directories)))


def matching_context(name: str, contexts: Collection[str]) -> str | None:
    """The named context that stands for `name`: the same text, or the same image reference (`alpine` is
    `docker.io/library/alpine:latest`)."""
    if not contexts:
        return None
    for context in contexts:
        if context.lower() == name.lower():
            return context
    try:
        wanted = Reference.parse(name)
    except BuildError:
        return None
    for context in contexts:
        try:
            if Reference.parse(context) == wanted:
                return context
        except BuildError:
            continue
    return None


def _base(head: From, scope: Mapping[str, str], escape: str, names: Mapping[str, int], contexts: Collection[str]) -> Origin:
    name = expand(head.image, scope, escape)
    if not name:
        raise DockerfileError(
            f"the base name '{head.image.text}' expands to nothing",
            head.image.span,
            hint="give its ARG a default before the first FROM, or a value with --build-arg",
        )
    if matching_context(name, contexts) is None and name.lower() in names:
        return StageReference(names[name.lower()])
    return External(name, head.image.span, "FROM")


def _check_platform(head: From, scope: Mapping[str, str], escape: str, here: Platform) -> None:
    """FROM --platform of a stage that is needed."""
    if head.platform is None:
        return
    try:
        wanted = Platform.parse(expand(head.platform, scope, escape))
    except BuildError as error:
        raise DockerfileError(error.message, head.platform.span, hint=error.hint) from None
    if wanted != here:
        raise DockerfileError(
            f"FROM --platform={wanted} is not executed yet on {here}",
            head.platform.span,
            hint="foreign platforms come with a later version",
        )


def _directive_warnings(dockerfile: Dockerfile) -> list[Warn]:
    check = dockerfile.directives.check
    return [("DirectiveCheck", f"the directive check={check} has no effect yet", 0)] if check is not None else []


def _name_warnings(alias: Word, names: Mapping[str, int]) -> list[Warn]:
    name, line = alias.text.lower(), alias.span.line
    found: list[Warn] = []
    if name in RESERVED:
        found.append(("ReservedStageName", f'Stage name should not use the same name as reserved stage "{name}"', line))
    if name in names:
        found.append(("DuplicateStageName", f'Duplicate stage name "{name}", stage names should be unique', line))
    return found


def _copies(
    index: int,
    body: list[Instruction],
    names: Mapping[str, int],
    count: int,
    contexts: Collection[str],
    directories: Collection[str],
) -> list[tuple[int, Origin]]:
    out: list[tuple[int, Origin]] = []
    for place, instruction in enumerate(body):
        if not isinstance(instruction, Copy):
            continue
        flag = from_flag(instruction)
        if flag is None:
            continue
        origin = _copied_from(flag, names, count, contexts)
        if isinstance(origin, StageReference) and origin.number == index:
            raise DockerfileError(
                f"{instruction.keyword} --from={flag.value} copies from its own stage", flag.span, hint="name another stage"
            )
        if not (isinstance(origin, External) and matching_context(origin.name, directories)):
            out.append((place, origin))
    return out


def from_flag(instruction: Copy) -> Flag | None:
    """The `--from` of a COPY."""
    return next((flag for flag in instruction.flags if flag.name == "from"), None)


def _copied_from(flag: Flag, names: Mapping[str, int], count: int, contexts: Collection[str]) -> Origin:
    value = flag.value or ""
    if not value:
        raise DockerfileError("--from has no value", flag.span, hint="write --from=STAGE")
    if "$" in value:
        raise DockerfileError(
            "--from takes no variables", flag.span, hint="declare a stage for it: FROM ${NAME} AS source, then --from=source"
        )
    if matching_context(value, contexts) is None:
        if value.lower() in names:
            return StageReference(names[value.lower()])
        if value.isascii() and value.isdigit():
            number = _number(value)
            if number >= count:
                raise DockerfileError(f"there is no stage {value[:40]}", flag.span, hint=f"the last stage is {count - 1}")
            return StageReference(number)
    return External(value, flag.span, "--from")


def _target(target: str, stages: list[Stage], names: Mapping[str, int]) -> int:
    if not target:
        return len(stages) - 1
    if target.lower() in names:
        return names[target.lower()]
    if target.isascii() and target.isdigit() and _number(target) < len(stages):
        return _number(target)
    known = [stage.name for stage in stages if stage.name]
    listed = (
        f"the stages are: {', '.join(known)}" if known else f"the stages have no names, only numbers up to {len(stages) - 1}"
    )
    raise UsageError(f"unknown stage '{target}' in --target", hint=did_you_mean(target, known) or listed)


def _number(digits: str) -> int:
    """More digits than a stage can have are not converted: Python refuses thousands of them."""
    return int(digits[-18:]) if not digits[:-18].strip("0") else 10**18


def _order(stages: list[Stage], goal: int) -> tuple[int, ...]:
    """The stages that `goal` needs, each after its own needs. Raises DockerfileError on a cycle, also among other stages.

    Depth first without recursion: a Dockerfile may have thousands of stages.
    """
    done: list[int] = []
    path: dict[int, None] = {}
    seen: set[int] = set()
    needed: tuple[int, ...] = ()
    for start in (goal, *range(len(stages))):
        open_ = [start]
        while open_:
            index = open_[-1]
            if index in seen:
                open_.pop()
                if index in path and next(reversed(path)) == index:
                    del path[index]
                    done.append(index)
                continue
            seen.add(index)
            path[index] = None
            for span, wanted in reversed(_needs(stages[index])):
                if wanted in path:
                    raise _cycle(stages, list(path), wanted, span)
                if wanted not in seen:
                    open_.append(wanted)
        needed = needed or tuple(done)
    return needed


def _cycle(stages: list[Stage], path: list[int], again: int, span: Span) -> DockerfileError:
    names = " -> ".join(stages[index].label for index in [*path[path.index(again) :], again])
    return DockerfileError(f"stages need each other: {names}", span, hint="break the circle of FROM and --from")


def _needs(stage: Stage) -> list[tuple[Span, int]]:
    needs = [(stage.span, stage.base.number)] if isinstance(stage.base, StageReference) else []
    for place, origin in stage.copies:
        if isinstance(origin, StageReference):
            instruction = stage.instructions[place]
            flag = from_flag(instruction) if isinstance(instruction, Copy) else None
            needs.append((flag.span if flag else instruction.span, origin.number))
    return needs
