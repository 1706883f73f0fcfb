"""The compressed forms of a layer by name, each with the encoder that makes it: the same bytes come from one version alone
(SPEC section 5). A small module: a cached build asks which it has, and `compression` takes more."""

from __future__ import annotations

ISAL_VERSION = "1.9.1"
ZSTANDARD_VERSION = "0.25.0"
GZIP_FORM = f"gzip-1/isal-{ISAL_VERSION}"
"""Form 1 of gzip with the encoder that made it, as the store names the rendering."""
ZSTD_FORM = f"zstd-1/zstandard-{ZSTANDARD_VERSION}"
VERSIONS = f"isal {ISAL_VERSION}, zstandard {ZSTANDARD_VERSION}"
"""The pinned compressors, for people."""
