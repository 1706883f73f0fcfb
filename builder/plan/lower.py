"""From stages and resolved bases to a plan: variables expanded, every instruction a step or a change of config. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import Arg, Copy, From, Onbuild, Run, Workdir
from builder.errors import DockerfileError, did_you_mean
from builder.oci.image import DEFAULT_PATH, History
from builder.plan import fields, remotes
from builder.plan.configure import configure
from builder.plan.stages import External, StageReference, from_flag, matching_context
from builder.plan.state import State, flag_word, told_at
from builder.plan.steps import (
    BaseStep,
    ContextOrigin,
    CopySource,
    CopyStep,
    Plan,
    RunStep,
    StageOrigin,
    WorkdirStep,
)
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from builder.dockerfile.ast import Flag, Instruction
    from builder.errors import Span
    from builder.oci.platform import Platform
    from builder.plan.stages import Stage, Stages
    from builder.plan.state import Settings
    from builder.plan.steps import (
        BaseImage,
        Step,
        Warn,
    )

PROXY_ARGS = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"


def lower(stages: Stages, bases: Mapping[str, BaseImage], settings: Settings, escape: str) -> Plan:
    """The plan of what the target needs. `bases` has one entry for each of `stages.externals()`.

    Raises DockerfileError, with a span, for what is wrong or not supported yet.
    """
    lowering = _Lowering(stages, bases, settings, escape)
    for index in stages.needed:
        lowering.stage(stages.all[index])
    final = lowering.finished[stages.target]
    config = final.config
    for name, value in settings.labels:
        config = config.setlabel(name, value)
    needed = frozenset(stages.needed)
    skipped = tuple(stage.label for stage in stages.all if stage.number not in needed)
    warnings = [*stages.warnings, *lowering.warnings, *lowering.unused_args()]
    return Plan(
        tuple(lowering.steps),
        final.step,
        settings.platform,
        config,
        final.base,
        tuple(final.history),
        skipped,
        tuple(warnings),
    )


class _Lowering:
    def __init__(self, stages: Stages, bases: Mapping[str, BaseImage], settings: Settings, escape: str) -> None:
        self.stages = stages
        self.bases = bases
        self.settings = settings
        self.globals = dict(stages.global_args)
        self.escape = escape
        self.steps: list[Step] = []
        self.warnings: list[Warn] = []
        self.finished: dict[int, State] = {}
        self._base_steps: dict[str, int] = {}

    # Stages

    def stage(self, stage: Stage) -> None:
        counted = [i for i in stage.instructions if isinstance(i, Run | Copy | Workdir)]
        total = len(counted) + (1 if isinstance(stage.base, External) else 0)
        number = 0
        if isinstance(stage.base, StageReference):
            state = self.finished[stage.base.number].child()
        else:
            number = 1
            name = _step_name(stage, number, total, f"FROM {stage.base.name}")
            base = self.bases[stage.base.name]
            state = State(base, self._base(base, name, stage.base), self.settings, self.globals, self.escape)
            self._refuse_triggers(base, stage.base.span)
            if not any(key == "PATH" for key, _ in state.config.env):
                state.config = state.config.setenv("PATH", DEFAULT_PATH)
            state.config = state.config._replace(platform=self._platform(base.config.platform))
        copies = dict(stage.copies)
        for place, instruction in enumerate(stage.instructions):
            name = ""
            if isinstance(instruction, Run | Copy | Workdir):
                number += 1
                name = _step_name(stage, number, total, instruction.text)
            try:
                self._instruction(state, instruction, name, copies.get(place))
            except DockerfileError as error:
                if error.span is None:
                    error.span = instruction.span
                raise
        self.finished[stage.number] = state

    def _platform(self, base: Platform) -> Platform:
        """The target's; a variant that only the base names stays."""
        target = self.settings.platform
        return target if target.variant else target._replace(variant=base.variant)

    def _base(self, base: BaseImage, name: str, external: External) -> int:
        if external.name not in self._base_steps:
            self._base_steps[external.name] = len(self.steps)
            self.steps.append(BaseStep(len(self.steps), name, external.span, base))
        return self._base_steps[external.name]

    def _refuse_triggers(self, base: BaseImage, span: Span) -> None:
        if base.config.onbuild:
            raise DockerfileError(
                f"the base '{base.name}' has ONBUILD triggers, which are not executed yet",
                span,
                hint=f"its first one is: ONBUILD {base.config.onbuild[0]}",
            )

    def unused_args(self) -> list[Warn]:
        known = {name for stage in self.stages.all for i in stage.instructions if isinstance(i, Arg) for name, _, _ in i.items}
        known |= set(self.globals) | {"SOURCE_DATE_EPOCH", HOSTNAME_ARG}
        return [
            ("UnusedBuildArg", _unused(name, known), 0)
            for name in sorted(self.settings.build_args)
            if name not in known and name.upper() not in PROXY_ARGS
        ]

    # Instructions

    def _instruction(self, state: State, instruction: Instruction, name: str, origin: External | StageReference | None) -> None:
        match instruction:
            case Run():
                self._run(state, instruction, name)
            case Copy():
                self._copy(state, instruction, name, origin)
            case Workdir():
                self._workdir(state, instruction, name)
            case Onbuild():
                raise DockerfileError(
                    "ONBUILD is not executed yet", instruction.span, hint="move the instruction into the child's Dockerfile"
                )
            case From():
                raise AssertionError("a FROM begins a stage")
            case _:
                self.warnings += configure(state, instruction)

    # Steps

    def _run(self, state: State, instruction: Run, name: str) -> None:
        if instruction.heredocs:
            raise DockerfileError(
                "heredocs are not executed yet", instruction.heredocs[0].span, hint="join the commands with && for now"
            )
        network = self.settings.network
        for flag in instruction.flags:
            match flag.name, flag.value:
                case "network", "none":
                    network = "none"
                case ("network", "host") if self.settings.network == "none":
                    raise DockerfileError(
                        "RUN --network=host is not allowed in a build with --network=none",
                        flag.span,
                        hint="leave --network=none out of the command, or --network=host out of this line",
                    )
                case ("network", "host" | "default") | ("security", "sandbox"):
                    continue
                case _:
                    raise _not_yet("RUN", flag)
        argv = state.argv(instruction.command)
        if not argv or not argv[0]:
            raise DockerfileError("RUN has no command", instruction.span)
        variables = state.variables()
        env = {"PATH": DEFAULT_PATH, **variables}
        if "SOURCE_DATE_EPOCH" not in state.declared:
            env.setdefault("SOURCE_DATE_EPOCH", str(self.settings.epoch))
        hostname = self.settings.build_args.get(HOSTNAME_ARG) or "pybuild"
        env.setdefault("HOSTNAME", hostname)
        proxy = tuple(item for item in self._proxies() if item[0] not in state.declared)
        step = len(self.steps)
        self.steps.append(
            RunStep(
                step,
                name,
                instruction.span,
                state.step,
                argv,
                tuple(env.items()),
                state.config.workdir or "/",
                state.config.user,
                hostname,
                network,
                self.settings.hosts,
                self.settings.shm_size,
                proxy,
            )
        )
        state.step = step
        args = [f"{key}={variables.get(key, value)}" for key, value in state.declared.items()]
        state.history.append(History(" ".join(["RUN", *([f"|{len(args)}", *args] if args else []), *argv]), step))

    def _proxies(self) -> list[tuple[str, str]]:
        """Proxy variables in both cases, as BuildKit sets them, whichever case the build arg has."""
        found: dict[str, str] = {}
        for name, value in sorted(self.settings.build_args.items()):
            if name.upper() in PROXY_ARGS and value:
                found[name.upper()] = found[name.lower()] = value
        return sorted(found.items())

    def _copy(self, state: State, instruction: Copy, name: str, origin: External | StageReference | None) -> None:
        if instruction.heredocs:
            raise DockerfileError(
                "heredocs are not executed yet", instruction.heredocs[0].span, hint="put the text into a file"
            )
        chown, chown_span, chmod, shown = "", instruction.span, None, ""
        remote = remotes.Options()
        for flag in instruction.flags:
            match flag.name:
                case "from":
                    continue
                case "chown":
                    chown, chown_span = state.word(flag_word(flag)), flag.span
                case "chmod":
                    word = flag_word(flag)
                    shown = state.word(word)
                    chmod = told_at(word, fields.mode, shown) if shown else None
                case "unpack":
                    remote = remote._replace(unpack=_is_on(flag))
                case "keep-git-dir":
                    remote = remote._replace(keep_git_dir=_is_on(flag))
                case "checksum":
                    word = flag_word(flag)
                    remote = remote._replace(checksum=state.word(word), checksum_span=word.span)
                case "link" | "parents" if not _is_on(flag):
                    continue
                case _:
                    raise _not_yet(instruction.keyword, flag)
        paths = tuple(CopySource(state.nonempty(word, instruction.keyword), word.span) for word in instruction.sources)
        sources = remotes.resolve(paths, instruction.keyword, remote)
        is_local = any(isinstance(source, CopySource) for source in sources)
        unpack = (is_local and instruction.keyword == "ADD") if remote.unpack is None else remote.unpack
        dest = state.nonempty(instruction.dest, instruction.keyword)
        where = self._origin(instruction, name, origin)
        step = len(self.steps)
        self.steps.append(
            CopyStep(
                step,
                name,
                instruction.span,
                state.step,
                instruction.keyword,
                where,
                sources,
                fields.destination(state.config.workdir, dest),
                instruction.dest.span,
                chown,
                chown_span,
                chmod,
                unpack,
            )
        )
        state.step = step
        flags = [f"--chown={chown}"] * bool(chown) + [f"--chmod={shown}"] * bool(shown)
        names = [redact(path.path) for path in paths]
        state.history.append(History(" ".join([instruction.keyword, *flags, *names, dest]), step))

    def _origin(self, instruction: Copy, name: str, origin: External | StageReference | None) -> ContextOrigin | StageOrigin:
        match origin:
            case StageReference(number=number):
                return StageOrigin(self.finished[number].step)
            case External():
                base = self.bases[origin.name]
                return StageOrigin(self._base(base, f"{name.partition(']')[0]}] FROM {origin.name}", origin))
            case None:
                flag = from_flag(instruction)
                context = matching_context(flag.value or "", self.settings.directories) if flag else ""
                if context is None:
                    raise AssertionError("a --from without origin is a named folder")
                return ContextOrigin(context)

    def _workdir(self, state: State, instruction: Workdir, name: str) -> None:
        path = fields.join(state.config.workdir or "/", state.nonempty(instruction.path, "WORKDIR"))
        state.config = state.config._replace(workdir=path)
        step = None
        if path != "/":
            step = len(self.steps)
            self.steps.append(WorkdirStep(step, name, instruction.span, state.step, path, state.config.user))
            state.step = step
        state.history.append(History(f"WORKDIR {path}", step))


def _unused(name: str, known: Collection[str]) -> str:
    if name.startswith("BUILDKIT_"):
        return f"--build-arg {name} has no effect here"
    hint = did_you_mean(name, known)
    return f"--build-arg {name} is not declared by any ARG" + (f" ({hint})" if hint else "")


def _is_on(flag: Flag) -> bool:
    return (flag.value or "true").lower() == "true"


def _not_yet(keyword: str, flag: Flag) -> DockerfileError:
    shown = f"--{flag.name}" + (f"={flag.value}" if flag.value else "")
    return DockerfileError(
        f"{keyword} {shown} is not executed yet", flag.span, hint="it is parsed and known; a later version runs it"
    )


def _step_name(stage: Stage, number: int, total: int, text: str) -> str:
    one_line = redact(" ".join(text.split()))
    return f"[{stage.label} {number}/{total}] {one_line}"
