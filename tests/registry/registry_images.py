"""Images made by hand as OCI layouts, and taken to a registry by skopeo."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Files = Mapping[str, bytes]


def tar_of(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o755
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def layout(
    folder: Path,
    layers: Sequence[Files],
    *,
    cmd: Sequence[str] = (),
    architecture: str = "amd64",
    onbuild: Sequence[str] = (),
) -> Path:
    """An OCI layout of one image; its tag is `latest`."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    tars = [tar_of(files) for files in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": ({"Cmd": list(cmd)} if cmd else {}) | ({"OnBuild": list(onbuild)} if onbuild else {}),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(tar, 1, mtime=0), "layer.v1.tar+gzip") for tar in tars],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return folder


def skopeo(*args: str | Path) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def push(folder: Path, name: str, *more: str) -> None:
    """Take a layout to a registry without TLS; `name` is `host/repository:tag`."""
    skopeo("copy", "-q", "--dest-tls-verify=false", *more, f"oci:{folder}:latest", f"docker://{name}")
