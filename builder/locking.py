"""The lock of a Dockerfile: its names are looked up, and what they stand for is written beside it.

The plan is made as for a build, since a base's ENV and ONBUILD say what else there is to look up; no step is done.
"""

from __future__ import annotations

import os

from builder.build import planned
from builder.contexts import BuildContexts
from builder.engine.pins import Locking
from builder.engine.remotes import Remotes
from builder.errors import UsageError
from builder.plan.lockfile import GitPin, ImagePin, Lock, UrlPin, familiar, label, merged, parse, value
from builder.reading import read_lock
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from builder.events import Emit
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.plan.lockfile import Pin
    from builder.request import Request
    from builder.store.store import Store


class Change(NamedTuple):
    """One line of the difference between two locks; `before` or `after` is empty where there is none."""

    name: str
    before: str
    after: str


class Found(NamedTuple):
    path: str
    """Of the lock file."""
    lock: Lock
    changes: tuple[Change, ...]
    """Against the file as it is, in the order of the names."""


def find(request: Request, store: Store, emit: Emit, *, upgrade: Collection[str] = (), anew: bool = False) -> Found:
    """Find what the names in the Dockerfile of `request` stand for; to write it is the caller's.

    What the file says already stays, but for the names in `upgrade`, or for all of them where `anew`. What it says of platforms
    that are not asked for stays, too. Raises BuildError kinds; UsageError for a name to upgrade that it does not have.
    """
    path, before = _before(request, store, emit)
    asked = frozenset(upgrade)
    lacking = set(asked)

    def upgrades(pin: Pin) -> bool:
        found = asked.intersection(called(pin))
        lacking.difference_update(found)
        return anew or bool(found)

    locking = Locking(before, upgrades, _resolver(request, emit), store)
    if lacking:
        names = ", ".join(dict.fromkeys(called(pin)[0] for pin in _pins(before)))
        raise UsageError(f"{path} does not pin '{min(lacking)}'", hint=f"it pins {names or 'nothing'}")
    _, plans = planned(request._replace(pins=locking), store, emit)
    locking.take_sources(plans, Remotes(store, request.access, emit, locking), lambda text: None)
    platforms = {str(platform) for platform in request.platforms}
    now = locking.lock()
    names_now = {pin.name for pin in now.images}
    others = [pin for pin in before.images if pin.platform not in platforms and pin.name in names_now]
    after = merged([*_pins(now), *others])
    return Found(path, after, _changes(before, after))


def called(pin: Pin) -> tuple[str, ...]:
    """What a person may call it, the best first: an image with and without its tag, a file by its URL, a repository with and
    without its ref."""
    match pin:
        case ImagePin(name=name):
            short = familiar(name)
            tagged = ":" in short.rpartition("/")[2]
            return (short, name, short.rpartition(":")[0] if tagged else short)
        case UrlPin(url=url):
            return (url,)
        case GitPin(url=url):
            return (label(pin), url)


def _before(request: Request, store: Store, emit: Emit) -> tuple[str, Lock]:
    """Where the lock lies, and what it says now."""
    with BuildContexts(request, store, emit) as contexts:
        contexts.dockerfile()
        path = contexts.lock_path
    if not path:
        raise UsageError(
            "a lock is written beside a Dockerfile, and this one is no file of this machine",
            hint="name the file with -f, or make the lock where the sources are",
        )
    return path, parse(read_lock(path)) if os.path.lexists(path) else Lock()


def _resolver(request: Request, emit: Emit) -> Callable[[Reference, Platform], tuple[Digest, Digest]] | None:
    access = request.registry
    if access is None or request.access.offline:
        return None

    def resolve(reference: Reference, platform: Platform) -> tuple[Digest, Digest]:
        from builder.engine import pulling  # for those who have images of registries

        return pulling.resolve(reference, access(), platform, emit)

    return resolve


def _pins(lock: Lock) -> tuple[Pin, ...]:
    return (*lock.images, *lock.urls, *lock.gits)


def _changes(before: Lock, after: Lock) -> tuple[Change, ...]:
    old, new = ({label(pin): value(pin) for pin in _pins(lock)} for lock in (before, after))
    names = sorted({*old, *new})
    return tuple(Change(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name))
