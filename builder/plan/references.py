"""Where FROM, `COPY --from` and `RUN --mount=from=` lead: to a stage, or to something that no stage makes. Pure.

The rules are BuildKit's (dockerfile2llb/convert.go, convert_runmount.go): a FROM sees the stages before it, the others see
all of them; names ignore case; numbers count for COPY alone; a named context (`--build-context`) hides a stage or image of
its name.
"""

from __future__ import annotations

from builder.dockerfile.ast import Copy, Run
from builder.errors import BuildError, DockerfileError
from builder.oci.reference import Reference
from builder.plan.expand import expand
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from builder.dockerfile.ast import Flag, From, Instruction, Word
    from builder.errors import Span
    from builder.oci.platform import Platform


class External(NamedTuple):
    """A base or a source that no stage makes: an image, a named context, or `scratch`."""

    name: str
    span: Span
    role: str
    """`FROM`, `--from` or `--mount=from`."""
    trigger: str = ""
    """Text of the ONBUILD trigger that names it, if one does."""
    platform: Platform | None = None
    """Of `FROM --platform`, where that is another than the build's."""

    @property
    def key(self) -> str:
        """What tells it from others: one name may be wanted for several platforms."""
        return self.name if self.platform is None else f"{self.name} for {self.platform}"


class StageReference(NamedTuple):
    """The stage `number`, from 0."""

    number: int


Origin = External | StageReference


class MountReference(NamedTuple):
    """What the flag `flag` (counted from 0 among all flags) of the instruction at `place` mounts from."""

    place: int
    flag: int
    origin: Origin
    span: Span


class Known(NamedTuple):
    """What names may stand for."""

    stages: Mapping[str, int]
    """Numbers by name, in lower case."""
    total: int
    """How many stages there are."""
    contexts: Collection[str]
    """All named contexts."""
    directories: Collection[str]
    """Those that are folders: they are copied from as they are, with nothing to resolve."""


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


def base(head: From, scope: Mapping[str, str], escape: str, names: Mapping[str, int], contexts: Collection[str]) -> Origin:
    """What a FROM begins with; `names` are those of the stages before it. Raises DockerfileError."""
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


def copies(index: int, place: int, instruction: Instruction, known: Known) -> Iterator[tuple[int, Origin]]:
    """What the instruction at `place` of stage `index` copies from, when it has a `--from` that is no named folder."""
    flag = from_flag(instruction) if isinstance(instruction, Copy) else None
    if flag is None or not isinstance(instruction, Copy):
        return
    origin = _copied_from(flag, known)
    if isinstance(origin, StageReference) and origin.number == index:
        raise DockerfileError(
            f"{instruction.keyword} --from={flag.value} copies from its own stage", flag.span, hint="name another stage"
        )
    if not _is_folder(origin, known):
        yield place, origin


def mounts(index: int, place: int, instruction: Instruction, known: Known) -> Iterator[MountReference]:
    """The same for each `--mount` of a RUN that has a `from`."""
    for number, flag in enumerate(instruction.flags if isinstance(instruction, Run) else ()):
        if flag.name != "mount":
            continue
        from builder.plan.mountflags import source_name

        name = source_name(flag)
        if name is None:
            continue
        origin = _mounted_from(name, known)
        if isinstance(origin, StageReference) and origin.number == index:
            raise DockerfileError(f"RUN --mount from={name.text} mounts its own stage", name.span, hint="name another stage")
        if not _is_folder(origin, known):
            yield MountReference(place, number, origin, name.span)


def from_flag(instruction: Copy) -> Flag | None:
    """The `--from` of a COPY."""
    return next((flag for flag in instruction.flags if flag.name == "from"), None)


def _is_folder(origin: Origin, known: Known) -> bool:
    return isinstance(origin, External) and matching_context(origin.name, known.directories) is not None


def _copied_from(flag: Flag, known: Known) -> Origin:
    value = flag.value or ""
    if not value:
        raise DockerfileError("--from has no value", flag.span, hint="write --from=STAGE")
    if "$" in value:
        raise DockerfileError(
            "--from takes no variables", flag.span, hint="declare a stage for it: FROM ${NAME} AS source, then --from=source"
        )
    if matching_context(value, known.contexts) is None:
        if value.lower() in known.stages:
            return StageReference(known.stages[value.lower()])
        if value.isascii() and value.isdigit():
            number = stage_number(value)
            if number >= known.total:
                raise DockerfileError(f"there is no stage {value[:40]}", flag.span, hint=f"the last stage is {known.total - 1}")
            return StageReference(number)
    return External(value, flag.span, "--from")


def _mounted_from(name: Word, known: Known) -> Origin:
    if matching_context(name.text, known.contexts) is None and name.text.lower() in known.stages:
        return StageReference(known.stages[name.text.lower()])
    return External(name.text, name.span, "--mount=from")


def stage_number(digits: str) -> int:
    """More digits than a stage can have are not converted: Python refuses thousands of them."""
    return int(digits[-18:]) if not digits[:-18].strip("0") else 10**18
