"""The builder, and a thread beside it that looks where all others are: run by `bench.profile`.

    python bench/sampler.py REPORT ARGUMENT...

It loads nothing but what every Python has loaded: what a build imports is to be seen. REPORT gets seconds and counts, as Python
writes them.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

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
    ("layers/filling", "unpacking into folders"),
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


class Sampler:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._main = _thread.get_ident()
        self._over = False
        self._ended = _thread.allocate_lock()

    def start(self) -> None:
        # Who holds Python's lock for long is seen in between, too.
        sys.setswitchinterval(_EACH / 2)
        self._ended.acquire()
        _thread.start_new_thread(self._look, ())

    def stop(self) -> None:
        self._over = True
        self._ended.acquire()

    def _look(self) -> None:
        own = _thread.get_ident()
        while not self._over:
            time.sleep(_EACH)
            frames = sys._current_frames()
            main = label(frames.get(self._main))
            if main is not None:
                self._count(main, 1000)
                continue
            busy = [found for id, frame in frames.items() if id not in (own, self._main) and (found := label(frame))]
            for found in busy or [ELSEWHERE]:
                self._count(found, 1000 // len(busy or [ELSEWHERE]))
        self._ended.release()

    def _count(self, name: str, weight: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + weight


def main() -> None:
    report, *argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(sys.path[0])
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
    with open(report, "w", encoding="utf-8") as file:
        file.write(repr({"code": code, "seconds": seconds, "counts": sampler.counts}))
    # As the program ends.
    os._exit(0)


if __name__ == "__main__":
    main()
