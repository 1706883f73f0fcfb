"""Which sandbox a command gets, and going there: a builder that is not root enters its own user namespace before it opens the
store, since files of the images' users lie in that.

What the ladder said is kept in the store (`rungs`) with all that it depends on: a cached build asks for that file, a few
sysctls and the files of shadow, and enters while the command's modules are imported (`builder.sandbox.namespace`).
"""

from __future__ import annotations

import os
import time

from builder.errors import SandboxError, UsageError, did_you_mean
from builder.sandbox.namespace import Entry, Maps
from builder.sandbox.rungs import RUNGS, Isolation, Verdict, choose
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed

_VERSION = "pybuild-rungs-7"
_MAKERS = ("build", "run", "shell", "import", "pull", "load", "verify")
"""They make a store where there is none, and fill it."""
_STORELESS = ("check", "login", "logout", "help", "version")
_PASSES = 300
"""Seconds."""
_SAME = ("default", "oci", "rootless", "process")
"""What Docker and buildah call their own ways: each means the best that works."""
_READ = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/yama/ptrace_scope",
    "/proc/sys/user/max_mnt_namespaces",
    "/proc/sys/user/max_user_namespaces",
    "/proc/self/attr/current",
)
_SEEN = ("/", "/proc/self/ns/user", "/etc/subuid", "/etc/subgid", "/etc/passwd", "/etc/nsswitch.conf")
_LINES = ("Seccomp:", "NoNewPrivs:", "CapEff:", "CapBnd:")


class Known(NamedTuple):
    """What the ladder found, as it is kept."""

    verdicts: tuple[Verdict, ...]
    maps: Maps | None
    own: Maps | None
    passing: bool = False
    """As `ladder.Found`."""


class Entering:
    """A change into a user namespace that is on its way; with no `entry` there is none to wait for."""

    def __init__(self, isolation: Isolation, entry: Entry | None, root: str) -> None:
        self._isolation = isolation
        self._entry = entry
        self._root = root

    def finish(self) -> Isolation:
        """Before the store is opened. Raises SandboxError."""
        if self._entry is not None:
            try:
                self._entry.finish()
            except SandboxError:
                forget(self._root)
                raise
        return self._isolation


def wanted(parsed: Parsed, environment: Environment) -> str:
    """`--isolation`, else PYBUILD_ISOLATION, else auto. Raises UsageError for what is no rung."""
    # Not every command has the flag.
    flag = parsed.text("isolation") if "isolation" in parsed.values else None
    value = flag or environment.isolation or "auto"
    if value in _SAME:
        return "auto"
    where = "--isolation" if flag else "PYBUILD_ISOLATION"
    if value != "auto" and value not in RUNGS:
        near = did_you_mean(value, ("auto", *RUNGS))
        raise UsageError(f"'{value}' is not a value of {where}", hint=near or f"one of auto, {', '.join(RUNGS)}")
    return value


def begin(parsed: Parsed, environment: Environment) -> Entering:
    """Start to enter where that is needed. Raises UsageError; SandboxError where what is wanted does not work."""
    want = wanted(parsed, environment)
    if parsed.command in _STORELESS or (parsed.command == "doctor" and not parsed.flag("store")):
        return Entering(Isolation(), None, "")
    if want in ("auto", "root") and _is_root():
        return Entering(Isolation(), None, "")
    root = os.path.abspath(environment.store_root(parsed.text("root"), os.geteuid()))
    known = _known(root, parsed, environment)
    if known is None:
        # Another's store, which says so itself; or none, of which there is nothing to do.
        return Entering(Isolation(None, "no store was made"), None, root)
    chosen = choose(known.verdicts, want)
    if chosen.rung is None and want != "auto":
        raise SandboxError(chosen.reason, hint=chosen.hint or None)
    maps = known.maps if chosen.rung == "userns" else known.own if chosen.rung == "single-uid" else None
    if maps is None:
        return Entering(chosen, None, root)
    entry = Entry(maps)
    try:
        entry.begin()
    except OSError as error:
        forget(root)
        raise SandboxError(f"no user namespace: {error.strerror}", hint="it worked before: see 'pybuild doctor'") from error
    return Entering(chosen, entry, root)


def _is_root() -> bool:
    """Root with what a sandbox needs."""
    if os.geteuid() != 0:
        return False
    from builder.sandbox.capabilities import lacking

    return not lacking()


def _known(root: str, parsed: Parsed, environment: Environment) -> Known | None:
    """From the store, else by trying; None where there is no store of ours to go into a namespace for."""
    try:
        if os.stat(root).st_uid != os.geteuid():
            return None
    except FileNotFoundError:
        if parsed.command not in _MAKERS:
            return None
    except OSError:
        return None
    print_ = fingerprint(environment.path)
    kept = load(root)
    if kept is not None and kept[0] == print_ and not (kept[1].passing and _is_old(root)):
        return kept[1]
    from builder.cli.probing import probe  # once a boot

    return probe(root, print_, environment.path)


def _is_old(root: str) -> bool:
    """Whether what may pass was found out a while ago. Not at each command: an attempt may have taken half a minute."""
    try:
        return time.time() - os.stat(os.path.join(root, "rungs")).st_mtime > _PASSES
    except FileNotFoundError:
        return True  # Another process has just found it wrong (`forget`).


def fingerprint(path: str) -> str:
    """All that the verdicts depend on, as one line: another one means that the ladder is to be tried again."""
    parts = [str(os.geteuid()), str(os.getegid()), path]
    for name in _READ:
        try:
            with open(name, "rb") as file:
                parts.append(file.read(200).decode("ascii", "replace").strip("\0\n"))
        except OSError:
            parts.append("-")
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        parts += [line.strip() for line in file if line.startswith(_LINES)]
    for name in (*_SEEN, *_helpers(path), os.path.join(os.path.dirname(os.path.dirname(__file__)), "sandbox", "main.py")):
        try:
            info = os.stat(name)
            size = info.st_size if name != "/" else 0
            parts.append(f"{info.st_dev}:{info.st_ino}:{size}:{info.st_mode:o}:{_changed(name, info)}")
        except OSError:
            parts.append("-")
    return " ".join(" ".join(parts).split())


def _helpers(path: str) -> list[str]:
    """Where the programs are that write maps, as `ladder` looks for them; nothing for one that is not installed."""
    folders = [folder for folder in (*path.split(":"), "/usr/bin", "/usr/sbin") if folder.startswith("/")] if path else []
    found = []
    for program in ("newuidmap", "newgidmap", "getsubids"):
        places = (os.path.join(folder, program) for folder in folders)
        found.append(next((place for place in places if os.access(place, os.X_OK)), ""))
    return found


def _changed(name: str, info: os.stat_result) -> int:
    # The root's time moves with every name that is made there, a namespace's with every look at it.
    return info.st_mtime_ns if name.startswith("/etc/") or name.endswith(".py") else 0


def load(root: str) -> tuple[str, Known] | None:
    """Fingerprint and findings as they were kept; None where there are none, or none that can be read."""
    try:
        with open(os.path.join(root, "rungs"), encoding="utf-8", errors="replace") as file:
            head, print_, *lines = file.read(1 << 16).split("\n")
        if head != _VERSION:
            return None
        rows = [line.split("\t") for line in lines if line]
        verdicts = tuple(Verdict(row[1], row[2] == "yes", row[3], row[4]) for row in rows if row[0] == "rung")  # type: ignore[arg-type]  # of a file of ours
        maps = {
            row[0]: Maps(row[1], row[2], tuple(row[3].split()), tuple(row[4].split()))
            for row in rows
            if row[0] in ("maps", "own")
        }
        return print_, Known(verdicts, maps.get("maps"), maps.get("own"), any(row[0] == "passing" for row in rows))
    except (OSError, ValueError, IndexError):
        return None


def dump(print_: str, known: Known) -> bytes:
    rows = [("rung", name, "yes" if usable else "no", reason, hint) for name, usable, reason, hint in known.verdicts]
    lines = [_VERSION, print_, *("\t".join(" ".join(cell.split()) for cell in row) for row in rows)]
    if known.passing:
        lines.append("passing")
    for kind, maps in (("maps", known.maps), ("own", known.own)):
        if maps is None:
            continue
        cells = (kind, maps.newuidmap, maps.newgidmap, " ".join(maps.uids), " ".join(maps.gids))
        lines.append("\t".join(cells))
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def forget(root: str) -> None:
    """What was kept turned out wrong: the next command tries again."""
    try:
        os.unlink(os.path.join(root, "rungs"))
    except OSError:
        return
