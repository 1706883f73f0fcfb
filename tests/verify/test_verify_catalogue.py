"""The catalogue names what made two files differ: files of real tools, made twice with one thing changed."""

from __future__ import annotations

import io
import os
import py_compile
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.verify.explain import explain, explain_one_sided
from builder.verify.patterns import PATTERNS
from tests.conftest import ROOT

DAYS = (1_600_000_000, 1_700_000_000)

Maker = Callable[[Path, int], bytes]
"""The file of the first (0) and of the second build (1), in an empty folder."""


def sh(folder: Path, script: str, **env: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder), **env}
    done = subprocess.run(["sh", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def by_shell(script: str, result: str = "out") -> Maker:
    """`$N` is the number of the build, `$T` its time."""

    def make(folder: Path, number: int) -> bytes:
        sh(folder, script, N=str(number), T=str(DAYS[number]))
        return (folder / result).read_bytes()

    return make


def zipped(names: Callable[[int], list[str]], day: Callable[[int], tuple[int, int, int, int, int, int]]) -> Maker:
    def make(folder: Path, number: int) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names(number):
                archive.writestr(zipfile.ZipInfo(name, day(number)), f"content of {name}\n")
        return out.getvalue()

    return make


def tarred(**changed: Callable[[int], object]) -> Maker:
    def make(folder: Path, number: int) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in changed["names"](number) if "names" in changed else ("a", "b"):  # type: ignore[attr-defined]
                member = tarfile.TarInfo(name)
                member.size = 2
                member.mtime = changed["mtime"](number) if "mtime" in changed else 0  # type: ignore[assignment]
                member.uid = changed["uid"](number) if "uid" in changed else 0  # type: ignore[assignment]
                archive.addfile(member, io.BytesIO(b"x\n"))
        return out.getvalue()

    return make


def compiled(folder: Path, number: int) -> bytes:
    (folder / "m.py").write_text("x = 1\n")
    os.utime(folder / "m.py", (DAYS[number], DAYS[number]))
    made = py_compile.compile(str(folder / "m.py"), str(folder / "m.pyc"), dfile="m.py")
    assert made
    return Path(made).read_bytes()


def text(before: str, after: str) -> Maker:
    return lambda folder, number: (before, after)[number].encode()


def same(number: int) -> list[str]:
    return ["a", "b"]


def turned(number: int) -> list[str]:
    return ["a", "b"][:: 1 - 2 * number]


def old(number: int) -> tuple[int, int, int, int, int, int]:
    return (1980, 1, 1, 0, 0, 0)


CASES: dict[str, tuple[str, Maker]] = {
    "gzip-time": ("usr/share/x.gz", by_shell("echo x > x; touch -d @$T x; gzip x", "x.gz")),
    "gzip-name": ("usr/share/x.gz", by_shell("echo x > x$N; touch -d @5 x$N; gzip -c x$N > out")),
    "compression": ("usr/share/x.gz", by_shell("seq 9999 > x; gzip -n -c -$((N * 3 + 5)) x > out")),
    "zip-times": ("srv/x.zip", zipped(same, lambda number: (2000 + number, 1, 1, 0, 0, 0))),
    "zip-order": ("srv/x.zip", zipped(turned, old)),
    "jar-times": ("srv/x.jar", zipped(same, lambda number: (2000 + number, 1, 1, 0, 0, 0))),
    "jar-order": ("srv/x.jar", zipped(turned, old)),
    "tar-times": ("srv/x.tar", tarred(mtime=lambda number: DAYS[number])),
    "tar-order": ("srv/x.tar", tarred(names=turned)),
    "tar-owners": ("srv/x.tar", tarred(uid=lambda number: number)),
    "ar-times": ("usr/lib/x.a", by_shell("echo x > x; touch -d @$T x; ar rcU out x")),
    "ar-order": ("usr/lib/x.a", by_shell("echo a > a; echo b > b; set -- a b; [ $N = 0 ] || set -- b a; ar rcD out $*")),
    "elf-date": (
        "usr/bin/x",
        by_shell("echo 'const char *d = __DATE__; int main() { return !d; }' > x.c; SOURCE_DATE_EPOCH=$T gcc x.c -o out"),
    ),
    "pyc-time": ("usr/lib/python3/m.pyc", compiled),
    "git-index": (
        "src/.git/index",
        by_shell("git init -q .; echo x > f; sleep 0.01; touch -d @$T f; git add f; cp .git/index out"),
    ),
    "shadow-dates": ("etc/shadow", text("root:*:18000:0:99999:7:::\n", "root:*:19000:0:99999:7:::\n")),
    "machine-id": ("etc/machine-id", text("0123456789abcdef0123456789abcdef\n", "fedcba98765432100123456789abcdef\n")),
    "ssh-host-keys": ("etc/ssh/ssh_host_ed25519_key.pub", by_shell("ssh-keygen -q -t ed25519 -N '' -C x -f key", "key.pub")),
    "package-log": ("var/log/dpkg.log", text("2020-01-01 startup\n", "2021-01-01 startup\n")),
    "ldconfig-cache": ("var/cache/ldconfig/aux-cache", by_shell("head -c 100 /dev/urandom > out")),
    "account-backup": ("etc/passwd-", text("a\n", "b\n")),
    "date-in-text": ("srv/stamp", by_shell("date -ud @$T > out")),
    "line-order": ("srv/list", text("a\nb\nc\n", "c\na\nb\n")),
    "line-endings": ("srv/list", text("a\nb\n", "a\r\nb\r\n")),
    "random-id": (
        "srv/id",
        text("id: 6f9619ff-8b86-4d01-b42d-00cf4fc964ff\n", "id: 0e37df36-f698-41e6-8dd4-b1f3f8a1c001\n"),
    ),
    "temporary-path": ("srv/log.txt", text("built in /tmp/pip-build-a1b2c3d4\n", "built in /tmp/pip-build-e5f6a7b8\n")),
}  # fmt: skip


def made_twice(folder: Path, make: Maker) -> list[bytes]:
    found = []
    for number in (0, 1):
        room = folder / str(number)
        room.mkdir()
        found.append(make(room, number))
    return found


@pytest.mark.parametrize("name", CASES)
def test_each_cause_is_named(name: str, tmp_path: Path) -> None:
    path, make = CASES[name]
    one, other = made_twice(tmp_path, make)
    assert one != other
    found = explain(path.encode(), one, other)
    assert name in [finding.pattern for finding in found.findings], found
    assert PATTERNS[name].cause and PATTERNS[name].fix


@pytest.mark.parametrize("path", ["etc/motd", "usr/bin/x", "srv/data.bin"])
def test_what_nothing_explains_is_shown(path: str) -> None:
    found = explain(path.encode(), b"one thing\n", b"another thing\n")
    assert found.findings == () and not found.complete and found.diff


def test_files_that_one_side_has() -> None:
    assert explain_one_sided(b"var/log/apt/history.log").findings[0].pattern == "package-log"
    assert explain_one_sided(b"usr/bin/program").findings == ()


def test_the_page_lists_the_catalogue() -> None:
    page = (ROOT / "docs" / "diff.md").read_text()
    rows = [f"| `{name}` | {pattern.cause} | {pattern.fix.replace('|', chr(92) + '|')} |" for name, pattern in PATTERNS.items()]
    assert [line for line in page.split("\n") if line.startswith("| `") and line[3:].partition("`")[0] in PATTERNS] == rows


UNLIKE = {
    "values of keys, swapped": ("etc/conf.json", b'{"allow": true, "debug": false}\n', b'{"allow": false, "debug": true}\n'),
    "the administrators of a group": ("etc/gshadow", b"adm:!:root:\n", b"adm:!:mallory:\n"),
    "numbers of ten digits": ("etc/acct", b"account=1234567890\n", b"account=1987654321\n"),
    "two numbers with a colon": ("etc/ratio", b"listen 10:30\n", b"listen 22:45\n"),
    "settings, swapped": ("etc/s", b"user=root group=adm\n", b"user=adm group=root\n"),
    "what a bundle starts": (
        "META-INF/MANIFEST.MF",
        b"Manifest-Version: 1.0\r\nBundle-Activator: good.Main\r\n\r\n",
        b"Manifest-Version: 1.0\r\nBundle-Activator: evil.Main\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_means_something_else_is_no_known_cause(name: str) -> None:
    """What is explained can be ignored (--ignore), and then nobody looks at it."""
    path, one, other = UNLIKE[name]
    found = explain(path.encode(), one, other)
    assert not found.complete and not found.findings and found.diff


def _zip_with(comment: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a", (1980, 1, 1, 0, 0, 0)), "content\n")
        archive.comment = comment
    return out.getvalue()


def _program(entry: int, build_id: bytes) -> bytes:
    """/bin/true of this machine, with another entry point and build ID."""
    data = bytearray(Path("/bin/true").read_bytes())
    at = data.index(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0") + 16
    data[at : at + 20] = build_id * 20
    data[24:28] = entry.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("srv/x.zip", _zip_with(b"one"), _zip_with(b"two")),
        ("usr/bin/x", _program(0x2000, b"a"), _program(0x3000, b"b")),
        ("etc/versions", b"yt-dlp==2024.08.06\n", b"yt-dlp==2024.12.23\n"),
        ("usr/bin/go", b"#!/bin/sh\nrm -rf x\nmkdir x\n", b"#!/bin/sh\nmkdir x\nrm -rf x\n"),
        ("usr/bin/copy", b"#!/bin/sh\ncp good live\n", b"#!/bin/sh\ncp live good\n"),
    ],
    ids=["the comment of an archive", "where a program begins", "versions", "the order of commands", "the order of words"],
)
def test_a_real_change_is_not_explained_away(path: str, one: bytes, other: bytes) -> None:
    found = explain(path.encode(), one, other)
    assert not found.complete and found.diff


def test_a_build_id_alone_is_known() -> None:
    found = explain(b"usr/bin/x", _program(0x2000, b"a"), _program(0x2000, b"b"))
    assert found.complete and [finding.pattern for finding in found.findings] == ["elf-build-id"]


def test_no_text_takes_long() -> None:
    """Who wrote it may want that: twice the text takes twice the time."""
    for words in (b"tmp_", b"tmp-", b"pip", b"1", b"a:", b"2024-", b"Mon Jan ", b"ff-"):
        text = words * (200_000 // len(words))
        assert not explain(b"f", text + b"!a", text + b"!b").complete


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"{'a': 1, 'b': [2, 3]}\n", b"{'b': [2, 3], 'a': 1}\n"),
        (b"x = {'c', 'a', 'b'}\n", b"x = {'a', 'b', 'c'}\n"),
        (b"a b c d\n", b"c a d b\n"),
    ],
)
def test_items_in_another_order(one: bytes, other: bytes) -> None:
    found = explain(b"srv/f", one, other)
    assert found.complete and [finding.pattern for finding in found.findings] == ["hash-order"]
