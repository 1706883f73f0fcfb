"""`make profile`: where the time of each workload goes, in percent of the wall clock.

    python -m bench.profile [--workloads W1,W3] [--runs N] [--base DIR] [--scratch DIR] [--json FILE]

A thread of the builder's own process looks each millisecond where all others are. What the main thread waits for is what the
others do at that moment, each by its share; a look that finds everybody waiting is time in other processes (the commands of
RUN) or of the kernel. The look costs some percent itself: compare shares, not seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from bench.compare import BUSYBOX, ROOT, _base
from bench.peers import Pybuild
from bench.workloads import WORKLOADS, Workload, measured

_EACH = 0.001
_WAITING = ("wait", "_next", "acquire", "get", "join", "select", "poll", "recv", "recvmsg", "_recv")
START, IMPORTS, ELSEWHERE, REST = "starting Python", "importing", "waiting for commands and the kernel", "the rest"
_IN = (
    ("loading", IMPORTS),
    ("context/", "looking at the context"),
    ("engine/selection", "choosing what is copied, and its digest"),
    ("engine/executor", "choosing what is copied, and its digest"),
    ("layers/compression", "compressing"),
    ("layers/tarwriter", "reading files, making the tar and its digests"),
    ("layers/source", "reading files, making the tar and its digests"),
    ("layers/index", "the index of the layer"),
    ("layers/folder", "unpacking into folders"),
    ("layers/", "reading files, making the tar and its digests"),
    ("store/blobs", "writing blobs into the store"),
    ("store/", "the store's records"),
    ("export/", "writing the archive"),
    ("sandbox/", "running commands"),
    ("engine/work", "running commands"),
    ("engine/container", "running commands"),
    ("dockerfile/", "the Dockerfile and its plan"),
    ("plan/", "the Dockerfile and its plan"),
    ("report/", "telling of it"),
)


def label(frame: FrameType | None) -> str | None:
    """What a thread is at; None where it waits."""
    deepest = frame
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if path.startswith("<frozen importlib"):
            return IMPORTS
        if "/builder/" in path:
            if name == "commit" and path.endswith("store/blobs.py"):
                return "syncing the store"
            inside = path.rpartition("/builder/")[2]
            found = next((words for start, words in _IN if inside.startswith(start)), REST)
            waits = deepest is not None and (
                deepest.f_code.co_name in _WAITING or deepest.f_code.co_filename.endswith("threading.py")
            )
            return None if waits else found
        frame = frame.f_back
    return None


def _waits(frame: FrameType) -> bool:
    return frame.f_code.co_name in _WAITING or frame.f_code.co_filename.endswith("threading.py")


class Sampler:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._over = threading.Event()
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        own = threading.get_ident()
        while not self._over.wait(_EACH):
            frames = sys._current_frames()
            main = label(frames.get(self._main or 0))
            if main is not None:
                self.counts[main] += 1000
                continue
            busy = [found for id, frame in frames.items() if id not in (own, self._main) and (found := label(frame))]
            for found in busy or [ELSEWHERE]:
                self.counts[found] += 1000 // len(busy or [ELSEWHERE])


def _child(report: str, argv: list[str]) -> None:
    sampler = Sampler()
    sampler.start()
    begun = time.perf_counter()
    # As the program does.
    from builder import loading

    loading.install("builder")
    from builder.cli import main

    code = main.run(argv, os.environ)
    seconds = time.perf_counter() - begun
    sampler.stop()
    Path(report).write_text(json.dumps({"code": code, "seconds": seconds, "counts": sampler.counts}))


def profiled(command: list[str], environment: dict[str, str], scratch: Path) -> Counter[str]:
    """Milliseconds of one command, by what they were spent on."""
    report = scratch / "report.json"
    begun = time.perf_counter()
    words = [sys.executable, "-m", "bench.profile", "--child", str(report), *command[1:]]
    done = subprocess.run(words, env={**os.environ, **environment}, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    whole = time.perf_counter() - begun
    said: dict[str, Any] = json.loads(report.read_text()) if done.returncode == 0 else {"code": -1}
    if said["code"]:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    counts: dict[str, int] = said["counts"]
    total = sum(counts.values()) or 1
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[name] = round(1000 * said["seconds"] * count / total)
    # The imports of this module are none of the builder's: bare Python is measured by itself.
    found[START] = round(1000 * min(whole - said["seconds"], _bare()))
    return found


def _bare() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - begun


def measure(workload: Workload, layout: Path, scratch: Path, runs: int) -> dict[str, Counter[str]]:
    scratch.mkdir()
    context = scratch / "context"
    context.mkdir()
    workload.make(context)
    builder = Pybuild(scratch / "state", layout)
    time.sleep(3)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in measured(workload)}
    for number in range(runs):
        builder.forget()
        for kind, counts in found.items():
            if kind == "changed" and workload.change:
                workload.change(context, number)
            os.sync()
            out = scratch / "out.tar"
            out.unlink(missing_ok=True)
            ((*command,),) = builder.commands(context, out)
            counts.update(profiled(command, builder.environment(), scratch))
    builder.close()
    shutil.rmtree(scratch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workloads", default="W1,W3,W4,W5")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--base", default=str(BUSYBOX))
    parser.add_argument("--scratch", default=str(ROOT / ".cache"))
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    room = Path(tempfile.mkdtemp(prefix="profile-", dir=options.scratch))
    shares: dict[str, dict[str, int]] = {}
    try:
        layout = _base(room, Path(options.base))
        for workload in WORKLOADS:
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
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], sys.argv[3:])
    else:
        main()
