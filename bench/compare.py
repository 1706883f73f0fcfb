"""`make bench`: the workloads by pybuild and by every peer that is installed, turn by turn, with what the bytes cost beside.

    python -m bench.compare [--runs N] [--workloads W1,W3] [--peers pybuild,buildah] [--json FILE] [--check] [--scratch DIR]

Times are whole commands, from the start of the process to its end with the archive synced; medians of N runs (5), in
seconds. Only ratios within a run mean anything: --check compares those of pybuild to each peer and floor with the last
result that was committed (bench/results.json), and fails where one became worse by more than a third. A peer whose own runs lie
more than twofold apart is no measure, and is told as such.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import floors
from bench import peers as builders
from bench.workloads import WORKLOADS, Workload, sync

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")
BUSYBOX = ROOT / ".cache" / "bases" / "busybox"
_WORSE = 4 / 3
_UNEVEN = 2


@dataclass
class Row:
    """One workload and kind of build; `times` has the seconds of each run, by peer."""

    workload: str
    title: str
    kind: str
    times: dict[str, list[float]] = field(default_factory=dict)
    floor: str = ""
    floors: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.workload} {self.kind}"

    def median(self, peer: str) -> float | None:
        return statistics.median(self.times[peer]) if self.times.get(peer) else None

    def ratios(self) -> dict[str, float]:
        """pybuild's median as a multiple of each other's."""
        ours = self.median("pybuild")
        if ours is None:
            return {}
        found = {peer: ours / statistics.median(times) for peer, times in self.times.items() if peer != "pybuild" and times}
        return found | ({"floor": ours / statistics.median(self.floors)} if self.floors else {})


def main() -> int:
    options = _options()
    wanted = _known(options.workloads, [workload.name for workload in WORKLOADS], "workload")
    names = _known(options.peers, list(builders.NAMES), "peer")
    if options.runs < 1:
        sys.exit("--runs is a number from 1 on")
    base = Path(options.base)
    if not base.is_dir():
        sys.exit(f"there is no base at {base}: sample_projects/bases/busybox DIR makes one")
    # Who ends it, or a machine that shuts down, leaves no engine and no mount behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    commit = _commit()
    rows: list[Row] = []
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="bench-") as name:
        scratch = Path(name)
        peers, missing = builders.installed(scratch / "peers", _base(scratch, base), names if options.peers else [])
        try:
            for peer in peers:
                versions[peer.name] = peer.version()
                print(f"{peer.name}: {versions[peer.name]}", flush=True)
            # ext4 makes files at a tenth of its pace for minutes after many were removed: those who have many come last.
            for workload in sorted(WORKLOADS, key=lambda each: each.files):
                if workload.name in wanted:
                    rows += _measure(workload, peers, scratch / workload.name, options.runs)
        except KeyboardInterrupt:
            missing.append("interrupted: what is not in the table was not measured to its end")
            return 130
        except RuntimeError as error:
            missing.append(f"ended early: {error}")
            return 1
        finally:
            _tell(rows, versions, missing, options, commit)
            for peer in peers:
                try:
                    peer.close()
                except RuntimeError as error:
                    print(f"{peer.name} left something behind: {error}", file=sys.stderr)
    return _check(rows, wanted) if options.check else 0


def _known(text: str, names: list[str], what: str) -> list[str]:
    wanted = text.split(",") if text else names
    if unknown := set(wanted) - set(names):
        sys.exit(f"no {what} is called {', '.join(sorted(unknown))}")
    return wanted


def _tell(rows: list[Row], versions: dict[str, str], missing: list[str], options: argparse.Namespace, commit: str) -> None:
    rows.sort(key=lambda row: row.workload)
    print(_table(rows, list(versions)))
    notes = [*builders.DIFFERENCES, *missing]
    for line in notes:
        print(line)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"commit": commit, **_document(rows, versions, options.runs, notes)}, indent=1) + "\n"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workloads", default="", help="as W1,W3 (default: all)")
    parser.add_argument("--peers", default="", help="as pybuild,buildah (default: all that are installed)")
    parser.add_argument("--json", default="", help="where the times go")
    parser.add_argument("--check", action="store_true", help="compare with the last committed result")
    parser.add_argument(
        "--base", default=str(BUSYBOX), help="a root file system with a busybox, as sample_projects/bases makes it"
    )
    parser.add_argument("--scratch", default=str(ROOT / ".cache"), help="a folder on the disk that is measured")
    return parser.parse_args()


def _base(scratch: Path, busybox: Path) -> Path:
    """The base of all workloads as an OCI layout, for all peers."""
    context = scratch / "base"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\n")
    store, layout = scratch / "base-store", scratch / "layout"
    flags = ["-q", "--build-context", f"busybox={busybox}", "-o", f"type=oci,tar=false,dest={layout}"]
    builders.call([builders.PYBUILD, "--root", store, *flags, context])
    return layout


def _measure(workload: Workload, peers: list[builders.Peer], scratch: Path, runs: int) -> list[Row]:
    scratch.mkdir()
    contexts = {}
    peers = [peer for peer in peers if workload.compression in peer.compressions]
    for peer in peers:
        # One for each: what one builder leaves in the page cache or in its records must not serve another.
        contexts[peer.name] = scratch / peer.name
        contexts[peer.name].mkdir()
        workload.make(contexts[peer.name])
    # Nobody builds what he wrote a moment ago, and builders that look at times know that those may still change.
    time.sleep(3)
    rows = {kind: Row(workload.name, workload.title, kind) for kind in workload.kinds}
    for number in range(runs):
        # Nobody is always the first.
        for peer in [*peers[number % len(peers) :], *peers[: number % len(peers)]]:
            peer.forget()
            for kind, row in rows.items():
                if kind == "changed":
                    workload.change(contexts[peer.name], number)
                _settle()
                commands = peer.commands(contexts[peer.name], scratch / "out.tar", workload.compression)
                row.times.setdefault(peer.name, []).append(_build(peer, commands, scratch / "out.tar"))
        for kind, row in rows.items():
            if found := floors.of(workload.name, kind, contexts[peers[0].name], scratch):
                row.floor = found[0]
                row.floors.append(found[1])
        print(f"{workload.name}: run {number + 1} of {runs}", file=sys.stderr, flush=True)
    shutil.rmtree(scratch)
    return list(rows.values())


def _settle() -> None:
    """What was written before is on the disk: nobody pays for another's."""
    os.sync()


def _build(peer: builders.Peer, commands: list[list[str]], out: Path) -> float:
    out.unlink(missing_ok=True)
    environment = peer.environment()
    begun = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{peer.name}: {' '.join(command)}\n{done.stderr.decode(errors='replace')[-2000:]}")
    sync(out)
    return time.perf_counter() - begun


def _table(rows: list[Row], names: list[str]) -> str:
    head = ["workload", *names, "floor", *(f"vs {name}" for name in names if name != "pybuild"), "vs floor"]
    lines = [head]
    for row in rows:
        ratios = row.ratios()
        lines.append(
            [
                f"{row.name}: {row.title}",
                *(_seconds(row.median(name)) for name in names),
                _seconds(statistics.median(row.floors) if row.floors else None) + (f" ({row.floor})" if row.floor else ""),
                *(f"{ratios[name]:.2f}" if name in ratios else "-" for name in names if name != "pybuild"),
                f"{ratios['floor']:.2f}" if "floor" in ratios else "-",
            ]
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _document(rows: list[Row], versions: dict[str, str], runs: int, notes: list[str]) -> dict[str, object]:
    return {
        "runs": runs,
        "notes": notes,
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "rows": {
            row.name: {
                "title": row.title,
                "seconds": {peer: [round(time, 4) for time in times] for peer, times in row.times.items()},
                "floor": {"what": row.floor, "seconds": [round(time, 4) for time in row.floors]},
                "ratios": {name: round(ratio, 3) for name, ratio in row.ratios().items()},
            }
            for row in rows
        },
    }


def _check(rows: list[Row], wanted: list[str]) -> int:
    if not RESULTS.exists():
        sys.exit(f"{RESULTS.name} is not there: nothing to compare with")
    before = json.loads(RESULTS.read_text())["rows"]
    compared, worse = 0, []
    found = {(row.name, name) for row in rows for name in row.ratios()}
    for row_name, known_row in before.items():
        left = [name for name in known_row["ratios"] if (row_name, name) not in found]
        if left and row_name.split()[0] in wanted:
            print(f"{row_name}: not measured this time: {', '.join(left)}")
    for row in rows:
        for name, ratio in row.ratios().items():
            known = before.get(row.name, {}).get("ratios", {}).get(name)
            if known is None:
                print(f"{row.name}: no earlier ratio to {name}")
                continue
            if _is_uneven(row.times.get(name, [])) or _is_uneven(before[row.name]["seconds"].get(name, [])):
                print(f"{row.name}: {ratio:.2f} times {name}, and {known:.2f} before; not judged, its runs lie too far apart")
                continue
            compared += 1
            if ratio > known * _WORSE:
                worse.append(f"{row.name}: {ratio:.2f} times {name}, and {known:.2f} before")
    print(f"{compared} ratios compared with bench/{RESULTS.name}, {len(worse)} became worse by more than a third")
    for line in worse:
        print(line)
    return 1 if worse or not compared else 0


def _is_uneven(times: list[float]) -> bool:
    return bool(times) and max(times) > _UNEVEN * min(times)


def _commit() -> str:
    """What was measured, with `-dirty` where it is not all committed; empty outside a checkout."""
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
