"""`make profile`: where the time of each workload goes, in percent of the wall clock.

    python -m bench.profile [--workloads W1,W3] [--runs N] [--base DIR] [--scratch DIR] [--json FILE]

A thread of the builder's own process looks each millisecond where all others are. What the main thread waits for is what the
others do at that moment, each by its share; a look that finds everybody waiting is time in other processes (the commands of
RUN) or of the kernel. The look costs some percent itself: compare shares, not seconds.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.compare import BUSYBOX, ROOT, _base
from bench.peers import Pybuild
from bench.sampler import START
from bench.workloads import WORKLOADS, Workload

SAMPLER = Path(__file__).with_name("sampler.py")


def profiled(command: list[str], environment: dict[str, str], scratch: Path) -> Counter[str]:
    """Milliseconds of one command, by what they were spent on."""
    report = scratch / "report"
    begun = time.perf_counter()
    words = [sys.executable, str(SAMPLER), str(report), *command[1:]]
    done = subprocess.run(words, env={**os.environ, **environment}, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    whole = time.perf_counter() - begun
    said: dict[str, Any] = ast.literal_eval(report.read_text()) if done.returncode == 0 else {"code": -1}
    if said["code"]:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    counts: dict[str, int] = said["counts"]
    total = sum(counts.values()) or 1
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[name] = round(1000 * said["seconds"] * count / total)
    found[START] = round(1000 * (whole - said["seconds"]))
    return found


def measure(workload: Workload, layout: Path, scratch: Path, runs: int) -> dict[str, Counter[str]]:
    scratch.mkdir()
    context = scratch / "context"
    context.mkdir()
    workload.make(context)
    builder = Pybuild(scratch / "state", layout)
    time.sleep(3)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in workload.kinds}
    for number in range(runs):
        builder.forget()
        for kind, counts in found.items():
            if kind == "changed":
                workload.change(context, number)
            os.sync()
            out = scratch / "out.tar"
            out.unlink(missing_ok=True)
            ((*command,),) = builder.commands(context, out, workload.compression)
            counts.update(profiled(command, builder.environment(), scratch))
    builder.close()
    shutil.rmtree(scratch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workloads", default="W1,W3,W4,W5,W7")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--base", default=str(BUSYBOX))
    parser.add_argument("--scratch", default=str(ROOT / ".cache"))
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    room = Path(tempfile.mkdtemp(prefix="profile-", dir=options.scratch))
    shares: dict[str, dict[str, int]] = {}
    try:
        layout = _base(room, Path(options.base))
        for workload in sorted(WORKLOADS, key=lambda each: each.files):
            if workload.name not in options.workloads.split(","):
                continue
            for kind, counts in measure(workload, layout, room / workload.name, options.runs).items():
                total = sum(counts.values())
                rows = [(name, round(100 * count / total)) for name, count in counts.most_common()]
                shares[f"{workload.name} {kind}"] = dict(rows)
                told = ", ".join(f"{name} {share} %" for name, share in rows if share >= 3)
                print(f"{workload.name} {kind} ({total // options.runs} ms): {told}", flush=True)
    finally:
        shutil.rmtree(room)
    if options.json:
        Path(options.json).write_text(json.dumps(shares, indent=2) + "\n")


if __name__ == "__main__":
    main()
