"""What a build could be asked for, read from the Dockerfile alone: its targets, and the parameters of one. Pure.

The facts are those of `docker buildx build --call=targets|outline` (moby/buildkit, frontend/subrequests/targets,
frontend/subrequests/outline and dockerfile2llb/outline.go). No base is resolved: a value that depends on the environment of a
base is the text as it is written. Cache mounts, which BuildKit's outline has a place for and leaves empty, are listed.
"""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Env, From, Run, Word
from builder.dockerfile.comments import Comments
from builder.oci.image import DEFAULT_PATH
from builder.plan import mountflags
from builder.plan.expand import expand, needed
from builder.plan.stages import StageReference
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeVar

    from builder.dockerfile.ast import Dockerfile
    from builder.errors import Span
    from builder.plan.references import Origin
    from builder.plan.stages import Stages

    _Listed = TypeVar("_Listed", "Parameter", "Provision")


class Target(NamedTuple):
    """A stage that a build can aim at. `name` is in lower case, empty for a stage without one."""

    name: str
    default: bool
    description: str
    base: str
    """As written, like `platform`."""
    platform: str
    span: Span


class Parameter(NamedTuple):
    """An ARG that has an effect. `value` is what it has in this build, empty without one."""

    name: str
    value: str
    description: str
    span: Span
    """Of its instruction."""


class Provision(NamedTuple):
    """A secret, an SSH agent or a cache that a RUN mounts; `name` is its id."""

    name: str
    required: bool
    span: Span


class Outline(NamedTuple):
    """The parameters of one target, each list in the order of the file, each name once."""

    name: str
    description: str
    args: tuple[Parameter, ...]
    secrets: tuple[Provision, ...]
    ssh: tuple[Provision, ...]
    caches: tuple[Provision, ...]


def targets(dockerfile: Dockerfile) -> tuple[Target, ...]:
    """All stages, in order; the last one is the default."""
    comments = Comments(dockerfile.source)
    heads = [instruction for instruction in dockerfile.instructions if isinstance(instruction, From)]
    return tuple(
        Target(
            name := head.alias.text.lower() if head.alias else "",
            head is heads[-1],
            comments.description(name, head.span.line),
            head.image.text,
            head.platform.text if head.platform else "",
            head.span,
        )
        for head in heads
    )


def outline(dockerfile: Dockerfile, stages: Stages, build_args: Mapping[str, str]) -> Outline:
    """The outline of the target of `stages`, which came from `dockerfile`. Raises DockerfileError for words that cannot be
    expanded."""
    file = _File(dockerfile, stages, build_args)
    read: dict[int, _Stage] = {}
    for index in stages.needed:
        stage = stages.all[index]
        below = stage.base
        read[index] = read[below.number].child() if isinstance(below, StageReference) else _Stage.on(below)
        file.read(read[index], stage.span.line, stage.instructions)
    target = stages.all[stages.target]
    name = target.name.lower()
    # What the target says of a name counts before what the stages that it needs say of it.
    order = [read[index] for index in reversed(stages.needed)]
    return Outline(
        name,
        file.comments.description(name, target.span.line),
        _once(each for stage in order for each in stage.args),
        _once(each for stage in order for each in stage.secrets),
        _once(each for stage in order for each in stage.ssh),
        _once(each for stage in order for each in stage.caches),
    )


def _once(found: Iterable[_Listed]) -> tuple[_Listed, ...]:
    """The first of each name, in the order of the file."""
    first: dict[str, _Listed] = {}
    for each in found:
        first.setdefault(each.name, each)
    return tuple(sorted(first.values(), key=lambda each: each.span.line))


class _Stage:
    """A stage while it is read. A value that is None could be told by the base's config alone."""

    def __init__(self, args: Mapping[str, str | None], env: Mapping[str, str | None], *, told: bool) -> None:
        self.values = dict(args)
        self.env = dict(env)
        self.told = told
        """Whether the environment below is known."""
        self.args: list[Parameter] = []
        self.secrets: list[Provision] = []
        self.ssh: list[Provision] = []
        self.caches: list[Provision] = []

    @classmethod
    def on(cls, base: Origin) -> _Stage:
        """A stage on something that no stage makes."""
        scratch = not isinstance(base, StageReference) and base.name == "scratch"
        return cls({}, {"PATH": DEFAULT_PATH} if scratch else {}, told=scratch)

    def child(self) -> _Stage:
        return _Stage(self.values, self.env, told=self.told)

    def word(self, word: Word, escape: str) -> str | None:
        """`word` expanded, None when that depends on the base."""
        known = {**self.values, **self.env}
        for name in needed(word, escape):
            if known.get(name, "" if self.told else None) is None:
                return None
        return expand(word, {name: value for name, value in known.items() if value is not None}, escape)

    def shown(self, word: Word, escape: str) -> str:
        """`word` expanded, as it is written when that depends on the base."""
        value = self.word(word, escape)
        return word.text if value is None else value


class _File:
    """What holds for all stages of a Dockerfile."""

    def __init__(self, dockerfile: Dockerfile, stages: Stages, build_args: Mapping[str, str]) -> None:
        self.comments = Comments(dockerfile.source)
        self._escape = dockerfile.directives.escape
        self._build_args = build_args
        self._values = dict(stages.global_args)
        self._globals: dict[str, Parameter] = {}
        self._reads: dict[str, frozenset[str]] = {}
        """The global ARGs that the default of one reads."""
        self._heads = {each.span.line: each for each in dockerfile.instructions if isinstance(each, From)}
        for instruction in dockerfile.instructions:
            if isinstance(instruction, From):
                break
            if isinstance(instruction, Arg):
                self._declare(instruction)

    def _declare(self, instruction: Arg) -> None:
        for name, default, _ in instruction.items:
            self._globals[name] = self._parameter(name, self._values.get(name, ""), instruction)
            read = default is not None and name not in self._build_args
            self._reads[name] = needed(default, self._escape) if default is not None and read else frozenset()

    def read(self, stage: _Stage, line: int, instructions: Iterable[object]) -> None:
        """Take in the FROM at `line` and its instructions."""
        escape = self._escape
        used = self._read_by(self._heads[line])
        own: dict[str, Parameter] = {}
        for instruction in instructions:
            match instruction:
                case Arg():
                    used |= {name for name, _, _ in instruction.items}
                    self._arg(stage, instruction, own)
                case Env():
                    words = [(stage.word(key, escape), stage.word(value, escape)) for key, value in instruction.pairs]
                    stage.env |= {key: value for key, value in words if key}
                case Run():
                    self._mounts(stage, instruction)
        waiting = list(used)
        while waiting:
            name = waiting.pop()
            more = self._reads.get(name, frozenset()) - used if name not in own else frozenset()
            used |= more
            waiting += more
        stage.args = [each for name, each in (self._globals | own).items() if name in used]

    def _read_by(self, head: From) -> set[str]:
        words = [head.image, *([head.platform] if head.platform else [])]
        return {name for word in words for name in needed(word, self._escape)}

    def _arg(self, stage: _Stage, instruction: Arg, own: dict[str, Parameter]) -> None:
        for name, default, _ in instruction.items:
            if name in self._build_args:
                value: str | None = self._build_args[name]
            elif default is not None:
                value = stage.word(default, self._escape)
            elif name in self._values:
                stage.values[name] = self._values[name]
                continue
            else:
                own[name] = self._parameter(name, "", instruction)
                continue
            stage.values[name] = value
            own[name] = self._parameter(name, default.text if value is None and default else value or "", instruction)

    def _parameter(self, name: str, value: str, instruction: Arg) -> Parameter:
        return Parameter(name, value, self.comments.description(name, instruction.span.line), instruction.span)

    def _mounts(self, stage: _Stage, instruction: Run) -> None:
        for flag in instruction.flags:
            if flag.name != "mount":
                continue
            words = {field.key: field.value or Word("", field.span) for field in mountflags.split(flag)}
            fields = {key: stage.shown(word, self._escape) for key, word in words.items()}
            kind, id_ = fields.get("type", "bind").lower(), fields.get("id", "")
            source, target = fields.get("source", ""), fields.get("target", "")
            required = fields.get("required", "false").lower() in ("", "1", "t", "true")
            match kind:
                case "secret":
                    name = source or id_ or target.rstrip("/").rpartition("/")[2]
                    stage.secrets.append(Provision(name, required, instruction.span))
                case "ssh":
                    stage.ssh.append(Provision(id_ or "default", required, instruction.span))
                case "cache":
                    stage.caches.append(Provision(id_ or target, False, instruction.span))
