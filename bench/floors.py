"""What the bytes of a workload cost without any builder, measured in the same run: the floor that no builder gets below."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import zstandard
from isal import isal_zlib


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def python() -> None:
    """As it starts for every program that is installed: none of them can ask for less (-I -S)."""
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def walk(folder: str) -> int:
    """A look at each file's stat data, which a builder that trusts it needs at least."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += 1
            if entry.is_dir(follow_symlinks=False):
                count += walk(entry.path)
            else:
                entry.stat(follow_symlinks=False)
    return count


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


def pack(folder: Path, out: Path, compressor: _Compressor) -> None:
    """Read all, write it as something of a tar's size and compressed, hash both, and sync: one thread."""
    plain, packed = hashlib.sha256(), hashlib.sha256()
    header = bytes(512)
    with out.open("wb", buffering=0) as file:

        def write(data: bytes) -> None:
            plain.update(data)
            if compressed := compressor.compress(data):
                packed.update(compressed)
                file.write(compressed)

        pending = bytearray()
        for root, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                fd = os.open(os.path.join(root, name), os.O_RDONLY)
                pending += header
                while data := os.read(fd, 1 << 20):
                    pending += data
                    if len(pending) >= 1 << 20:
                        write(bytes(pending))
                        pending.clear()
                os.close(fd)
                pending += bytes(-len(pending) % 512)
        write(bytes(pending))
        last = compressor.flush()
        packed.update(last)
        file.write(last)
        os.fsync(file.fileno())


def unpack_and_pack(archive: Path, scratch: Path, out: Path) -> None:
    """In a new folder, which stays: the next one would be slow where many files were removed."""
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="floor-"))
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    pack(folder, out, isal_zlib.compressobj(2, wbits=31))


def of(workload: str, kind: str, context: Path, scratch: Path) -> tuple[str, float] | None:
    """What the floor is, and its seconds; None where there is none to speak of."""
    out = scratch / "floor"
    match workload, kind:
        case ("W1", "cached"):
            return "bare Python", timed(python)
        case ("W3" | "W4", "cold"):
            source = context / ("src" if workload == "W3" else "data")
            return "read, 2 sha256, igzip, sync", timed(lambda: pack(source, out, isal_zlib.compressobj(2, wbits=31)))
        case ("W4z", "cold"):
            zstd = zstandard.ZstdCompressor(level=3).compressobj()
            return "read, 2 sha256, zstd 3, sync", timed(lambda: pack(context / "data", out, zstd))
        case ("W3", "cached"):
            return "stat of each file", timed(lambda: walk(os.fspath(context / "src")))
        case ("W5", "cold"):
            return "tar -x; read, 2 sha256, igzip, sync", timed(lambda: unpack_and_pack(context / "venv.tar", scratch, out))
        case ("W7", "cold"):
            return "sleep 2", timed(lambda: subprocess.run(["sleep", "2"], check=True))
    return None
