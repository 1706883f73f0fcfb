"""The workloads of `make bench`: build contexts from a seeded generator, so that every machine and every peer builds the same.

Each is a folder with a Dockerfile on the base `bench-base` (one static busybox). What `changed` does to a context is what a
developer does between two builds.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BASE = "bench-base"
Kind = Literal["cold", "cached", "changed"]
SEED = 20240615


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    make: Callable[[Path], None]
    """Fills an empty folder."""
    change: Callable[[Path, int], None]
    """Edits the context, differently for each number."""
    files: int = 0
    """How many it has, and leaves behind to be removed."""
    kinds: tuple[Kind, ...] = ("cold", "cached", "changed")
    """Builds that are measured, in this order: of nothing, again, and after a change."""
    compression: str = "gzip"
    """Of the archive's layers."""


def text(random_: random.Random, size: int) -> bytes:
    """Something that compresses as source code does, to about a fourth."""
    out = bytearray()
    while len(out) < size:
        indent = b"    " * random_.randrange(4)
        words = (_WORDS[min(int(random_.expovariate(0.02)), len(_WORDS) - 1)] for _ in range(random_.randrange(2, 9)))
        out += indent + b" ".join(words) + b"\n"
    return bytes(out[:size])


def _words() -> list[bytes]:
    random_ = random.Random(SEED)
    letters = b"etaoinshrdlucmfwypvbgkjqxz_"
    return [bytes(random_.choice(letters) for _ in range(random_.randrange(2, 11))) for _ in range(3000)]


_WORDS = _words()


def _dockerfile(folder: Path, lines: str) -> None:
    (folder / "Dockerfile").write_text(f"FROM {BASE}\n{lines}")


def _small_runs(folder: Path) -> None:
    _dockerfile(folder, "".join(f"RUN echo {n} > /{n}\n" for n in range(10)))


def _change_run(folder: Path, number: int) -> None:
    """The sixth of ten: five stay."""
    _small_runs(folder)
    text = (folder / "Dockerfile").read_text()
    (folder / "Dockerfile").write_text(text.replace("echo 5 >", f"echo 5 {number} >"))


def files(folder: Path, count: int, size: int, *, width: int = 100) -> None:
    """`count` files of `size` bytes on average, `width` in a folder."""
    random_ = random.Random(SEED)
    pool = text(random_, 1 << 20)
    for number in range(count):
        if number % width == 0:
            (folder / f"d{number // width:04}").mkdir(parents=True)
        length = random_.randrange(size // 8, size * 2 - size // 8)
        start = random_.randrange(len(pool) - length)
        (folder / f"d{number // width:04}" / f"f{number:06}.txt").write_bytes(b"%d\n" % number + pool[start : start + length])


def _many_files(folder: Path) -> None:
    files(folder / "src", 30_000, 3800)
    _dockerfile(folder, "COPY src /src\n")


def big_files(folder: Path, count: int, size: int) -> None:
    """Half of each compresses well, half not at all, as in a real tree of models, archives and databases."""
    random_ = random.Random(SEED)
    pool = text(random_, 1 << 20)
    folder.mkdir()
    for number in range(count):
        with (folder / f"{number}.bin").open("wb") as file:
            for piece in range(size >> 20):
                file.write(random_.randbytes(1 << 20) if piece % 2 else pool[number + piece :] + pool[: number + piece])


def _big_files(folder: Path) -> None:
    big_files(folder / "data", 20, 52 << 20)
    _dockerfile(folder, "COPY data /data\n")


def _change_big_file(folder: Path, number: int) -> None:
    with (folder / "data" / "7.bin").open("ab") as file:
        file.write(b"changed %d\n" % number)


def _archive(path: Path, count: int) -> None:
    """A virtual environment, as an archive: `count` files of source code in packages."""
    random_ = random.Random(SEED + 1)
    pool = text(random_, 1 << 20)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(count):
            length = int(min(random_.lognormvariate(8.4, 1.2), 400_000))
            start = random_.randrange(len(pool) - length)
            data = b"# %d\n" % number + pool[start : start + length]
            member = tarfile.TarInfo(f"venv/lib/python3/site-packages/package{number // 40:03}/module{number:05}.py")
            member.size, member.mode, member.mtime = len(data), 0o644, 1_700_000_000
            archive.addfile(member, io.BytesIO(data))


def _application(folder: Path) -> None:
    _archive(folder / "venv.tar", 8000)
    files(folder / "src", 200, 6000)
    _dockerfile(
        folder,
        "WORKDIR /app\n"
        "RUN --mount=type=bind,source=venv.tar,target=/tmp/venv.tar tar -xf /tmp/venv.tar -C /app\n"
        "COPY src src\n"
        "RUN find src -name '*.txt' | sort > manifest\n"
        'CMD ["/app/venv/bin/serve"]\n',
    )


def _change_source(folder: Path, number: int) -> None:
    with (folder / "src" / "d0000" / "f000007.txt").open("a") as file:
        file.write(f"changed {number}\n")


def _stages(folder: Path) -> None:
    names = "abcd"
    stages = "".join(f"FROM {BASE} AS {name}\nRUN sleep 2; echo {name} > /{name}\n" for name in names)
    copies = "".join(f"COPY --from={name} /{name} /\n" for name in names)
    (folder / "Dockerfile").write_text(f"{stages}FROM {BASE}\n{copies}")


def _change_stage(folder: Path, number: int) -> None:
    _stages(folder)
    text = (folder / "Dockerfile").read_text()
    (folder / "Dockerfile").write_text(text.replace("echo c >", f"echo c {number} >"))


WORKLOADS = (
    Workload("W1", "busybox and 10 small RUNs", _small_runs, _change_run),
    Workload("W3", "COPY of 30,000 small files", _many_files, _change_source, files=30_000),
    Workload("W4", "COPY of 1 GiB in 20 files", _big_files, _change_big_file),
    Workload("W4z", "the same with zstd layers", _big_files, _change_big_file, kinds=("cold",), compression="zstd"),
    Workload("W5", "an application: 8,000 files by a RUN, and a COPY", _application, _change_source, files=8000),
    Workload("W7", "four stages of sleep 2, joined", _stages, _change_stage),
)


def sync(path: Path) -> None:
    """Like every peer's output, the file is on the disk when the clock stops."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
