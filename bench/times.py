"""Wall times that a user feels: a cold and a fully cached `hello`, ten trivial RUN steps, four stages that sleep for two
seconds each; and beside them what no builder can do without: bare Python, and the sleep.

Prints medians in milliseconds. Each cold build has a store of its own. Run by `make bench`, which prepares the base.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYBUILD = Path(sys.executable).with_name("pybuild")
BASE = ROOT / ".cache" / "bases" / "busybox"
COLD, CACHED = 5, 15
STAGES = "abcd"


def timed(command: Sequence[str | Path]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000


def build(store: Path, context: Path) -> float:
    named = f"busybox={BASE}"
    return timed([PYBUILD, "--root", store, "-q", "-t", "bench", "--build-context", named, context])


def cold(scratch: Path, context: Path) -> float:
    """The base is in the store before: what is measured is the steps."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    (scratch / "base").mkdir(exist_ok=True)
    (scratch / "base" / "Dockerfile").write_text("FROM busybox\n")
    build(store, scratch / "base")
    return build(store, context)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        ten = scratch / "ten"
        ten.mkdir()
        (ten / "Dockerfile").write_text("FROM busybox\n" + "".join(f"RUN true {n}\n" for n in range(10)))
        four = scratch / "four"
        four.mkdir()
        stages = "".join(f"FROM busybox AS {name}\nRUN sleep 2; echo {name} > /{name}\n" for name in STAGES)
        copies = "".join(f"COPY --from={name} /{name} /\n" for name in STAGES)
        (four / "Dockerfile").write_text(f"{stages}FROM busybox\n{copies}")
        hello = ROOT / "sample_projects" / "hello"
        rows = {
            "hello, cold": [cold(scratch, hello) for _ in range(COLD)],
            "hello, cached": [build(scratch / "store", hello) for _ in range(CACHED)],
            "ten RUN steps, cold": [cold(scratch, ten) for _ in range(COLD)],
            "ten RUN steps, cached": [build(scratch / "store", ten) for _ in range(CACHED)],
            "four stages, cold": [cold(scratch, four) for _ in range(COLD)],
            "four stages, cached": [build(scratch / "store", four) for _ in range(CACHED)],
            "sleep 2": [timed(["sleep", "2"])],
            "python -I -S -c pass": [timed([sys.executable, "-I", "-S", "-c", "pass"]) for _ in range(CACHED)],
        }
    for title, times in rows.items():
        print(f"{title:<24}{statistics.median(times):7.0f} ms   (best {min(times):.0f}, {len(times)} runs)")


if __name__ == "__main__":
    main()
