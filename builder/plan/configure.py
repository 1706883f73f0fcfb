"""Instructions that change the image's config and no file, and ARG. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
)
from builder.dockerfile.checks.warning import Warn
from builder.dockerfile.goquote import quoted
from builder.oci.image import Healthcheck as HealthcheckConfig
from builder.oci.image import History
from builder.plan import fields, stagechecks
from builder.plan.state import told_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import (
        Word,
    )
    from builder.plan.state import State

NO_VARIABLES = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")
"""ARGs that speak to the builder alone: no command sees them, and no word expands them (convert.go, nonEnvArgs)."""

Configuring = Arg | Env | Label | Maintainer | User | Stopsignal | Expose | Volume | Cmd | Entrypoint | Shell | Healthcheck


def configure(state: State, instruction: Configuring) -> None:
    """Apply one instruction to the stage. Raises DockerfileError."""
    match instruction:
        case Arg():
            _arg(state, instruction)
        case Env():
            # All pairs are expanded first: an instruction sees the environment as it was before it.
            pairs = _pairs(state, instruction.pairs, "ENV")
            for name, value in pairs:
                state.setenv(name, value)
            state.history.append(History("ENV " + " ".join(f"{name}={value}" for name, value in pairs)))
        case Label():
            pairs = _pairs(state, instruction.pairs, "LABEL")
            for name, value in pairs:
                state.setlabel(name, value)
            state.history.append(History("LABEL " + " ".join(f"{name}={value}" for name, value in pairs)))
        case Maintainer():
            state.configure(f"MAINTAINER {instruction.name}", author=instruction.name)
        case User():
            # Nothing is root (dockerfile2llb/convert.go, dispatchUser).
            user = state.word(instruction.user)
            state.configure(f"USER {user}".rstrip(), user=user)
        case Stopsignal():
            text = told_at(instruction.signal, fields.signal, state.word(instruction.signal))
            state.configure(f"STOPSIGNAL {text}", stop_signal=text)
        case Expose():
            _expose(state, instruction)
        case Volume():
            paths = [state.nonempty(word, "VOLUME") for word in instruction.paths]
            state.add_volumes(paths)
            state.history.append(History(f"VOLUME [{' '.join(paths)}]"))
        case Cmd():
            argv = state.argv(instruction.command)
            state.cmd_set = True
            state.configure(f"CMD {_quoted(argv)}", cmd=argv)
        case Entrypoint():
            argv = state.argv(instruction.command)
            # An ENTRYPOINT resets the CMD of the base, which was meant for another program.
            cmd = state.config.cmd if state.cmd_set else None
            state.configure(f"ENTRYPOINT {_quoted(argv)}", entrypoint=argv, cmd=cmd)
        case Shell():
            state.configure(f"SHELL [{' '.join(instruction.words)}]", shell=instruction.words)
        case Healthcheck():
            _healthcheck(state, instruction)


def _arg(state: State, instruction: Arg) -> None:
    shown = []
    for name, default, _ in instruction.items:
        value: str | None = None
        if name in state.settings.build_args:
            value = state.settings.build_args[name]
        elif default is not None:
            value = state.word(default)
        elif name in state.global_args:
            value = state.global_args[name]
        if value is not None and name not in NO_VARIABLES:
            state.args[name] = value
        state.declared[name] = value or ""
        shown.append(name if value is None else f"{name}={value}")
    state.history.append(History("ARG " + " ".join(shown)))


def _pairs(state: State, pairs: tuple[tuple[Word, Word], ...], keyword: str) -> list[tuple[str, str]]:
    return [(state.nonempty(key, keyword), state.word(value)) for key, value in pairs]


def _expose(state: State, instruction: Expose) -> None:
    ports: list[str] = []
    # BuildKit sorts them as they are written (instructions/parse.go, parseExpose), which its history shows.
    for word in sorted(instruction.ports, key=lambda word: word.text):
        for text in state.words(word):
            ports += told_at(word, fields.ports, text)
            state.warnings += stagechecks.port(word, text)
    state.expose(ports)
    state.history.append(History(f"EXPOSE [{' '.join(ports)}]"))


def _healthcheck(state: State, instruction: Healthcheck) -> None:
    if instruction.command is None:
        if instruction.flags:
            flag = instruction.flags[0]
            state.warnings.append(Warn("HealthcheckFlag", f"--{flag.name} has no effect on HEALTHCHECK NONE", flag.span))
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
    state.configure(f"HEALTHCHECK {_shown_check(check)}", healthcheck=check)


def _shown_check(check: HealthcheckConfig) -> str:
    """As BuildKit's history has it: Go's `%+v` of the config."""
    times = zip(("Interval", "Timeout", "StartPeriod", "StartInterval"), check[1:5])
    shown = " ".join(f"{name}:{fields.shown_duration(value)}" for name, value in times)
    return f"{{Test:[{' '.join(check.test)}] {shown} Retries:{check.retries}}}"


def _quoted(argv: tuple[str, ...]) -> str:
    return "[" + " ".join(quoted(word) for word in argv) + "]"
