"""Blobs: files named by the digest of their content (OCI image-layout, "Blobs")."""

from __future__ import annotations

import os
import stat

from builder.errors import BuildError, StoreError
from builder.hashing import hasher, hexdigest
from builder.oci.digest import Digest
from builder.store.files import make_folder, read_file, sync_folder, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from builder.store.faults import Faults
    from builder.store.lease import Lease
    from builder.store.uses import Uses

_CHUNK = 1 << 20


class Blobs:
    """The folder `blobs/<algorithm>/<hex>`."""

    def __init__(self, root: str, lease: Lease, faults: Faults, uses: Uses) -> None:
        self._uses = uses
        self._folder = os.path.join(root, "blobs")
        self._lease = lease
        self._faults = faults

    def path(self, digest: Digest) -> str:
        # The one way to a blob, there or not: from here on it is in use.
        self._uses.add(str(digest))
        return f"{self._folder}/{digest.algorithm}/{digest.hex}"

    def has(self, digest: Digest) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self.path(digest)).st_mode)
        except FileNotFoundError:
            return False

    def holds(self, digest: Digest, data: bytes) -> bool:
        """Whether the blob is there with this very content."""
        try:
            return self.has(digest) and read_file(self.path(digest)) == data
        except FileNotFoundError:
            return False

    def read(self, digest: Digest, limit: int) -> bytes:
        """The whole content, at most `limit` bytes. Raises StoreError where it is missing, larger, or not its digest's."""
        fd = self._open(digest)
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise StoreError(f"blob {digest} is too large: {size} bytes, {limit} are allowed here")
            chunks = []
            while chunk := os.read(fd, _CHUNK):
                chunks.append(chunk)
        finally:
            os.close(fd)
        data = b"".join(chunks)
        if hexdigest(digest.algorithm, data) != digest.hex:
            raise self._corrupt(digest)
        return data

    def verify(self, digest: Digest) -> None:
        """Raises StoreError where the blob is missing or its content is not its digest's."""
        hash_ = hasher(digest.algorithm)
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        fd = self._open(digest)
        try:
            while count := os.readv(fd, [buffer]):
                hash_.update(view[:count])
        finally:
            os.close(fd)
        if hash_.hexdigest() != digest.hex:
            raise self._corrupt(digest)

    def writer(self, algorithm: str) -> BlobWriter:
        return BlobWriter(self, algorithm, self._lease, self._faults)

    def adopt(self, temporary: str, digest: Digest) -> None:
        """Give a complete, synced file its final name. One that is there already is replaced: it might be damaged."""
        final = self.path(digest)
        folder = os.path.dirname(final)
        if not os.path.isdir(folder):
            make_folder(folder)
            sync_folder(self._folder)
        os.rename(temporary, final)
        sync_folder(folder)

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreError(
                f"blob {digest} is missing from the store", hint="build, import or pull the image that needs it again"
            ) from None

    def _corrupt(self, digest: Digest) -> StoreError:
        return StoreError(
            f"blob {digest} is corrupt: its content does not have this digest",
            hint=f"remove {self.path(digest)}, then build, import or pull the image that needs it again",
        )


class BlobWriter:
    """``with store.blob_writer() as blob: blob.write(data); digest, size = blob.commit()``.

    Until `commit` the content has no name that others know; leaving the block without it removes the content. Without an
    `algorithm` nothing is hashed here: who writes has hashed the very bytes, and `commit` takes its word.
    """

    def __init__(self, blobs: Blobs, algorithm: str, lease: Lease, faults: Faults) -> None:
        self._blobs = blobs
        self._algorithm = algorithm
        self._lease = lease
        self._faults = faults
        self._hasher = hasher(algorithm) if algorithm else None
        self._size = 0
        self._path = ""
        self._fd = -1

    def __enter__(self) -> BlobWriter:
        with self._faults:
            path = self._lease.new_path()
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._path = path
        return self

    def write(self, data: bytes) -> None:
        """Append. Raises StoreError on a full disk."""
        with self._faults:
            write_all(self._fd, data)
        if self._hasher is not None:
            self._hasher.update(data)
        self._size += len(data)

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]:
        """Name the blob by its digest, on the disk when this returns; digest and size in bytes.

        Raises BuildError where the content is not what `expected` says, and StoreError on a full disk.
        """
        digest = Digest(self._algorithm, self._hasher.hexdigest()) if self._hasher is not None else expected
        if digest is None:
            raise ValueError("a blob that is not hashed here needs its digest")
        if expected is not None and digest != expected:
            raise BuildError(
                f"{expected} was expected, but the content has {digest}",
                hint="the source is damaged or was changed on its way: fetch it again",
            )
        with self._faults:
            os.fsync(self._fd)
            self._close()
            self._blobs.adopt(self._path, digest)
        self._path = ""
        return digest, self._size

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        if self._path:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass  # An interrupt just after the rename of `commit`: the blob is there.
            self._path = ""

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
