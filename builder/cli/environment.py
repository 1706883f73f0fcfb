"""The environment variables that pybuild knows (SPEC section 3), read once, here alone. Pure: it takes a mapping."""

from __future__ import annotations

from builder.errors import UsageError, did_you_mean
from builder.sandbox.rungs import Isolation
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Progress = Literal["auto", "tty", "plain", "json", "quiet"]

_OF_BUILDKIT: dict[str, str] = {"": "auto", "none": "quiet", "rawjson": "auto"}
"""What people set for all builders of a machine; a stream that is none of ours nobody here can ask for."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


class Environment(NamedTuple):
    """Texts are empty where a variable is unset or empty; paths are as given."""

    source_date_epoch: int | None
    docker_config: str
    registry_auth_file: str
    default_platform: str
    progress: Progress
    no_color: bool
    force_color: bool
    dumb_terminal: bool
    """TERM=dumb: a terminal that cannot move its cursor. Not in the SPEC's list; terminals are not told otherwise."""
    ssh_auth_sock: str
    tmpdir: str
    home: str
    xdg_data_home: str
    xdg_config_home: str
    xdg_cache_home: str
    xdg_runtime_dir: str
    """XDG directories that are not absolute are invalid and count as unset (XDG Base Directory Specification)."""
    proxies: tuple[tuple[str, str], ...]
    """The proxy variables that are set, upper case before lower case, under the names in which they are set."""
    root: str
    docker_host: str = ""
    docker_context: str = ""
    path: str = ""
    """PATH: where git and ssh are looked for. Not in the SPEC's list; every program has it."""
    isolation: str = ""
    """PYBUILD_ISOLATION: the sandbox that is wanted where no flag says it."""
    workspace: str = ""
    """GITHUB_WORKSPACE: the folder of the repository, from which annotations name files. Not in the SPEC's list: GitHub's
    runners set it."""
    sandbox: Isolation = Isolation()
    """The sandbox that commands get (`builder.cli.isolation`), once that is known."""

    def store_root(self, flag: str | None, uid: int) -> str:
        """The store's folder (SPEC section 6): ``--root``, PYBUILD_ROOT, or the user's own. Raises UsageError."""
        if flag == "":
            raise UsageError("--root is empty", hint="give a directory")
        if flag or self.root:
            return flag or self.root
        if uid == 0:
            return "/var/lib/pybuild"
        if self.xdg_data_home:
            return f"{self.xdg_data_home}/pybuild"
        if not self.home:
            raise UsageError("no place for the store: HOME is not set", hint="give one by --root DIR or PYBUILD_ROOT")
        return f"{self.home.rstrip('/')}/.local/share/pybuild"

    def color(self, *, is_tty: bool) -> bool:
        """Whether to use colors: NO_COLOR wins, then FORCE_COLOR, else on a terminal that can."""
        if self.no_color or self.force_color:
            return not self.no_color
        return is_tty and not self.dumb_terminal

    def progress_mode(self, flag: str | None, *, quiet: bool) -> Progress:
        """``--quiet``, ``--progress`` (checked by the table), BUILDKIT_PROGRESS, or auto; auto is plain on a dumb terminal."""
        if quiet:
            return "quiet"
        mode = _progress(flag, "--progress") if flag else self.progress
        return "plain" if mode == "auto" and self.dumb_terminal else mode


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Raises UsageError for a value that cannot be used."""
    proxies = [(name, environ[name]) for upper in _PROXIES for name in (upper, upper.lower()) if environ.get(name)]
    return Environment(
        source_date_epoch=_epoch(environ.get("SOURCE_DATE_EPOCH", "")),
        docker_config=environ.get("DOCKER_CONFIG", ""),
        registry_auth_file=environ.get("REGISTRY_AUTH_FILE", ""),
        default_platform=environ.get("DOCKER_DEFAULT_PLATFORM", ""),
        progress=_progress(_OF_BUILDKIT.get(mode := environ.get("BUILDKIT_PROGRESS", ""), mode), "BUILDKIT_PROGRESS"),
        no_color=bool(environ.get("NO_COLOR")),
        force_color=environ.get("FORCE_COLOR", "") not in ("", "0"),
        dumb_terminal=environ.get("TERM") == "dumb",
        ssh_auth_sock=environ.get("SSH_AUTH_SOCK", ""),
        tmpdir=environ.get("TMPDIR", ""),
        home=environ.get("HOME", ""),
        xdg_data_home=_absolute(environ.get("XDG_DATA_HOME", "")),
        xdg_config_home=_absolute(environ.get("XDG_CONFIG_HOME", "")),
        xdg_cache_home=_absolute(environ.get("XDG_CACHE_HOME", "")),
        xdg_runtime_dir=_absolute(environ.get("XDG_RUNTIME_DIR", "")),
        proxies=tuple(proxies),
        root=environ.get("PYBUILD_ROOT", ""),
        docker_host=environ.get("DOCKER_HOST", ""),
        docker_context=environ.get("DOCKER_CONTEXT", ""),
        path=environ.get("PATH", ""),
        isolation=environ.get("PYBUILD_ISOLATION", ""),
        workspace=environ.get("GITHUB_WORKSPACE", ""),
        sandbox=Isolation(path=environ.get("PATH", "")),
    )


def build_args(pairs: Mapping[str, str | None], environ: Mapping[str, str]) -> dict[str, str]:
    """``--build-arg`` pairs with values: ``NAME`` alone takes the environment's, and counts as absent where that has none."""
    values = ((name, environ.get(name) if value is None else value) for name, value in pairs.items())
    return {name: value for name, value in values if value is not None}


def _absolute(path: str) -> str:
    return path if path.startswith("/") else ""


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise UsageError(f"SOURCE_DATE_EPOCH is '{text}', not a number of seconds", hint="unset it, or: date +%s")
    return int(text)


def _progress(text: str, where: str) -> Progress:
    match text:
        case "auto" | "tty" | "plain" | "json" | "quiet":
            return text
        case "rawjson":
            raise UsageError(f"'rawjson' is not a value of {where}", hint="pybuild's own stream is 'json'")
    modes = ("auto", "tty", "plain", "json", "quiet")
    raise UsageError(f"'{text}' is not a value of {where}", hint=did_you_mean(text, modes) or "one of " + ", ".join(modes))
