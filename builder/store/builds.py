"""The history of builds: what each step was, what became of it and why it ran. For people: nothing is built from it, but
its keys say what the next build is going to look up (`builder.store.ahead`).

A build is one file, `builds/<time>-<place>-<process>`, written at its end and never synced: what a power cut leaves of it is
passed over. It is none of the database's rows, since a cached build, which writes nothing else, would pay for three syncs of
the disk. The values of proxies and secrets are in none; credentials in URLs are masked by who writes it.
"""

from __future__ import annotations

import os
import time

from builder import canonical
from builder.store.files import make_folder, read_file, write_file
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal

    from builder.store.faults import Faults

    Status = Literal["done", "cached", "failed", "cancelled", "waiting"]
    """`waiting`: the build ended before its turn."""

FOLDER = "builds"
FORMAT = 2
"""The version of a file's form; one of another version is passed over."""
MOST_OF_PLACE, MOST = 50, 500
"""How many builds of one place are kept, and how many in all; beyond it the oldest go."""
_NEW = ".new"
_NO_BUILD = (OSError, ValueError, TypeError, LookupError, AttributeError)
_LEFT_BEHIND = 3600 * 10**9
"""Nanoseconds after which a file that was never finished is a killed process's."""


class BuiltStep(NamedTuple):
    """A step, and what a command needs to look at its file system."""

    number: int
    name: str
    op: Literal["base", "run", "copy", "workdir"]
    stage: str
    place: int
    """In the stage."""
    total: int
    """How many steps the stage has."""
    line: int
    end_line: int
    status: Status
    key: str
    """Empty for a base, and where it is not known."""
    inputs: str
    """The key's preimage where no record has it: the step did not end."""
    parent: int
    """The number of the step whose file system it starts from; 0 for a base."""
    layers: tuple[str, ...]
    """The diff IDs that it put on that."""
    reasons: tuple[tuple[str, str, int], ...]
    """Why it ran: kind, text, and the number of the step that it follows from."""
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    network: Literal["default", "host", "none"]
    hosts: tuple[tuple[str, str], ...]
    shm_size: int
    ulimits: tuple[tuple[str, int, int], ...] = ()
    had_network: str = ""
    """What its command had: the program behind a network of its own, ``host`` or ``none``; empty where none ran."""
    had_sandbox: str = ""
    """The rung that it ran in, likewise."""


class Build(NamedTuple):
    place: str
    """A hash of what makes two builds runs of one: Dockerfile, context and target."""
    path: str
    """The Dockerfile's, absolute; empty where it has none."""
    dockerfile: str
    context: str
    target: str
    """These three as messages name them."""
    created: int
    """Seconds since 1970."""
    outcome: Literal["done", "failed", "cancelled"]
    image: str
    """The image id; empty where there is none."""
    version: str
    """Of pybuild."""
    steps: tuple[BuiltStep, ...]


class Builds:
    """The folder `builds`; it is made when the first build is remembered."""

    def __init__(self, root: str, faults: Faults) -> None:
        self._folder = os.path.join(root, FOLDER)
        self._faults = faults

    def put(self, build: Build) -> None:
        now = time.time_ns()
        name = f"{now:020d}-{build.place[:16]}-{os.getpid()}"
        path = os.path.join(self._folder, name)
        data = dump(build)
        with self._faults:
            try:
                write_file(path + _NEW, data, sync=False)
            except FileNotFoundError:
                make_folder(self._folder)
                write_file(path + _NEW, data, sync=False)
            os.rename(path + _NEW, path)
            self._forget(build.place[:16], now)

    def _forget(self, place: str, now: int) -> None:
        names = os.listdir(self._folder)
        kept = sorted(name for name in names if not name.endswith(_NEW))
        same = [name for name in kept if name.split("-")[1:2] == [place]]
        doomed = {*kept[:-MOST], *same[:-MOST_OF_PLACE]}
        doomed.update(name for name in names if name.endswith(_NEW) and _time(name) < now - _LEFT_BEHIND)
        for name in doomed:
            try:
                os.unlink(os.path.join(self._folder, name))
            except (FileNotFoundError, IsADirectoryError):
                continue  # Another process was first, or it is none of ours.

    def last(self, limit: int, *, place: str | None = None, path: str | None = None) -> list[Build]:
        """The last builds, the last one first; those of one place, or of one Dockerfile, where it is given."""
        with self._faults:
            try:
                names = sorted((name for name in os.listdir(self._folder) if not name.endswith(_NEW)), reverse=True)
            except FileNotFoundError:
                return []
            found: list[Build] = []
            for name in names:
                if len(found) == limit:
                    break
                if place is not None and name.split("-")[1:2] != [place[:16]]:
                    continue
                build = self._read(name)
                if build is not None and place in (None, build.place) and path in (None, build.path):
                    found.append(build)
        return found

    def keys(self, place: str) -> list[str]:
        """The keys that the steps of the last build of a place had, each once; none where there was none."""
        short = place[:16]
        with self._faults:
            try:
                name = max(
                    name for name in os.listdir(self._folder) if name.split("-")[1:2] == [short] and not name.endswith(_NEW)
                )
                _, _, _, rows = canonical.loads(read_file(os.path.join(self._folder, name)).decode())
                return list(dict.fromkeys(row[_KEY] for row in rows if row[_KEY] and row[_KEY].isascii()))
            except _NO_BUILD:
                return []

    def _read(self, name: str) -> Build | None:
        """None for what is no build, or none any more: removed meanwhile, cut off by a power cut, or of another version."""
        try:
            return load(read_file(os.path.join(self._folder, name)))
        except _NO_BUILD:
            return None


def _time(name: str) -> int:
    digits = name.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


_ENV, _KEY = BuiltStep._fields.index("env"), BuiltStep._fields.index("key")


def dump(build: Build) -> bytes:
    """The build as JSON; a step is a list of its fields. Most steps of a stage share their environment, written once."""
    envs: dict[tuple[tuple[str, str], ...], int] = {}
    rows = [(*step[:_ENV], envs.setdefault(step.env, len(envs)), *step[_ENV + 1 :]) for step in build.steps]
    return canonical.dumps([FORMAT, build[:-1], list(envs), rows]).encode()


def load(data: bytes) -> Build:
    """The build of `dump`. Raises ValueError or TypeError for anything else."""
    read: Any = canonical.loads(data.decode())
    if not isinstance(read, list) or len(read) != 4 or read[0] != FORMAT:
        raise ValueError("a build of another version")
    _, head, envs, rows = read
    pairs = [_pairs(env) for env in envs]
    return Build._make((*head, tuple(_step(BuiltStep._make(row), pairs[row[_ENV]]) for row in rows)))


def _step(read: BuiltStep, env: tuple[tuple[str, str], ...]) -> BuiltStep:
    """The step with tuples where JSON has lists."""
    return read._replace(
        layers=tuple(read.layers),
        reasons=tuple((kind, text, step) for kind, text, step in read.reasons),
        env=env,
        hosts=_pairs(read.hosts),
        ulimits=tuple((name, soft, hard) for name, soft, hard in read.ulimits),
    )


def _pairs(rows: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in rows)
