"""Parsers of what images hold: any bytes end in an answer, whatever they claim to be."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.verify import configs, elf, explain, formats, members, places, texts, unpack
from builder.verify.shown import first_difference, hex_diff, text_diff


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nBuild-Date: 2020-01-01\r\n")
        archive.writestr("a/b.txt", b"hello " * 50)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x" * 150)
        member.size, member.mtime = 5, 1.5
        archive.addfile(member, io.BytesIO(b"hello"))
    return out.getvalue()


def _elf() -> bytes:
    names = b"\0.text\0.shstrtab\0"
    sections = [(0, 0, 0, 0, 0, 0), (1, 1, 2, 0, 64, 8), (7, 3, 0, 0, 72, len(names))]
    headers = b"".join(struct.pack("<IIQQQQIIQQ", *section, 0, 0, 0, 0) for section in sections)
    table = 72 + len(names)
    start = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return start + b"\x90" * 8 + names + headers


AR = (
    b"!<arch>\n"
    + b"//                                              6         `\nlong/\n"
    + (b"/0              1700000000  0     0     100644  4         `\nabcd")
)
GIT = b"DIRC" + struct.pack(">II", 2, 1) + bytes(40) + bytes(20) + b"\0\1" + b"a" + bytes(9)
SEEDS = {
    "x.gz": gzip.compress(b"hello", mtime=5),
    "x.xz": lzma.compress(b"hello"),
    "x.bz2": bz2.compress(b"hello"),
    "x.jar": _zip(),
    "x.tar": _tar(),
    "x.a": AR,
    "x.so": _elf(),
    "x.pyc": b"\xa7\r\r\n" + bytes(4) + b"\1\2\3\4\5\0\0\0" + b"\xfa\x0a/tmp/ab.py" + b"code",
    ".git/index": GIT,
    "x.db": b"SQLite format 3\0" + bytes(200),
    "etc/shadow": b"root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "var/lib/dpkg/status": b"Package: a\nVersion: 1\nStatus: install\n\nPackage: b\nVersion: 2\n description\n",
    "lib/apk/db/installed": b"P:a\nV:1\nF:bin\nR:x\n\nP:b\nV:2\n",
    "META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\nBuild-Date: today\r\n",
    "a.dist-info/RECORD": b"a/__init__.py,sha256=abc,3\na/__pycache__/x.pyc,,\n",
    "log": b"2026-01-02 03:04:05 began /tmp/pip-abcd1234\n1767323045 at Thu Nov 26 10:47:29 UTC 2026\n",
}


def test_the_seeds_are_what_they_are_meant_to_be() -> None:
    """Else what follows would be random bytes alone."""
    for name in ("x.gz", "x.xz", "x.bz2"):
        opened = unpack.opened(SEEDS[name], 100)
        assert opened is not None and opened.content == b"hello"
    for name, count in (("x.jar", 2), ("x.tar", 1), ("x.a", 2)):
        found = members.members_of(SEEDS[name], name.encode())
        assert found is not None and len(found.members) == count
    found = members.members_of(AR)
    assert found is not None and found.members[1].name == b"long"
    sections = elf.sections(SEEDS["x.so"])
    assert sections is not None and [section.name for section in sections] == ["", ".text", ".shstrtab"]


changes = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=0, max_size=8), st.integers(0, 8)), max_size=6)


def _changed(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    for at, piece, gone in edits:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + gone :]
    return data


@pytest.mark.parametrize("name", SEEDS)
@given(changes, changes)
def test_damaged_files_are_explained(name: str, one: list[tuple[int, bytes, int]], other: list[tuple[int, bytes, int]]) -> None:
    a, b = _changed(SEEDS[name], one), _changed(SEEDS[name], other)
    if a == b:
        return
    found = explain.explain(name.encode(), a, b)
    assert found.findings or found.diff
    assert not found.complete or found.findings
    # Always the same, and nothing is said of two files that is not said of them the other way round.
    assert explain.explain(name.encode(), a, b) == found
    turned = explain.explain(name.encode(), b, a)
    assert {one.pattern for one in turned.findings} == {one.pattern for one in found.findings}


@given(st.sampled_from(sorted(SEEDS)), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_explained(name: str, a: bytes, b: bytes) -> None:
    if a != b:
        explain.explain(name.encode(), a, b)
    first_difference(a, b)
    hex_diff(a, b)
    text_diff(a, b)
    texts.compare_texts(a, b)
    formats.known(name.encode(), a, b)


@given(st.binary(max_size=300))
def test_any_path_has_a_place_or_none(path: bytes) -> None:
    places.place_of(path)
    places.place_of(b"var/log/" + path)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_config_is_compared(a: bytes, b: bytes) -> None:
    configs.compare_configs(a, b)
    configs.compare_manifests(a, b)


def test_deep_configs_end() -> None:
    deep = b'{"config":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}"
    (change,) = configs.compare_configs(deep, deep.replace(b"1", b"2"))
    assert change.field.count(".a") < 100
    assert configs.compare_configs(b'{"config":' + b"[" * 100_000, b"{}") == []


@given(st.binary(max_size=300), st.integers(0, 299), st.binary(min_size=1, max_size=3))
def test_the_first_difference_is_found(data: bytes, at: int, piece: bytes) -> None:
    other = data[:at] + piece + data[at + len(piece) :]
    expected = next((n for n, (x, y) in enumerate(zip(data, other)) if x != y), min(len(data), len(other)))
    assert first_difference(data, other) == expected


def test_bombs_are_not_unpacked() -> None:
    bomb = gzip.compress(bytes(300 << 20), 1, mtime=1)
    assert unpack.opened(bomb, 1 << 20) is None
    assert unpack.inflated(zlib.compress(bytes(10 << 20), wbits=-15), 1 << 20) is None
    assert unpack.opened(lzma.compress(bytes(10 << 20)), 1 << 20) is None
    assert unpack.opened(bz2.compress(bytes(10 << 20)), 1 << 20) is None
    found = explain.explain(b"x.gz", bomb, bomb[:4] + b"\2" + bomb[5:])
    assert found.findings == () and found.diff[0].startswith("first difference at byte 4 ")


def test_archives_in_archives_end() -> None:
    def nest(data: bytes) -> bytes:
        for _ in range(10):
            data = gzip.compress(data, mtime=0)
        return data

    found = explain.explain(b"x.gz", nest(b"a"), nest(b"b"))
    assert not found.complete and found.diff


def test_a_table_of_sections_beyond_all_addresses() -> None:
    seed = _elf()
    damaged = seed[:40] + b"\xff" * 8 + seed[48:]
    assert elf.sections(seed) is not None
    assert elf.sections(damaged) is None
