"""Layers that other tools make, pulled from a registry: the tree is what `umoci unpack` gives, or the test says why not."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import zstandard

from builder.engine.pulling import pull
from builder.engine.roots import Roots
from builder.errors import RegistryError
from builder.layers import tarreader
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import MANIFEST_TYPE
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.registry.access import RegistryAccess
from builder.registry.auth import bytes_body
from builder.registry.client import Client
from builder.store.store import Store
from tests.conftest import Pybuild
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import RegistryServer

LAYER = "application/vnd.oci.image.layer.v1.tar"
WHEN = 1_500_000_000
END = bytes(1024)


class Layer(NamedTuple):
    tar: bytes
    blob: bytes = b""
    """The tar as it is in the registry; empty for the tar itself."""
    kind: str = LAYER


class Seen(NamedTuple):
    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    content: str
    rdev: int
    xattrs: tuple[tuple[str, bytes], ...]
    links: tuple[str, ...]
    """All names of the same file."""


def entry(
    name: str | bytes,
    data: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    form: Literal[1, 2] = tarfile.PAX_FORMAT,
    **more: object,
) -> bytes:
    """One member, headers and all; `pax` are records."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type, info.size, info.mtime, info.mode, info.uid, info.gid = kind, len(data), WHEN, 0o640, 7, 8
    for key, value in more.items():
        setattr(info, {"link": "linkname", "pax": "pax_headers"}.get(key, key), value)
    return info.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def folder(name: str, mode: int = 0o750, pax: Mapping[str, str] | None = None) -> bytes:
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, pax=dict(pax or {}))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return entry(name, kind=kind, link=target)


def layer(*entries: bytes) -> Layer:
    return Layer(b"".join(entries) + END)


def packed(layer: Layer, blob: bytes, kind: str) -> Layer:
    return layer._replace(blob=blob, kind=f"{LAYER}+{kind}")


def put(registry: RegistryServer, path: str, layers: Sequence[Layer], diff_ids: Sequence[str] = ()) -> str:
    """The image in the registry, byte for byte as it is given; its name."""
    name = f"{registry.host}/{path}:1"
    ids = list(diff_ids) or [str(Digest.of(each.tar)) for each in layers]
    rootfs = {"type": "layers", "diff_ids": ids}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    with Client(RegistryAccess()) as client:
        repository = client.repository(Reference.parse(name))

        def put(data: bytes, kind: str) -> dict[str, object]:
            descriptor = Descriptor(kind, Digest.of(data), len(data))
            repository.upload(descriptor, bytes_body(data))
            return {"mediaType": kind, "digest": str(descriptor.digest), "size": len(data)}

        described = [put(each.blob or each.tar, each.kind) for each in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": put(config, "application/vnd.oci.image.config.v1+json"),
            "layers": described,
        }
        repository.put_manifest("1", json.dumps(manifest).encode(), MANIFEST_TYPE)
    return name


def umoci(place: Path, tars: Sequence[bytes], kind: str = LAYER) -> Path:
    """The root that umoci unpacks of the same tars, or of blobs of another kind."""
    from tests.layers.test_layers_umoci import layout

    plain = [gzip.decompress(tar) if kind.endswith("gzip") else tar for tar in tars]
    layout(place / "image", plain)
    if kind != LAYER:
        index = json.loads((place / "image/index.json").read_bytes())
        blobs = place / "image/blobs/sha256"
        manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
        for described, data in zip(manifest["layers"], tars, strict=True):
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            described |= {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}
        data = json.dumps(manifest).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(data)}
        (place / "image/index.json").write_text(json.dumps(index))
    # Parents that a layer leaves out come with the umask of umoci.
    ran = subprocess.run(
        ["umoci", "unpack", "--image", "image:test", "bundle"], cwd=place, capture_output=True, text=True, umask=0o022
    )
    assert ran.returncode == 0, ran.stderr
    return place / "bundle" / "rootfs"


def look(root: Path) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    inodes: dict[int, list[str]] = {}
    paths = [os.path.join(top, name) for top, folders, files in os.walk(root) for name in (*folders, *files)]
    for path in sorted(paths):
        inodes.setdefault(os.lstat(path).st_ino, []).append(os.path.relpath(path, root))
    for path in paths:
        at = os.lstat(path)
        content = ""
        if stat.S_ISLNK(at.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(at.st_mode):
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        names = [] if stat.S_ISLNK(at.st_mode) else os.listxattr(path, follow_symlinks=False)
        found[os.path.relpath(path, root)] = Seen(
            stat.filemode(at.st_mode)[0],
            stat.S_IMODE(at.st_mode),
            (at.st_uid, at.st_gid),
            at.st_mtime_ns,
            content,
            at.st_rdev,
            tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
            tuple(inodes[at.st_ino]),
        )
    return found


def pulled(pybuild: Pybuild, name: str, place: Path) -> dict[str, Seen]:
    """The tree of an image of a registry, as it is written out."""
    done(pybuild, "pull", name)
    done(pybuild, "-o", f"type=local,dest={place / 'out'}", context(place / "context", f"FROM {name}\n"))
    return look(place / "out")


def differences(ours: Mapping[str, Seen], theirs: Mapping[str, Seen], untimed: Sequence[str] = ()) -> list[str]:
    """What differs; of `untimed` nobody gave a time."""
    out = []
    for path in sorted({*ours, *theirs}):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            out.append(f"{path}: {'umoci' if one is None else 'pybuild'} alone has it")
            continue
        for field, mine, his in zip(Seen._fields, one, other, strict=True):
            if mine != his and not (field == "mtime" and path in untimed):
                out.append(f"{path}: {field} is {mine!r}, of umoci {his!r}")
    return out


def sparse(place: Path, *flags: str) -> bytes:
    """A member as GNU tar writes a file with holes."""
    place.mkdir()
    with open(place / "sparse", "wb") as file:
        for at in (0, 1 << 20, 3 << 20):
            file.seek(at)
            file.write(b"data at %d" % at)
        file.truncate(5 << 20)
    os.utime(place / "sparse", (WHEN, WHEN))
    os.chown(place / "sparse", 7, 8)
    name = "sparse-" + "".join(flags).replace("--", "-").replace("=", "-")
    flags = (*flags, "-S", "--hole-detection=raw", f"--transform=s,^,{name}/,", "-b1")
    made = subprocess.run(["tar", "-c", *flags, "sparse"], cwd=place, capture_output=True, check=True).stdout
    return made.rstrip(b"\0") + bytes(-len(made.rstrip(b"\0")) % 512)


FORMS = (
    folder("names"),
    entry("./names/dot"),
    entry("/names/absolute"),
    entry("names//doubled///slash"),
    entry(b"names/not-\xff\xfe-text", form=tarfile.GNU_FORMAT),
    entry("names/" + "long/" * 40 + "é" * 60, b"x"),
    entry("names/" + "g" * 200, b"x", form=tarfile.GNU_FORMAT),
    link("names/far", "../" * 40 + "x" * 90),
    folder("times"),
    entry("times/before-1970", pax={"mtime": "-1000.5"}),
    entry("times/far", mtime=2**33, form=tarfile.GNU_FORMAT),
    entry("times/nano", pax={"mtime": "1500000000.123456789", "atime": "1.5", "ctime": "2.5"}),
    folder("xattrs", pax={"SCHILY.xattr.user.folder": "f"}),
    entry("xattrs/user", pax={"SCHILY.xattr.user.name": "value", "SCHILY.xattr.user.other": "é"}),
    folder("devices"),
    entry("devices/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("devices/loop", kind=tarfile.BLKTYPE, devmajor=7, devminor=300),
    entry("devices/fifo", kind=tarfile.FIFOTYPE),
    folder("modes", 0o1777),
    entry("modes/setuid", b"s", mode=0o4755),
    entry("modes/none", mode=0),
    entry("owners/large", uid=2**31, gid=2**32 - 2, form=tarfile.GNU_FORMAT),
    entry("implied/parents/file"),
)


def test_forms(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """What headers can say: names, times, attributes, devices, sparse files of every version, global headers."""
    versions = [("--format=gnu",), *(("--format=posix", f"--sparse-version={number}") for number in ("0.0", "0.1", "1.0"))]
    holes = [sparse(tmp_path / f"sparse{number}", *flags) for number, flags in enumerate(versions)]
    info = tarfile.TarInfo()
    general = info.create_pax_global_header({"comment": "0123456789abcdef"})
    one = layer(general, *FORMS, *holes)
    ours = pulled(pybuild, put(registry, "umoci/forms", [one]), tmp_path)
    # umoci refuses global headers and GNU's old sparse files, which Docker and containerd take: it gets the same plainly.
    whole = (tmp_path / "sparse0/sparse").read_bytes()
    plain = entry("sparse--format-gnu/sparse", whole, mode=0o644, form=tarfile.GNU_FORMAT)
    theirs = look(umoci(tmp_path, [layer(*FORMS, plain, *holes[1:]).tar]))
    # "names" gets a folder that the tar leaves out: making it, umoci moves the time of the one above.
    given = ("times", "xattrs", "devices", "modes")
    implied = [path for path, seen in ours.items() if seen.kind == "d" and path not in given]
    assert differences(ours, theirs, implied) == []
    assert {ours[path].content for path in ours if path.startswith("sparse-") and ours[path].kind == "-"} == {
        hashlib.sha256(whole).hexdigest()
    }


def test_layers_upon_layers(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """Parents left out, whiteouts, opaque folders, duplicates, writes through links, hard links across layers, empty layers and
    one layer twice."""
    below = layer(
        folder("plain", 0o711),
        entry("plain/file", b"1"),
        entry("plain/gone", b"2"),
        folder("opaque"),
        entry("opaque/old", b"3"),
        folder("opaque/sub"),
        entry("opaque/sub/old", b"4"),
        folder("usr"),
        folder("usr/bin"),
        link("bin", "usr/bin"),
        link("absolute", "/usr/bin"),
        entry("twice", b"first"),
        entry("twice", b"second", mode=0o600),
        entry("owner", b"shared"),
        link("same", "owner", tarfile.LNKTYPE),
        folder("kind"),
        entry("kind/file"),
        entry("becomes-folder"),
        link("dangling", "nowhere"),
        entry("other-link", b"kept"),
    )
    empty = layer()
    above = layer(
        entry("plain/.wh.gone"),
        entry("opaque/.wh..wh..opq"),
        entry("opaque/new", b"5"),
        # Its folder is a link of the layer below.
        entry("bin/sh", b"6"),
        entry("absolute/ls", b"7"),
        link("linked", "owner", tarfile.LNKTYPE),
        entry("plain/added", b"8"),
        entry(".wh.kind"),
        entry("kind", b"a file now"),
        folder("becomes-folder", 0o700),
        entry("becomes-folder/inside", b"9"),
        entry("dangling", b"a file in the place of a link"),
        entry("other-link", b"a copy"),
    )
    layers = [below, empty, above, above]
    ours = pulled(pybuild, put(registry, "umoci/layers", layers), tmp_path)
    theirs = look(umoci(tmp_path, [each.tar for each in layers]))
    # umoci has one folder, where a link of one layer to a file of another is one. Layers that are folders of their own, mounted
    # by overlay, cannot show that: the link is a file with the same content, and what is written to one is not in the other.
    apart = {path: ours[path]._replace(links=theirs[path].links) for path in ("owner", "same", "linked")}
    assert [ours[path].links for path in sorted(apart)] == [("linked",), ("owner", "same"), ("owner", "same")]
    assert differences({**ours, **apart}, theirs, [path for path, seen in theirs.items() if seen.kind == "d"]) == []


def test_compressions(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """Members, frames and padding, which stand for one tar each; umoci 0.4 reads no zstd, and gets the tars."""
    layers = [layer(entry(f"file-{number}", b"%d" % number * 3000)) for number in range(6)]
    first, second, third, fourth, fifth, sixth = layers
    half = len(first.tar) // 2
    level = zstandard.ZstdCompressor(level=3)
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 9) + b"any bytes"
    # zstd:chunked ends in a skippable frame with a table of contents (containers/storage, "pkg/chunked").
    chunked = level.compress(third.tar[:1024]) + level.compress(third.tar[1024:]) + skipped.replace(b"\x50", b"\x5f", 1)
    forms = [
        packed(first, gzip.compress(first.tar[:half], mtime=0) + gzip.compress(first.tar[half:], mtime=0), "gzip"),
        packed(second, gzip.compress(second.tar, mtime=0) + bytes(512), "gzip"),
        packed(third, chunked, "zstd"),
        packed(fourth, skipped + level.compress(fourth.tar), "zstd"),
        # What it is counts, and not what it is called.
        fifth._replace(kind=f"{LAYER}+gzip"),
        packed(sixth, gzip.compress(sixth.tar, 9, mtime=0), "zstd"),
    ]
    name = put(registry, "umoci/compressions", forms)
    assert differences(pulled(pybuild, name, tmp_path), look(umoci(tmp_path, [each.tar for each in layers]))) == []


def test_attributes_that_would_fool_overlay(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """umoci sets them all, and a mount of its folder takes orders from the image: here they are left out."""
    hostile = {
        f"SCHILY.xattr.{space}.overlay.{what}": "y"
        for space in ("trusted", "user")
        for what in ("opaque", "redirect", "metacopy")
    }
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
    one = layer(
        folder("d", pax=hostile),
        entry("d/f", b"1", pax={**hostile, "SCHILY.xattr.user.kept": "1"}),
        entry("d/c", b"2", pax={"SCHILY.xattr.security.capability": capability}),
    )
    ours = pulled(pybuild, put(registry, "umoci/overlay", [one]), tmp_path)
    assert ours["d"].xattrs == ()
    assert ours["d/f"].xattrs == (("user.kept", b"1"),)
    assert [name for name, _ in ours["d/c"].xattrs] == ["security.capability"]


@pytest.mark.parametrize(
    ("what", "made", "message"),
    [
        ("up", lambda: layer(entry("../up")), "'../up' leads out of it"),
        ("zero", lambda: layer(entry("z", kind=tarfile.CHRTYPE)), "is a character device 0:0, which stands for a removed file"),
        ("name", lambda: layer(entry("n" * 256)), "a name is longer than 255 bytes"),
        ("path", lambda: layer(entry("/".join(["p" * 200] * 21))), "a path is longer than 4096 bytes"),
        ("pax", lambda: layer(entry("x", pax={"comment": "c" * (2 << 20)})), "an extended header is too big"),
        ("below", lambda: layer(entry(".wh.gone/f")), "lies below a removed file"),
        ("cycle", lambda: layer(link("a", "b"), link("b", "a"), entry("a/f")), "a"),
        ("short", lambda: Layer(entry("f", b"x" * 600)[:700]), "it ends too early"),
    ],
)
def test_what_is_refused(
    pybuild: Pybuild, registry: RegistryServer, what: str, made: Callable[[], Layer], message: str
) -> None:
    said = refused(pybuild, "pull", put(registry, f"refused/{what}", [made()]))
    assert message in said
    assert done(pybuild, "images", "-q").stdout == ""


def test_the_limit_of_entries(registry: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for fewer than ten million."""
    monkeypatch.setattr(tarreader, "MAX_ENTRIES", 100)
    name = put(registry, "refused/entries", [layer(*(entry(f"f{number}") for number in range(101)))])
    with Store(str(tmp_path / "store")) as store, pytest.raises(RegistryError, match="it has more than 100 entries"):
        pull(Reference.parse(name), RegistryAccess(), store, Roots(store), Platform("linux", "amd64"), lambda _: None)
