"""Files of a layer's folder that a process beside this one writes: the same folder as without it, and the same errors."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import random
import signal
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildError
from builder.layers import beside, filling
from builder.layers.entry import BytesSource, Entry, Item, RangeSource
from builder.layers.filling_main import Filler
from builder.layers.folder import materialise
from builder.layers.index import Tree
from builder.layers.settle import settle
from builder.layers.tarreader import read_tar
from tests.layers.layers_beside import children, ready

COUNT = 900


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is started for few files, whatever this machine has, and is gone in the end."""
    monkeypatch.setattr(filling, "WORTH", 3)
    monkeypatch.setattr(filling, "_PATIENCE", 1)
    monkeypatch.setattr(beside, "_free", [1])
    before = set(children())
    yield
    assert set(children()) <= before
    assert beside._free == [1]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Of a tar with files of all sizes and owners, links, attributes, and folders that it leaves out."""
    random_ = random.Random(11)
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(COUNT):
            folder = f"d{number // 40:03}"
            if number % 40 == 0 and number % 80:
                made = tarfile.TarInfo(folder)
                made.type, made.mode = tarfile.DIRTYPE, 0o500
                archive.addfile(made)
            member = tarfile.TarInfo(f"{folder}/{'sub/' if number % 5 == 0 else ''}f{number:05}")
            size = random_.choice((0, 1, 511, 4096, 70_000)) if number % 9 else filling.LARGEST + number % 2
            member.size = size if number % 9 or number % 45 == 0 else 10
            member.mode = random_.choice((0o644, 0o4755, 0o2711, 0o000))
            member.uid, member.gid = random_.choice(((0, 0), (1000, 33), (4_000_000, 5)))
            member.mtime = random_.choice((0, 1_700_000_000.25, -5))
            if number % 13 == 0:
                member.pax_headers = {"SCHILY.xattr.user.note": "value"}
            archive.addfile(member, io.BytesIO(random_.randbytes(member.size)))
            if number % 17 == 0:
                for kind, name in ((tarfile.LNKTYPE, "hard"), (tarfile.SYMTYPE, "soft")):
                    link = tarfile.TarInfo(f"{member.name}.{name}")
                    link.type, link.linkname = kind, member.name
                    archive.addfile(link)
    found = settle(read_tar(str(path), whiteouts=True), Tree()).items
    # Of some the digest is known, as it is of a layer of ours.
    return [_summed(item) if number % 2 else item for number, item in enumerate(found)]


def _summed(item: Item) -> Item:
    if not isinstance(item.source, RangeSource):
        return item
    with open(item.source.file, "rb") as file:
        file.seek(item.source.offset)
        return item._replace(entry=item.entry._replace(digest=hashlib.sha256(file.read(item.entry.size)).hexdigest()))


def made(items: list[Item], folder: Path) -> list[tuple[object, ...]]:
    folder.mkdir()
    tied = materialise(items, str(folder), Tree())
    return [(tied,), *told(folder)]


def told(folder: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    inodes: dict[int, str] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        info = path.lstat()
        name = str(path.relative_to(folder))
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        attributes = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False)]
        first = inodes.setdefault(info.st_ino, name)
        rows.append((name, stat.S_IFMT(info.st_mode), info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, first))
        rows.append((content, sorted(attributes)))
    return rows


def alone(items: list[Item], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    with monkeypatch.context() as patched:
        patched.setattr(beside, "_free", [0])
        return made(items, folder)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each request had."""
    found: list[int] = []
    ask = beside.Beside.ask

    def counting(self: beside.Beside, rows: list[object]) -> bool:
        found.append(sum(isinstance(row, tuple) for row in rows))
        return ask(self, rows)

    monkeypatch.setattr(beside.Beside, "ask", counting)
    return found


def test_the_same_folder(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(items, tmp_path / "alone", monkeypatch)
    started, counts = ready(monkeypatch), asked(monkeypatch)
    assert made(items, tmp_path / "both") == expected
    # It had work all the time, and so had this one.
    assert len(started) == 1 and 150 < sum(counts) < 0.9 * COUNT
    assert len(expected) > 2 * COUNT


def test_in_a_folder_whose_name_is_no_ascii(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(items, tmp_path / "alone", monkeypatch)
    ready(monkeypatch)
    counts = asked(monkeypatch)
    assert made(items, tmp_path / "ä\udcff\u20ac") == expected
    assert sum(counts) > 150


@pytest.mark.parametrize("after", [0, 70, 200, 500])
def test_a_process_that_is_killed_is_not_needed(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Also where it had begun a file."""
    expected = alone(items, tmp_path / "alone", monkeypatch)
    started = ready(monkeypatch)
    killed: list[int] = []

    def killing() -> Iterator[Item]:
        for number, item in enumerate(items):
            if started and not killed and number >= after:
                os.kill(started[0], signal.SIGKILL)
                killed.append(number)
            yield item

    folder = tmp_path / "killed"
    folder.mkdir()
    tied = materialise(killing(), str(folder), Tree())
    assert killed and [(tied,), *told(folder)] == expected


def test_one_that_stands_still_amid_a_file(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has begun is removed, and done here."""
    expected = alone(items, tmp_path / "alone", monkeypatch)
    folder = tmp_path / "begun"
    ready(monkeypatch)
    ask, answer = beside.Beside.ask, beside.Beside.answer
    paths: list[bytes] = []

    def asking(self: beside.Beside, rows: list[object]) -> bool:
        paths.extend(row[0] for row in rows if isinstance(row, tuple))
        return ask(self, rows)

    def dies(self: beside.Beside) -> bytes | None:
        """It has done what it was asked, and said so to nobody; of each second file half."""
        answer(self)
        for path in paths[::2]:
            (folder / os.fsdecode(path)).write_bytes(b"half")
        for path in paths[1::4]:
            (folder / os.fsdecode(path)).unlink(missing_ok=True)
        paths.clear()
        return None

    monkeypatch.setattr(beside.Beside, "ask", asking)
    monkeypatch.setattr(beside.Beside, "answer", dies)
    monkeypatch.setattr(filling, "_AHEAD", 1)
    assert made(items, folder) == expected


def test_no_process_to_be_had(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(items, tmp_path / "alone", monkeypatch)

    def refused(*_: object, **__: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refused)
    before = len(os.listdir("/proc/self/fd"))
    assert made(items, tmp_path / "refused") == expected
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("pipe", [4096, 65536])
def test_small_pipes(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: int) -> None:
    expected = alone(items, tmp_path / "alone", monkeypatch)
    ready(monkeypatch)
    counts = asked(monkeypatch)
    monkeypatch.setattr(beside, "_enlarge", lambda fd: fcntl.fcntl(fd, beside._F_SETPIPE_SZ, pipe))
    assert made(items, tmp_path / "both") == expected
    # A pipe that takes not even one request is tried once.
    assert sum(counts) == 64 if pipe == 4096 else sum(counts) > 150


def test_one_that_can_do_nothing_is_not_asked_for_ever(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a capability that it does not inherit: here it has no way to the tar."""
    expected = alone(items, tmp_path / "alone", monkeypatch)
    ready(monkeypatch)
    counts = asked(monkeypatch)
    with open(tmp_path / "layer.tar", "rb") as tar:
        own = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/fd/{tar.fileno()}"
        hidden = [_moved(item, own.replace(str(os.getpid()), "self", 1)) for item in items]
        assert made(hidden, tmp_path / "both") == expected
    assert 0 < sum(counts) <= 64 * 3


def _moved(item: Item, tar: str) -> Item:
    return item._replace(source=item.source._replace(file=tar)) if isinstance(item.source, RangeSource) else item


def test_the_process_follows_no_name(items: list[Item], tmp_path: Path) -> None:
    """What this one would refuse to ask for."""
    folder, away = tmp_path / "made", tmp_path / "away"
    (folder / "d").mkdir(parents=True)
    away.mkdir()
    (away / "file").write_bytes(b"mine")
    (folder / "d" / "link").symlink_to(away)
    (folder / "d" / "name").symlink_to(away / "file")
    (folder / "d" / "there").write_bytes(b"there")
    source = next(item.source for item in items if isinstance(item.source, RangeSource) and item.source.size == 511)
    paths = (b"d/link/x", b"d/name", b"d/there", b"../away/x", b"d/.wh.x", b"d//x", b"/d/x", b"d", b"none/x", b"d/right", b"")
    asked_for = [(path, 0o640, 0, 0, 511, "", 0, source.offset) for path in paths]
    answer = Filler(str(folder)).answer([[os.fsencode(source.file)], *asked_for])
    assert [path for path, done in zip(paths, answer, strict=True) if done] == [b"d/right"]
    assert [(path.name, path.read_bytes()) for path in away.iterdir()] == [("file", b"mine")]
    assert sorted(os.listdir(folder / "d")) == ["link", "name", "right", "there"]
    assert (folder / "d" / "there").read_bytes() == b"there" and (folder / "d" / "name").is_symlink()
    # Neither more nor less than it should be, nor another content: nothing of it stays.
    wrong = [(b"d/sum", 0o640, 0, 0, 511, "0" * 64, 0, source.offset), (b"d/short", 0o640, 0, 0, 511, "", 0, 1 << 40)]
    assert Filler(str(folder)).answer([[os.fsencode(source.file)], *wrong]) == bytes(2)
    assert sorted(os.listdir(folder / "d")) == ["link", "name", "right", "there"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "0" * 64}, "changed while it was read"),
        ({"uid": 1 << 32}, "which no file can have"),
        ({"path": b"d001/f00041/inside"}, "is no folder|occurs twice"),
        ({"path": b"d001/" + b"x" * 256}, "is too long"),
        ({"path": b"d001/.wh.x"}, "cannot be in a layer"),
        ({"path": b"d001/../../x"}, "is no path that a layer can have"),
    ],
)
def test_errors_are_the_same(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    place = next(place for place, item in enumerate(items) if item.entry.path == b"d002/f00087")
    items[place] = items[place]._replace(entry=items[place].entry._replace(**change))
    for number, free in enumerate(([0], [1])):
        monkeypatch.setattr(beside, "_free", free)
        if free[0]:
            ready(monkeypatch)
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(BuildError, match=message):
            materialise(items, str(folder), Tree())
    assert not (tmp_path / "x").exists()


def test_a_name_that_is_a_link_leads_nowhere(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an archive that is hostile beyond what `settle` lets through."""
    away = tmp_path / "away"
    away.mkdir()
    evil = Item(Entry(b"d0/evil", "symlink", 0o777, link=os.fsencode(away)), None)
    inside = [Item(Entry(b"d0/evil/f%03d" % n, "file", 0o644, size=3), BytesSource(b"abc")) for n in range(3)]
    (file,) = [item for item in items if item.entry.path == b"d002/f00087"]
    ranges = [Item(file.entry._replace(path=b"d0/evil/g%03d" % n), file.source) for n in range(300)]
    ready(monkeypatch)
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(BuildError, match=r"is no folder|lies in something"):
        materialise([evil, *ranges, *inside], str(folder), Tree())
    assert list(away.iterdir()) == []


def test_its_environment_has_no_secrets(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "very")
    started = ready(monkeypatch)
    seen: list[bytes] = []

    def looking() -> Iterator[Item]:
        for number, item in enumerate(items):
            if started and number == 100:
                seen.append(Path(f"/proc/{started[0]}/environ").read_bytes())
                assert os.getsid(started[0]) == started[0]
            yield item

    folder = tmp_path / "made"
    folder.mkdir()
    materialise(looking(), str(folder), Tree())
    assert len(seen) == 1 and b"very" not in seen[0]
