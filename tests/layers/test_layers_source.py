"""Reading content: whole, in pieces, and never through a link."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.layers.entry import BytesSource, FileSource, RangeSource, Source, SparseSource
from builder.layers.source import CHUNK, Sources, open_source


def whole(source: Source) -> bytes:
    return b"".join(open_source(source))


def test_each_kind_of_source(tmp_path: Path) -> None:
    body = os.urandom(2 * CHUNK + 7)
    path = tmp_path / "a" / "b"
    path.parent.mkdir()
    path.write_bytes(body)
    sources: list[tuple[Source, bytes]] = [
        (FileSource(str(tmp_path), b"a/b"), body),
        (FileSource(str(path.parent), b"b"), body),
        (RangeSource(str(path), 5, CHUNK + 1), body[5 : CHUNK + 6]),
        (RangeSource(str(path), 0, 0), b""),
        (BytesSource(body), body),
        (BytesSource(b""), b""),
        (SparseSource(str(path), 10, ()), bytes(10)),
        (SparseSource(str(path), 10, ((0, 3, 2), (4, 100, 6))), body[3:5] + bytes(2) + body[100:106]),
        (
            SparseSource(str(path), 3 * CHUNK, ((CHUNK + 1, 0, CHUNK),)),
            bytes(CHUNK + 1) + body[:CHUNK] + bytes(CHUNK - 1),
        ),
    ]
    with Sources() as shared:
        for source, expected in sources:
            chunks = list(open_source(source))
            assert b"".join(chunks) == expected
            assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
            assert b"".join(shared.chunks(source)) == expected
            assert shared.small(source, len(expected)) == expected
            # One byte more than expected is enough to see that it is too long.
            if expected:
                assert shared.small(source, len(expected) - 1) == expected
            assert shared.small(source, len(expected) + 9) == expected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a secret beside it, and every kind of link that leads there."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_text("fine")
    (root / "last").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "inside").symlink_to("dir/file")
    (root / "folder").symlink_to("dir")
    (root / "up").symlink_to("..")
    (root / "magic").symlink_to("/proc/self/root")
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize(
    "path",
    [
        b"last",
        b"absolute",
        b"inside",
        b"folder/file",
        b"up/secret",
        b"magic/etc/passwd",
        b"dir",
        b"fifo",
        b"gone",
        b"gone/x",
        b"dir/file/x",
    ],
)
def test_nothing_but_a_regular_file_below_the_root_is_read(tree: Path, path: bytes) -> None:
    with pytest.raises(BuildError) as caught:
        whole(FileSource(str(tree), path))
    assert caught.value.message == f"'{path.decode()}' changed while it was read"
    assert caught.value.hint == "build again when nothing else writes to it"


@pytest.mark.parametrize(
    "path", [b"../secret", b"dir/../../secret", b"/etc/passwd", b"", b".", b"..", b"dir//file", b"./dir/file"]
)
def test_paths_that_are_not_canonical_are_a_mistake_of_the_caller(tree: Path, path: bytes) -> None:
    with pytest.raises(ValueError, match="not canonical"):
        whole(FileSource(str(tree), path))


def test_a_folder_that_became_a_link_between_two_reads(tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    with Sources() as sources:
        assert sources.small(FileSource(str(tree), b"dir/file"), 4) == b"fine"
        (tree / "dir").rename(tree / "moved")
        (tree / "dir").symlink_to(outside)
        # The folder that was opened is still the one that is read.
        assert sources.small(FileSource(str(tree), b"dir/file"), 4) == b"fine"
        with pytest.raises(BuildError, match="changed"):
            sources.small(FileSource(str(tree), b"last"), 4)
    with pytest.raises(BuildError, match="changed"):
        whole(FileSource(str(tree), b"dir/file"))


def test_a_range_beyond_the_end(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    with pytest.raises(BuildError, match="f' is shorter than it was"):
        whole(RangeSource(str(tmp_path / "f"), 3, 5))
    with Sources() as sources, pytest.raises(BuildError, match="f' is shorter than it was"):
        sources.small(RangeSource(str(tmp_path / "f"), 3, 5), 5)


def test_deep_paths_and_many_roots_need_few_descriptors(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 200)
    os.makedirs(tmp_path / deep)
    sources: list[tuple[Source, str]] = []
    for number in range(60):
        root = tmp_path / str(number)
        (root / "x").mkdir(parents=True)
        (root / "x" / "f").write_text(str(number))
        (root / "archive").write_text(str(number))
        sources.append((FileSource(str(root), b"x/f"), str(number)))
        sources.append((RangeSource(str(root / "archive"), 0, len(str(number))), str(number)))
    (tmp_path / deep / "f").write_text("deep")
    sources.append((FileSource(str(tmp_path), deep.encode() + b"/f"), "deep"))
    before = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 60, hard))
    try:
        with Sources() as shared:
            for source, text in sources * 2:
                assert shared.small(source, len(text)) == text.encode()
                assert b"".join(shared.chunks(source)) == text.encode()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("x")
    os.chmod(tmp_path / "closed", 0)
    os.chmod(tmp_path, 0o711)
    script = (
        "import os, sys\n"
        "from builder.errors import BuildError\n"
        "from builder.layers.entry import FileSource\n"
        "from builder.layers.source import open_source\n"
        "root = os.open(sys.argv[1], os.O_PATH)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    list(open_source(FileSource(f'/proc/self/fd/{root}', b'closed')))\n"
        "except BuildError as error:\n"
        "    print(error.message)\n"
    )
    repository = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=repository, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("'closed' cannot be read: permission denied\n", "")


def test_closing_early_closes_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * CHUNK))
    before = len(os.listdir("/proc/self/fd"))
    chunks = open_source(FileSource(str(tmp_path), b"f"))
    assert len(next(chunks)) == CHUNK
    chunks.close()
    assert len(os.listdir("/proc/self/fd")) == before
