"""The compressed forms of a layer by name, each with the encoder that makes it: the same bytes come from one version alone
(SPEC section 5). A small module: a cached build asks which it has, and `compression` takes more."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Form = Literal["gzip", "zstd", "uncompressed"]

ISAL_VERSION = "1.9.1"
ZSTANDARD_VERSION = "0.25.0"
GZIP_FORM = f"gzip-1/isal-{ISAL_VERSION}"
"""Form 1 of gzip with the encoder that made it, as the store names the rendering."""
ZSTD_FORM = f"zstd-1/zstandard-{ZSTANDARD_VERSION}"
NAMES: dict[Form, str] = {"gzip": GZIP_FORM, "zstd": ZSTD_FORM, "uncompressed": "uncompressed"}
"""As the store names the renderings."""
VERSIONS = f"isal {ISAL_VERSION}, zstandard {ZSTANDARD_VERSION}"
"""The pinned compressors, for people."""


class Forms(NamedTuple):
    """What outputs and caches will ask for."""

    shipped: frozenset[Form] = frozenset()
    """Of the layers that ship."""
    others: frozenset[Form] = frozenset()
    """Of the layers that do not."""
    files: bool = False
    """Whether files of layers that ship will be looked for, for which a tar is to be there."""
    threads: int = 1
    """That compress each."""
