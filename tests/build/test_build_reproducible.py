"""The same inputs give the same bytes (SPEC sections 1 and 5): each circumstance is varied for real, and shown to be varied."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), Path("/missing"))

DOCKERFILE = """\
FROM base AS build
WORKDIR /src
COPY . .
RUN sort names/* > all && mkdir -p out/deep && cp all out/deep/ && ln all out/hard && ln -s ../all out/soft \
 && chown 12:34 out/deep/all && chmod 4755 out/hard && mkfifo out/pipe && rm names/b && date > /dev/null
FROM base
ARG GREETING=hello
ENV GREETING=$GREETING
ADD things.tar /things/
COPY --from=build --chown=nobody /src/out /out
COPY --chmod=750 names /names
RUN echo $GREETING > /greeting && touch /empty && mkdir /made && rm -rf /things/gone && umask > /umask && env > /env
LABEL b=2 a=1
EXPOSE 80
CMD ["cat", "/greeting"]
"""


def make_context(folder: Path, *, reverse: bool = False, mtime: int = 1_700_000_000) -> Path:
    """The same content each time; the order of creation and the times as asked for."""
    folder.mkdir(parents=True)
    names = ["a", "b", "c", "d", "e"]
    (folder / "names").mkdir()
    for name in reversed(names) if reverse else names:
        (folder / "names" / name).write_text(f"{name} is a name\n")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    with tarfile.open(folder / "things.tar", "w") as tar:
        for name in ("kept", "gone/x"):
            info = tarfile.TarInfo(name)
            info.mtime, info.uid = 1_234_567_890, 7
            tar.addfile(info)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (mtime, mtime))
    return folder


class Built:
    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        metadata = json.loads((folder / "metadata.json").read_text())
        self.manifest = metadata["containerimage.digest"]
        self.config = metadata["containerimage.config.digest"]
        self.archive = hashlib.sha256((folder / "image.tar").read_bytes()).hexdigest()
        self.stderr = done.stderr

    def same(self, other: Built) -> bool:
        return (self.manifest, self.config, self.archive) == (other.manifest, other.config, other.archive)


def build(
    pybuild: Pybuild,
    context: Path,
    base: Path,
    folder: Path,
    *flags: str,
    store: Path | None = None,
    env: Mapping[str, str] | None = None,
    wrap: Sequence[str] = (),
) -> Built:
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *wrap, *pybuild.command, "--progress=plain", "-t", "same", "--build-context", f"base={base}",
        "-o", f"type=oci,dest={folder}/image.tar", "--metadata-file", f"{folder}/metadata.json", *flags, str(context),
    ]  # fmt: skip
    environment = pybuild.environment({"PYBUILD_ROOT": str(store or folder / "store"), **(env or {})})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return Built(folder, done)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, busybox_base: Path) -> Built:
    folder = tmp_path_factory.mktemp("reference")
    return build(Pybuild(folder / "store", folder), make_context(folder / "context"), busybox_base, folder)


def test_fresh_cached_and_partly_cached_agree(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = make_context(tmp_path / "context")
    fresh = build(pybuild, context, busybox_base, tmp_path)
    cached = build(pybuild, context, busybox_base, tmp_path)
    assert "CACHED" not in fresh.stderr.replace("FROM base\n#1 CACHED", "")
    assert "0 ran" in cached.stderr
    # Another greeting ran its own last steps into this store; then the first again without the cache, and half of it.
    build(pybuild, context, busybox_base, tmp_path, "--build-arg", "GREETING=other")
    anew = build(pybuild, context, busybox_base, tmp_path, "--no-cache")
    assert "0 cached" in anew.stderr
    again = build(pybuild, context, busybox_base, tmp_path)
    assert "0 ran" in again.stderr
    # A store that knows the steps of another greeting alone does the rest.
    other = tmp_path / "other"
    build(pybuild, context, busybox_base, tmp_path, "--build-arg", "GREETING=other", store=other)
    partly = build(pybuild, context, busybox_base, tmp_path, store=other)
    assert " 0 ran" not in partly.stderr
    assert " 0 cached" not in partly.stderr
    for built in (fresh, cached, anew, again, partly):
        assert built.same(reference)


def test_another_folder_store_time_zone_umask_and_number_of_jobs(
    reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = make_context(tmp_path / "another" / "place" / "ctx")
    assert time.strftime("%z", time.gmtime()) != subprocess.check_output(
        ["date", "+%z"], env={"TZ": "Asia/Kathmandu", "PATH": os.defpath}, text=True
    )
    built = build(
        pybuild, context, busybox_base, tmp_path, "--jobs=7",
        env={"TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "HOSTNAME": "other", "RANDOM_NOISE": "1"},
        wrap=["sh", "-c", 'umask 077; test "$(umask)" = 0077 && exec "$@"', "sh"],
    )  # fmt: skip
    assert built.same(reference)


def test_another_host_name(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    wrap = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; test "$(hostname)" = elsewhere && exec "$@"', "sh"]
    built = build(pybuild, make_context(tmp_path / "context"), busybox_base, tmp_path, wrap=wrap)
    assert built.same(reference)


def test_another_day(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    assert FAKETIME.exists(), "Debian's faketime is missing"
    env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "@2031-05-06 07:08:09", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    year = subprocess.check_output(["date", "+%Y"], env={**env, "PATH": os.defpath}, text=True).strip()
    assert year == "2031"
    built = build(pybuild, make_context(tmp_path / "context"), busybox_base, tmp_path, env=env)
    assert built.same(reference)


@pytest.mark.parametrize("mtime", [0, -1_000_000_000, 4_102_444_800], ids=["epoch", "1938", "2100"])
def test_other_times_in_the_context(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path, mtime: int) -> None:
    context = make_context(tmp_path / "context", mtime=mtime)
    assert (context / "names" / "a").stat().st_mtime == mtime
    assert build(pybuild, context, busybox_base, tmp_path).same(reference)


def test_another_order_of_inodes(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """tmpfs lists the newest name first; ext4 lists by a hash: the two orders differ, and differ from the sorted one."""
    mount = tmp_path / "tmpfs"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], check=True)
    try:
        one = make_context(mount / "one" / "context")
        two = make_context(mount / "two" / "context", reverse=True)
        assert os.listdir(one / "names") == list(reversed(os.listdir(two / "names")))
        base = mount / "base"
        shutil.copytree(busybox_base, base, symlinks=True)
        assert os.listdir(base / "bin") != os.listdir(busybox_base / "bin")
        first = build(pybuild, one, base, mount / "out1")
        second = build(pybuild, two, base, mount / "out2")
        assert first.same(reference)
        assert second.same(reference)
    finally:
        subprocess.run(["umount", mount], check=True)


def test_default_acls_of_the_store(reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    # acl(5) in xattr form: version 2; user::rwx, user:1234:rwx, group::rwx, mask::rwx, other::---
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 1234), (4, 7, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(store, "system.posix_acl_default", acl)
    probe = store / "probe"
    probe.mkdir()
    assert "system.posix_acl_default" in os.listxattr(probe)
    probe.rmdir()
    built = build(pybuild, make_context(tmp_path / "context"), busybox_base, tmp_path, store=store)
    assert built.same(reference)


def test_source_date_epoch_moves_the_image_and_no_layer(
    reference: Built, pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = make_context(tmp_path / "context")
    by_environment = build(pybuild, context, busybox_base, tmp_path, env={"SOURCE_DATE_EPOCH": "1000000000"})
    by_flag = build(pybuild, context, busybox_base, tmp_path, "--source-date-epoch=1000000000")
    by_arg = build(pybuild, context, busybox_base, tmp_path, "--build-arg=SOURCE_DATE_EPOCH=1000000000")
    assert by_environment.config == by_flag.config == by_arg.config != reference.config
    assert "0 ran" in by_flag.stderr
    inspected = json.loads(pybuild("inspect", "same", env={"PYBUILD_ROOT": str(tmp_path / "store")}).stdout)[0]
    assert inspected["Created"] == "2001-09-09T01:46:40Z"
