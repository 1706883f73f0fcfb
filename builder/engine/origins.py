"""Where an image comes from: the mirrors of its registry, in their order, then the registry itself."""

from __future__ import annotations

from _thread import allocate_lock

from builder.errors import RegistryError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from builder.oci.reference import Reference
    from builder.registry.client import Client
    from builder.registry.repository import Repository

    T = TypeVar("T")


class Origins:
    """For several threads. A mirror that lacks something, is down or gives what it should not is not asked again, and the next
    one is: what the first manifest says is fetched by digest, from whomever."""

    def __init__(self, reference: Reference, client: Client, warn: Callable[[str], object], *, mirrors: bool = True) -> None:
        """`warn` is told of each mirror that failed, and why. Without `mirrors` the registry itself is asked alone."""
        self._reference = reference
        self._client = client
        self._warn = warn
        self._lock = allocate_lock()
        self._mirrors = client.mirrors(reference) if mirrors else []
        self._opened: dict[str, Repository] = {}
        self.unusable: UsageError | None = None
        """What is wrong with the user's own files, when that is why `ask` raised."""

    def ask(self, work: Callable[[Repository], T]) -> T:
        """What the first origin gives that can. Raises RegistryError, of the registry itself."""
        while True:
            with self._lock:
                name, open_ = self._mirrors[0] if self._mirrors else ("", None)
            if open_ is None:
                return work(self._repository(name, lambda: self._client.repository(self._reference)))
            try:
                return work(self._repository(name, open_))
            except RegistryError as error:
                self._failed(name, error)

    def _repository(self, name: str, open_: Callable[[], Repository]) -> Repository:
        with self._lock:
            known = self._opened.get(name)
        if known is None:
            try:
                known = open_()
            except UsageError as error:
                self.unusable = error
                raise
            with self._lock:
                self._opened[name] = known
        return known

    def _failed(self, name: str, error: RegistryError) -> None:
        with self._lock:
            left = [mirror for mirror in self._mirrors if mirror[0] != name]
            # Another thread may have met the same.
            first = len(left) < len(self._mirrors)
            self._mirrors = left
        if first:
            self._warn(f"the mirror {name} is passed over: {self._client.masked(error).message}")
