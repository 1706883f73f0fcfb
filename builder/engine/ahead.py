"""The images that a build needs of registries, pulled side by side, each for whoever asks for it."""

from __future__ import annotations

import threading
from collections import deque

from builder.cancellation import Cancellation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from builder.engine.bases import Pull
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.store.store import ImageRecord

TOGETHER = 3
"""Images at once; each has several connections of its own."""
# No wait is longer: a Ctrl-C that comes just before it begins is not lost.
_POLL = 0.2
# A thread that is still connecting cannot be ended; it ends with the process.
_PATIENCE = 1.0


class Ahead:
    """``with Ahead(wanted, pull) as ahead: ahead.pull(reference, platform)``: who asks for one after another sees the errors in
    that order, whichever came first. What nobody asked for when the block ends is given up. One name is pulled for one platform
    after the other: it comes to stand for all of them."""

    def __init__(self, wanted: Iterable[tuple[Reference, Platform]], pull: Pull) -> None:
        self._pull = pull
        groups: dict[Reference, dict[Platform, None]] = {}
        for reference, platform in wanted:
            groups.setdefault(reference, {})[platform] = None
        self._waiting = deque(groups.items())
        self._stops = {(reference, platform): Cancellation() for reference, those in groups.items() for platform in those}
        self._results: dict[tuple[Reference, Platform], ImageRecord | BaseException] = {}
        self._changed = threading.Condition()
        self._over = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(min(TOGETHER, len(self._waiting)))]

    def __enter__(self) -> Ahead:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        for stop in self._stops.values():
            stop.cancel()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def pull(self, reference: Reference, platform: Platform, stop: Cancellation | None = None) -> ImageRecord:
        """The image, once it is there. Raises what the pull did."""
        asked = reference, platform
        if asked not in self._stops:
            return self._pull(reference, platform, stop or Cancellation())
        with self._changed:
            while asked not in self._results:
                self._changed.wait(_POLL)
            found = self._results[asked]
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._over:
                    return
                reference, platforms = self._waiting.popleft()
            for platform in platforms:
                self._bring(reference, platform)

    def _bring(self, reference: Reference, platform: Platform) -> None:
        asked = reference, platform
        found: ImageRecord | BaseException
        try:
            found = self._pull(reference, platform, self._stops[asked])
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
            found = error
        with self._changed:
            self._results[asked] = found
            self._changed.notify_all()
