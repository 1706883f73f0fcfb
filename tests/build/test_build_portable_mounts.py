"""Cache mounts in a portable cache: there when the user names them, and only then."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.build.build_portable import Report, Room
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild

TYPE = "application/vnd.pybuild.cache.mount.v1.tar+zstd"
FILL = "mkdir -p /c/d; echo data > /c/d/x; ln /c/d/x /c/y; touch -d @1000000000 /c/d/x; chown 5:6 /c/d"
SHOW = "find /c -exec stat -c '%n %a %u %g %F %h' {} + | sort > /out; stat -c %Y /c/d/x >> /out; cat /c/y >> /out; :"
FOUND = """\
/c 755 0 0 directory 3
/c/d 755 5 6 directory 2
/c/d/x 644 0 0 regular file 2
/c/y 644 0 0 regular file 2
1000000000
data
"""


class Mounted(Room):
    def step(self, command: str, *, options: str = "") -> None:
        text = f"FROM base\nRUN --mount=type=cache,id=pkg,target=/c{options} {command}\n"
        (self.context / "Dockerfile").write_text(text)

    def filled(self, *, mounts: str = "mounts=pkg", options: str = "") -> Report:
        self.step(FILL, options=options)
        return self.export(more=f",{mounts}" if mounts else "")

    def shown(self, store: str, *flags: str, options: str = "") -> tuple[str, Report]:
        """What a step sees that no cache knows, in a store of its own."""
        self.step(SHOW, options=options)
        done = self(store, "--cache-from=type=local,src=cache", "-o", "type=tar,dest=out.tar", *flags)
        assert done.code == 0, done.error
        with tarfile.open(self.folder / "out.tar") as archive:
            out = archive.extractfile("out")
            assert out is not None
            return out.read().decode(), done

    def mount_blob(self) -> Path:
        return self.blob(self.config()["mounts"][0]["digest"])


@pytest.fixture
def room(tmp_path: Path, busybox_base: Path, pybuild: Pybuild) -> Mounted:
    return Mounted(tmp_path, busybox_base, pybuild)


def test_a_cache_mount_that_is_named_comes_to_another_store(room: Mounted) -> None:
    room.filled()
    assert [layer["mediaType"] for layer in room.manifest()["layers"]].count(TYPE) == 1
    out, done = room.shown("b")
    assert out == FOUND
    assert done.warnings == []
    assert done.imported == [(0, room.mount_blob().stat().st_size)]
    # The store's own counts from now on.
    room.step("echo more > /c/y")
    room("b")
    out, done = room.shown("b", "--no-cache-filter=stage-0")
    assert out.endswith("\nmore\n")
    assert done.imported == [(0, 0)]


def test_without_its_name_it_stays(room: Mounted) -> None:
    room.filled(mounts="")
    assert "mounts" not in room.config()
    # The step changed no file of the image, so that there is no layer at all.
    assert [layer["mediaType"] for layer in room.manifest()["layers"]] == ["application/vnd.oci.empty.v1+json"]
    assert room.shown("b")[0] == "/c 755 0 0 directory 2\n"


def test_a_cached_step_fetches_no_cache_mount(room: Mounted) -> None:
    room.filled()
    room.mount_blob().unlink()
    done = room.bring("b")
    assert (set(done.statuses.values()), done.warnings) == ({"cached"}, [])
    assert not (room.store / "mounts").exists()


def test_another_owner_is_another_cache(room: Mounted) -> None:
    room.filled(options=",uid=9,mode=0700")
    assert [(each["id"], each["base"]) for each in room.config()["mounts"]] == [("pkg", "0700 9:0")]
    assert room.shown("b")[0] == "/c 755 0 0 directory 2\n"
    assert room.shown("c", options=",uid=9,mode=0700")[0] == FOUND.replace("/c 755 0", "/c 700 9")


@pytest.mark.parametrize("mounts", ["mounts=pkg,other", '"mounts=pkg,other"'])
def test_several_and_such_as_are_not_there(room: Mounted, mounts: str) -> None:
    (room.context / "Dockerfile").write_text(
        f"FROM base\nRUN --mount=type=cache,id=pkg,target=/c --mount=type=cache,id=other,target=/o {FILL}\n"
    )
    room.export(more=f",{mounts}")
    assert [each["id"] for each in room.config()["mounts"]] == ["other", "pkg"]
    done = room.export(more=",mounts=pgk")
    assert done.warnings == ["CacheExport: there is no cache mount 'pgk' to write to the cache (did you mean 'pkg'?)"]
    assert "mounts" not in room.config()


def test_a_name_that_no_archive_can_hold(room: Mounted) -> None:
    (room.context / "Dockerfile").write_text("FROM base\nRUN --mount=type=cache,id=pkg,target=/c : > /c/.wh.x\n")
    message = "the cache mount 'pkg' cannot be written to a cache: '.wh.x' cannot be in a layer"
    done = room("a", "--cache-to=type=local,dest=cache,mounts=pkg")
    assert (done.code, done.error.startswith(message)) == (1, True)
    done = room("a", "--cache-to=type=local,dest=cache,mounts=pkg,ignore-error=true")
    assert (done.code, [line.startswith(f"CacheExport: {message}") for line in done.warnings]) == (0, [True])


def tar_of(name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, target
        if target:
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo(name))
    return zstandard.compress(out.getvalue())


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize(
    ("change", "honest", "reason"),
    [
        (flip, False, "is corrupt"),
        (lambda data: data[:-1], False, "is truncated"),
        (flip, True, "is damaged"),
        (lambda data: b"no archive", True, "is not a tar archive that can be read"),
        (lambda data: tar_of("../../../../tmp/evil"), True, "leads out of it"),
        (lambda data: tar_of("link/evil", kind=tarfile.SYMTYPE, target="/tmp"), True, "link"),
        (lambda data: tar_of("link/evil", kind=tarfile.LNKTYPE, target="/etc/shadow"), True, "names no earlier entry"),
    ],
)
def test_what_is_damaged_or_hostile_is_not_used(
    room: Mounted, change: Callable[[bytes], bytes], honest: bool, reason: str
) -> None:
    room.filled()
    path = room.mount_blob()
    data = change(path.read_bytes())
    if honest:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        old = f"sha256:{path.name}"

        def manifest(value: Any) -> None:
            next(layer for layer in value["layers"] if layer["digest"] == old).update(digest=digest, size=len(data))

        room.blob(digest).write_bytes(data)
        room.change(manifest=manifest, config=lambda value: value["mounts"][0].update(digest=digest))
    else:
        path.write_bytes(data)
    out, done = room.shown("b")
    assert len(done.warnings) == 1
    assert done.warnings[0].startswith("CacheImport: the cache local cache is not used: cache mount 'pkg': ")
    assert reason in done.warnings[0]
    assert out == "/c 755 0 0 directory 2\n"
    assert_valid(room.store)
    assert not Path("/tmp/evil").exists()


def test_a_cache_mount_in_use_is_waited_for(room: Mounted, pybuild: Pybuild) -> None:
    room.filled(mounts="")
    other = room.folder / "other"
    other.mkdir()
    mount = "--mount=type=cache,id=pkg,target=/c"
    (other / "Dockerfile").write_text(f"FROM base\nRUN {mount} echo begun; sleep 1; echo late > /c/late\n")
    pybuild.store = room.folder / "store-a"
    with pybuild.start("--progress=plain", "--build-context", f"base={room.base}", other, cwd=room.folder) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).endswith(b" begun\n"):
            assert line, "it ended too early"
        done = room("a", "--debug", "--cache-to=type=local,dest=cache,mounts=pkg")
        assert process.wait(timeout=60) == 0
        process.stderr.close()
    assert done.code == 0
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(room.mount_blob().read_bytes())
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert "late" in archive.getnames()
        assert archive.getmember("d/x").mtime == 1000000000
    assert os.listdir(room.store / "tmp") == []
