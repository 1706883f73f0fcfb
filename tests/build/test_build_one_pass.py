"""A COPY of much is read once: the layer is written, and compressed for an output that asks for it, while the content's digest
is made. What comes of it must be what the long way makes, and nothing may stay of what the cache had already."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.build import build
from builder.context.directory import DirectoryContext
from builder.errors import BuildError
from builder.layers.entry import FileSource
from builder.request import Request
from builder.store.store import Store
from tests.build.build_cached import statuses
from tests.build.build_shipped import refused, run_build, ship
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild
from tests.context.test_context_hints import a_file_system, disk, mounted, old_enough, opened

COUNT = 900
"""More files than are read twice, and than one process reads."""
COPY = "COPY --chown=7:8 tree /t/"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    tree = folder / "tree"
    for number in range(COUNT):
        path = tree / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number * 40 % 3000))
    os.link(tree / "d0" / "f0", tree / "d1" / "linked")
    (tree / "d2" / "link").symlink_to("f2")
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "d3" / "f3").chmod(0o750)
    return folder


def archive(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str) -> bytes:
    out = context.parent / "out.tar"
    run_build(pybuild, context, dockerfile, "-o", f"type=oci,dest={out}", *flags)
    return out.read_bytes()


def members(data: bytes) -> dict[str, bytes]:
    """What is in an archive, and in the layers that are in it, by name: of a difference this says more than the bytes do."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is None:
                continue
            content = file.read()
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
                with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                    found |= {f"{each.name} in a layer": repr(each.get_info()).encode() for each in layer}
            found[member.name] = content
    return found


def assert_same(one: bytes, other: bytes) -> None:
    if one != other:
        a, b = members(one), members(other)
        differing = {
            name: (a.get(name, b"")[:300], b.get(name, b"")[:300]) for name in a.keys() | b.keys() if a.get(name) != b.get(name)
        }
        pytest.fail(f"these differ: {differing}")


def another(pybuild: Pybuild, tmp_path: Path, name: str) -> Pybuild:
    return Pybuild(tmp_path / name, pybuild._home)


def test_the_short_way_and_the_long_one_give_the_same_bytes(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    text = f"FROM base\n{COPY}\n"
    base = ("--build-context", f"base={busybox_base}")
    short = archive(pybuild, context, text, *base)
    # Steps first, the output later: the tar is compressed from the store.
    later = another(pybuild, tmp_path, "later")
    run_build(later, context, text, *base, "-t", "x")
    assert_same(archive(later, context, text, *base), short)
    # A later RUN looks into the layer, which is a folder then.
    folder = another(pybuild, tmp_path, "folder")
    run_build(folder, context, f"{text}RUN cat /t/d1/linked > /dev/null\n", *base)
    assert_same(archive(folder, context, text, *base), short)
    # ADD takes the long way always, and unpacks nothing here.
    added = another(pybuild, tmp_path, "added")
    assert ship(added, context, text.replace("COPY", "ADD"), *base) == ship(pybuild, context, text, *base)
    for one in (pybuild, later, folder):
        assert_valid(one.store)


def test_a_command_finds_what_was_copied(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """The folder is made of what the tar was made of; nothing is told but by what lies there."""
    told = (
        "cd /t && find . | sort | xargs stat -c '%n %F %a %u:%g %h' > /stat && find . -type f | sort | xargs sha256sum > /sums"
    )
    text = f"FROM base\n{COPY}\nRUN {told}\n"
    base = ("--build-context", f"base={busybox_base}")
    run_build(pybuild, context, text, *base, "-o", tmp_path / "one")
    # The same, of a layer that was a tar first.
    other = another(pybuild, tmp_path, "other")
    run_build(other, context, f"FROM base\n{COPY}\n", *base)
    run_build(other, context, text, *base, "-o", tmp_path / "two")
    stat, sums = ((tmp_path / "one" / name).read_text() for name in ("stat", "sums"))
    assert (stat, sums) == tuple((tmp_path / "two" / name).read_text() for name in ("stat", "sums"))
    files = {path for path in (context / "tree").rglob("*") if path.is_file() and not path.is_symlink()}
    expected = {f"./{path.relative_to(context / 'tree')}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert {name: digest for digest, name in (line.split() for line in sums.splitlines())} == expected
    assert len(files) == COUNT + 2 and stat.count(" 7:8 ") == len(stat.splitlines())
    assert "./d3/f3 regular file 750 7:8 1\n" in stat and "./d1/linked regular empty file 644 7:8 2\n" in stat


def test_each_way_makes_the_same_keys(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """What is written before it was read, what is read first, and the same files in an archive, in which a link is one."""

    def key(one: Pybuild, text: str, context: str | Path, stdin: bytes | None = None) -> str:
        metadata = tmp_path / "metadata"
        done = (
            one("-f", "-", context, "--metadata-file", metadata, stdin=text.encode())
            if stdin is None
            else one("-", "--metadata-file", metadata, stdin=stdin)
        )
        assert done.returncode == 0, done.stderr
        _, copy, *_ = json.loads(metadata.read_text())["pybuild.steps"]
        return str(copy["key"])

    text = f"FROM scratch\n{COPY}\n"
    short = key(pybuild, text, context)
    (context / "bin").mkdir()
    (context / "bin" / "busybox").write_bytes((busybox_base / "bin" / "busybox").read_bytes())
    (context / "bin" / "busybox").chmod(0o755)
    looks = f'{text}COPY bin /bin\nRUN ["/bin/busybox", "true"]\n'
    assert key(another(pybuild, tmp_path, "folder"), looks, context) == short
    (context / "Dockerfile").write_text(text)
    archive = tmp_path / "context.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(context, ".")
    assert key(another(pybuild, tmp_path, "archive"), text, "-", archive.read_bytes()) == short


def test_images_for_several_platforms_are_written_in_one_pass(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    """Each ships its own layers, and some are the same."""
    text = f"FROM base\nARG TARGETARCH\n{COPY}\nCOPY tree /$TARGETARCH/\n"
    flags = ("--build-context", f"base={busybox_base}", "--platform=linux/amd64,linux/arm64")
    short = archive(pybuild, context, text, *flags)
    later = another(pybuild, tmp_path, "later")
    for platform in ("linux/amd64", "linux/arm64"):
        run_build(later, context, text, *flags[:2], f"--platform={platform}", "-t", platform[6:])
    assert archive(later, context, text, *flags) == short
    assert_valid(pybuild.store)


def test_one_thread_and_many_compress_to_the_same_bytes(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    text = f"FROM base\n{COPY}\nRUN yes pybuild | head -c 9000000 > /made\n"
    base = ("--build-context", f"base={busybox_base}")
    one = archive(pybuild, context, text, *base, "--jobs=1")
    assert archive(another(pybuild, tmp_path, "many"), context, text, *base, "--jobs=7") == one


def test_what_the_cache_has_is_written_again_to_nowhere(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    write = f"FROM base\n{COPY}\n"
    (context / "Dockerfile").write_text(write)
    assert statuses(pybuild, context, busybox_base)[COPY] == "done"
    before = {path for path in pybuild.store.rglob("*") if path.is_file() and "blobs" in path.parts}
    # Another folder with the same content: all is read, and nothing is new.
    other = tmp_path / "other"
    os.rename(context, other)
    for path in sorted(other.rglob("*")):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))
    assert statuses(pybuild, other, busybox_base)[COPY] == "cached"
    assert {path for path in pybuild.store.rglob("*") if path.is_file() and "blobs" in path.parts} == before
    assert_valid(pybuild.store)


def test_without_the_cache_the_same_comes_of_it(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = f"FROM base\n{COPY}\n"
    base = ("--build-context", f"base={busybox_base}")
    first = archive(pybuild, context, text, *base)
    assert archive(pybuild, context, text, *base, "--no-cache") == first
    (context / "tree" / "d4" / "f4").write_text("changed")
    assert archive(pybuild, context, text, *base) != first


def test_what_the_cache_has_needs_no_room(pybuild: Pybuild, tmp_path: Path) -> None:
    """The layer is written before anybody knows whether it is wanted; where there is no room for that, it was not."""
    text = "FROM scratch\nCOPY big /big\n"
    data = os.urandom(10 << 20)
    for name in ("one", "two"):
        (tmp_path / name / "big").mkdir(parents=True)
        (tmp_path / name / "big" / "file").write_bytes(data)
    (tmp_path / "small").mkdir()
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m,mode=755", "small"):
        small = Pybuild(tmp_path / "small" / "store", pybuild._home)
        run_build(small, tmp_path / "one", text)
        (tmp_path / "two" / "Dockerfile").write_text(text)
        done = small("--progress=plain", tmp_path / "two")
        assert done.returncode == 0, done.stderr
        assert "0 ran, 1 cached" in done.stderr
        with open(tmp_path / "two" / "big" / "file", "ab") as file:
            file.write(b"more")
        assert "no space left in the store" in refused(small, tmp_path / "two", text, code=7)
        assert_valid(small.store)


def test_a_file_that_changes_between_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file that a COPY takes under two names has one content, or the layer under the key would not be what the key says."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_bytes(bytes(9 << 20))
    (context / "link").symlink_to("file")
    with Store(str(tmp_path / "store")) as store:
        contexts: list[DirectoryContext] = []
        opened = DirectoryContext.opened

        def changing(self: DirectoryContext, source: FileSource, file: int, info: os.stat_result) -> None:
            """At the second read another content is there, of the same size."""
            opened(self, source, file, info)
            contexts.append(self)
            if len(contexts) == 2:
                with open(context / "file", "r+b") as other:
                    other.write(b"x")

        monkeypatch.setattr(DirectoryContext, "opened", changing)
        request = Request(context=str(context), dockerfile_text=b"FROM scratch\nCOPY file link /to/\n")
        with pytest.raises(BuildError, match="'file' changed while it was read"):
            build(request, store, lambda _: None)
    assert len(contexts) == 2


def test_few_large_files_are_not_read_again(pybuild: Pybuild, tmp_path: Path) -> None:
    a_file_system(tmp_path / "image", megabytes=40)
    with disk(tmp_path / "image", tmp_path / "node") as node, mounted(tmp_path / "disk", node):
        context = tmp_path / "disk" / "context"
        names = {"one", "two"}
        for name in names:
            (context / "big").mkdir(parents=True, exist_ok=True)
            (context / "big" / name).write_bytes(os.urandom(6 << 20))
        old_enough(*(context / "big" / name for name in names))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big/\n")
        seen = []
        for _ in range(2):
            with opened(context / "big") as found:
                done = pybuild(context)
            assert done.returncode == 0, done.stderr
            seen.append(found)
    assert seen == [names, set()]


def test_what_no_image_can_hold_names_its_line_and_leaves_nothing(pybuild: Pybuild, context: Path) -> None:
    (context / "tree" / "d6" / ".wh.x").write_text("")
    said = refused(pybuild, context, "FROM scratch\nCOPY tree /t\n", code=1)
    assert "Dockerfile:2:1: error: 't/d6/.wh.x' cannot be stored in an image" in said
    assert not [path for path in (pybuild.store / "blobs").rglob("*") if path.is_file()]
    assert_valid(pybuild.store)


def test_where_no_thread_is_to_be_had_the_end_comes_soon_and_says_so(context: Path, tmp_path: Path) -> None:
    """It hung: who waits for a thread must know that it runs."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY tree /t\n")
    program = (
        "import resource, sys, threading\n"
        "threading.stack_size(512 << 20)\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (400 << 20),) * 2)\n"
        "from builder.cli.main import main\n"
        "main()\n"
    )
    args: list[str | Path] = ["--root", tmp_path / "store", "-o", f"type=oci,dest={tmp_path}/out.tar", context]
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: the system starts no more threads")
    assert not (tmp_path / "out.tar").exists()


def test_a_hard_link_whose_file_alone_is_known(pybuild: Pybuild, tmp_path: Path) -> None:
    """What an earlier build read is known by its folder: here the folder of the link has another name since, and the file's has
    not."""
    context = tmp_path / "linked"
    for number in range(300):
        (context / "many").mkdir(parents=True, exist_ok=True)
        (context / f"many/{number}").write_text(str(number))
    for name in ("first", "second"):
        (context / name).mkdir()
    (context / "first/file").write_text("linked")
    os.link(context / "first/file", context / "second/link")
    old_enough(context / "first/file", context / "many/299")
    text = "FROM scratch\nCOPY . /all/\n"
    run_build(pybuild, context, text)
    for name in ("second", "many"):
        (context / name).rename(context / f"other-{name}")
    new = another(pybuild, tmp_path, "new")
    assert ship(pybuild, context, text) == ship(new, context, text)
