"""The builders that `make bench` compares: each builds a context and writes an OCI (or Docker) archive with gzip layers.

All keep their state below one folder, so that all of it lies on one disk. What is not installed is named, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.workloads import BASE

PYBUILD = Path(sys.executable).with_name("pybuild")
# Debian's own first: a newer client needs its buildx beside it.
DOCKER = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"


class Peer(Protocol):
    name: str
    compressions: tuple[str, ...]
    """Of the layers of its archives."""

    def version(self) -> str: ...

    def forget(self) -> None:
        """The next build is a cold one, with nothing but the base: in a place of its own, since ext4 makes files slowly where
        many were removed just before. What was there stays until the end."""

    def commands(self, context: Path, out: Path, compression: str) -> list[list[str]]:
        """What a user types to build `context` into the archive `out`, with layers in one of its compressions."""
        ...

    def environment(self) -> dict[str, str]: ...

    def close(self) -> None: ...


def call(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> str:
    """Its stdout. Raises RuntimeError with its words when it fails."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def unmount_below(folder: Path) -> None:
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    # What was mounted last may lie on what was mounted before.
    for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
        call(["umount", place])


class Pybuild:
    name = "pybuild"
    compressions: tuple[str, ...] = ("gzip", "zstd")

    def __init__(self, state: Path, layout: Path) -> None:
        self._state = state
        self._layout = layout
        self._count = 0
        self._store = state / "store0"

    def version(self) -> str:
        return call([PYBUILD, "--version"]).strip()

    def forget(self) -> None:
        self._count += 1
        self._store = self._state / f"store{self._count}"
        folder = self._state / "base"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Dockerfile").write_text(f"FROM {BASE}\n")
        call([*self._build(), "-t", BASE, "--build-context", f"{BASE}=oci-layout://{self._layout}", str(folder)])

    def _build(self) -> list[str]:
        return [str(PYBUILD), "--root", str(self._store), "-q"]

    def commands(self, context: Path, out: Path, compression: str) -> list[list[str]]:
        return [[*self._build(), "-t", "bench", "-o", f"type=oci,compression={compression},dest={out}", str(context)]]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def close(self) -> None:
        return


class Buildah:
    name = "buildah"
    compressions: tuple[str, ...] = ("gzip", "zstd")

    def __init__(self, state: Path, layout: Path) -> None:
        state.mkdir(parents=True)
        self._home = state
        self._layout = layout
        self._count = 0
        # What a short name stands for.
        (state / "registries.conf").write_text('unqualified-search-registries = ["localhost"]\n')
        self.forget()

    def version(self) -> str:
        return call(["buildah", "--version"]).strip()

    def forget(self) -> None:
        if self._count:
            self._unmount()
        self._count += 1
        self._root = self._home / f"root{self._count}"
        run = self._home / f"run{self._count}"
        self._buildah = ["buildah", "--root", str(self._root), "--runroot", str(run), "--storage-driver", "overlay"]
        storage = f"[overlay@{self._root}+{run}]localhost/{BASE}:latest"
        call(["skopeo", "copy", f"oci:{self._layout}", f"containers-storage:{storage}"], self.environment())

    def commands(self, context: Path, out: Path, compression: str) -> list[list[str]]:
        flags = ["--isolation", "chroot", "--network", "host", "--layers", "--pull-never", "--format", "oci"]
        return [
            [*self._buildah, "build", "-q", *flags, "-t", "localhost/bench", str(context)],
            [*self._buildah, "push", "-q", "--compression-format", compression, "localhost/bench", f"oci-archive:{out}"],
        ]

    def environment(self) -> dict[str, str]:
        conf = str(self._home / "registries.conf")
        return {**os.environ, "HOME": str(self._home), "TMPDIR": str(self._home), "CONTAINERS_REGISTRIES_CONF": conf}

    def close(self) -> None:
        self._unmount()

    def _unmount(self) -> None:
        """What it leaves mounted: a container of a build that failed, and its own storage, bound to itself."""
        call([*self._buildah, "rm", "-a"], self.environment())
        unmount_below(self._home)


class Docker:
    """Docker's engine with the BuildKit in it, started for the bench alone; `docker save` makes the archive (no gzip in it)."""

    name = "docker"
    compressions: tuple[str, ...] = ("gzip",)

    def __init__(self, state: Path, layout: Path) -> None:
        state.mkdir(parents=True)
        self._socket = state / "s"
        self._home = state
        self._count = 0
        self._log = (state / "log").open("wb")
        self._archive = state / "base.tar"
        self._engine: subprocess.Popen[bytes] | None = None
        try:
            call(["skopeo", "copy", f"oci:{layout}", f"docker-archive:{self._archive}:{BASE}:latest"])
            self.forget()
        except RuntimeError:
            self.close()
            raise

    def forget(self) -> None:
        self._end()
        self._count += 1
        flags = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--pidfile", str(self._home / "pid")]
        folders = ["--data-root", str(self._home / f"data{self._count}"), "--exec-root", str(self._home / "exec")]
        self._engine = subprocess.Popen(
            ["dockerd", *folders, *flags, "--host", f"unix://{self._socket}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._wait()
        call([DOCKER, "load", "-q", "-i", str(self._archive)], self.environment())

    def _wait(self) -> None:
        for _ in range(100):
            try:
                call([DOCKER, "version"], self.environment())
            except RuntimeError as error:
                if self._engine is None or self._engine.poll() is not None:
                    raise RuntimeError(f"dockerd ended: {(self._home / 'log').read_text()[-300:]}") from error
                time.sleep(0.2)
            else:
                return
        raise RuntimeError("dockerd does not answer")

    def version(self) -> str:
        return f"docker {call([DOCKER, 'version', '-f', '{{.Server.Version}}'], self.environment()).strip()} (BuildKit)"

    def commands(self, context: Path, out: Path, compression: str) -> list[list[str]]:
        return [
            [DOCKER, "build", "-q", "--network", "host", "-t", "bench", str(context)],
            [DOCKER, "save", "-o", str(out), "bench"],
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "1", "HOME": str(self._home)}

    def close(self) -> None:
        self._end()
        self._log.close()

    def _end(self) -> None:
        if self._engine is not None:
            self._engine.terminate()
            self._engine.wait()
            self._engine = None
        # An engine that is ended amid a build leaves its folder bound to itself.
        unmount_below(self._home)


class Buildctl:
    """BuildKit's own daemon, where somebody installed it."""

    name = "buildkit"
    compressions: tuple[str, ...] = ("gzip", "zstd")

    def __init__(self, state: Path, layout: Path) -> None:
        state.mkdir(parents=True)
        self._socket = f"unix://{state / 's'}"
        self._layout = layout
        self._log = (state / "log").open("wb")
        self._engine = subprocess.Popen(
            ["buildkitd", "--root", str(state / "data"), "--addr", self._socket, "--oci-worker-net", "host"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        for _ in range(100):
            if self._engine.poll() is not None:
                raise RuntimeError(f"buildkitd ended: {(state / 'log').read_text()[-300:]}")
            if (state / "s").exists():
                return
            time.sleep(0.2)
        self.close()
        raise RuntimeError("buildkitd does not answer")

    def version(self) -> str:
        return call(["buildctl", "--version"]).strip()

    def forget(self) -> None:
        call(["buildctl", "--addr", self._socket, "prune", "--all"])

    def commands(self, context: Path, out: Path, compression: str) -> list[list[str]]:
        # BuildKit has no images of its own: the base is read from the layout each time, as for a user without a registry.
        digest = call(["skopeo", "inspect", "--format", "{{.Digest}}", f"oci:{self._layout}"]).strip()
        return [
            [
                *("buildctl", "--addr", self._socket, "build", "--progress", "plain", "--frontend", "dockerfile.v0"),
                *("--local", f"context={context}", "--local", f"dockerfile={context}"),
                *("--oci-layout", f"base={self._layout}", "--opt", f"context:{BASE}=oci-layout://base@{digest}"),
                *("--output", f"type=oci,compression={compression},dest={out}"),
            ]
        ]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def close(self) -> None:
        self._engine.terminate()
        self._engine.wait()
        self._log.close()


_PEERS = (
    (Pybuild, (PYBUILD,)),
    (Buildah, ("buildah", "skopeo")),
    (Docker, (DOCKER, "dockerd", "skopeo")),
    (Buildctl, ("buildctl", "buildkitd", "skopeo")),
)


NAMES = tuple(make.name for make, _ in _PEERS)
_NEVER = "kaniko: not measured, its executor is an image, and unpacks the base over the files of the machine that it runs on"
DIFFERENCES = ("docker writes its archive without compression, the others with gzip or, in W4z, zstd",)


def installed(state: Path, layout: Path, wanted: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """The peers that can run here, and a line for each that cannot."""
    peers: list[Peer] = []
    lines: list[str] = [] if wanted else [_NEVER]
    for make, programs in _PEERS:
        if wanted and make.name not in wanted:
            continue
        if missing := [str(program) for program in programs if shutil.which(program) is None]:
            lines.append(f"{make.name}: not measured, {', '.join(missing)} is not installed")
            continue
        try:
            peers.append(make(state / make.name, layout))
        except RuntimeError as error:
            lines.append(f"{make.name}: not measured: {error}")
    return peers, lines
