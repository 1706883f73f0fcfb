"""Which stages a Dockerfile has, how they depend on each other, and which of them a target needs. Pure.

The rules are BuildKit's: a FROM sees the stages before it, `--from` sees all of them, names ignore case, a named context
(`--build-context`) hides a stage or image of its name, and what the target does not reach is not even resolved. Beyond
BuildKit, `--from` may name a later stage (SPEC section 2).
"""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Copy, From, Onbuild
from builder.dockerfile.checks.textual import RESERVED
from builder.errors import BuildError, DockerfileError, UsageError, did_you_mean
from builder.oci.platform import Platform
from builder.plan import references, triggers
from builder.plan.expand import expand
from builder.plan.references import External as External
from builder.plan.references import Known, stage_number
from builder.plan.references import StageReference as StageReference
from builder.plan.references import from_flag as from_flag
from builder.plan.references import matching_context as matching_context
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from builder.dockerfile.ast import Dockerfile, Instruction
    from builder.errors import Span
    from builder.plan.references import MountReference, Origin


class Stage(NamedTuple):
    number: int
    name: str
    """As written after AS, empty without one."""
    span: Span
    base: Origin
    instructions: tuple[Instruction, ...]
    """Triggers of the base first, where they fire here."""
    copies: tuple[tuple[int, Origin], ...]
    """For each instruction (by its place) that has `--from`: where it copies from, unless that is a named folder."""
    mounts: tuple[MountReference, ...] = ()
    """The same for each `--mount` that has a `from`."""
    triggers: tuple[str, ...] = ()
    """Texts of the triggers that the first instructions are."""
    platform: Platform | None = None
    """Of `FROM --platform`, where that is another than the build's; of a stage that is built on another it is that one's."""
    hidden: bool = False
    """A named context of its name stands for it: no instruction of it counts, and no trigger fires in it."""

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

    def externals(self) -> tuple[External, ...]:
        """What must be resolved before the plan can be made, each once."""
        found: dict[str, External] = {}
        for index in self.needed:
            stage = self.all[index]
            for origin in (stage.base, *(origin for _, origin in stage.copies), *(mount.origin for mount in stage.mounts)):
                if isinstance(origin, External):
                    found.setdefault(origin.key, origin)
        return tuple(found.values())


def platform_args(target: Platform, build: Platform) -> dict[str, str]:
    """The predefined ARGs of the global scope (reference, "Automatic platform ARGs")."""
    out: dict[str, str] = {}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        out[f"{prefix}PLATFORM"] = str(platform)
        out[f"{prefix}OS"] = platform.os
        # Of Windows alone; declared, it is set all the same.
        out[f"{prefix}OSVERSION"] = ""
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
    onbuild: Mapping[str, tuple[str, ...]] | None = None,
    parse_trigger: triggers.Parse = triggers.parse,
    everything: bool = False,
) -> Stages:
    """Split into stages and find those that `target` (a name, a number, empty for the last) needs. `contexts` are the names
    of all named contexts, `directories` of those that are folders and not images; `predefined` comes from `platform_args`.
    `everything`: all stages count as needed.

    `onbuild` has the triggers of each external base (by `External.key`) that is resolved already. They may need more stages and
    externals: the caller resolves those and asks again, until nothing new comes.

    Raises DockerfileError for what is wrong in the file and UsageError for an unknown target.
    """
    for context in contexts:
        if context.lower() in RESERVED:
            raise UsageError(f"a build context cannot have the name '{context}'", hint="the name is reserved; choose another")
    escape = dockerfile.directives.escape
    _, heads = split(dockerfile.instructions)
    scope = global_scope(dockerfile, target=target, build_args=build_args, predefined=predefined)

    names: dict[str, int] = {}
    bases: list[Origin] = []
    faults: dict[int, DockerfileError] = {}
    for index, (head, _) in enumerate(heads):
        bases.append(references.base(head, scope, escape, names, contexts))
        try:
            bases[index] = _for_platform(bases[index], head, scope, escape)
        except DockerfileError as error:
            faults[index] = error
        if head.alias is not None:
            names[head.alias.text.lower()] = index
    known = Known(names, len(heads), contexts, directories)
    stages = [_stage(index, head, base, body, known) for index, ((head, body), base) in enumerate(zip(heads, bases))]
    goal = _target(target, stages, names)
    _inherit_platforms(stages)
    firing = _Firing(stages, onbuild or {}, known, parse_trigger)
    needed, ordered = _order(stages, goal)
    while firing.fire(needed, [head.image.span for head, _ in heads]):
        needed, ordered = _order(stages, goal)
    for index in needed:
        if index in faults:
            raise faults[index]
    return Stages(tuple(stages), goal, ordered if everything else needed, tuple(scope.items()))


def split(instructions: tuple[Instruction, ...]) -> tuple[list[Arg], list[tuple[From, list[Instruction]]]]:
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


def global_scope(
    dockerfile: Dockerfile, *, target: str, build_args: Mapping[str, str], predefined: Mapping[str, str]
) -> dict[str, str]:
    """The variables that a FROM sees. Raises DockerfileError."""
    before, heads = split(dockerfile.instructions)
    last = heads[-1][0].alias
    given = {**predefined, "TARGETSTAGE": target or (last.text.lower() if last else "default")}
    scope = {name: build_args.get(name, value) for name, value in given.items()}
    return _global_args(before, scope, build_args, dockerfile.directives.escape)


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


def _stage(index: int, head: From, base: Origin, body: Sequence[Instruction], known: Known) -> Stage:
    name = head.alias.text if head.alias else ""
    if head.alias is not None and matching_context(name, known.contexts) is not None:
        # Whoever names the stage gets the context, and so does who asks for its number.
        platform = base.platform if isinstance(base, External) else None
        external = External(name, head.alias.span, "FROM", platform=platform)
        return Stage(index, name, head.span, external, (), (), platform=platform, hidden=True)
    placed = list(enumerate(body))
    copies = tuple(found for place, each in placed for found in references.copies(index, place, each, known))
    mounts = tuple(found for place, each in placed for found in references.mounts(index, place, each, known))
    platform = base.platform if isinstance(base, External) else None
    return Stage(index, name, head.span, base, tuple(body), copies, mounts, platform=platform)


class _Firing:
    """Triggers go into the stages that are built on their image or stage: once each, and only where a stage is needed."""

    def __init__(
        self, stages: list[Stage], onbuild: Mapping[str, tuple[str, ...]], known: Known, parse: triggers.Parse
    ) -> None:
        self._stages = stages
        self._onbuild = onbuild
        self._known = known
        self._parse = parse
        self._done: set[int] = set()

    def fire(self, needed: Sequence[int], places: Sequence[Span]) -> bool:
        """Put in what was not yet; whether there was anything. `places` are those of the bases' names, by stage."""
        fired = False
        for index in needed:
            stage = self._stages[index]
            if index in self._done or stage.hidden:
                continue
            self._done.add(index)
            texts = self._texts(stage)
            if texts:
                self._stages[index] = self._with(stage, texts, places[index])
                fired = True
        return fired

    def _texts(self, stage: Stage) -> tuple[str, ...]:
        match stage.base:
            case External(name=name):
                number = self._known.stages.get(name.lower())
                if number is not None and number < stage.number and self._stages[number].hidden:
                    # The context stands for that stage, and is no image that is built on.
                    return ()
                return self._onbuild.get(stage.base.key, ())
            case StageReference(number=number):
                below = self._stages[number].instructions
                return tuple(each.trigger for each in below if isinstance(each, Onbuild))

    def _with(self, stage: Stage, texts: tuple[str, ...], place: Span) -> Stage:
        if len(texts) > triggers.MAX_TRIGGERS:
            raise DockerfileError(f"the base has {len(texts)} ONBUILD triggers", place, hint="is it what it should be?")
        first = [triggers.instruction(text, place, self._parse) for text in texts]
        copies = [(at + len(first), origin) for at, origin in stage.copies]
        mounts = [mount._replace(place=mount.place + len(first)) for mount in stage.mounts]
        for at, (text, each) in enumerate(zip(texts, first)):
            try:
                copied = references.copies(stage.number, at, each, self._known)
                copies += [(at, _brought(origin, text)) for at, origin in copied]
                mounted = references.mounts(stage.number, at, each, self._known)
                mounts += [mount._replace(origin=_brought(mount.origin, text)) for mount in mounted]
            except DockerfileError as error:
                raise triggers.told(error, text, place) from None
        body = (*first, *stage.instructions)
        return stage._replace(instructions=body, copies=tuple(copies), mounts=tuple(mounts), triggers=texts)


def _brought(origin: Origin, trigger: str) -> Origin:
    return origin._replace(trigger=trigger) if isinstance(origin, External) else origin


def _for_platform(base: Origin, head: From, scope: Mapping[str, str], escape: str) -> Origin:
    """The base of a FROM, for its `--platform`. A stage is what it is, whatever the flag says, as in BuildKit."""
    if head.platform is None or not isinstance(base, External):
        return base
    try:
        wanted = Platform.parse(expand(head.platform, scope, escape))
    except BuildError as error:
        raise DockerfileError(error.message, head.platform.span, hint=error.hint) from None
    return base if str(wanted) == scope["TARGETPLATFORM"] else base._replace(platform=wanted)


def _inherit_platforms(stages: list[Stage]) -> None:
    for index, stage in enumerate(stages):
        if isinstance(stage.base, StageReference):
            # A FROM sees the stages before it alone: those are done.
            stages[index] = stage._replace(platform=stages[stage.base.number].platform)


def _target(target: str, stages: list[Stage], names: Mapping[str, int]) -> int:
    if not target:
        return len(stages) - 1
    if target.lower() in names:
        return names[target.lower()]
    if target.isascii() and target.isdigit() and stage_number(target) < len(stages):
        return stage_number(target)
    known = [stage.name for stage in stages if stage.name]
    listed = (
        f"the stages are: {', '.join(known)}" if known else f"the stages have no names, only numbers up to {len(stages) - 1}"
    )
    raise UsageError(f"unknown stage '{target}' in --target", hint=did_you_mean(target, known) or listed)


def _order(stages: list[Stage], goal: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The stages that `goal` needs, each after its own needs, and all of them in such an order. Raises DockerfileError on a
    cycle, also among other stages.

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
    return needed, tuple(done)


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
    needs += [(mount.span, mount.origin.number) for mount in stage.mounts if isinstance(mount.origin, StageReference)]
    return needs
