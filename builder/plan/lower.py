"""From stages and resolved bases to a plan: variables expanded, every instruction a step or a change of config. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeVar

from builder.dockerfile.ast import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Flag,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Word,
    Workdir,
)
from builder.errors import BuildError, DockerfileError, Span, did_you_mean
from builder.oci.image import DEFAULT_PATH, History, ImageConfig
from builder.oci.image import Healthcheck as HealthcheckConfig
from builder.oci.platform import Platform
from builder.plan import fields
from builder.plan.expand import expand, expand_list
from builder.plan.stages import External, Stage, StageReference, Stages, from_flag, matching_context
from builder.plan.steps import (
    BaseImage,
    BaseStep,
    ContextOrigin,
    CopySource,
    CopyStep,
    Plan,
    RunStep,
    StageOrigin,
    Step,
    Warn,
    WorkdirStep,
)
from builder.values import NamedTuple

_T = TypeVar("_T")
_V = TypeVar("_V")

DEFAULT_SHELL = ("/bin/sh", "-c")
PROXY_ARGS = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"


class Settings(NamedTuple):
    """What the user asked for beside the Dockerfile."""

    build_args: Mapping[str, str]
    platform: Platform
    epoch: int
    """SOURCE_DATE_EPOCH as a RUN sees it that does not declare the ARG: seconds since 1970."""
    labels: tuple[tuple[str, str], ...] = ()
    network: Literal["host", "none"] = "host"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 * 1024 * 1024
    directories: Collection[str] = ()
    """Names of the named contexts that are folders."""


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


class _State:
    """A stage while its instructions are read, top to bottom."""

    def __init__(self, base: BaseImage, step: int) -> None:
        self.base = base
        self.step = step
        self.config = base.config
        self.history: list[History] = []
        self.args: dict[str, str] = {}
        self.declared: dict[str, str] = {}
        """ARGs in the order of their declaration, for the history line of a RUN."""
        self.cmd_set = False

    def child(self) -> _State:
        state = _State(self.base, self.step)
        state.config = self.config._replace(onbuild=())
        state.history = list(self.history)
        state.args = dict(self.args)
        state.declared = dict(self.declared)
        return state

    def variables(self) -> dict[str, str]:
        """ENV beats ARG, whichever came first."""
        return {**self.args, **dict(self.config.env)}


class _Lowering:
    def __init__(self, stages: Stages, bases: Mapping[str, BaseImage], settings: Settings, escape: str) -> None:
        self.stages = stages
        self.bases = bases
        self.settings = settings
        self.globals = dict(stages.global_args)
        self.escape = escape
        self.steps: list[Step] = []
        self.warnings: list[Warn] = []
        self.finished: dict[int, _State] = {}
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
            state = _State(base, self._base(base, name, stage.base))
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

    def _instruction(
        self, state: _State, instruction: Instruction, name: str, origin: External | StageReference | None
    ) -> None:
        match instruction:
            case Arg():
                self._arg(state, instruction)
            case Env():
                self._env(state, instruction)
            case Label():
                self._label(state, instruction)
            case Maintainer():
                state.config = state.config._replace(author=instruction.name)
                state.history.append(History(f"MAINTAINER {instruction.name}"))
            case Run():
                self._run(state, instruction, name)
            case Copy():
                self._copy(state, instruction, name, origin)
            case Workdir():
                self._workdir(state, instruction, name)
            case User():
                user = self._nonempty(state, instruction.user, "USER")
                self._configure(state, f"USER {user}", user=user)
            case Stopsignal():
                text = _at(instruction.signal, fields.signal, self._word(state, instruction.signal))
                self._configure(state, f"STOPSIGNAL {text}", stop_signal=text)
            case Expose():
                ports = [port for word in instruction.ports for port in self._ports(state, word)]
                self._configure(state, f"EXPOSE [{' '.join(ports)}]", exposed=state.config.exposed | set(ports))
            case Volume():
                paths = [self._nonempty(state, word, "VOLUME") for word in instruction.paths]
                self._configure(state, f"VOLUME [{' '.join(paths)}]", volumes=state.config.volumes | set(paths))
            case Cmd():
                argv = self._argv(state, instruction.command)
                state.cmd_set = True
                self._configure(state, f"CMD {_quoted(argv)}", cmd=argv)
            case Entrypoint():
                argv = self._argv(state, instruction.command)
                # An ENTRYPOINT resets the CMD of the base, which was meant for another program.
                cmd = state.config.cmd if state.cmd_set else None
                self._configure(state, f"ENTRYPOINT {_quoted(argv)}", entrypoint=argv, cmd=cmd)
            case Shell():
                self._configure(state, f"SHELL [{' '.join(instruction.words)}]", shell=instruction.words)
            case Healthcheck():
                self._healthcheck(state, instruction)
            case Onbuild():
                raise DockerfileError(
                    "ONBUILD is not executed yet", instruction.span, hint="move the instruction into the child's Dockerfile"
                )
            case From():
                raise AssertionError("a FROM begins a stage")

    def _configure(self, state: _State, line: str, **changes: object) -> None:
        config: ImageConfig = state.config._replace(**changes)  # type: ignore[arg-type]  # _replace checks the names
        state.config = config
        state.history.append(History(line))

    def _word(self, state: _State, word: Word) -> str:
        return expand(word, state.variables(), self.escape)

    def _nonempty(self, state: _State, word: Word, keyword: str) -> str:
        text = self._word(state, word)
        if not text:
            raise DockerfileError(f"{keyword} has an empty argument: '{word.text}' expands to nothing", word.span)
        return text

    def _ports(self, state: _State, word: Word) -> list[str]:
        out: list[str] = []
        for text in expand_list(word, state.variables(), self.escape):
            out += _at(word, fields.ports, text)
            if ":" in text:
                message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
                self.warnings.append(("ExposeInvalidFormat", message, word.span.line))
        return out

    def _arg(self, state: _State, instruction: Arg) -> None:
        shown = []
        for name, default, _ in instruction.items:
            value: str | None = None
            if name in self.settings.build_args:
                value = self.settings.build_args[name]
            elif default is not None:
                value = self._word(state, default)
            elif name in self.globals:
                value = self.globals[name]
            if value is not None:
                state.args[name] = value
            state.declared[name] = value or ""
            shown.append(name if value is None else f"{name}={value}")
        state.history.append(History("ARG " + " ".join(shown)))

    def _env(self, state: _State, instruction: Env) -> None:
        # All pairs are expanded first: an instruction sees the environment as it was before it.
        pairs = self._pairs(state, instruction.pairs, "ENV")
        for name, value in pairs:
            state.config = state.config.setenv(name, value)
        state.history.append(History("ENV " + " ".join(f"{name}={value}" for name, value in pairs)))

    def _label(self, state: _State, instruction: Label) -> None:
        pairs = self._pairs(state, instruction.pairs, "LABEL")
        for name, value in pairs:
            state.config = state.config.setlabel(name, value)
        state.history.append(History("LABEL " + " ".join(f"{name}={value}" for name, value in pairs)))

    def _pairs(self, state: _State, pairs: tuple[tuple[Word, Word], ...], keyword: str) -> list[tuple[str, str]]:
        return [(self._nonempty(state, key, keyword), self._word(state, value)) for key, value in pairs]

    def _argv(self, state: _State, command: Command) -> tuple[str, ...]:
        match command:
            case ExecForm(words=words):
                return words
            case ShellForm(text=text):
                return (*(state.config.shell or DEFAULT_SHELL), text)

    # Steps

    def _run(self, state: _State, instruction: Run, name: str) -> None:
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
        argv = self._argv(state, instruction.command)
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

    def _copy(self, state: _State, instruction: Copy, name: str, origin: External | StageReference | None) -> None:
        if instruction.heredocs:
            raise DockerfileError(
                "heredocs are not executed yet", instruction.heredocs[0].span, hint="put the text into a file"
            )
        chown, chown_span, chmod, shown = "", instruction.span, None, ""
        unpack = instruction.keyword == "ADD"
        for flag in instruction.flags:
            match flag.name:
                case "from":
                    continue
                case "chown":
                    chown, chown_span = self._word(state, _flag_word(flag)), flag.span
                case "chmod":
                    word = _flag_word(flag)
                    shown = self._word(state, word)
                    chmod = _at(word, fields.mode, shown) if shown else None
                case "unpack":
                    unpack = _is_on(flag)
                case "link" | "parents" | "keep-git-dir" if not _is_on(flag):
                    continue
                case _:
                    raise _not_yet(instruction.keyword, flag)
        sources = tuple(CopySource(self._nonempty(state, word, instruction.keyword), word.span) for word in instruction.sources)
        for source in sources:
            _refuse_remote(source, instruction.keyword)
        dest = self._nonempty(state, instruction.dest, instruction.keyword)
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
        state.history.append(History(" ".join([instruction.keyword, *flags, *(source.path for source in sources), dest]), step))

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

    def _workdir(self, state: _State, instruction: Workdir, name: str) -> None:
        path = fields.join(state.config.workdir or "/", self._nonempty(state, instruction.path, "WORKDIR"))
        state.config = state.config._replace(workdir=path)
        step = None
        if path != "/":
            step = len(self.steps)
            self.steps.append(WorkdirStep(step, name, instruction.span, state.step, path, state.config.user))
            state.step = step
        state.history.append(History(f"WORKDIR {path}", step))

    def _healthcheck(self, state: _State, instruction: Healthcheck) -> None:
        if instruction.command is None:
            if instruction.flags:
                flag = instruction.flags[0]
                self.warnings.append(("HealthcheckFlag", f"--{flag.name} has no effect on HEALTHCHECK NONE", flag.span.line))
            check = HealthcheckConfig(("NONE",))
        else:
            from builder.dockerfile.durations import nanoseconds

            # The parser has checked the values; an empty one stands for the default.
            values = {flag.name: flag.value or "0" for flag in instruction.flags}
            interval, timeout, start_period, start_interval = (
                nanoseconds(values.get(name, "0")) or 0 for name in ("interval", "timeout", "start-period", "start-interval")
            )
            match instruction.command:
                case ExecForm(words=words):
                    test = ("CMD", *words)
                case ShellForm(text=text):
                    test = ("CMD-SHELL", text)
            retries = int(values.get("retries", "0"))
            check = HealthcheckConfig(test, interval, timeout, start_period, start_interval, retries)
        self._configure(state, f"HEALTHCHECK {_shown_check(check)}", healthcheck=check)


def _shown_check(check: HealthcheckConfig) -> str:
    """As BuildKit's history has it: Go's `%+v` of the config."""
    times = zip(("Interval", "Timeout", "StartPeriod", "StartInterval"), check[1:5])
    shown = " ".join(f"{name}:{fields.shown_duration(value)}" for name, value in times)
    return f"{{Test:[{' '.join(check.test)}] {shown} Retries:{check.retries}}}"


def _unused(name: str, known: Collection[str]) -> str:
    if name.startswith("BUILDKIT_"):
        return f"--build-arg {name} has no effect here"
    hint = did_you_mean(name, known)
    return f"--build-arg {name} is not declared by any ARG" + (f" ({hint})" if hint else "")


def _is_on(flag: Flag) -> bool:
    return (flag.value or "true").lower() == "true"


def _flag_word(flag: Flag) -> Word:
    """The value of a flag as a word at its place: after `--name=` when it stands there without quotes, else the flag."""
    value, span = flag.value or "", flag.span
    if span.line == span.end_line and span.end_column - span.column == len(flag.name) + 3 + len(value):
        span = span._replace(column=span.column + len(flag.name) + 3)
    return Word(value, span)


def _at(word: Word, function: Callable[[_V], _T], value: _V) -> _T:
    """`function(value)`, its error moved to `word`."""
    try:
        return function(value)
    except BuildError as error:
        raise DockerfileError(error.message, word.span, hint=error.hint) from None


def _not_yet(keyword: str, flag: Flag) -> DockerfileError:
    shown = f"--{flag.name}" + (f"={flag.value}" if flag.value else "")
    return DockerfileError(
        f"{keyword} {shown} is not executed yet", flag.span, hint="it is parsed and known; a later version runs it"
    )


def _refuse_remote(source: CopySource, keyword: str) -> None:
    if source.path.startswith(("http://", "https://", "git@", "git://", "ssh://")):
        what = (
            "source can't be a URL for COPY" if keyword == "COPY" else f"ADD of the remote '{source.path}' is not executed yet"
        )
        raise DockerfileError(what, source.span, hint="fetch it beforehand and put it into the build context")


def _step_name(stage: Stage, number: int, total: int, text: str) -> str:
    one_line = " ".join(text.split())
    return f"[{stage.label} {number}/{total}] {one_line}"


def _quoted(argv: tuple[str, ...]) -> str:
    return "[" + " ".join(fields.quoted(word) for word in argv) + "]"
