"""Builders on one store, killed at random, while others remove what they can: `make soak`, and a short form among the tests.

``python -m tests.build.build_soak KILLS FOLDER BASE``: figures go to stdout; a failed assertion names what was lost.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild

BUILDERS = 8

SHARED = """FROM base AS build
COPY big /big
RUN sha256sum /big > /sum; cat /big /big > /twice
WORKDIR /srv/app
"""
DOCKERFILES = (
    SHARED + "FROM base\nCOPY --from=build /sum /twice /out/\nRUN wc -c /out/* > /count\n",
    SHARED + "RUN echo 1 > /number; rm /twice\nFROM base\nCOPY --from=build /sum /number /out/\n",
    SHARED + "RUN rm -rf /bin/ls /srv && mkdir /srv && echo x > /srv/new\n",
    "FROM base\nCOPY big /a\nRUN cat /a /a > /b\nRUN cat /b /b > /c\nRUN cat /c /c > /d; rm /b\n",
    "FROM base\nCOPY --link big /linked\nRUN mkdir -p /x/y/z; ln /linked /x/y/z/hard; ln -s hard /x/y/z/soft\n",
    "FROM base AS one\nRUN echo one > /one\nFROM base AS two\nRUN echo two > /two\n"
    "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
    "FROM base\nRUN true\nRUN echo text > /text\nRUN true 2\nCOPY big /big\n",
    "FROM base\nRUN --mount=type=cache,target=/cache echo more >> /cache/log; tail -n 1 /cache/log > /last\n"
    "RUN sha256sum /bin/busybox > /sum; sleep 0.2; sha256sum /sum > /sums\n",
    # What it leaves is kept, replaced, removed, and looked into.
    "FROM base\nRUN echo before > /before\nRUN head -c 100000 /dev/zero > /half; exit 3\n",
)
REMOVALS: tuple[tuple[str, ...], ...] = (
    ("prune",),
    ("prune", "--all"),
    ("prune", "--all", "--cache-mounts"),
    ("prune", "--max-used-space", "2m"),
    ("prune", "--filter", "type=compressed"),
    ("rmi", "image0"),
    ("rmi", "image3"),
)
LOOKS: tuple[tuple[str, ...], ...] = (
    ("du", "--verbose"),
    ("images",),
    ("doctor", "--store"),
    ("why",),
    ("run", "--pull=never", "image1", "cat", "/out/number"),
    ("shell", "-f", "context8/Dockerfile", "3", "--", "sh", "-c", "sleep 0.2; wc -c < /half"),
)
SEEN = {"run": "1\n", "shell": "100000\n"}
"""What these say where they find what they look for."""
NOT_THERE = 2
"""The exit code of those that do not: it was removed, or is not there yet."""


class Soak:
    """The contexts and what they come to in a quiet store; then as many kills as are asked for."""

    def __init__(self, folder: Path, base: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        self._base = base
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.pybuild = Pybuild(folder / "store", folder)
        self._contexts = [self._context(number, text) for number, text in enumerate(DOCKERFILES)]
        self._expected = [self._quiet(number) for number in range(len(DOCKERFILES))]
        self.figures: Counter[str] = Counter()

    def _context(self, number: int, text: str) -> Path:
        context = self._folder / f"context{number}"
        context.mkdir(exist_ok=True)
        (context / "big").write_bytes(random.Random(7).randbytes(400_000))
        (context / "Dockerfile").write_text(text)
        return context

    def _alone(self, number: int) -> subprocess.CompletedProcess[str]:
        alone = Pybuild(self._folder / f"alone{number}", self._folder)
        return alone(*self._arguments(number), cwd=self._contexts[number])

    def _quiet(self, number: int) -> tuple[int, str]:
        done = self._alone(number)
        assert done.returncode == (1 if "exit 3" in DOCKERFILES[number] else 0), done.stderr
        return done.returncode, done.stdout

    def _arguments(self, number: int, *flags: str) -> list[str]:
        return ["-q", "--build-context", f"base={self._base}", *flags, "."]

    def run(self, kills: int) -> None:
        """Raises AssertionError for a build that fails or gives another image, for damage, and for what is left running."""
        running: dict[subprocess.Popen[bytes], tuple[int, float]] = {}
        others: list[tuple[tuple[str, ...], subprocess.Popen[bytes], float]] = []
        try:
            while self.figures["kills"] < kills:
                while len(running) < BUILDERS:
                    number = self._rng.randrange(len(DOCKERFILES))
                    running[self._start(number)] = number, time.monotonic() + self._rng.uniform(0.05, 2)
                if not others:
                    command = self._rng.choice(REMOVALS + LOOKS)
                    # One in five is killed as well, at its start or in the midst of removing.
                    end = time.monotonic() + (self._rng.uniform(0.02, 0.5) if self._rng.random() < 0.2 else 60)
                    others.append((command, self.pybuild.start(*command), end))
                self._reap(running, others)
                self._kill(running)
                for other in [other for other in others if time.monotonic() > other[2]]:
                    other[1].kill()
                    other[1].communicate()
                    others.remove(other)
                    self.figures["killed removers"] += 1
                time.sleep(0.01)
            while running or others:
                self._reap(running, others)
                time.sleep(0.01)
        finally:
            for process in [*running, *(process for _, process, _ in others)]:
                process.kill()
                process.communicate()

    def settle(self) -> None:
        """Afterwards: nothing is left over, everything is sound, and every build still gives what it gave in peace."""
        assert_nothing_left(self.pybuild.store, within=5)
        self._sound()
        for number in range(len(DOCKERFILES)):
            done = self.pybuild(*self._arguments(number), cwd=self._contexts[number])
            assert (done.returncode, done.stdout) == self._expected[number], done.stderr
        self._sound()
        assert_valid(self.pybuild.store)

    def _sound(self) -> None:
        done = self.pybuild("doctor", "--store")
        assert done.returncode == 0 and "left over" not in done.stdout, done.stdout + done.stderr

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        flags = ["-t", f"image{number}"] if self._rng.random() < 0.5 else []
        if self._rng.random() < 0.3:
            flags += ["-o", f"type=oci,dest=../out{self._rng.randrange(10**9)}.tar"]
        if self._rng.random() < 0.3:
            flags += ["--no-cache"]
        return self.pybuild.start(*self._arguments(number, *flags), cwd=self._contexts[number])

    def _kill(self, running: dict[subprocess.Popen[bytes], tuple[int, float]]) -> None:
        for process, (_, end) in list(running.items()):
            if time.monotonic() > end and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                del running[process]
                self.figures["kills"] += 1

    def _reap(
        self,
        running: dict[subprocess.Popen[bytes], tuple[int, float]],
        others: list[tuple[tuple[str, ...], subprocess.Popen[bytes], float]],
    ) -> None:
        for process, (number, _) in list(running.items()):
            if process.poll() is not None:
                out, err = process.communicate()
                del running[process]
                assert (process.returncode, out.decode()) == self._expected[number], (number, err.decode())
                self.figures["finished builds"] += 1
        for other in list(others):
            command, process, _ = other
            if process.poll() is not None:
                out, err = process.communicate()
                others.remove(other)
                found = process.returncode == 0 and out.decode() == SEEN.get(command[0], out.decode())
                missing = process.returncode == NOT_THERE and command[0] in ("rmi", "why", *SEEN)
                assert found or missing, (command, process.returncode, out.decode(), err.decode())
                self.figures[" ".join(command[:3]) + " found nothing" * missing] += 1
        for output in self._folder.glob("out*"):
            if time.time() - output.lstat().st_mtime > 20:
                output.unlink(missing_ok=True)


def main() -> None:
    kills, folder, base = int(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    begun = time.monotonic()
    soak = Soak(folder, base, seed)
    soak.run(kills)
    soak.settle()
    for name, count in sorted(soak.figures.items(), key=lambda item: -item[1]):
        print(f"{count:6} {name}")
    print(
        f"{time.monotonic() - begun:.0f} s; every image as in a quiet store, the store sound, nothing left running or mounted"
    )


if __name__ == "__main__":
    main()
