"""`pybuild doctor`: what this machine allows, and with `--store` whether the store is as it was written."""

from __future__ import annotations

import os
import sys

from builder.engine import emulation
from builder.errors import SandboxError, StoreError
from builder.oci.platform import Platform
from builder.sandbox import capabilities, features, probe
from builder.store.store import Store
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.verify import Report


class Machine(NamedTuple):
    """What RUN steps can count on here."""

    kernel: str
    trouble: SandboxError | None
    """Why there can be no sandbox at all."""
    lacks: tuple[str, ...]
    """Newer calls of the kernel that the sandbox does without (`sandbox.features`)."""
    withheld: tuple[str, ...]
    """Capabilities that RUN has with Docker and that this process cannot give."""
    platforms: tuple[tuple[str, bool], ...]
    """What RUN can be for, the machine's own first, each with whether it needs no emulator."""


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
    machine = _machine()
    sys.stdout.write(_machine_json(machine) if as_json else _machine_text(machine))
    return SandboxError.exit_code if machine.trouble is not None else 0


def _machine() -> Machine:
    trouble = None
    try:
        probe.require()
    except SandboxError as error:
        trouble = error
    own = Platform.of_machine(os.uname().machine)
    platforms = tuple((str(one), native) for one, native in emulation.usable(own, emulation.abilities()))
    return Machine(os.uname().release, trouble, features.missing(), tuple(capabilities.withheld()), platforms)


def _machine_text(machine: Machine) -> str:
    lines = [f"Linux {machine.kernel}"]
    if machine.trouble is not None:
        lines.append(f"RUN steps: no: {machine.trouble.message}")
        lines += [f"  hint: {machine.trouble.hint}"] if machine.trouble.hint else []
    else:
        lines.append("RUN steps: yes, as root, in namespaces of their own")
        lines.append(f"  for {', '.join(name for name, native in machine.platforms if native)}")
        emulated = ", ".join(name for name, native in machine.platforms if not native)
        lines.append(f"  by an emulator for {emulated}" if emulated else "  for no other platform: no emulator is registered")
    lines += [f"  the kernel lacks '{name}'; the sandbox does without" for name in machine.lacks]
    lines += [f"  {name} is withheld from the builder: a step that needs it fails" for name in machine.withheld]
    lines.append("Asked of the kernel: no sandbox was made. 'pybuild doctor --store' looks at the store.")
    return "".join(f"{line}\n" for line in lines)


def _machine_json(machine: Machine) -> str:
    trouble = machine.trouble
    return _document(
        kernel=machine.kernel,
        sandbox={
            "usable": trouble is None,
            "reason": trouble.message if trouble else None,
            "hint": trouble.hint if trouble else None,
            "missing": list(machine.lacks),
            "withheld": list(machine.withheld),
        },
        platforms=[{"platform": name, "emulated": not native} for name, native in machine.platforms],
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
