"""Content digests and descriptors (OCI image-spec, descriptor.md)."""

from __future__ import annotations

from builder.errors import BuildError
from builder.hashing import sha256
from builder.values import NamedTuple

_HEX_LENGTH = {"sha256": 64, "sha512": 128}


class Digest(NamedTuple):
    """`algorithm:hex`, as in ``sha256:9f86...``. Parsed at the edge, trusted afterwards."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises BuildError for an unknown algorithm, a wrong length, or anything but lower-case hex."""
        algorithm, colon, digits = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if not colon or length is None:
            raise BuildError(f"'{text}' is not a digest", hint="a digest looks like sha256:<64 hexadecimal digits>")
        if len(digits) != length or digits.strip("0123456789abcdef"):
            raise BuildError(f"'{text}' is not a digest", hint=f"{algorithm} has {length} lower-case hexadecimal digits")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The sha256 digest of `data`."""
        return cls("sha256", sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]


class Descriptor(NamedTuple):
    """What points at a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: tuple[tuple[str, str], ...] = ()
    platform: tuple[str, str, str] | None = None
    """(os, architecture, variant) where an index names it."""


def chain_id(parent: Digest | None, diff_id: Digest) -> Digest:
    """The identity of a layer on top of a stack (OCI image-spec config.md, "Layer ChainID")."""
    return diff_id if parent is None else Digest.of(f"{parent} {diff_id}".encode())
