"""What a build costs against its size: files, bytes, steps, stages, images in the store. Whole commands, from start to exit,
cold and cached, with the archive on the disk; seconds and the memory of the largest process.

`make bench-scale` writes bench/scale.json and docs/scale.svg and prints the table of docs/performance.md. The slope between
the two largest sizes says what one more of them costs; the exponent is 1 where the cost is in proportion to the size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.plots import Line, Panel, drawing
from bench.workloads import big_files, files, sync

ROOT = Path(__file__).parents[1]
PYBUILD = Path(sys.executable).with_name("pybuild")
BASE = ROOT / ".cache" / "bases" / "busybox"
_FLOOR = """
import sys
from pathlib import Path
from isal import isal_zlib
from bench.floors import pack, timed
print(timed(lambda: pack(Path(sys.argv[1]), Path(sys.argv[2]), isal_zlib.compressobj(2, wbits=31))))
"""
SETTLED = 2.5
"""Seconds until no file is too young to be compared by its stat data (docs/contexts.md)."""


@dataclass(frozen=True)
class Point:
    size: int
    cold: float
    """Seconds."""
    cached: float
    peak: int
    """Bytes of the largest process of the cold build."""
    floor: float = 0.0
    """Seconds that the bytes cost without any builder (`bench.floors.pack`), where there are any to speak of."""


@dataclass(frozen=True)
class Series:
    name: str
    title: str
    unit: str
    """What one of the size is."""
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    """Sizes that show that the measurement works, and nothing else."""
    fill: Callable[[Path, int], None]
    """Fills an empty context; the archive is written where the cost is that of data."""
    archive: bool = False
    images: bool = False
    """The size is that of the store, and the context stays as it is."""


def _files(folder: Path, count: int) -> None:
    files(folder / "src", count, 2000)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")


def _copied(folder: Path, count: int) -> None:
    files(folder / "src", count, 2000)
    (folder / "Dockerfile").write_text("FROM scratch AS files\nCOPY src /src\nFROM scratch\nCOPY --from=files /src /other\n")


def _bytes(folder: Path, megabytes: int) -> None:
    pieces = max(1, megabytes // 52)
    big_files(folder / "data", pieces, max(1, megabytes // pieces) << 20)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")


def _steps(folder: Path, count: int) -> None:
    (folder / "Dockerfile").write_text("FROM base\n" + "".join(f"RUN echo {n} > /{n}\n" for n in range(count)))


def _stages(folder: Path, count: int) -> None:
    stages = "".join(f"FROM base AS s{n}\nRUN echo {n} > /{n}\n" for n in range(count))
    joined = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(count))
    (folder / "Dockerfile").write_text(f"{stages}FROM base\n{joined}")


def _same(folder: Path, _count: int) -> None:
    files(folder / "src", 100, 2000)
    (folder / "Dockerfile").write_text("FROM base\nCOPY src /src\nRUN ls /src > /list\n")


SERIES = (
    Series("files", "COPY of small files", "file", (1_000, 10_000, 100_000, 300_000), (10, 20), _files, archive=True),
    Series("copied", "COPY --from of small files", "file", (1_000, 10_000, 100_000), (10, 20), _copied, archive=True),
    Series("bytes", "COPY of large files", "MB", (10, 100, 1_000, 4_000), (1, 2), _bytes, archive=True),
    Series("steps", "RUN steps", "step", (1, 10, 100, 400), (1, 2), _steps),
    Series("stages", "stages, joined", "stage", (1, 10, 30, 100), (1, 2), _stages),
    Series("images", "images in the store", "image", (10, 100, 1_000, 10_000), (1, 2), _same, images=True),
)


def build(store: Path, context: Path, base: Path, *flags: str | Path) -> tuple[float, int]:
    """Seconds, and bytes of the largest process."""
    command = [PYBUILD, "--root", store, "-q", "--build-context", f"base={base}", *flags, context]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the build of {context} failed")
    if "-o" in flags:
        sync(store.parent / "out.tar")
    return time.perf_counter() - begun, usage.ru_maxrss << 10


def fill_store(store: Path, folder: Path, count: int) -> None:
    """Let the store have `count` images of its own, each with a layer and a record, as builds leave them."""
    folder.mkdir(exist_ok=True)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from builder.build import build\n"
        "from builder.oci.reference import Reference\n"
        "from builder.request import Request\n"
        "from builder.store.store import Store\n"
        "store, folder, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])\n"
        "(folder / 'Dockerfile').write_text('FROM scratch\\nCOPY file /\\n')\n"
        "with Store(store) as opened:\n"
        "    for number in range(first, count):\n"
        "        (folder / 'file').write_text(str(number))\n"
        "        tags = (Reference.parse(f'image{number}'),)\n"
        "        build(Request(str(folder), tags=tags), opened, lambda event: None)\n"
    )
    have = len(subprocess.run([PYBUILD, "--root", store, "images", "-q"], capture_output=True, text=True).stdout.split())
    words = [sys.executable, "-c", script, str(store), str(folder), str(have), str(count)]
    subprocess.run(words, check=True, cwd=ROOT)


def measure(series: Series, runs: int, room: Path, base: Path, *, quick: bool) -> list[Point]:
    """`quick`: tiny sizes, and no wait for times that mean something."""
    points = []
    sizes, settled = (series.quick, 0.0) if quick else (series.sizes, SETTLED)
    for size in sizes:
        place = room / f"{series.name}-{size}"
        context, store = place / "context", place / "store"
        context.mkdir(parents=True)
        series.fill(context, size)
        time.sleep(settled)
        flags: tuple[str, ...] = ("-o", f"type=oci,dest={place / 'out.tar'}") if series.archive else ()
        if series.images:
            fill_store(store, place / "other", size)
        cold, peaks = [], []
        for number in range(runs):
            if series.images:
                # A file that no other build has.
                (context / "src" / "new").write_text(str(number))
            else:
                # ext4 makes files at a tenth of its pace for minutes after many were removed: nothing is, before the end.
                store = place / f"store-{number}"
            if not quick:
                os.sync()
            seconds, peak = build(store, context, base, *flags)
            cold.append(seconds)
            peaks.append(peak)
        time.sleep(settled)
        build(store, context, base, *flags)
        cached = [build(store, context, base, *flags)[0] for _ in range(max(runs, 3))]
        floor = statistics.median(_floor(context, place) for _ in range(runs)) if series.name in ("files", "bytes") else 0.0
        points.append(Point(size, statistics.median(cold), statistics.median(cached), max(peaks), floor))
        if series.name == "bytes":
            # Few files, and much of the disk.
            shutil.rmtree(place)
        print(f"{series.name} {size}: cold {points[-1].cold:.3f} s, cached {points[-1].cached:.3f} s", file=sys.stderr)
    return points


def _floor(context: Path, place: Path) -> float:
    """As in `make bench`; by a process of its own, since those that are measured begin as large as this one."""
    (folder,) = (path for path in context.iterdir() if path.is_dir())
    os.sync()
    done = subprocess.run(
        [sys.executable, "-c", _FLOOR, folder, place / "floor"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout)


def slope(points: Sequence[Point], of: Callable[[Point], float]) -> tuple[float, float]:
    """What one more costs, and the exponent, between the two largest sizes."""
    a, b = points[-2:]
    return (of(b) - of(a)) / (b.size - a.size), math.log(of(b) / of(a)) / math.log(b.size / a.size)


def table(found: dict[str, list[Point]]) -> str:
    lines = [
        "| | smallest | largest | one more, cold | one more, cached | exponent, cold | the floor's | memory at the largest |\n",
        "|" + "---|" * 8 + "\n",
    ]
    for series in SERIES:
        points = found.get(series.name)
        if not points:
            continue
        first, last = points[0], points[-1]
        more, exponent = slope(points, lambda point: point.cold)
        again, _ = slope(points, lambda point: point.cached)
        ends = [f"{p.size:,}: {p.cold:.2f} s cold, {p.cached:.3f} s cached" for p in (first, last)]
        cells = (
            *ends,
            f"{_shown(more)} {_article(series.unit)} {series.unit}",
            f"{_shown(again)} {_article(series.unit)} {series.unit}",
            f"{exponent:.2f}",
            f"{slope(points, lambda point: point.floor)[1]:.2f}" if last.floor else "",
            f"{last.peak >> 20} MB",
        )
        lines.append(f"| {series.title} | {' | '.join(cells)} |\n")
    return "".join(lines)


def _article(unit: str) -> str:
    return "an" if unit[0] in "aeio" else "a"


def _shown(seconds: float) -> str:
    if seconds <= 0:
        # Less than what the runs differ by.
        return "nothing"
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.1f} {unit}"
    return "nothing" if seconds < 5e-8 else f"{seconds * 1e6:.2f} µs"


def panels(found: dict[str, list[Point]]) -> list[Panel]:
    shown = []
    for series in SERIES:
        points = found.get(series.name)
        if not points:
            continue
        at = [float(point.size) for point in points]
        cold, cached = [point.cold for point in points], [point.cached for point in points]
        straight = [cold[-1] * size / at[-1] for size in at]
        lines: tuple[Line, ...] = (
            Line("cold", at, cold),
            Line("cached", at, cached),
            Line("in proportion", at, straight, dashed=True),
        )
        if points[-1].floor:
            lines = (*lines, Line("what the bytes cost", at, [point.floor for point in points], dashed=True))
        # A store is to have no say.
        shown.append(Panel(f"{series.title}: seconds", lines[:2] if series.images else lines))
        if series.archive:
            memory = [point.peak / 1e6 for point in points]
            shown.append(Panel(f"{series.title}: memory, MB", (Line("largest process, cold", at, memory),)))
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench-scale")
    parser.add_argument("--series", default=",".join(series.name for series in SERIES), help="names, with commas between")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--base", type=Path, default=BASE, help="a folder with busybox")
    parser.add_argument("--json", type=Path, default=ROOT / "bench/scale.json")
    parser.add_argument("--svg", type=Path, default=ROOT / "docs/scale.svg")
    options = parser.parse_args(argv)
    names = options.series.split(",")
    if unknown := set(names) - {series.name for series in SERIES}:
        parser.error(f"there is no series '{min(unknown)}'")
    room = Path(tempfile.mkdtemp(prefix="pybuild-scale-"))
    try:
        wanted = [series for series in SERIES if series.name in names]
        found: dict[str, list[Point]] = {each.name: [] for each in wanted}
        # Those with many files come last.
        for each in sorted(wanted, key=lambda each: each.unit == "file"):
            found[each.name] = measure(each, options.runs, room, options.base, quick=options.quick)
    finally:
        shutil.rmtree(room)
    record = {
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
        "processors": os.cpu_count(),
        "runs": options.runs,
    }
    document = record | {"series": {name: [asdict(point) for point in points] for name, points in found.items()}}
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    options.svg.write_text(drawing(panels(found)))
    print(table(found), end="")


if __name__ == "__main__":
    main()
