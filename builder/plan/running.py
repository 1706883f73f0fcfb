"""RUN: the step with all that its command sees, and its line of history. Pure."""

from __future__ import annotations

from builder.dockerfile.checks.warning import Warn
from builder.errors import DockerfileError
from builder.oci.image import DEFAULT_PATH, History
from builder.plan.steps import RunStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.dockerfile.ast import Flag, Run
    from builder.plan.mounts import Mount
    from builder.plan.origins import Origin
    from builder.plan.state import Settings, State
    from builder.plan.steps import Script

PROXY_ARGS = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"
KEEP_GIT_ARG = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
"""`.git` stays in a context that is a git repository."""
INLINE_CACHE_ARG = "BUILDKIT_INLINE_CACHE"
"""Docker's older word for `--cache-to type=inline`."""


def run_step(state: State, instruction: Run, number: int, name: str, origins: dict[int, Origin]) -> tuple[RunStep, list[Warn]]:
    """The step `number` of the plan, called `name`, and warnings. `origins` has what each flag, by its place, mounts from.

    Raises DockerfileError, mostly with a span.
    """
    network, security, flags = _flags(instruction, state.settings)
    argv, script = _command(state, instruction)
    if not argv or not argv[0]:
        raise DockerfileError("RUN has no command", instruction.span, hint="write the command after RUN")
    mounts, warnings = _mounts(state, flags, origins)
    env = {"PATH": DEFAULT_PATH, **state.variables()}
    if "SOURCE_DATE_EPOCH" not in state.declared:
        env.setdefault("SOURCE_DATE_EPOCH", str(state.settings.epoch))
    hostname = state.settings.build_args.get(HOSTNAME_ARG) or "pybuild"
    env.setdefault("HOSTNAME", hostname)
    step = RunStep(
        number,
        name,
        instruction.span,
        state.step,
        argv,
        tuple(env.items()),
        state.config.workdir or "/",
        state.config.user,
        hostname,
        network,
        state.settings.hosts,
        state.settings.shm_size,
        # Of two spellings the one that is declared may be the one without a value.
        tuple(item for item in _proxies(state.settings) if item[0] not in state.declared or item[0] not in env),
        mounts,
        security,
        script,
        next((flag.span for flag in instruction.flags if flag.name == "security"), None),
        state.stage,
        state.platform,
        state.settings.ulimits,
        next((flag.span for flag in instruction.flags if (flag.name, flag.value) == ("network", "host")), None),
    )
    return step, warnings


def history(state: State, step: RunStep) -> History:
    """Its line: the ARGs in effect, then the command."""
    variables = state.variables()
    args = [f"{key}={variables.get(key, value)}" for key, value in state.declared.items()]
    return History(" ".join(["RUN", *([f"|{len(args)}", *args] if args else []), *step.argv]), step.id)


def _flags(
    instruction: Run, settings: Settings
) -> tuple[Literal["default", "host", "none"], Literal["sandbox", "insecure"], list[tuple[int, Flag]]]:
    """Network, security, and the mounts with their places among the flags."""
    network, security = settings.network, "sandbox"
    mounts: list[tuple[int, Flag]] = []
    for place, flag in enumerate(instruction.flags):
        match flag.name, flag.value:
            case "network", "none":
                network = "none"
            case ("network", "host") if settings.network == "none":
                raise DockerfileError(
                    "RUN --network=host is not allowed in a build with --network=none",
                    flag.span,
                    hint="leave --network=none out of the command, or --network=host out of this line",
                )
            case "security", "insecure":
                security = "insecure"
            case "network", "host":
                network = "host"
            case ("network", "default") | ("security", "sandbox"):
                continue
            case "mount", _:
                mounts.append((place, flag))
            case _:
                raise DockerfileError(
                    f"RUN --{flag.name}={flag.value} is not executed yet",
                    flag.span,
                    hint="it is parsed and known; a later version runs it",
                )
    return network, "insecure" if security == "insecure" else "sandbox", mounts


def _command(state: State, instruction: Run) -> tuple[tuple[str, ...], Script | None]:
    if not instruction.heredocs:
        return state.argv(instruction.command), None
    from builder.plan import heredocs

    text, script = heredocs.command(instruction)
    return state.in_shell(text), script


def _mounts(state: State, flags: list[tuple[int, Flag]], origins: dict[int, Origin]) -> tuple[tuple[Mount, ...], list[Warn]]:
    found: list[Mount] = []
    warnings: list[Warn] = []
    if flags:
        from builder.plan.mountflags import Place, mount
        from builder.plan.mounts import SshMount

        for place, flag in flags:
            ssh = sum(isinstance(each, SshMount) for each in found)
            made, useless = mount(flag, Place(state.config.workdir or "/", ssh, origins.get(place)), state.word)
            if made.target and made.target in (each.target for each in found):
                raise DockerfileError(
                    f"two mounts have the target '{made.target}'", made.span, hint="give each a target of its own"
                )
            found.append(made)
            warnings += [Warn("RunMount", f"RUN --mount: {message}", flag.span) for message in useless]
    return tuple(found), warnings


def _proxies(settings: Settings) -> list[tuple[str, str]]:
    """Proxy variables in both cases, as BuildKit sets them, whichever case the build arg has."""
    found: dict[str, str] = {}
    for name, value in sorted(settings.build_args.items()):
        if name.upper() in PROXY_ARGS and value:
            found[name.upper()] = found[name.lower()] = value
    return sorted(found.items())
