"""Which stages a Dockerfile has, how they depend on each other, and which of them a target needs. Pure.

The rules are BuildKit's: a FROM sees the stages before it, `--from` sees all of them, names ignore case, a named context
(`--build-context`) hides a stage or image of its name, and what the target does not reach is not even resolved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from builder.dockerfile.ast import Arg, Copy, Dockerfile, Flag, From, Instruction, Word
from builder.errors import BuildError, DockerfileError, Span, UsageError, did_you_mean
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.plan.expand import expand
from builder.plan.steps import Warn
from builder.values import NamedTuple

RESERVED = ("scratch", "context")


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


def platform_args(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """The predefined ARGs of the global scope (reference, "Automatic platform ARGs")."""
    out = {"TARGETSTAGE": stage}
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
    of all named contexts, `directories` of those that are folders and not images.

    Raises DockerfileError for what is wrong in the file and UsageError for an unknown target.
    """
    escape = dockerfile.directives.escape
    scope = dict(predefined)
    declared: dict[str, str] = {}
    heads: list[tuple[From, list[Instruction]]] = []
    for instruction in dockerfile.instructions:
        if isinstance(instruction, From):
            heads.append((instruction, []))
        elif heads:
            heads[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            for name, default, _ in instruction.items:
                if name in build_args:
                    declared[name] = build_args[name]
                elif default is not None:
                    declared[name] = expand(default, {**scope, **declared}, escape)
                elif name in scope:
                    declared[name] = scope[name]
    scope.update(declared)

    warnings: list[Warn] = []
    names: dict[str, int] = {}
    bases: list[Origin] = []
    for index, (head, _) in enumerate(heads):
        bases.append(_base(head, scope, escape, names, contexts))
        if head.alias is not None:
            warnings += _name_warnings(head.alias, names)
            names[head.alias.text.lower()] = index
    stages = [
        Stage(
            index,
            head.alias.text if head.alias else "",
            head.span,
            bases[index],
            tuple(body),
            tuple(_copies(index, body, names, len(heads), contexts, directories)),
        )
        for index, (head, body) in enumerate(heads)
    ]
    goal = _target(target, stages, names)
    return Stages(tuple(stages), goal, _order(stages, goal), tuple(declared.items()), tuple(warnings))


def matching_context(name: str, contexts: Collection[str]) -> str | None:
    """The named context that stands for `name`: the same text, or the same image reference (`alpine` is
    `docker.io/library/alpine:latest`)."""
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
    if head.platform is not None:
        text = expand(head.platform, scope, escape)
        try:
            wanted = Platform.parse(text)
        except BuildError as error:
            raise DockerfileError(error.message, head.platform.span, hint=error.hint) from None
        here = Platform.parse(scope["TARGETPLATFORM"])
        if wanted != here:
            raise DockerfileError(
                f"FROM --platform={wanted} is not supported yet on {here}",
                head.platform.span,
                hint="foreign platforms come with a later version",
            )
    if matching_context(name, contexts) is None and name.lower() in names:
        return StageReference(names[name.lower()])
    return External(name, head.image.span, "FROM")


def _name_warnings(alias: Word, names: Mapping[str, int]) -> list[Warn]:
    name, line = alias.text, alias.span.line
    if name.lower() in RESERVED:
        return [("ReservedStageName", f"Stage name should not use the same name as reserved stage {name!r}", line)]
    if name.lower() in names:
        return [("DuplicateStageName", f"Duplicate stage name {name!r}, stage names should be unique", line)]
    return []


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
        flag = next((flag for flag in instruction.flags if flag.name == "from"), None)
        if flag is None:
            continue
        origin = _from_flag(flag, names, count, contexts)
        if isinstance(origin, StageReference) and origin.number == index:
            raise DockerfileError(
                f"{instruction.keyword} --from={flag.value} copies from its own stage", flag.span, hint="name another stage"
            )
        if not (isinstance(origin, External) and matching_context(origin.name, directories)):
            out.append((place, origin))
    return out


def _from_flag(flag: Flag, names: Mapping[str, int], count: int, contexts: Collection[str]) -> Origin:
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
            if int(value) >= count:
                raise DockerfileError(f"there is no stage {value}", flag.span, hint=f"the last stage is {count - 1}")
            return StageReference(int(value))
    return External(value, flag.span, "--from")


def _target(target: str, stages: list[Stage], names: Mapping[str, int]) -> int:
    if not target:
        return len(stages) - 1
    if target.lower() in names:
        return names[target.lower()]
    if target.isascii() and target.isdigit() and int(target) < len(stages):
        return int(target)
    known = [stage.name for stage in stages if stage.name]
    listed = (
        f"the stages are: {', '.join(known)}" if known else f"the stages have no names, only numbers up to {len(stages) - 1}"
    )
    raise UsageError(f"unknown stage '{target}' in --target", hint=did_you_mean(target, known) or listed)


def _order(stages: list[Stage], goal: int) -> tuple[int, ...]:
    """Depth first without recursion: a Dockerfile may have thousands of stages. Raises DockerfileError on a cycle."""
    done: list[int] = []
    seen, open_ = set[int](), [goal]
    on_path: list[int] = []
    while open_:
        index = open_[-1]
        if index in seen:
            open_.pop()
            if on_path and on_path[-1] == index:
                on_path.pop()
                done.append(index)
            continue
        seen.add(index)
        on_path.append(index)
        for span, wanted in _needs(stages[index]):
            if wanted in on_path:
                names = " -> ".join(stages[i].label for i in [*on_path[on_path.index(wanted) :], wanted])
                raise DockerfileError(f"stages need each other: {names}", span, hint="break the circle of FROM and --from")
            if wanted not in seen:
                open_.append(wanted)
    return tuple(done)


def _needs(stage: Stage) -> list[tuple[Span, int]]:
    needs = [(stage.span, stage.base.number)] if isinstance(stage.base, StageReference) else []
    for place, origin in stage.copies:
        if isinstance(origin, StageReference):
            needs.append((stage.instructions[place].span, origin.number))
    return needs
