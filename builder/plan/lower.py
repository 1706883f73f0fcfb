"""From stages and resolved bases to a plan: variables expanded, every instruction a step or a change of config. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Copy, From, Onbuild, Run, Workdir
from builder.dockerfile.checks.options import BUILD_ARG as CHECK_ARG
from builder.dockerfile.checks.warning import Warn
from builder.errors import DockerfileError, did_you_mean
from builder.oci.image import DEFAULT_PATH, History
from builder.plan import fields, stagechecks, triggers
from builder.plan.configure import configure
from builder.plan.origins import ContextOrigin, StageOrigin
from builder.plan.references import External, StageReference, from_flag, matching_context
from builder.plan.running import HOSTNAME_ARG, INLINE_CACHE_ARG, KEEP_GIT_ARG, PROXY_ARGS, history, run_step
from builder.plan.state import State
from builder.plan.steps import (
    BaseStep,
    Place,
    Plan,
    WorkdirStep,
)
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from builder.dockerfile.ast import Instruction
    from builder.errors import Span
    from builder.oci.platform import Platform
    from builder.plan.origins import Origin
    from builder.plan.references import MountReference
    from builder.plan.stages import Stage, Stages
    from builder.plan.state import Settings
    from builder.plan.steps import (
        BaseImage,
        Step,
    )

_TARGET_ARGS = ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT")
MAX_WEIGHT = 256 << 20
"""Bytes, roughly, that the steps and stages of a plan may take."""


def lower(
    stages: Stages,
    bases: Mapping[str, BaseImage],
    settings: Settings,
    escape: str,
    *,
    warnings: list[Warn] | None = None,
    forgives: Callable[[Instruction], bool] = lambda instruction: False,
) -> Plan:
    """The plan of what the target needs. `bases` has one entry for each of `stages.externals()`, by its key.

    `warnings` gets what there is to warn of, also when there is an error in the end. An instruction whose error is forgiven
    is left out: for checks, which may not know what a base sets.

    Raises DockerfileError, with a span, for what is wrong or not supported yet.
    """
    told = [] if warnings is None else warnings
    before = len(told)
    lowering = _Lowering(stages, bases, settings, escape, told, forgives)
    for index in stages.needed:
        lowering.stage(stages.all[index])
    final = lowering.finished[stages.target]
    config = final.config
    for name, value in settings.labels:
        config = config.setlabel(name, value)
    needed = frozenset(stages.needed)
    skipped = tuple(stage.label for stage in stages.all if stage.number not in needed)
    told += lowering.unused_args()
    told += stagechecks.unknown_stages(settings.uncached, [stage.label for stage in stages.all])
    return Plan(
        tuple(lowering.steps),
        final.step,
        settings.platform,
        config,
        final.base,
        tuple(final.history),
        skipped,
        tuple(told[before:]),
        tuple(lowering.triggers),
        tuple(lowering.places),
    )


class _Lowering:
    def __init__(
        self,
        stages: Stages,
        bases: Mapping[str, BaseImage],
        settings: Settings,
        escape: str,
        warnings: list[Warn],
        forgives: Callable[[Instruction], bool],
    ) -> None:
        self.stages = stages
        self.bases = bases
        self.settings = settings
        self.globals = dict(stages.global_args)
        self.escape = escape
        self.steps: list[Step] = []
        self.warnings = warnings
        self.forgives = forgives
        self.finished: dict[int, State] = {}
        self.triggers: list[tuple[int, str]] = []
        self.places: list[Place] = []
        self._at = ("", 0, 0)
        """The stage that is lowered, the place in it, and how many it has."""
        self._base_steps: dict[str, int] = {}
        self._weight = 0

    # Stages

    def stage(self, stage: Stage) -> None:
        counted = [i for i in stage.instructions if isinstance(i, Run | Copy | Workdir)]
        total = len(counted) + (1 if isinstance(stage.base, External) else 0)
        number = 0
        self._at = (stage.label, 1, total)
        if isinstance(stage.base, StageReference):
            state = self.finished[stage.base.number].child()
            self._weigh(stage.span, state.weight())
        else:
            number = 1
            name = f"[{self._shown(stage)}{stage.label} {number}/{total}] FROM {stage.base.name}"
            base = self.bases[stage.base.key]
            state = State(base, self._base(base, name, stage.base, 1), self.settings, self.globals, self.escape)
            if not any(key == "PATH" for key, _ in state.config.env):
                state.setenv("PATH", DEFAULT_PATH)
            # The triggers of the base are among the instructions, and none goes on to the next child.
            state.config = state.config._replace(platform=self._platform(stage, base.config.platform), onbuild=())
        state.stage = stage.label
        state.platform = stage.platform or self.settings.platform
        copies = dict(stage.copies)
        mounts: dict[int, list[MountReference]] = {}
        for mount in stage.mounts:
            mounts.setdefault(mount.place, []).append(mount)
        for place, instruction in enumerate(stage.instructions):
            trigger = stage.triggers[place] if place < len(stage.triggers) else None
            name = ""
            if isinstance(instruction, Run | Copy | Workdir):
                number += 1
                self._at = (stage.label, number, total)
                where = f"{self._shown(stage, state)}{stage.label} {number}/{total}"
                name = _step_name(where, instruction, trigger is not None)
            before = len(self.steps)
            try:
                if isinstance(instruction, Run):
                    self._run(state, instruction, name, self._mounted(instruction, name, mounts.get(place, [])))
                else:
                    self._instruction(state, instruction, name, copies.get(place))
                self._weigh(instruction.span, len(state.history[-1].created_by) if state.history else 0)
            except DockerfileError as error:
                if self.forgives(instruction):
                    continue
                if error.span is None:
                    error.span = instruction.span
                from builder.plan.hints import quoted_names

                error.hint = quoted_names(error, instruction) or error.hint
                if trigger is not None:
                    triggers.told(error, trigger, instruction.span)
                raise
            finally:
                self.warnings += state.warnings
                state.warnings.clear()
            if trigger is not None:
                self.triggers += [(step, trigger) for step in range(before, len(self.steps))]
        self.finished[stage.number] = state

    def _weigh(self, span: Span, size: int) -> None:
        """Stages that begin with all that another has, and steps that see all variables, multiply what is written once."""
        self._weight += size
        if self._weight > MAX_WEIGHT:
            raise DockerfileError(
                "the Dockerfile is too large to be planned: its stages and steps repeat too much",
                span,
                hint="use fewer variables, or build in several Dockerfiles",
            )

    def _shown(self, stage: Stage, state: State | None = None) -> str:
        """The platform in a step's name, where several are built for; with what it builds for, as far as the stage asks for
        that: `linux/amd64->arm64` (dockerfile2llb/convert.go, prefixCommand)."""
        if not self.settings.several:
            return ""
        own, target = stage.platform or self.settings.platform, self.settings.platform
        asks = state is not None and any(name in state.args for name in _TARGET_ARGS)
        return f"{own}{_difference(own, target) if asks else ''} "

    def _platform(self, stage: Stage, base: Platform) -> Platform:
        """The stage's; a variant that only the base names stays."""
        target = stage.platform or self.settings.platform
        return target if target.variant or base[:2] != target[:2] else target._replace(variant=base.variant)

    def _base(self, base: BaseImage, name: str, external: External, number: int) -> int:
        if external.key not in self._base_steps:
            self._base_steps[external.key] = len(self.steps)
            actual, expected = base.config.platform, external.platform or self.settings.platform
            self.warnings += stagechecks.base_platform(external.name, external.span, actual, expected)
            self.steps.append(BaseStep(len(self.steps), name, external.span, base))
            label, _, total = self._at
            config = base.config
            self.places.append(Place(label, number, total, config.env, (), config.workdir or "/", config.user))
        return self._base_steps[external.key]

    def unused_args(self) -> list[Warn]:
        known = {name for stage in self.stages.all for i in stage.instructions if isinstance(i, Arg) for name, _, _ in i.items}
        known |= set(self.globals) | {"SOURCE_DATE_EPOCH", HOSTNAME_ARG, CHECK_ARG, KEEP_GIT_ARG, INLINE_CACHE_ARG}
        return [
            Warn("UnusedBuildArg", _unused(name, known))
            for name in sorted(self.settings.build_args)
            if name not in known and name.upper() not in PROXY_ARGS
        ]

    # Instructions

    def _instruction(self, state: State, instruction: Instruction, name: str, origin: External | StageReference | None) -> None:
        match instruction:
            case Copy():
                self._copy(state, instruction, name, origin)
            case Workdir():
                self._workdir(state, instruction, name)
            case Onbuild(trigger=trigger):
                # Without a line of history, as BuildKit has it.
                state.config = state.config._replace(onbuild=(*state.config.onbuild, trigger))
            case From() | Run():
                raise AssertionError("a FROM begins a stage, and a RUN needs its mounts")
            case _:
                state.warnings += stagechecks.check(state, instruction)
                configure(state, instruction)

    # Steps

    def _run(self, state: State, instruction: Run, name: str, origins: dict[int, Origin]) -> None:
        step, warnings = run_step(state, instruction, len(self.steps), name, origins)
        self._weigh(instruction.span, 64 * len(step.env))
        self.warnings += warnings
        self._add(step, state, step.env)
        state.history.append(history(state, step))

    def _copy(self, state: State, instruction: Copy, name: str, origin: External | StageReference | None) -> None:
        from builder.plan.copying import copy_step  # for those who copy

        # It may add a base's step.
        where = self._origin(instruction, name, origin)
        self._add(copy_step(state, instruction, len(self.steps), name, where), state)

    def _add(self, step: Step, state: State, env: tuple[tuple[str, str], ...] | None = None) -> None:
        """Put a step on the stage; `env` is what its command sees, where it has one."""
        if env is None:
            env = tuple(state.variables().items())
            self._weigh(step.span, 64 * len(env))
        self.steps.append(step)
        self.places.append(Place(*self._at, env, state.arguments(), state.config.workdir or "/", state.config.user))
        state.step = step.id

    def _origin(self, instruction: Copy, name: str, origin: External | StageReference | None) -> Origin:
        if origin is not None:
            return self._resolved(origin, name)
        flag = from_flag(instruction)
        return self._context(flag.value or "") if flag else ContextOrigin("")

    def _mounted(self, instruction: Run, name: str, mounts: list[MountReference]) -> dict[int, Origin]:
        """By the places of the flags: what is mounted from something else than the main context."""
        found = {mount.flag: self._resolved(mount.origin, name) for mount in mounts}
        for place, flag in enumerate(instruction.flags):
            if flag.name == "mount" and place not in found:
                from builder.plan.mountflags import source_name

                source = source_name(flag)
                if source is not None:
                    found[place] = self._context(source.text)
        return found

    def _resolved(self, origin: External | StageReference, name: str) -> Origin:
        if isinstance(origin, StageReference):
            return StageOrigin(self.finished[origin.number].step)
        base = self.bases[origin.key]
        return StageOrigin(self._base(base, f"{name.partition(']')[0]}] FROM {origin.name}", origin, 0))

    def _context(self, name: str) -> Origin:
        context = matching_context(name, self.settings.directories)
        if context is None:
            raise AssertionError("a name without origin is a named folder")
        return ContextOrigin(context)

    def _workdir(self, state: State, instruction: Workdir, name: str) -> None:
        first, state.workdir_set = not state.workdir_set, True
        # Nothing leaves it where it is (dockerfile2llb/convert.go, dispatchWorkdir).
        given = state.word(instruction.path)
        if first and given:
            state.warnings += stagechecks.first_workdir(instruction.path, given)
        path = fields.join(state.config.workdir or "/", given)
        state.config = state.config._replace(workdir=path)
        step = None
        if path != "/":
            step = len(self.steps)
            self._add(WorkdirStep(step, name, instruction.span, state.step, path, state.config.user, state.stage), state)
        state.history.append(History(f"WORKDIR {path}", step))


def _unused(name: str, known: Collection[str]) -> str:
    if name.startswith("BUILDKIT_"):
        return f"--build-arg {name} has no effect here"
    hint = did_you_mean(name, known)
    return f"--build-arg {name} is not declared by any ARG" + (f" ({hint})" if hint else "")


def _difference(own: Platform, target: Platform) -> str:
    if own.os != target.os:
        return f"->{target}"
    if own.architecture != target.architecture:
        return f"->{'/'.join(part for part in target[1:] if part)}"
    return f"->{target.variant}" if own.variant != target.variant else ""


def _step_name(where: str, instruction: Run | Copy | Workdir, triggered: bool) -> str:
    text = instruction.text
    if isinstance(instruction, Run) and instruction.heredocs:
        from builder.plan import heredocs

        text = heredocs.summary(instruction)
    one_line = redact(" ".join(text.split()))
    return f"[{where}] {'ONBUILD ' if triggered else ''}{one_line}"
