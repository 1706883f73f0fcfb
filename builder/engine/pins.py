"""What the names of a Dockerfile are taken to mean: by a lock file (`Locked`), or by a look at registries, servers and the
store, which makes one (`Locking`).

An image that came from no registry is pinned by its id; an image of a registry by its manifest's digest, and the id says
whether that was edited.
"""

from __future__ import annotations

from builder.engine.foreign import CONFIG_LIMIT
from builder.errors import MismatchError, UsageError
from builder.oci.image import parse_config
from builder.plan.lockfile import GitPin, ImagePin, UrlPin, familiar, label, merged, value
from builder.plan.steps import CopyStep, GitSource, UrlSource
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol, TypeVar

    from builder.context import git
    from builder.engine.remotes import Remotes
    from builder.errors import Span
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.plan.lockfile import Lock, Pin
    from builder.plan.steps import Plan
    from builder.store.store import ImageRecord, Store

    P = TypeVar("P", ImagePin, UrlPin, GitPin)

    class Pins(Protocol):
        """Of a build; for several threads once the plan is made."""

        def image(self, reference: Reference, platform: Platform, span: Span) -> ImagePin | None:
            """None for what a digest names already. Raises MismatchError and RegistryError."""

        def url(self, url: str) -> str:
            """The checksum of a URL without credentials; empty where it is not pinned."""

        def commit(self, url: str, ref: str) -> git.Commit | None: ...

        def check_images(self, names: Iterable[tuple[Reference, Platform, Span]]) -> None:
            """Raises MismatchError that names all which cannot be looked up here."""

        def check_sources(self, plans: Sequence[Plan]) -> None:
            """The same for what ADD fetches."""


class Named(NamedTuple):
    """A name that may be pinned, and where it stands."""

    label: str
    span: Span


def needs_pin(reference: Reference) -> bool:
    """What a digest names cannot change."""
    return reference.digest is None


def sources(plans: Iterable[Plan]) -> list[UrlSource | GitSource]:
    """What the plans fetch by names that may move, each once."""
    found: dict[tuple[str, str], UrlSource | GitSource] = {}
    for plan in plans:
        for step in plan.steps:
            for source in step.sources if isinstance(step, CopyStep) else ():
                if isinstance(source, UrlSource) and not source.checksum:
                    found.setdefault((_address(source.url), ""), source)
                elif isinstance(source, GitSource) and not _is_commit(source.ref):
                    found.setdefault((redact(source.url), f"#{source.ref}"), source)
    return list(found.values())


def _address(url: str) -> str:
    return redact(url.partition("#")[0])


def _is_commit(ref: str) -> bool:
    return len(ref) in (40, 64) and not ref.strip("0123456789abcdef")


def _source_label(source: UrlSource | GitSource) -> str:
    if isinstance(source, UrlSource):
        return label(UrlPin(_address(source.url), ""))
    return label(GitPin(redact(source.url), source.ref, ""))


class Locked:
    """What a lock file says, and nothing else: what it lacks is an error."""

    def __init__(self, lock: Lock, name: str) -> None:
        self._images = {(pin.name, pin.platform): pin for pin in lock.images}
        self._urls = {pin.url: pin.checksum for pin in lock.urls}
        self._gits = {(pin.url, pin.ref): pin for pin in lock.gits}
        self._name = name

    def image(self, reference: Reference, platform: Platform, span: Span) -> ImagePin | None:
        if not needs_pin(reference):
            return None
        pin = self._images.get((reference.identity, str(platform)))
        if pin is None:
            raise self._lacks([Named(f"'{reference.familiar}' for {platform}", span)])
        return pin

    def url(self, url: str) -> str:
        return self._urls.get(url, "")

    def commit(self, url: str, ref: str) -> git.Commit | None:
        pin = self._gits.get((url, ref))
        if pin is None:
            return None
        from builder.context import git  # for those who fetch from git

        return git.Commit(pin.commit, pin.name, pin.tag)

    def check_images(self, names: Iterable[tuple[Reference, Platform, Span]]) -> None:
        self._refuse(
            Named(f"'{reference.familiar}' for {platform}", span)
            for reference, platform, span in names
            if needs_pin(reference) and (reference.identity, str(platform)) not in self._images
        )

    def check_sources(self, plans: Sequence[Plan]) -> None:
        self._refuse(
            Named(f"'{_source_label(source)}'", source.span)
            for source in sources(plans)
            if not (
                self.url(_address(source.url))
                if isinstance(source, UrlSource)
                else (redact(source.url), source.ref) in self._gits
            )
        )

    def _refuse(self, lacking: Iterable[Named]) -> None:
        if found := list(lacking):
            raise self._lacks(found)

    def _lacks(self, lacking: list[Named]) -> MismatchError:
        names = ", ".join(each.label for each in lacking)
        return MismatchError(
            f"{self._name} does not pin {names}",
            lacking[0].span,
            hint="`pybuild lock`, with the same flags, adds what the Dockerfile names now, and keeps the rest as it is",
        )


def moved(name: str, pin: ImagePin, error_hint: str | None) -> str:
    """The hint where what a lock names is not to be had."""
    hint = f"the lock pins '{familiar(pin.name)}' to {value(pin)}"
    if error_hint is None or "--offline" not in error_hint:
        hint += ": if it was not edited, the registry has lost it"
    return f"{hint}; `pybuild lock --upgrade={name}` takes what is there now" + (f" ({error_hint})" if error_hint else "")


class Locking:
    """Finds out what the names stand for, and keeps what an earlier lock said of them, but for what is upgraded."""

    def __init__(
        self,
        before: Lock,
        upgrade: Callable[[Pin], bool],
        resolve: Callable[[Reference, Platform], tuple[Digest, Digest]] | None,
        store: Store,
    ) -> None:
        """`resolve` asks registries: the digests of manifest and config; None: nobody is asked, and the store counts. It raises
        RegistryError."""
        pins: tuple[Pin, ...] = (*before.images, *before.urls, *before.gits)
        self._kept = {(type(pin), label(pin)): pin for pin in pins if not upgrade(pin)}
        self._resolve = resolve
        self._store = store
        self._found: dict[tuple[type[Pin], str], Pin] = {}

    def image(self, reference: Reference, platform: Platform, span: Span) -> ImagePin | None:
        if not needs_pin(reference):
            return None
        wanted = ImagePin(reference.identity, str(platform), "", "")
        known = self._known(wanted)
        if known is None:
            known = self._looked_up(wanted, reference, platform)
        self._keep(known)
        return known

    def _looked_up(self, wanted: ImagePin, reference: Reference, platform: Platform) -> ImagePin:
        stored = self._store.find_image(reference.identity, platform)
        if stored is not None and not self._was_pulled(stored, reference):
            # Built or imported here: no registry has it, or another one of the same name.
            return wanted._replace(id=str(stored.config))
        if self._resolve is not None:
            digest, id = self._resolve(reference, platform)
            return wanted._replace(digest=str(digest), id=str(id))
        if stored is None:
            raise UsageError(
                f"there is no image '{reference.familiar}' in the store, and --offline asks no registry",
                hint="leave --offline out",
            )
        return wanted._replace(digest=self._manifest(stored, reference), id=str(stored.config))

    def _was_pulled(self, record: ImageRecord, reference: Reference) -> bool:
        return any(text.startswith(f"{reference.name}@") for text in self._store.repositories(record.config))

    def _manifest(self, record: ImageRecord, reference: Reference) -> str:
        """The digest of the image's own manifest; an index that it came by is the record's source."""
        known = [
            text.rpartition("@")[2] for text in self._store.repositories(record.config) if text.startswith(f"{reference.name}@")
        ]
        return min((digest for digest in known if digest != record.source), default=known[0])

    def url(self, url: str) -> str:
        known = self._known(UrlPin(url, ""))
        return known.checksum if known is not None else ""

    def commit(self, url: str, ref: str) -> git.Commit | None:
        known = self._known(GitPin(url, ref, ""))
        if known is None:
            return None
        from builder.context import git  # for those who fetch from git

        return git.Commit(known.commit, known.name, known.tag)

    def check_images(self, names: Iterable[tuple[Reference, Platform, Span]]) -> None:
        """All can be looked up."""

    def check_sources(self, plans: Sequence[Plan]) -> None:
        """All can be looked up."""

    def take_sources(self, plans: Sequence[Plan], remotes: Remotes, say: Callable[[str], None]) -> None:
        """Find what ADD fetches. Raises RegistryError, and DockerfileError for a ref that is not there."""
        for source in sources(plans):
            with remotes.turn(source.url):
                if isinstance(source, UrlSource):
                    address = _address(source.url)
                    self._keep(UrlPin(address, self.url(address) or str(remotes.download(source, say).digest)))
                else:
                    commit = remotes.commit(source)
                    self._keep(GitPin(redact(source.url), source.ref, *commit))

    def lock(self) -> Lock:
        """All that was asked for since the beginning."""
        return merged(self._found.values())

    def _known(self, wanted: P) -> P | None:
        key = (type(wanted), label(wanted))
        found = self._found.get(key) or self._kept.get(key)
        return found if isinstance(found, type(wanted)) else None

    def _keep(self, pin: Pin) -> None:
        self._found[type(pin), label(pin)] = pin


def check_id(pin: ImagePin, record: ImageRecord, store: Store, name: str) -> None:
    """Raises MismatchError where the digest leads to another image than the one that was locked."""
    if str(record.config) != pin.id:
        config = parse_config(store.read_blob(record.config, CONFIG_LIMIT)).config
        raise MismatchError(
            f"the lock pins '{familiar(pin.name)}' to {pin.digest}, which is not the image that it was: it is "
            f"{record.config} for {config.platform}, and the lock says {pin.id}",
            hint=f"its digest or its id was edited; `pybuild lock --upgrade={name}` takes what is there now",
        )
