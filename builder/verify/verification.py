"""What repeating the steps of a build gave, and what it comes to. Pure."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Literal

    from builder.verify.difference import FileChange, Finding

    Status = Literal["same", "semantic", "different", "tainted", "failed"]

VARIATIONS: dict[str, str] = {
    "clock": "the wall clock",
    "mtimes": "the times of the files that it starts from",
    "cpus": "the number of processors",
    "order": "the file system: in which order folders list their files, and inode numbers",
    "pids": "the numbers of processes",
    "aslr": "where programs lie in memory",
    "rung": "the sandbox: whether it is in a user namespace",
    "surroundings": "the builder's own surroundings",
}
"""What is other the second time, and how a cause is called."""

CAUSES: dict[str, str] = {
    **VARIATIONS,
    "random": "nothing that was varied: it is random even when all is fixed",
    "network": "the network: it fails without one",
    "caches": "what its cache mounts hold: they began empty the second time",
    "since": "something outside of it that is another than at the first build: what it fetches, the day, or a cache mount",
    "unknown": "something that could not be found: it fails where all is held that can be",
    "together": "several things that were varied together, and none of them alone",
}

_FIXES: dict[str, str] = {
    "clock": "write no time into files; let tools take $SOURCE_DATE_EPOCH, or a constant, as date -d @$SOURCE_DATE_EPOCH",
    "mtimes": "write no times of files into other files: tar --mtime=@0, compileall --invalidation-mode checked-hash",
    "cpus": "say how many: make -j4, or the tool's own flag, in place of nproc",
    "order": "sort what folders list: find ... | LC_ALL=C sort, tar --sort=name; write no sizes of folders, no inode numbers",
    "pids": "take no names from process ids: a fixed name, or mktemp with the file removed at the end",
    "aslr": "sort what comes out of hash tables, and write no addresses",
    "rung": "take nothing from /proc/self/uid_map, and from what a program may do besides",
    "surroundings": "this is a fault of pybuild: please report it",
    "random": "fix the seed, as PYTHONHASHSEED=0; make keys and ids when the container starts, not when the image is built",
    "caches": "let it do without what is in a cache, or verify with --keep-cache-mounts",
    "since": "ADD with --checksum what is downloaded, name versions and digests; or build anew, and verify that",
    "network": "ADD with --checksum what is downloaded, or name versions and digests",
}


LEVELS = ("identical", "diff-ids", "semantic", "different")
"""Verdicts, the strictest first."""


class StepResult(NamedTuple):
    number: int
    name: str
    line: int
    status: Status
    """`semantic`: what differs is ignored; `tainted`: it is the same by itself, and would start from what differs."""
    a: str = ""
    b: str = ""
    """Diff IDs; empty where there is no layer."""
    causes: tuple[str, ...] = ()
    """Names of `CAUSES`."""
    files: tuple[FileChange, ...] = ()
    message: str = ""
    """Why it failed."""
    notes: tuple[str, ...] = ()


class Verification(NamedTuple):
    dockerfile: str
    image: str
    """The id of the image that was built first."""
    steps: tuple[StepResult, ...]
    """Those that were repeated, in the order of the plan."""
    varied: tuple[str, ...]
    """Names of `VARIATIONS`."""
    unvaried: tuple[tuple[str, str], ...] = ()
    """What could not be varied, and why."""
    notes: tuple[str, ...] = ()
    repacked: tuple[str, ...] = ()
    """Diff IDs of layers that gave another blob when they were compressed again, and so another manifest."""

    @property
    def verdict(self) -> Literal["identical", "diff-ids", "semantic", "different"]:
        """Equal steps give equal diff IDs, these an equal config, and equal blobs an equal manifest."""
        statuses = {step.status for step in self.steps}
        if statuses & {"different", "failed"}:
            return "different"
        if "semantic" in statuses:
            return "semantic"
        return "diff-ids" if self.repacked else "identical"

    def meets(self, require: str) -> bool:
        """Whether this is what was asked for, one of `LEVELS`, or better."""
        return LEVELS.index(self.verdict) <= LEVELS.index(require)


def fix(cause: str) -> str:
    """What to write into the Dockerfile; empty where nothing general can be said."""
    return _FIXES.get(cause, "")


_TIMES = frozenset(
    ("ar-times", "date-in-text", "gzip-time", "jar-times", "package-log", "pyc-time", "shadow-dates", "tar-times", "zip-times")
)
"""Patterns that the clock alone makes."""


_OF_THE_DAY = frozenset(("date-in-text", "package-log", "shadow-dates"))
"""Of these, such as are no times of files."""
_DAY = 86400
"""Seconds."""
_CHANCE = frozenset(
    ("hash-order", "machine-id", "private-key", "pyc-path", "random-id", "random-seed", "shadow-password", "ssh-host-keys")
) | {"temporary-file", "temporary-path"}
"""Patterns that chance makes, and no clock."""


def narrowed(causes: tuple[str, ...], files: Collection[FileChange]) -> tuple[str, ...]:
    """One of the two where nobody could say whether it was the clock or chance, and the files say it. Parts of a second look
    like chance; a number of chance may look like a date, but not each time like that of the build."""
    if causes == ("random",) and files:
        known = [set(map(_pattern, change.findings)) for change in files if change.complete]
        return ("clock",) if len(known) == len(files) and all(each and each <= _TIMES for each in known) else causes
    if causes != ("clock", "random"):
        return causes
    for cause, patterns in (("clock", _TIMES), ("random", _CHANCE)):
        if all(change.complete and set(map(_pattern, change.findings)) <= patterns for change in files):
            return (cause,)
    return causes


def _pattern(finding: Finding) -> str:
    """Two numbers that could be seconds, or thousandths, since 1970, are none where they lie more than a day from each other:
    two runs do not."""
    one, arrow, other = finding.detail.partition(" -> ")
    if arrow and one.isdigit() and other.isdigit() and abs(int(one[:10]) - int(other[:10])) > _DAY:
        return "random-id"
    return finding.pattern


def is_advice(pattern: str, causes: Collection[str]) -> bool:
    """Whether what helps against the pattern helps against these causes of a step, too: what looks like a date may be none."""
    return pattern not in _OF_THE_DAY or not causes or bool({"clock", "unknown", "together", "since"} & set(causes))


def tainted(steps: Iterable[tuple[int, Collection[int]]], differ: Collection[int]) -> set[int]:
    """Of steps with those that they start from or copy from, in the order of a plan: those that have one of `differ` among
    them, or behind them."""
    found: set[int] = set()
    for step, needs in steps:
        if any(need in differ or need in found for need in needs):
            found.add(step)
    return found


def chosen(texts: Iterable[str]) -> tuple[frozenset[str], str]:
    """The variations that `--vary` names: all without it, `none`, names, or `-name` for all but that. What is no name of one
    comes second, and is empty else."""
    names = [name for text in texts for name in text.split(",") if name]
    known = frozenset(VARIATIONS)
    taken = known if not names or names[0].startswith("-") else frozenset()
    for name in names:
        bare = name.removeprefix("-")
        if bare == "all":
            taken = known
        elif bare == "none":
            taken = frozenset()
        elif bare not in known:
            return taken, bare
        else:
            taken = taken - {bare} if name.startswith("-") else taken | {bare}
    return taken, ""
