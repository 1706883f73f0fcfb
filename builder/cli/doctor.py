"""`pybuild doctor`: what this machine allows, and with `--store` whether the store is as it was written."""

from __future__ import annotations

import errno
import os
import sys
import tempfile

from builder.cli.isolation import wanted
from builder.engine import emulation
from builder.errors import SandboxError, StoreError
from builder.oci.platform import Platform
from builder.sandbox import capabilities, cgroups, ladder, limits, stack
from builder.sandbox.rungs import choose
from builder.store.store import Store
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.sandbox.rungs import Isolation, Verdict
    from builder.sandbox.stack import Stack
    from builder.store.verify import Report


class Machine(NamedTuple):
    """What RUN steps can count on here."""

    kernel: str
    taken: Isolation
    """The sandbox that RUN steps get."""
    rungs: tuple[Verdict, ...]
    lacks: tuple[str, ...]
    """Newer calls of the kernel, and other things, that the sandbox does without (`sandbox.spec.Outcome`)."""
    withheld: tuple[str, ...]
    """Capabilities that RUN has with Docker and that this process cannot give."""
    platforms: tuple[tuple[str, bool], ...]
    """What RUN can be for, the machine's own first, each with whether it needs no emulator."""
    network: Stack
    """What gives a RUN step a network of its own."""
    limits: tuple[tuple[str, str, str], ...]
    """Flags of limits that need a cgroup, each with why it cannot be enforced, and what to do; empty where it can."""
    lowered: tuple[str, ...]
    """Limits of the builder's own that RUN steps have, too, since it may not raise them: `NAME=hard`."""


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """0; 6 where this machine lets no RUN step run, 7 where something is wrong with the store."""
    as_json = parsed.text("format") == "json"
    if parsed.flag("store"):
        root = environment.store_root(parsed.text("root"), os.geteuid())
        if not os.path.isdir(root):
            raise StoreError(f"there is no store at {root}", hint="a build makes one; another place is given by --root")
        with Store(root) as store:
            report = store.verify()
        sys.stdout.write(_store_json(report) if as_json else _store_text(root, report))
        return StoreError.exit_code if report.problems else 0
    machine = _machine(parsed, environment)
    sys.stdout.write(_machine_json(machine) if as_json else _machine_text(machine))
    return SandboxError.exit_code if machine.taken.rung is None else 0


def _machine(parsed: Parsed, environment: Environment) -> Machine:
    place = _place(environment.store_root(parsed.text("root"), os.geteuid()), environment.tmpdir)
    with tempfile.TemporaryDirectory(prefix=".pybuild-doctor-", dir=place) as folder:
        found = ladder.climb(folder, environment.path)
        taken = choose(found.verdicts, wanted(parsed, environment))
        network = _network(folder, found, taken, environment.path)
    withheld = tuple(capabilities.withheld()) if taken.rung == "root" else ()
    own = Platform.of_machine(os.uname().machine)
    usable = emulation.usable(own, emulation.abilities())
    platforms = tuple((str(one), native) for one, native in usable if not emulation.is_refused(one, own, taken.rung))
    return Machine(
        os.uname().release,
        taken,
        found.verdicts,
        found.fallbacks,
        withheld,
        platforms,
        network,
        cgroups.enforceable(),
        tuple(limits.lowered()) if "limits" in found.fallbacks else (),
    )


def _network(folder: str, found: ladder.Found, taken: Isolation, path: str) -> stack.Stack:
    """The stack that works here; of none the first one's trouble."""
    network = first = stack.find(path)
    failed: tuple[str, ...] = ()
    while taken.rung and network.program and not ladder.try_network(folder, found, taken.rung, network.program):
        failed = (*failed, network.program)
        network = stack.find(path, failed)
    return network if network.program or not failed else stack.broken(first, errno.ENETDOWN)


def _place(root: str, tmpdir: str) -> str:
    """Where to try: on the file system of the store, which need not be there yet; elsewhere where nothing can be made there."""
    folder = os.path.abspath(root)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    places = (folder, tmpdir, "/tmp", "/dev/shm")
    return next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), folder)


def _machine_text(machine: Machine) -> str:
    rung, reason, *_ = machine.taken
    lines = [f"Linux {machine.kernel}"]
    if rung is None:
        lines.append(f"RUN steps: no: {reason}")
    else:
        how = {
            "root": "as root, in namespaces of their own",
            "userns": "without root, in a user namespace",
            "single-uid": "without root, in a user namespace with a single uid",
        }.get(rung, rung)
        lines.append(f"RUN steps: yes, {how}")
        lines.append(f"  for {', '.join(name for name, native in machine.platforms if native)}")
        emulated = ", ".join(name for name, native in machine.platforms if not native)
        lines.append(f"  by an emulator for {emulated}" if emulated else "  for no other platform: no emulator is registered")
    lines.append("The sandboxes, the strongest first:")
    for verdict in machine.rungs:
        works = "works" if verdict.usable else "no"
        lines.append(f"  {verdict.rung + ':':<12} {works}{', taken' if verdict.rung == rung else ''}: {verdict.reason}")
        lines += [f"    hint: {verdict.hint}"] if verdict.hint and not verdict.usable else []
    lines += [f"  this machine lacks '{name}'; the sandbox does without" for name in machine.lacks if name != "limits"]
    if machine.lowered:
        lines.append(f"  the builder may not raise its own limits, which RUN steps have, too: {', '.join(machine.lowered)}")
        lines.append("    hint: start it with higher ones (ulimit -H, LimitNOFILE= of systemd, --ulimit of docker)")
    lines += [f"  {name} is withheld from the builder: a step that needs it fails" for name in machine.withheld]
    network = machine.network
    if network.program:
        lines.append(f"Network of RUN steps: their own, by {network.program}")
    else:
        lines += [f"Network of RUN steps: the host's: {network.reason}", f"  hint: {network.hint}"]
    lines.append(f"Limits of RUN steps: {', '.join(flag for flag, reason, _ in machine.limits if not reason) or 'no'}")
    for flag, reason, hint in machine.limits:
        lines += [f"  {flag} cannot be enforced: {reason}"] if reason else []
        lines += [f"    hint: {hint}"] if hint else []
    lines.append("Each was tried. 'pybuild doctor --store' looks at the store.")
    return "".join(f"{line}\n" for line in lines)


def _machine_json(machine: Machine) -> str:
    rung, reason, hint, *_ = machine.taken
    return _document(
        kernel=machine.kernel,
        sandbox={
            "usable": rung is not None,
            "rung": rung,
            "reason": None if rung else reason,
            "hint": None if rung else hint or None,
            "rungs": [verdict._asdict() for verdict in machine.rungs],
            "missing": list(machine.lacks),
            "withheld": list(machine.withheld),
            "lowered": list(machine.lowered),
        },
        platforms=[{"platform": name, "emulated": not native} for name, native in machine.platforms],
        network={
            "isolated": bool(machine.network.program),
            "program": machine.network.program or None,
            "reason": machine.network.reason or None,
            "hint": machine.network.hint or None,
        },
        limits=[
            {"flag": flag, "enforced": not reason, "reason": reason or None, "hint": hint or None}
            for flag, reason, hint in machine.limits
        ],
    )


def _store_text(root: str, report: Report) -> str:
    counts = ((report.images, "image"), (report.blobs, "blob"), (report.snapshots, "folder"), (report.indexes, "index"))
    seen = ", ".join(f"{count} {name}{'' if count == 1 else 'es' if name == 'index' else 's'}" for count, name in counts)
    lines = [f"{root}: looked at {seen}"]
    for problem in report.problems:
        lines.append(f"damaged: {problem.message}")
        if problem.images:
            lines.append(f"  needed by {', '.join(problem.images)}")
        lines.append(f"  hint: {problem.hint}")
    lines += [f"left over: {text}" for text in report.leftovers]
    count = len(report.problems)
    lines.append(f"{count} {'thing is' if count == 1 else 'things are'} damaged" if count else "nothing is damaged")
    return "".join(f"{line}\n" for line in lines)


def _store_json(report: Report) -> str:
    return _document(
        store={
            "sound": not report.problems,
            "problems": [problem._asdict() for problem in report.problems],
            "leftovers": list(report.leftovers),
            "images": report.images,
            "blobs": report.blobs,
            "snapshots": report.snapshots,
            "indexes": report.indexes,
        }
    )


def _document(**fields: object) -> str:
    import json

    return json.dumps({"v": 1, **fields}, indent=2, ensure_ascii=False) + "\n"
