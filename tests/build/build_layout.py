"""An OCI image layout on disk that tests change by hand, its digests made right again or left wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], None]


class Layout:
    """The layout in `folder`, of one image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    def read(self, digest: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.blob(digest).read_bytes())
        return value

    def add(self, data: bytes) -> dict[str, Any]:
        """A new blob; its digest and size, as a descriptor has them."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    @property
    def index(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.folder / "index.json").read_bytes())
        return value

    @property
    def manifest_digest(self) -> str:
        return str(self.index["manifests"][0]["digest"])

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.read(self.manifest_digest)["layers"]]

    def set_manifest(self, data: bytes) -> None:
        """Any bytes as the manifest, under their right digest."""
        index = self.index
        index["manifests"][0] |= self.add(data)
        (self.folder / "index.json").write_text(json.dumps(index))

    def change_manifest(self, change: Change) -> None:
        manifest = self.read(self.manifest_digest)
        change(manifest)
        self.set_manifest(json.dumps(manifest).encode())

    def change_config(self, change: Change) -> None:
        config = self.read(self.read(self.manifest_digest)["config"]["digest"])
        change(config)
        descriptor = self.add(json.dumps(config).encode())
        self.change_manifest(lambda manifest: manifest["config"].update(descriptor))

    def replace_layer(self, data: bytes, *, diff_id: str | None = None) -> str:
        """Other bytes as the topmost layer, under their right digest, which is returned."""
        descriptor = self.add(data)
        self.change_manifest(lambda manifest: manifest["layers"][-1].update(descriptor))
        if diff_id is not None:
            self.change_config(lambda config: config["rootfs"]["diff_ids"].__setitem__(-1, diff_id))
        return str(descriptor["digest"])
