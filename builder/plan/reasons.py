"""Why a step had to run: the inputs of its key beside those of an earlier record, in words for a person. Pure.

Inputs are the preimages of keys (`builder.plan.keys`), parsed. A field that this module does not know is told by its name, so
that a key may gain fields.
"""

from __future__ import annotations

from builder.plan.wording import Names, is_secret, pair, shown
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    Inputs = Mapping[str, Any]


class Reason(NamedTuple):
    """One input that changed, or another cause."""

    kind: str
    """A stable name (docs/why.md)."""
    text: str
    """One line."""
    step: int = 0
    """The number of the step that it follows from; 0 for none."""


class File(NamedTuple):
    """What a COPY put into the image at one path."""

    content: str
    """Kind, digest, link target and the like: whatever makes it another file."""
    mode: int
    owner: tuple[int, int]


class Files:
    """How what a COPY gave before differs from what it gives now, file by file; names are those that a person knows."""

    def __init__(self) -> None:
        self.changed = Names()
        self.added = Names()
        self.removed = Names()
        self.modes = Names()
        self.owners = Names()

    def compare(self, name: str, old: File | None, new: File | None) -> None:
        """One of the two may be missing."""
        if old is None:
            self.added.add(name)
        elif new is None:
            self.removed.add(name)
        elif old.content != new.content:
            self.changed.add(name)
        else:
            if old.mode != new.mode:
                self.modes.add(f"{name} ({old.mode:o} -> {new.mode:o})")
            if old.owner != new.owner:
                self.owners.add(f"{name} ({_owner(old)} -> {_owner(new)})")


NEVER = Reason("never-built", "never built")
REMOVED = Reason("removed", "the same inputs, but its result was removed from the store")
HIDDEN = Reason("other", "an input changed that is not shown: credentials in a URL")
UNKNOWN = Reason("unknown", "the record of the earlier build was removed from the store")


def no_cache(flag: str) -> Reason:
    return Reason("no-cache", f"the cache was not asked ({flag})")


def imported(cache: str) -> Reason:
    return Reason("imported", f"from the {cache}")


def failed_before(when: str) -> Reason:
    return Reason("failed-before", f"the same inputs, but it failed in the build of {when}")


def unfinished(when: str) -> Reason:
    return Reason("unfinished", f"the same inputs, but it did not end in the build of {when}")


def compare(
    before: Inputs, now: Inputs, *, args: Collection[str], copied: str, files: Files | None, root: Reason
) -> tuple[Reason, ...]:
    """What differs, the step's own inputs first; empty where nothing does.

    `args` are the names of variables that are ARGs, `copied` is what a COPY copies (`COPY src`), `files` what it gave where
    both are known, and `root` the words for another file system to start from.
    """
    found: list[Reason] = []
    for field in sorted(before.keys() | now.keys(), key=_rank):
        old, new = before.get(field), now.get(field)
        if old == new:
            continue
        match field:
            case "op":
                continue  # Another kind of step has other fields.
            case "root":
                found.append(root)
            case "argv":
                found.append(_command(old or [], new or []))
            case "env":
                found += _variables(dict(old or ()), dict(new or ()), args)
            case "mounts":
                found += _mounts(old or [], new or [])
            case "content":
                found.append(_content(copied, files))
            case _:
                found.append(_field(field, old, new, before["op"]))
    return tuple(found)


def follows(direct: bool, number: int, name: str, reasons: tuple[Reason, ...]) -> Reason:
    """The step starts from what the step `number`, called `name`, left: the one before where `direct`, an earlier one where
    not. `reasons` are that one's own."""
    # What a COPY copies stands in its name.
    texts = [reason.text.partition(": ")[2] if reason.kind == "files" else reason.text for reason in reasons]
    why = f" ({'; '.join(texts)})" if texts else ""
    return Reason("before", f"{_place(direct)}: {name}{why}", number)


def cached(direct: bool, number: int, name: str) -> Reason:
    """The same, where that one came from the cache, with what another build had given."""
    return Reason("before", f"{_place(direct)}: {name} (cached, with another result)", number)


def now_from(direct: bool, number: int, name: str) -> Reason:
    """It starts from a base image, where an earlier one had other steps before it."""
    return Reason("before", f"{_place(direct)} is now: {name}", number)


def _place(direct: bool) -> str:
    return "the step before" if direct else "an earlier step"


def base(before: str, now: str, number: int) -> Reason:
    """The image that the step starts from; names as FROM has them."""
    if before and before != now:
        return Reason("base", f"base: {before} -> {now}", number)
    return Reason("base", f"base: new digest ({now})", number)


_ORDER = ("argv", "script", "content", "path", "dest", "chown", "chmod", "unpack", "env", "mounts")


def _rank(field: str) -> tuple[int, str]:
    """The step's own text first, what surrounds it then, what it starts from last."""
    if field in _ORDER:
        return _ORDER.index(field), field
    return (len(_ORDER) + (field == "root"), field)


def _command(old: list[str], new: list[str]) -> Reason:
    if len(old) > 1 and len(new) > 1 and old[:-1] != new[:-1] and old[-1] == new[-1]:
        return Reason("shell", f"SHELL: {pair(' '.join(old[:-1]), ' '.join(new[:-1]))}")
    if old[:-1] == new[:-1] and old and new:
        return Reason("command", f"command: {pair(old[-1], new[-1])}")
    # A shell's own words say nothing of the command.
    words = [command[-1] if command[1:2] == ["-c"] else " ".join(command) for command in (old, new)]
    return Reason("command", f"command: {pair(*words)}")


MOST_VARIABLES = 5


def _variables(old: dict[str, str], new: dict[str, str], args: Collection[str]) -> list[Reason]:
    found = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name not in args, name)):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        kind = "arg" if name in args else "env"
        what = f"{kind.upper()} {name}"
        if is_secret(name):
            change = "changed (its value is not shown)" if before is not None and now is not None else "set"
            change = "no longer set" if now is None else change
        elif before is None:
            change = f"set to {shown(now or '')}"
        elif now is None:
            change = f"no longer set (it was {shown(before)})"
        else:
            change = pair(before, now)
        # Whether a variable that is gone was an ARG or an ENV is not recorded.
        found.append(Reason(kind, f"{what}: {change}" if now is not None else f"{name}: {change}"))
    if len(found) > MOST_VARIABLES:
        more = len(found) - MOST_VARIABLES
        found[MOST_VARIABLES:] = [Reason("env", f"and {more} more variable{'s' if more > 1 else ''}")]
    if not found:
        # The same variables in another order, which a program may see.
        found.append(Reason("env", "the order of the variables"))
    return found


def _mounts(old: list[Any], new: list[Any]) -> list[Reason]:
    before, now = ({_mount_name(mount): mount for mount in mounts} for mounts in (old, new))
    found = []
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name):
            continue
        if name not in before:
            what = "added"
        elif name not in now:
            what = "removed"
        else:
            fields = sorted(f for f in before[name].keys() | now[name].keys() if before[name].get(f) != now[name].get(f))
            what = "its files changed" if fields == ["content"] else f"{', '.join(fields)} changed"
        found.append(Reason("mounts", f"{name}: {what}"))
    return found or [Reason("mounts", "the order of its --mount flags")]


def _mount_name(mount: Mapping[str, Any]) -> str:
    """As a person knows it; a secret may be a variable alone."""
    where = mount.get("target") or mount.get("env") or mount.get("id") or ""
    return f"--mount=type={mount.get('type', 'bind')} {where}".rstrip()


def _content(copied: str, files: Files | None) -> Reason:
    if files is None:
        return Reason("files", f"{copied}: files changed")
    parts = []
    if changed := files.changed:
        parts.append(f"{len(changed)} file{'s' if len(changed) > 1 else ''} changed: {changed}")
    for names, word in ((files.added, "added"), (files.removed, "removed")):
        if names:
            what = f"{len(names)} file{'s' if len(names) > 1 else ''} {word}" if not parts else f"{len(names)} {word}"
            parts.append(f"{what}: {names}")
    for names, word in ((files.modes, "mode"), (files.owners, "owner")):
        if names:
            parts.append(f"{len(names)} {word}{'s' if len(names) > 1 else ''} changed: {names}")
    if not parts:
        return Reason("files", f"{copied}: the sources changed, and gave the same files")
    return Reason("files", f"{copied}: {'; '.join(parts)}")


def _owner(file: File) -> str:
    return f"{file.owner[0]}:{file.owner[1]}"


_WORDS = {
    "chmod": ("chmod", "--chmod"),
    "chown": ("chown", "--chown"),
    "cwd": ("workdir", "WORKDIR"),
    "dest": ("destination", "destination"),
    "hostname": ("hostname", "host name"),
    "network": ("network", "network"),
    "path": ("workdir", "WORKDIR"),
    "platform": ("platform", "platform"),
    "rung": ("sandbox", "sandbox"),
    "security": ("security", "--security"),
    "shm_size": ("shm-size", "--shm-size"),
    "user": ("user", "USER"),
}
"""Fields with a plain value: the reason's kind, and what a person knows it as."""
_NOTHING = {"user": "root", "chown": "none", "chmod": "none"}
"""What no value stands for."""


def _field(field: str, old: Any, new: Any, op: str) -> Reason:
    match field:
        case "hosts":
            lines = [", ".join(f"{name}:{address}" for name, address in each or ()) or "none" for each in (old, new)]
            return Reason("hosts", f"--add-host: {pair(*lines)}")
        case "ulimits":
            texts = [", ".join(f"{name}={soft}:{hard}" for name, soft, hard in each or ()) or "none" for each in (old, new)]
            return Reason("ulimits", f"--ulimit: {pair(*texts)}")
        case "script":
            return Reason("command", "the script of its heredoc changed")
        case "unpack":
            return Reason("unpack", f"archives are {'' if new else 'not '}unpacked now")
        case _ if field in _WORDS:
            kind, what = _WORDS[field]
            values = [_text(field, value) for value in (old, new)]
            return Reason(kind, f"{what}: {pair(*values)}")
        case _:
            return Reason("other", f"{field.replace('_', '-')} changed")


def _text(field: str, value: Any) -> str:
    if value is None or value == "":
        return _NOTHING.get(field, "none")
    return f"{value:o}" if field == "chmod" and isinstance(value, int) else str(value)
