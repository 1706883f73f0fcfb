"""Pull and push of an image of about 100 MB in many layers, beside skopeo, in turns, against Debian's docker-registry on this
machine. Prints medians in milliseconds and ratios.

A pull of pybuild verifies, unpacks and indexes every layer; `skopeo copy` to an OCI layout only stores blobs, so that the fair
peers of a pull are skopeo and `umoci unpack` together, and `podman pull`. Each pull has an empty store, each push an empty
registry, so that all blobs move. Run by `make bench-registry`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registry.registry_images import layout
from tests.registry.registry_server import RegistryServer

PYBUILD = Path(sys.executable).with_name("pybuild")
LAYERS, LAYER_BYTES, RUNS = 24, 10 << 20, 5
SKOPEO = ("skopeo", "--insecure-policy", "copy", "-q")


def timed(*command: str | Path, **environ: str) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environ})
    return (time.perf_counter() - begun) * 1000


def contents() -> Iterator[dict[str, bytes]]:
    """Files of this machine, as many as a layer is to have, for each layer."""
    files: dict[str, bytes] = {}
    size = made = 0
    for top in ("/usr/lib", "/usr/share", "/usr/bin"):
        for folder, _, names in os.walk(top):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path) or not 0 < os.path.getsize(path) < 4 << 20:
                    continue
                files[path[1:]] = Path(path).read_bytes()
                size += len(files[path[1:]])
                if size >= LAYER_BYTES:
                    yield files
                    files, size, made = {}, 0, made + 1
                    if made == LAYERS:
                        return


def cleared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    # Nobody is to wait for what another left to write.
    os.sync()
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        image = layout(scratch / "image", list(contents()))
        blobs = [path.stat().st_size for path in (image / "blobs" / "sha256").iterdir()]
        print(f"{sum(blobs) / 1e6:.0f} MB in {len(blobs) - 2} layers, medians of {RUNS} runs in turns")
        with RegistryServer(scratch / "registry") as server:
            source = f"{server.host}/bench:1"
            timed(*SKOPEO, "--dest-tls-verify=false", f"oci:{image}:latest", f"docker://{source}")
            pulls(scratch, source)
        pushes(scratch, image, source)


@contextmanager
def emptied(folder: Path) -> Iterator[list[str]]:
    """The flags of podman for an empty store, whose mounts are gone afterwards."""
    root = cleared(folder) / "root"
    try:
        yield [f"--root={root}", f"--runroot={folder / 'run'}", "--storage-driver=overlay"]
    finally:
        # It mounts this folder on itself, and leaves that.
        while (root / "overlay").is_mount():
            subprocess.run(["umount", root / "overlay"], check=True)
        cleared(folder)


def pulls(scratch: Path, source: str) -> None:
    store, copy = scratch / "store", scratch / "copy"
    ours, copied, unpacked, podman = [], [], [], []
    for _ in range(RUNS):
        cleared(store)
        ours.append(timed(PYBUILD, "--root", store, "pull", "-q", source))
        cleared(copy)
        copied.append(timed(*SKOPEO, "--src-tls-verify=false", f"docker://{source}", f"oci:{copy}:latest"))
        bundle = cleared(scratch / "bundle")
        unpacked.append(copied[-1] + timed("umoci", "unpack", "--image", f"{copy}:latest", bundle))
        with emptied(scratch / "podman") as places:
            podman.append(timed("podman", *places, "pull", "-q", "--tls-verify=false", source))
    show("pull: pybuild", ours)
    show("pull: skopeo copy (not unpacked)", copied, ours)
    show("pull: skopeo copy + umoci unpack", unpacked, ours)
    show("pull: podman (overlay)", podman, ours)


def pushes(scratch: Path, image: Path, source: str) -> None:
    """From the store that the last pull left."""
    store = scratch / "store"

    def ours(host: str) -> float:
        return timed(PYBUILD, "--root", store, "push", "-q", source, f"{host}/bench:1")

    def theirs(host: str) -> float:
        return timed(*SKOPEO, "--dest-tls-verify=false", f"oci:{image}:latest", f"docker://{host}/bench:1")

    def fresh(push: Callable[[str], float]) -> float:
        with RegistryServer(cleared(scratch / "empty")) as server:
            return push(server.host)

    rows = [(fresh(ours), fresh(theirs)) for _ in range(RUNS)]
    show("push: pybuild", [mine for mine, _ in rows])
    show("push: skopeo copy", [his for _, his in rows], [mine for mine, _ in rows])


def show(title: str, times: list[float], ours: list[float] | None = None) -> None:
    ratio = f"   pybuild / this: {statistics.median(ours) / statistics.median(times):.2f}" if ours else ""
    print(f"{title:<34}{statistics.median(times):7.0f} ms   (best {min(times):.0f}){ratio}")


if __name__ == "__main__":
    main()
