"""sha256 for what is small, without loading OpenSSL: that takes a third of what starting Python takes, and the path of a cached
build has little else to hash.

Measured (Python 3.11): `import hashlib` 7 ms where bare Python takes 19; Python's own sha256 0.1 ms to load, and 6 ms a MB for
OpenSSL's 0.7. It is the same function either way; `hashlib` has it where Python was built without its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash
    from hashlib import sha256 as _small

    Hash = _Hash
else:
    try:
        from _sha256 import sha256 as _small
    except ImportError:
        try:
            from _sha2 import sha256 as _small  # since 3.12
        except ImportError:
            from hashlib import sha256 as _small

_left = 1 << 19
"""Bytes, of all together, that OpenSSL's sha256 takes as much less time for as it takes to load."""


def sha256(data: bytes) -> Hash:
    """As `hashlib.sha256`, for data that is whole."""
    global _left
    # Where two threads meet here, one of them counts for nothing.
    _left -= len(data)
    return _small(data) if _left >= 0 else hasher("sha256", data)


def hasher(algorithm: str, data: bytes = b"") -> Hash:
    """As `hashlib.new`, for what comes piece by piece, and other algorithms."""
    if algorithm == "sha256":
        try:
            # What `hashlib` gives, without the other functions that it makes ready: 2 ms.
            from _hashlib import openssl_sha256
        except ImportError:
            pass  # Python was built without OpenSSL.
        else:
            return openssl_sha256(data)
    import hashlib

    return hashlib.new(algorithm, data)


def hexdigest(algorithm: str, data: bytes) -> str:
    return (sha256(data) if algorithm == "sha256" else hasher(algorithm, data)).hexdigest()
