"""The same image, unpacked by umoci and by us: the same tree; and our own layers as umoci sees them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers.entry import EPOCH, FileSource, Item, Source
from builder.layers.index import Tree
from builder.layers.order import sort_items
from builder.layers.scan import scan
from builder.layers.settle import fill, settle
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer
from tests.layers.layers_overlay import Seen, Stack, look, seen
from tests.layers.layers_trees import trees


class Member(NamedTuple):
    """One member of a foreign layer. `what` is the content of a file, the target of a link."""

    kind: str
    path: str
    what: str = ""


TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "whiteout": tarfile.REGTYPE,
    "opaque": tarfile.REGTYPE,
}


def pack(layer: Sequence[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in layer:
            folder, slash, name = member.path.rpartition("/")
            info = tarfile.TarInfo(member.path)
            if member.kind == "whiteout":
                info.name = f"{folder}{slash}.wh.{name}"
            elif member.kind == "opaque":
                info.name = f"{member.path}/.wh..wh..opq" if member.path else ".wh..wh..opq"
            info.type = TYPES[member.kind]
            info.mtime = 1_500_000_000
            # Every file has the same, as hard links repeat what they name; folders differ.
            info.mode, info.uid, info.gid = (0o750, 3, 4) if member.kind == "dir" else (0o640, 1, 2)
            data = member.what.encode() if member.kind == "file" else b""
            info.size = len(data)
            if member.kind in ("symlink", "hardlink"):
                info.linkname = member.what
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout(place: Path, layers: Sequence[bytes]) -> None:
    """An OCI image layout with one image, `test` (OCI image-spec image-layout.md)."""
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar", data) for data in layers],
    }
    index = blob("manifest.v1+json", json.dumps(manifest).encode())
    index["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def umoci(place: Path, layers: Sequence[bytes]) -> Path:
    """The root that umoci unpacks."""
    layout(place / "image", layers)
    # Parents that a layer leaves out come with the umask of umoci.
    subprocess.run(
        ["umoci", "unpack", "--image", "image:test", "bundle"], cwd=place, check=True, capture_output=True, umask=0o022
    )
    return place / "bundle" / "rootfs"


def put(stack: Stack, layer: bytes) -> None:
    archive = stack.place / f"{len(stack.folders)}.tar"
    archive.write_bytes(layer)
    settled = settle(read_tar(str(archive), whiteouts=True), stack.tree)
    paths = [(item.entry.kind == "opaque", item.entry.path) for item in settled.items]
    assert len(set(paths)) == len(paths)
    assert settled.items == sort_items(settled.items)
    stack.add(*fill(settled.items, partial(lower, stack)))


def lower(stack: Stack, path: bytes) -> Source:
    return FileSource(stack.folders[stack.tree.layer_of(path)], path)


def comparable(layer: Sequence[Member], tree: Tree) -> list[Member]:
    """Without what is known to differ: deletions in folders that are not there (Docker and we make those folders, umoci does
    not)."""
    out: list[Member] = []
    gone: list[bytes] = []
    for member in layer:
        if member.kind in ("whiteout", "opaque"):
            parent, _, name = member.path.rpartition("/")
            folder = tree.resolve((member.path if member.kind == "opaque" else parent).encode())
            known = tree.lookup(folder)
            if known is None or known.kind != "dir" or any((folder + b"/").startswith(other) for other in gone):
                continue
            gone.append(folder if member.kind == "opaque" else b"/".join(filter(None, (folder, name.encode()))))
        out.append(member)
    return out


def same(place: Path, layers: Sequence[Sequence[Member]]) -> dict[bytes, Seen]:
    """What umoci, our tree and a mount of our folders all show."""
    stack = Stack(place)
    packed = []
    for layer in layers:
        packed.append(pack(comparable(layer, stack.tree)))
        put(stack, packed[-1])
    with stack.mounted() as merged:
        shown = look(merged)
    assert shown == seen(stack.tree.walk(b""))
    assert shown == look(umoci(place, packed))
    return shown


NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, PATHS.map("/{}".format), PATHS.map("../{}".format), st.just("/"), st.just(".."))
DELETIONS = st.lists(st.builds(Member, st.sampled_from(["whiteout", "opaque"]), PATHS), max_size=2)
MEMBERS = st.lists(
    st.one_of(
        st.builds(Member, st.just("file"), PATHS, st.sampled_from(["1", "22", ""])),
        st.builds(Member, st.just("dir"), PATHS),
        st.builds(Member, st.just("symlink"), PATHS, TARGETS),
        st.builds(Member, st.just("hardlink"), PATHS, PATHS),
        st.builds(Member, st.just("fifo"), PATHS),
    ),
    max_size=6,
)
# Deletions first, as the specification asks for: where they come later, umoci and Docker differ (see test_layers_settle).
LAYERS = st.builds(lambda deletions, members: [*deletions, *members], DELETIONS, MEMBERS)


@settings(max_examples=80, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_foreign_layers(tmp_path_factory: pytest.TempPathFactory, layers: list[list[Member]]) -> None:
    place = tmp_path_factory.mktemp("foreign")
    try:
        same(place, layers)
    except BuildError:
        # No folder, or no file, where the archive wants one.
        reject()
    finally:
        shutil.rmtree(place)


@settings(max_examples=40, deadline=None)
@given(trees())
def test_our_layers(tmp_path_factory: pytest.TempPathFactory, items: list[Item]) -> None:
    place = tmp_path_factory.mktemp("ours")
    out = io.BytesIO()
    written = write_layer(items, out.write)
    found = scan(str(umoci(place, [out.getvalue()])), owners="keep")
    entries = write_layer([item for item in found if item.entry.path], None).entries
    # Times are the constant one. An empty value is none to Go: a PAX record without one deletes (POSIX pax, "Extended Header").
    assert list(entries) == [
        entry._replace(mtime=EPOCH * 10**9, xattrs=tuple((name, value) for name, value in entry.xattrs if value))
        for entry in written.entries
    ]


@pytest.mark.parametrize(
    "steps",
    [
        ["mkdir d; echo 1 > d/f; ln d/f d/g; ln -s f d/l", "rm -r d; mkdir d; touch d/new", "mv d e"],
        [
            "mkdir -p d/e; touch d/e/f d/x; echo 1 > f",
            "rm -r d; echo file > d; rm f; mkdir f; touch f/y",
            "rm d; ln -s f d; touch d/z",
        ],
        [
            "mkdir -p a/b/c; touch a/b/c/d; chmod 700 a/b",
            "rm -r a/b; mkdir -p a/b/c; chown 5:6 a/b/c",
            "rmdir a/b/c; chmod 711 .",
        ],
    ],
)
def test_our_steps(tmp_path: Path, steps: list[str]) -> None:
    """What steps left, written as layers and unpacked by umoci, is what their last one saw."""
    stack = Stack(tmp_path)
    layers = []
    for script in steps:
        with stack.step() as root:
            subprocess.run(["sh", "-euc", f"umask 022; {script}"], cwd=root, check=True)
        out = io.BytesIO()
        write_layer(stack.commit().items, out.write)
        layers.append(out.getvalue())
    unpacked = umoci(tmp_path, layers)
    assert look(unpacked) == stack.left
    known = stack.tree.lookup(b"")
    assert known is not None
    assert stat.S_IMODE(unpacked.stat().st_mode) == known.mode
