"""Writing a portable cache into a folder: an OCI image layout (OCI image-spec image-layout.md).

Blobs come first, each under its name when it is whole, `index.json` last, by a rename. Writers of one folder wait for each
other (`index.json.lock`, the name that BuildKit locks, too). Whoever reads meanwhile may miss a blob that the new index does
not name any more. Does not protect from others who may write into the folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import contextmanager

from builder import canonical
from builder.cache.format import ARTIFACT_TYPE, MANIFEST_LIMIT
from builder.cache.local import READ, REF_NAME, json_object, manifests, tag_of
from builder.errors import BuildError, StoreError, UsageError
from builder.oci.image import INDEX_TYPE, descriptor_json, parse_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from builder.cache.places import Blob, LocalTo

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_LOCK = "index.json.lock"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 1 << 20
_UNFINISHED = ".pybuild-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check(path: str) -> None:
    """Raise the UsageError that `LocalSink` would meet in a folder that holds something else than a layout."""
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise UsageError(
            f"the cache cannot be written to '{path}': it is no folder", hint="give the name of a folder: dest=DIR"
        )
    # What a first writer makes before `oci-layout` does not count: another one may be at it.
    names = [name for name in os.listdir(path) if name != _LOCK and not name.startswith(_UNFINISHED)]
    if names and "oci-layout" not in names:
        raise UsageError(
            f"the cache cannot be written to '{path}': the folder is not empty and no OCI layout",
            hint="choose a new or an empty folder",
        )


class LocalSink:
    def __init__(self, place: LocalTo) -> None:
        self._path, self._tag = place

    def publish(self, blobs: Sequence[Blob], manifest: Blob) -> None:
        check(self._path)
        try:
            os.makedirs(self._path, exist_ok=True)
            root = os.open(self._path, _FOLDER)
            try:
                with _locked(root):
                    self._refuse_others(root, self._tag)
                    _publish(root, blobs, manifest, self._tag)
            finally:
                os.close(root)
        except OSError as error:
            if error.errno in _FULL:
                hint = "free some space on its file system, or choose another place"
                raise StoreError(f"no space left for the cache in '{self._path}'", hint=hint) from error
            raise UsageError(f"the cache cannot be written to '{self._path}': {error.strerror}") from error

    def _refuse_others(self, root: int, tag: str) -> None:
        """A layout of images keeps them: what is no cache is not replaced by one."""
        for each in _index(root) or ():
            if tag_of(each) == tag and each.get("artifactType") != ARTIFACT_TYPE:
                raise UsageError(
                    f"the cache cannot be written to '{self._path}': it has something else with the tag '{tag}'",
                    hint="choose another folder, or another name with tag=NAME",
                )


def _publish(root: int, blobs: Sequence[Blob], manifest: Blob, tag: str) -> None:
    # First, so that a folder in which a writer was killed is still known as a layout.
    if not _exists(root, "oci-layout"):
        _replace(root, "oci-layout", _LAYOUT)
    old = _index(root)
    others = [each for each in old or () if tag_of(each) != tag]
    folder = _subfolder(_subfolder(root, "blobs", close=False), "sha256", close=True)
    try:
        for blob in (*blobs, manifest):
            _put(folder, blob)
        os.fsync(folder)
        new = {
            **descriptor_json(manifest.descriptor),
            "artifactType": ARTIFACT_TYPE,
            "annotations": {REF_NAME: tag},
        }
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*others, new]}
        _replace(root, "index.json", canonical.dumps(index).encode())
        os.fsync(root)
        if old is not None:
            _sweep(folder, old, [*others, new])
    finally:
        os.close(folder)


def _index(root: int) -> list[dict[str, Any]] | None:
    """The manifests of the present index; None for a damaged one: a cache can be made again, and takes its place."""
    try:
        return manifests(_read(root, "index.json"))
    except FileNotFoundError:
        return []
    except BuildError:
        return None


def _put(folder: int, blob: Blob) -> None:
    """Write a blob, unless it is there and whole."""
    name = blob.descriptor.digest.hex
    if _is_whole(folder, name):
        return
    temporary = f"{_UNFINISHED}{os.urandom(8).hex()}"
    fd = os.open(temporary, _WRITE, 0o666, dir_fd=folder)
    try:
        try:
            hasher = hashlib.sha256()
            for chunk in _content(blob):
                hasher.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if hasher.hexdigest() != name:
            hint = f"remove {blob.path}, then build again"
            raise StoreError(f"blob {blob.descriptor.digest} is corrupt: its content does not have this digest", hint=hint)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _discard(folder, temporary)
        raise


def _content(blob: Blob) -> Iterator[bytes]:
    if not blob.path:
        yield blob.data
        return
    with open(blob.path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _is_whole(folder: int, name: str) -> bool:
    try:
        fd = os.open(name, READ, dir_fd=folder)
    except FileNotFoundError:
        return False
    with open(fd, "rb") as file:
        return stat.S_ISREG(os.fstat(fd).st_mode) and hashlib.file_digest(file, "sha256").hexdigest() == name


def _sweep(folder: int, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Remove the blobs that the old index named and the new one does not; where all is ours, every blob that is not named: what
    killed writers left, too. Where a manifest cannot be read nobody knows what it names, and nothing is removed."""
    try:
        kept: set[str] = set().union(*(_named(folder, each) for each in new))
        if all(each.get("artifactType") == ARTIFACT_TYPE for each in (*old, *new)):
            gone = set(os.listdir(folder)) - kept
        else:
            gone = set().union(*(_named(folder, each) for each in old if each.get("artifactType") == ARTIFACT_TYPE)) - kept
    except (BuildError, FileNotFoundError):
        return
    for name in gone:
        if name.startswith(_UNFINISHED) or (len(name) == 64 and not name.strip("0123456789abcdef")):
            _discard(folder, name)


def _named(folder: int, descriptor: dict[str, Any], depth: int = 0) -> set[str]:
    """The digits of the blobs that a descriptor leads to, its own first. Raises BuildError and FileNotFoundError."""
    digest = parse_descriptor(descriptor).digest
    raw = json_object(_read(folder, digest.hex))
    found = {digest.hex}
    for each in (raw.get("config"), *_list(raw, "layers"), *_list(raw, "blobs")):
        if each is not None:
            found.add(parse_descriptor(each).digest.hex)
    for each in _list(raw, "manifests"):
        if depth > 4 or not isinstance(each, dict):
            raise BuildError("an index in an index without end")
        found |= _named(folder, each, depth + 1)
    return found


def _list(raw: dict[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    return value if isinstance(value, list) else []


# Files below a descriptor


def _exists(root: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=root)
    except FileNotFoundError:
        return False
    return True


def _read(folder: int, name: str) -> bytes:
    """A small JSON file. Raises BuildError for one that is none."""
    fd = os.open(name, READ, dir_fd=folder)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"'{name}' is no file")
        data = file.read(MANIFEST_LIMIT + 1)
    if len(data) > MANIFEST_LIMIT:
        raise BuildError(f"'{name}' is larger than {MANIFEST_LIMIT} bytes")
    return data


def _replace(folder: int, name: str, data: bytes) -> None:
    temporary = f"{_UNFINISHED}{os.urandom(8).hex()}"
    fd = os.open(temporary, _WRITE, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _discard(folder, temporary)
        raise


def _discard(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass  # An interrupt just after a rename, or somebody else removed it.


def _subfolder(parent: int, name: str, *, close: bool) -> int:
    """A descriptor of the folder, which is made; `close` closes the parent's."""
    try:
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            pass  # From the last time; what it is, the next call says.
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        if close:
            os.close(parent)


@contextmanager
def _locked(root: int) -> Iterator[None]:
    """Alone among the writers of a folder. Waits as long as another one writes; Ctrl-C ends the wait."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        fd = os.open(_LOCK, flags, 0o666, dir_fd=root)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever had it removed the file: a lock of a removed file excludes nobody.
            if not os.fstat(fd).st_nlink:
                continue
            try:
                yield
                return
            finally:
                _discard(root, _LOCK)
        finally:
            os.close(fd)
