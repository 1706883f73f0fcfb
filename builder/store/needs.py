"""What images need: the layers that their configs name.

A config that cannot be read says nothing of that: then nobody can tell what to remove, and that is an error.
"""

from __future__ import annotations

import hashlib
import os

from builder.errors import BuildError, StoreError
from builder.oci.digest import chain_id
from builder.oci.image import parse_config
from builder.store.files import read_file
from builder.store.layers import foreign_index

CONFIG_LIMIT = 16 << 20


class Images:
    """What images need: of all that have a row, or of the configs that are given. Configs are read once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._layers: dict[str, tuple[tuple[str, str], ...]] = {}

    def layers(self, config: str) -> tuple[tuple[str, str], ...]:
        """Diff ID and name of the foreign index of each layer. Raises StoreError for a config that is missing or damaged."""
        known = self._layers.get(config)
        if known is None:
            known = self._layers[config] = self._read(config)
        return known

    def may_be(self, name: str) -> bool:
        """Whether the blob of this name is an image's config, by its looks."""
        if name in self._layers:
            return True
        try:
            with open(self._path(name), "rb") as file:
                begins = file.read(1) == b"{" and os.fstat(file.fileno()).st_size <= CONFIG_LIMIT
            if begins:
                self.layers(name)
        except (FileNotFoundError, NotADirectoryError, StoreError):
            return False
        return begins

    def _read(self, config: str) -> tuple[tuple[str, str], ...]:
        try:
            data = read_file(self._path(config))
            if hashlib.sha256(data).hexdigest() != config.removeprefix("sha256:"):
                raise BuildError("its content does not have this digest")
            diff_ids = parse_config(data).diff_ids
        except (FileNotFoundError, NotADirectoryError, BuildError) as error:
            reason = error.message if isinstance(error, BuildError) else "it is missing"
            raise StoreError(
                f"what the image {config} needs is not known: {reason}",
                hint="nothing is removed meanwhile: build or import it again, or forget it by 'pybuild rmi'",
            ) from error
        found = []
        chain = None
        for diff_id in diff_ids:
            chain = chain_id(chain, diff_id)
            found.append((str(diff_id), str(foreign_index(chain))))
        return tuple(found)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, "blobs", *name.split(":", 1))
