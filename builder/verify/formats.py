"""Files of known programs, by path or content, whose differences have a known cause. Pure; any bytes end in an answer.

Each function takes two contents that differ and gives findings, and whether they say all that differs; None where the files
are not what it knows.
"""

from __future__ import annotations

import re
import struct

from builder.verify.difference import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Answer = tuple[list[Finding], bool] | None
    Check = Callable[[bytes, bytes], Answer]

_MOST = 200_000
"""Lines, paragraphs or entries of one file."""
_PATH = re.compile(rb"(?:[\xfa\xdazZ].|[\xe1\xc1\xf5aAu].{4})((?:/|<)[ -~]{1,1000}?\.py)", re.DOTALL)
"""How marshal has a file name: a type, with or without the flag of a reference, a length of one or four bytes, the text."""
_MANIFEST_DATES = re.compile(
    rb"^(?:Build|Built|Created|Bnd|Implementation-Build|X-Compile|Originally-Created|Tool|Ant-Version|Archiver)[A-Za-z-]*"
    rb"|^[A-Za-z-]*(?:Date|Time|Timestamp|Host|User|By|Jdk)$"
)


def known(path: bytes, a: bytes, b: bytes) -> Answer:
    """What the first of them says that knows the files; None for none."""
    for pattern, check in _BY_PATH.items():
        if re.fullmatch(pattern, path):
            answer = check(a, b)
            if answer is not None:
                return answer
    if a.startswith(_SQLITE) and b.startswith(_SQLITE):
        return _sqlite(a, b)
    return None


# Python


def _pyc(a: bytes, b: bytes) -> Answer:
    """PEP 552: magic, flags, then time and size of the source, or its hash."""
    if min(len(a), len(b)) < 16 or a[:4] != b[:4] or a[2:4] != b"\r\n":
        return None
    flags = [int.from_bytes(data[4:8], "little") for data in (a, b)]
    if max(flags) > 3:
        return None
    found = []
    if flags[0] != flags[1]:
        found.append(Finding("pyc-mode", detail=f"{_pyc_mode(flags[0])} -> {_pyc_mode(flags[1])}"))
    elif flags[0] == 0 and a[8:16] != b[8:16]:
        times = [int.from_bytes(data[8:12], "little") for data in (a, b)]
        found.append(Finding("pyc-time", detail=f"{times[0]} -> {times[1]}"))
    one, other = a[16:], b[16:]
    if one == other:
        return found, bool(found)
    if _PATH.sub(b"", one) == _PATH.sub(b"", other):
        return [*found, Finding("pyc-path")], True
    # The flag of a reference is the upper bit of a type.
    if len(one) == len(other) and all(x ^ y in (0, 0x80) for x, y in zip(one, other)):
        return [*found, Finding("pyc-code")], True
    return found, False


def _pyc_mode(flags: int) -> str:
    return "checked by time" if not flags else "checked by hash" if flags & 2 else "unchecked, by hash"


def _record(a: bytes, b: bytes) -> Answer:
    """Lines of path, hash and size (PyPA, "Recording installed projects")."""
    lines = [data.splitlines() for data in (a, b)]
    if max(map(len, lines)) > _MOST:
        return None
    named = [sorted(line.split(b",", 1)[0] for line in side) for side in lines]
    # What Python compiled is listed without a hash, and not in each image.
    plain = [[name for name in side if b"__pycache__/" not in name] for side in named]
    return ([Finding("pip-record")], True) if plain[0] == plain[1] else None


# Package managers


def _dpkg_status(a: bytes, b: bytes) -> Answer:
    one, other = (_paragraphs(data, b"Package", b"Architecture") for data in (a, b))
    if one is None or other is None:
        return None
    if one == other:
        return [Finding("dpkg-status-order")], True
    versions = _versions(one, other, b"Version")
    if versions:
        return [Finding("package-versions", detail=versions)], True
    return [], False


def _apk_installed(a: bytes, b: bytes) -> Answer:
    one, other = (_paragraphs(data, b"P", b"A") for data in (a, b))
    if one is None or other is None:
        return None
    versions = _versions(one, other, b"V")
    return ([Finding("package-versions", detail=versions)], True) if versions else None


def _paragraphs(data: bytes, *key: bytes) -> dict[bytes, dict[bytes, bytes]] | None:
    """Paragraphs of `Field: value` lines by what they say in `key`; None for what has none, or one twice."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    texts = data.split(b"\n\n")
    if len(texts) > _MOST:
        return None
    for text in texts:
        fields: dict[bytes, bytes] = {}
        last = b""
        for line in text.splitlines():
            if line[:1] in (b" ", b"\t"):
                fields[last] = fields.get(last, b"") + b"\n" + line
                continue
            last, _, value = line.partition(b":")
            # apk has a line for each file of a package.
            fields[last] = fields.get(last, b"") + value.strip() + b"\n"
        if not fields:
            continue
        name = b":".join(fields.get(part, b"").strip() for part in key)
        if not fields.get(key[0]) or name in found:
            return None
        found[name] = fields
    return found or None


def _versions(one: Mapping[bytes, Mapping[bytes, bytes]], other: Mapping[bytes, Mapping[bytes, bytes]], field: bytes) -> str:
    """The packages of which there are other versions, or that one side alone has."""
    out = []
    for name in sorted({*one, *other}):
        pair = [side[name].get(field, b"").strip() if name in side else b"(none)" for side in (one, other)]
        if pair[0] != pair[1]:
            shown = [_text(part) for part in (name.partition(b":")[0], *pair)]
            out.append(f"{shown[0]} {shown[1]} -> {shown[2]}")
    return ", ".join(out[:6]) + (f" and {len(out) - 6} more" if len(out) > 6 else "")


# Accounts


def _shadow(a: bytes, b: bytes) -> Answer:
    """shadow(5): name, password, day of the last change, and more."""
    sides = [[line.split(b":") for line in data.splitlines()] for data in (a, b)]
    if [line[0] for line in sides[0]] != [line[0] for line in sides[1]]:
        return None
    days, passwords, rest = [], [], False
    for one, other in zip(*sides):
        if len(one) < 3 or len(one) != len(other):
            return None
        if one[1] != other[1]:
            passwords.append(_text(one[0]))
        if one[2] != other[2]:
            days.append(f"{_text(one[0])} {_text(one[2])} -> {_text(other[2])}")
        rest = rest or one[3:] != other[3:]
    found = [Finding("shadow-dates", detail=", ".join(days[:6]))] if days else []
    if passwords:
        found.append(Finding("shadow-password", detail=", ".join(passwords[:6])))
    return (found, not rest) if found else None


# Java, git, SQLite


def _manifest(a: bytes, b: bytes) -> Answer:
    """Headers `Name: value`, continued by lines that begin with a space (JAR File Specification)."""
    sides = []
    for data in (a, b):
        lines = data.replace(b"\r\n", b"\n").replace(b"\n ", b"").split(b"\n")
        sides.append([line.partition(b": ") for line in lines])
    plain = [[line for line in side if not _MANIFEST_DATES.match(line[0])] for side in sides]
    if plain[0] != plain[1]:
        return None
    named = [{line[0]: line[2] for line in side} for side in sides]
    names = sorted(name for name in {*named[0], *named[1]} if named[0].get(name) != named[1].get(name))
    return [Finding("jar-manifest", detail=", ".join(_text(name) for name in names[:6]))], True


def _git_index(a: bytes, b: bytes) -> Answer:
    """gitformat-index(5): what a file's stat(2) says differs with each checkout."""
    sides = [_git_entries(data) for data in (a, b)]
    if not (a.startswith(b"DIRC") and b.startswith(b"DIRC")):
        return None
    return [Finding("git-index")], sides[0] is not None and sides[0] == sides[1]


def _git_entries(data: bytes) -> list[tuple[bytes, ...]] | None:
    """Mode, object, flags and path of each entry; None for other versions than 2 and 3."""
    if len(data) < 12:
        return None
    version, count = struct.unpack_from(">II", data, 4)
    if version not in (2, 3) or count > _MOST:
        return None
    found: list[tuple[bytes, ...]] = []
    at = 12
    for _ in range(count):
        fixed = data[at : at + 62]
        if len(fixed) < 62:
            return None
        start = at + (64 if fixed[60] & 0x40 else 62)
        end = data.find(b"\0", start)
        if end < 0:
            return None
        found.append((fixed[24:28], fixed[40:60], fixed[60:62], data[start:end]))
        # Entries are padded with NULs to eight bytes, with one at least.
        at += (end - at + 8) // 8 * 8
    return found


_SQLITE = b"SQLite format 3\0"


def _sqlite(a: bytes, b: bytes) -> Answer:
    """The header's change counter, and the version that wrote it with its own counter (sqlite.org, "Database File Format")."""
    plain = [data[:24] + data[28:92] + data[100:] for data in (a, b)]
    return ([Finding("sqlite-counter")], True) if plain[0] == plain[1] else None


def _text(data: bytes) -> str:
    return data[:60].decode("utf-8", "replace")


_BY_PATH: dict[bytes, Check] = {
    rb"(?s:.*)\.pyc": _pyc,
    rb"(?s:.*)\.dist-info/RECORD": _record,
    rb"var/lib/dpkg/(?:status|available)(?:-old)?": _dpkg_status,
    rb"(?:usr/)?lib/apk/db/installed": _apk_installed,
    rb"etc/shadow-?": _shadow,
    rb"(?s:.*/)?META-INF/MANIFEST\.MF": _manifest,
    rb"(?s:.*/)?\.git/(?s:.*/)?index": _git_index,
}
