"""Compressed forms against the real gzip, bzip2, xz and zstd, and damaged input of every kind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers import forms
from builder.layers.compression import GzipStream, ShortBlock, ZstdStream, decompress, gzip_file, is_tar, sniff, zstd_file
from tests.conftest import ROOT

MIB = 1 << 20
TOOLS = {"gzip": ["gzip"], "bzip2": ["bzip2"], "xz": ["xz", "-1"], "zstd": ["zstd"]}


def text(size: int) -> bytes:
    """Bytes that compress about as a file system does."""
    source = random.Random(7)
    words = [source.randbytes(source.randrange(2, 12)) for _ in range(500)]
    out = b"".join(source.choices(words, k=size // 6 + 1))
    return (out * (size // max(1, len(out)) + 1))[:size]


def tool(name: str, data: bytes, *more: str) -> bytes:
    return subprocess.run([*TOOLS[name], *more, "-c"], input=data, capture_output=True, check=True).stdout


def unpacked(folder: Path, data: bytes, limit: int | None = None) -> bytes:
    path = folder / "packed"
    path.write_bytes(data)
    out = io.BytesIO()
    decompress(str(path), out.write, limit=limit)
    return out.getvalue()


def gzipped(path: Path, threads: int) -> bytes:
    out = io.BytesIO()
    gzip_file(str(path), out.write, threads=threads)
    return out.getvalue()


def zstded(path: Path, threads: int, level: int = 3) -> bytes:
    out = io.BytesIO()
    zstd_file(str(path), out.write, threads=threads, level=level)
    return out.getvalue()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 12345])
def test_gzip_form_1(tmp_path: Path, size: int) -> None:
    data = text(size)
    path = tmp_path / "layer"
    path.write_bytes(data)
    one = gzipped(path, 1)
    assert gzipped(path, 2) == gzipped(path, 4) == one
    # RFC 1952: no name, no time, unknown system; the trailer is CRC-32 and length.
    assert one[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert one[-8:] == struct.pack("<II", zlib.crc32(data), size)
    assert gzip.decompress(one) == data
    assert subprocess.run(["gzip", "-d"], input=one, capture_output=True, check=True).stdout == data
    # One member: nothing is left when its deflate stream ends.
    member = zlib.decompressobj(31)
    assert member.decompress(one) == data
    assert member.eof and not member.unused_data


def test_each_block_of_gzip_form_1_stands_alone(tmp_path: Path) -> None:
    data = text(3 * MIB + 5)
    (tmp_path / "layer").write_bytes(data)
    whole = gzipped(tmp_path / "layer", 2)
    # A full flush ends in an empty stored block; the stream after it decodes without what stood before.
    at = 10
    for start in range(0, len(data), MIB):
        block = zlib.decompressobj(-15)
        assert block.decompress(whole[at:], MIB) == data[start : start + MIB]
        (tmp_path / "block").write_bytes(data[start : start + MIB])
        alone = gzipped(tmp_path / "block", 1)[10:-8]
        if start + MIB < len(data):
            at = whole.index(b"\x00\x00\xff\xff", at) + 4
            while zlib.decompressobj(-15).decompress(whole[at:], 1) != data[start + MIB : start + MIB + 1]:
                at = whole.index(b"\x00\x00\xff\xff", at) + 4
        else:
            assert whole[at:-8] == alone


def test_the_gzip_of_nothing_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    # A final block of fixed Huffman codes with only its end: bits 1, 01, 0000000 (RFC 1951, 3.2.3 and 3.2.6).
    assert gzipped(tmp_path / "empty", 1).hex() == "1f8b08000000000000ff" + "0300" + "0000000000000000"


@pytest.mark.parametrize("size", [0, 1, MIB, 9 * MIB + 17])
@pytest.mark.parametrize("level", [1, 3])
def test_zstd_form_1(tmp_path: Path, size: int, level: int) -> None:
    data = text(size)
    path = tmp_path / "layer"
    path.write_bytes(data)
    one = zstded(path, 1, level)
    assert zstded(path, 2, level) == zstded(path, 4, level) == one
    assert subprocess.run(["zstd", "-d"], input=one, capture_output=True, check=True).stdout == data
    frame = zstandard.get_frame_parameters(one)
    assert (frame.content_size, frame.has_checksum) == (size, True)


@pytest.mark.parametrize("size", [0, 1, 300_000, MIB, 9 * MIB + 17])
@pytest.mark.parametrize("seed", range(3))
def test_zstd_form_1_of_pieces_is_that_of_the_file(tmp_path: Path, size: int, seed: int) -> None:
    data = text(size)
    (tmp_path / "layer").write_bytes(data)
    out = io.BytesIO()
    stream = ZstdStream(out.write, size=size, threads=seed + 1)
    cuts = random.Random(seed)
    at = 0
    while at < size:
        length = cuts.choice([1, 512, 100_000, 3 * MIB])
        stream.add(data[at : at + length])
        at += length
    stream.end()
    stream.close()
    assert out.getvalue() == zstded(tmp_path / "layer", 1)


@pytest.mark.parametrize("data", [b"", b"12345", b"1234567"])
def test_a_zstd_stream_of_another_size_is_an_error(data: bytes) -> None:
    stream = ZstdStream(io.BytesIO().write, size=6)
    with pytest.raises(ShortBlock):
        stream.add(data)
        stream.end()


LIMITED = """
import os, resource, sys
import zstandard
from builder.errors import BuildError
from builder.layers.compression import zstd_file
zstd_file(sys.argv[2], lambda data: None)
os.setgid(12345)
os.setuid(12345)
resource.setrlimit(resource.RLIMIT_NPROC, (int(sys.argv[1]),) * 2)
try:
    zstd_file(sys.argv[2], sys.stdout.buffer.write, threads=4)
except BuildError as error:
    print(error.message, error.hint, file=sys.stderr)
"""


def test_zstd_without_a_thread(tmp_path: Path) -> None:
    """One is enough for the same bytes; where there is none a user is told."""
    data = text(9 * MIB)
    path = tmp_path / "layer"
    path.write_bytes(data)
    path.chmod(0o644)
    with path.open("rb") as file:
        place = f"/proc/self/fd/{file.fileno()}"
        words = [sys.executable, "-c", LIMITED]
        few, none = (
            subprocess.run([*words, limit, place], capture_output=True, pass_fds=(file.fileno(),), cwd=ROOT) for limit in "31"
        )
    assert (few.stdout, few.stderr) == (zstded(path, 4), b"")
    assert none.stdout == b"" and b"zstd cannot compress: " in none.stderr and b"ulimit -u" in none.stderr


def test_a_zstd_stream_that_is_closed_holds_no_thread() -> None:
    before = len(os.listdir("/proc/self/task"))
    stream = ZstdStream(io.BytesIO().write, size=20 * MIB, threads=4)
    stream.add(bytes(9 * MIB))
    assert len(os.listdir("/proc/self/task")) > before
    stream.close()
    assert len(os.listdir("/proc/self/task")) == before


def test_the_pinned_versions_are_those_installed() -> None:
    import isal

    assert f"isal {isal.__version__}, zstandard {zstandard.__version__}" == forms.VERSIONS
    assert f"gzip-1/isal-{isal.__version__}" == forms.GZIP_FORM
    assert f"zstd-1/zstandard-{zstandard.__version__}" == forms.ZSTD_FORM


def test_a_compressor_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import isal

    (tmp_path / "layer").write_bytes(b"x")
    monkeypatch.setattr(isal, "__version__", "9.9")
    monkeypatch.setattr(zstandard, "__version__", "9.9")
    with pytest.raises(BuildError, match=r"isal 9\.9 is installed"):
        gzipped(tmp_path / "layer", 1)
    with pytest.raises(BuildError, match=r"zstandard 9\.9 is installed"):
        zstded(tmp_path / "layer", 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failing_writer_ends_the_compression(tmp_path: Path, threads: int) -> None:
    (tmp_path / "layer").write_bytes(bytes(20 * MIB))
    calls = 0

    def full(data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        gzip_file(str(tmp_path / "layer"), full, threads=threads)
    assert calls == 4


@pytest.mark.parametrize("name", sorted(TOOLS))
@pytest.mark.parametrize("size", [0, 1, 70000, 3 * MIB])
def test_what_the_tools_made(tmp_path: Path, name: str, size: int) -> None:
    data = text(size)
    packed = tool(name, data)
    assert sniff(packed[:6]) == name
    assert unpacked(tmp_path, packed) == data
    # Concatenated members, streams and frames are one content.
    assert unpacked(tmp_path, packed + packed + tool(name, b"end")) == data + data + b"end"


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    packed = tool(name, os.urandom(300) + bytes(MIB))
    for length in range(6, len(packed)):
        with pytest.raises(BuildError, match="packed' is damaged: "):
            unpacked(tmp_path, packed[:length])


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_garbage_at_the_end(tmp_path: Path, name: str) -> None:
    packed = tool(name, b"data", *(["--check"] if name == "zstd" else []))
    for tail in (b"garbage", b"\x1f", packed[:2], packed[:5], packed[:-1]):
        with pytest.raises(BuildError, match="packed' is damaged: "):
            unpacked(tmp_path, packed + tail)


def test_padding_at_the_end(tmp_path: Path) -> None:
    assert unpacked(tmp_path, tool("gzip", b"data") + bytes(1000)) == b"data"
    assert unpacked(tmp_path, tool("gzip", b"data") + bytes(200_000)) == b"data"
    assert unpacked(tmp_path, tool("xz", b"data") + bytes(8) + tool("xz", b"more") + bytes(4)) == b"datamore"
    for bad in (tool("gzip", b"data") + bytes(512) + tool("gzip", b"x"), tool("xz", b"data") + bytes(6)):
        with pytest.raises(BuildError, match="is damaged"):
            unpacked(tmp_path, bad)


def test_a_plain_file_is_copied(tmp_path: Path) -> None:
    assert unpacked(tmp_path, b"") == b""
    assert unpacked(tmp_path, b"plain" * 100_000) == b"plain" * 100_000


@pytest.mark.parametrize("name", [*sorted(TOOLS), ""])
def test_limit(tmp_path: Path, name: str) -> None:
    data = bytes(5 * MIB)
    packed = tool(name, data) if name else data
    assert unpacked(tmp_path, packed, limit=len(data)) == data
    with pytest.raises(BuildError, match=f"packed' unpacks to more than {len(data) - 1} bytes"):
        unpacked(tmp_path, packed, limit=len(data) - 1)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_bomb_is_cut_off_in_bounded_pieces(tmp_path: Path, name: str) -> None:
    pieces = []
    (tmp_path / "bomb").write_bytes(tool(name, bytes(40 * MIB)))
    with pytest.raises(BuildError, match="more than"):
        decompress(str(tmp_path / "bomb"), lambda data: pieces.append(len(data)), limit=10 * MIB)
    assert max(pieces) <= MIB
    assert 9 * MIB <= sum(pieces) <= 10 * MIB


def test_a_zstd_window_over_the_limit_is_refused(tmp_path: Path) -> None:
    # A frame header (RFC 8878) whose window descriptor asks for 2**31 bytes, then an empty last block.
    with pytest.raises(BuildError, match="is damaged"):
        unpacked(tmp_path, b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00")
    assert unpacked(tmp_path, b"\x28\xb5\x2f\xfd\x00" + bytes([17 << 3]) + b"\x01\x00\x00") == b""


def test_zstd_skippable_frames(tmp_path: Path) -> None:
    skip = b"\x50\x2a\x4d\x18" + struct.pack("<I", 100_000) + bytes(100_000)
    assert sniff(skip[:6]) == "zstd"
    assert unpacked(tmp_path, skip + tool("zstd", b"a") + skip + tool("zstd", b"b")) == b"ab"
    with pytest.raises(BuildError, match="ends too early"):
        unpacked(tmp_path, skip[:-1])


def test_zstd_without_size_or_checksum_and_with_long_windows(tmp_path: Path) -> None:
    data = text(4 * MIB)
    for options in (["--no-check"], ["--long=27", "--content-size"], ["-12", "--single-thread"], ["--fast=5"]):
        assert unpacked(tmp_path, tool("zstd", data, *options)) == data


_SAMPLE = b"a sample " * 30 + bytes(500)
_PACKED = {
    "gzip": gzip.compress(_SAMPLE, mtime=0),
    "bzip2": bz2.compress(_SAMPLE),
    "xz": lzma.compress(_SAMPLE),
    "zstd": zstandard.compress(_SAMPLE),
}


@pytest.mark.parametrize("name", sorted(_PACKED))
@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(1, 255), tail=st.binary(max_size=20))
def test_damaged_bytes_end_in_a_build_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, byte: int, tail: bytes
) -> None:
    packed = bytearray(_PACKED[name])
    packed[at % len(packed)] ^= byte
    folder = tmp_path_factory.getbasetemp()
    try:
        unpacked(folder, bytes(packed) + tail, limit=MIB)
    except BuildError as error:
        assert "packed' is damaged" in error.message or "unpacks to more" in error.message


@settings(max_examples=150, deadline=None)
@given(magic=st.sampled_from([packed[:6] for packed in _PACKED.values()]), rest=st.binary(max_size=200))
def test_any_bytes_end_in_a_build_error(tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    try:
        unpacked(tmp_path_factory.getbasetemp(), magic + rest, limit=MIB)
    except BuildError as error:
        assert "packed' is damaged" in error.message or "unpacks to more" in error.message


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_is_tar(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("ä" * 45))
    head = out.getvalue()[:512]
    assert is_tar(head)
    assert not is_tar(head[:511])
    for at in (0, 100, 149, 156, 500):
        assert not is_tar(head[:at] + bytes([head[at] ^ 1]) + head[at + 1 :])
    assert not is_tar(bytes(1024))
    assert not is_tar(b"#!/bin/sh\n" * 60)


def test_is_tar_takes_signed_checksums() -> None:
    header = bytearray(512)
    header[:3] = b"\xff\xfea"
    # Old tars summed signed characters: -1 - 2 + 97, and 256 for the spaces.
    header[148:156] = b"%06o\0 " % (256 + 94)
    assert is_tar(bytes(header))


@given(sizes=st.lists(st.integers(0, MIB + 5), max_size=6), threads=st.integers(1, 3), exact=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_stream_gives_what_a_file_gives(
    sizes: list[int], threads: int, exact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    if exact:
        content = content[: len(content) // MIB * MIB]
    path = tmp_path_factory.getbasetemp() / "stream"
    path.write_bytes(content)
    whole, pieces = io.BytesIO(), io.BytesIO()
    gzip_file(str(path), whole.write, threads=2)
    at = 0
    with GzipStream(pieces.write, threads=threads) as stream:
        for size in [*sizes, len(content)]:
            stream.add(content[at : at + size])
            at += size
    assert pieces.getvalue() == whole.getvalue()
    assert gzip.decompress(pieces.getvalue()) == content
