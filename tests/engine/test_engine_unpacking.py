"""Which files are archives, and their members."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.engine.selection import Picked
from builder.engine.unpacking import unpacker
from builder.errors import BuildError, Span
from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.source import open_source

SPAN = Span(2, 5, 2, 9)


def a_file(data: bytes, name: bytes = b"name.bin") -> Picked:
    entry = Entry(b"", "file", 0o644, size=len(data), digest=hashlib.sha256(data).hexdigest())
    return Picked(name, (Item(entry, BytesSource(data)),), SPAN)


def a_tar(*names: str, form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            archive.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "two gzip members": lambda data: gzip.compress(data[:700], mtime=0) + gzip.compress(data[700:], mtime=0),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_gives_the_members_and_their_content(tmp_path: Path, compression: str, form: int) -> None:
    names = ("one", "deep/" * 22 + "two", "ü" * 45)
    unpack = unpacker(str(tmp_path), pytest.fail)
    # Two archives of one ADD do not get into each other's way.
    both = [unpack(a_file(COMPRESSIONS[compression](a_tar(*names, form=form)))) for _ in range(2)]
    for members in both:
        assert members is not None
        assert [member.entry.path.decode() for member in members] == list(names)
        contents = [b"".join(open_source(member.source)).decode() for member in members if member.source is not None]
        assert contents == list(names)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("content", [b"", b"text", b"x" * 511, b"y" * 5000, bytes(10240)])
def test_what_holds_no_tar_is_a_file(tmp_path: Path, compression: str, content: bytes) -> None:
    assert unpacker(str(tmp_path), pytest.fail)(a_file(COMPRESSIONS[compression](content))) is None


def test_damage_is_told_with_the_name_and_the_place(tmp_path: Path) -> None:
    tar = a_tar("one", "two")
    for data, message in {
        tar[:514]: "'\\\\xff.tar' is not a tar archive that can be read: it ends too early",
        gzip.compress(tar, mtime=0)[:-4]: "'\\\\xff.tar' is damaged: it ends too early",
        gzip.compress(tar, mtime=0) + b"more": "'\\\\xff.tar' is damaged: something that is not gzip follows its end",
    }.items():
        with pytest.raises(BuildError, match=message) as caught:
            unpacker(str(tmp_path), pytest.fail)(a_file(data, b"\xff.tar"))
        assert caught.value.span == SPAN


def test_an_archive_that_changed_since_it_was_chosen(tmp_path: Path) -> None:
    picked = a_file(a_tar("one"))
    changed = picked._replace(items=(picked.top._replace(source=BytesSource(a_tar("two"))),))
    with pytest.raises(BuildError, match="changed while it was read"):
        unpacker(str(tmp_path), pytest.fail)(changed)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=2000),
    start=st.sampled_from([b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", a_tar("x")[:512]]),
    cut=st.integers(0, 3000),
)
def test_any_bytes_are_a_file_an_archive_or_an_error(tmp_path: Path, data: bytes, start: bytes, cut: int) -> None:
    inner = start + data
    for whole in (inner, inner + a_tar("x"), gzip.compress(inner, mtime=0), lzma.compress(a_tar("y"))[:cut]):
        try:
            members = unpacker(str(tmp_path), lambda _: None)(a_file(whole))
        except BuildError as error:
            assert error.span == SPAN
        else:
            assert members is None or all(isinstance(member, Item) for member in members)
