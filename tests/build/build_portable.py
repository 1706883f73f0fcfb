"""A room for tests of the portable cache: a context, builds of it in several stores, and a cache that tests change by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from tests.conftest import Pybuild

DOCKERFILE = """\
FROM base AS make
COPY tree /tree/
RUN cat /tree/* > /made; mkdir -p /deep/er; : > /deep/er/file; ln /made /linked; rm -r /tree
FROM base
WORKDIR /work
COPY --from=make /made /made
COPY --link --chown=7:8 tree/a /opt/a
ADD a.tar.gz /unpacked/
RUN cat /made /opt/a > all; test -e /unpacked/x/y; rm /etc/group; : > /tmp/.hidden
RUN true
"""


@dataclasses.dataclass
class Report:
    """What a build said."""

    code: int
    image: str
    statuses: dict[str, str]
    warnings: list[str]
    imported: list[tuple[int, int]]
    """Steps and bytes, for each --cache-from."""
    exports: list[dict[str, Any]]
    error: str
    transfers: list[tuple[str, int]]
    """What was moved, and how many bytes in all."""
    sources: dict[str, str]
    """Of each step that came from another cache, which."""


class Room:
    """A context, a base, and builds of it in stores of their own."""

    def __init__(self, folder: Path, base: Path, pybuild: Pybuild) -> None:
        self.folder = folder
        self.base = base
        self.cache = folder / "cache"
        self._pybuild = pybuild
        self.context = folder / "context"
        (self.context / "tree").mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        (self.context / "tree" / "a").write_text("a\n")
        (self.context / "tree" / "b").write_text("b\n" * 1000)
        with tarfile.open(self.context / "a.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo("x/y")
            member.size = 2
            archive.addfile(member, io.BytesIO(b"y\n"))

    def __call__(self, store: str, *flags: str, env: dict[str, str] | None = None) -> Report:
        """Build with the store of that name."""
        self._pybuild.store = self.folder / f"store-{store}"
        base = f"--build-context=base={self.base}"
        done = self._pybuild("--progress=json", base, *flags, self.context, cwd=self.folder, env=env)
        events = [json.loads(line) for line in done.stderr.splitlines()]

        def of(kind: str) -> list[dict[str, Any]]:
            return [event for event in events if event["type"] == kind]

        return Report(
            done.returncode,
            "".join(event["image_id"] for event in of("build.finished")),
            {e["name"].partition("] ")[2]: e["status"] for e in sorted(of("step.finished"), key=lambda e: int(e["step"]))},
            [f"{event['code']}: {event['message']}" for event in of("warning")],
            [(event["steps"], event["size"]) for event in of("cache.imported")],
            of("export.finished"),
            "".join(event["error"]["message"] for event in of("build.failed")),
            [(event["what"], event["total"]) for event in of("transfer") if event["done"] == event["total"]],
            {
                event["name"].partition("] ")[2]: reason["text"]
                for event in of("step.explained")
                for reason in event["reasons"]
                if reason["kind"] == "imported"
            },
        )

    @property
    def store(self) -> Path:
        """Of the last build."""
        return self._pybuild.store

    def export(self, *, mode: str = "max", more: str = "") -> Report:
        done = self("a", "--cache-to", f"type=local,dest=cache,mode={mode}{more}")
        assert done.code == 0, done.error
        return done

    def bring(self, store: str) -> Report:
        return self(store, "--cache-from", "type=local,src=cache")

    # The layout, to be changed by hand.

    def blob(self, digest: str) -> Path:
        return self.cache / "blobs" / digest.replace(":", "/")

    def index(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.cache / "index.json").read_text())
        return value

    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.blob(self.index()["manifests"][0]["digest"]).read_text())
        return value

    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.blob(self.manifest()["config"]["digest"]).read_text())
        return value

    def add(self, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def change(
        self, *, manifest: Callable[[Any], object] = lambda _: None, config: Callable[[Any], object] | None = None
    ) -> None:
        """Change the documents; their digests are made right again."""
        value = self.manifest()
        if config is not None:
            inner = self.config()
            config(inner)
            value["config"] |= self.add(json.dumps(inner).encode())
        manifest(value)
        index = self.index()
        index["manifests"][0] |= self.add(json.dumps(value).encode())
        (self.cache / "index.json").write_text(json.dumps(index))

    def replace_layer(self, number: int, tar: bytes, *, lie: bool = False) -> None:
        """Another layer in the place of one, for all records that name it; `lie`: under the old diff ID."""
        new = self.add(zstandard.compress(tar))
        old_id = self.config()["layers"][number]
        new_id = old_id if lie else f"sha256:{hashlib.sha256(tar).hexdigest()}"

        def config(value: Any) -> None:
            value["layers"][number] = new_id
            for record in value["records"]:
                if record["diff_id"] == old_id:
                    record["diff_id"] = new_id

        self.change(manifest=lambda value: value["layers"][number].update(new), config=config)
