"""Programs and libraries compared by their sections (ELF, System V ABI "Sections"). Pure; any bytes end in an answer."""

from __future__ import annotations

import re
import struct

from builder.values import NamedTuple
from builder.verify.difference import Finding
from builder.verify.texts import DATE

_MOST = 4096
"""Sections of one file."""
_NOBITS = 8
_ALLOCATED = 2
_BUILD_ID = ".note.gnu.build-id"
# They follow from others, or are not loaded.
_FOLLOWS = (_BUILD_ID, ".gnu_debuglink", ".gnu_debugdata", ".comment", ".symtab", ".strtab", ".shstrtab", ".note.go.buildid")
_GO = re.compile(rb'Go build ID: "[^"\n]{1,400}"|\xff Go buildinf:')
_GO_NOTE = ".note.go.buildid"


class Section(NamedTuple):
    name: str
    content: bytes
    loaded: bool


def compare_elf(a: bytes, b: bytes) -> tuple[list[Finding], bool, list[str]] | None:
    """What differs between two programs: findings, whether they say all, and the names of sections that differ. None where one
    is no ELF file."""
    left, right = sections(a), sections(b)
    if left is None or right is None:
        return None
    names = [section.name for section in left]
    if names != [section.name for section in right] or len(set(names)) != len(names):
        return [], False, [f"sections: {_listed(names)}", f"sections: {_listed([one.name for one in right])}"]
    pairs = {one.name: (one, other) for one, other in zip(left, right) if one.content != other.content}
    if not pairs:
        return [], False, ["the sections are the same: headers, or what lies between them, differ"]
    differing = [f"sections that differ: {_listed(list(pairs))}"]
    if _loading(a) != _loading(b):
        # Where it begins, and what is put where in memory.
        return [], False, ["headers differ", *differing]
    if set(pairs) == {_BUILD_ID}:
        return [Finding("elf-build-id")], True, []
    if _GO_NOTE in pairs and all(_without_go(*pair) for pair in pairs.values()):
        return [Finding("go-build-id")], True, []
    if all(name in _FOLLOWS or name.startswith((".debug_", ".zdebug_", ".gnu.debuglto")) for name in pairs):
        return [Finding("elf-debug", detail=_listed(list(pairs)))], True, []
    said = [pair for name, pair in pairs.items() if name not in _FOLLOWS and not name.startswith(".debug_")]
    dated = [DATE.sub(b"<date>", one.content) == DATE.sub(b"<date>", other.content) for one, other in said]
    if all(dated):
        return [Finding("elf-date", detail=_dates(said[0][0].content, said[0][1].content))], True, []
    found = [Finding("elf-date")] if any(dated) else []
    return found, False, differing


def sections(data: bytes) -> list[Section] | None:
    """None for what is no ELF file, or damaged."""
    if data[:4] != b"\x7fELF" or len(data) < 52 or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    try:
        if wide:
            (table,) = struct.unpack_from(f"{order}Q", data, 40)
            size, count, names = struct.unpack_from(f"{order}HHH", data, 58)
        else:
            (table,) = struct.unpack_from(f"{order}I", data, 32)
            size, count, names = struct.unpack_from(f"{order}HHH", data, 46)
        form = f"{order}IIQQQQ" if wide else f"{order}IIIIII"
        # An offset beyond what an address can be is an OverflowError of struct.
        if table > len(data):
            return None
        if not 0 < count <= _MOST or size < struct.calcsize(form) or names >= count:
            return None
        headers = [struct.unpack_from(form, data, table + number * size) for number in range(count)]
    except struct.error:
        return None
    _, _, _, _, start, length = headers[names]
    texts = data[start : start + min(length, 1 << 20)]
    found = []
    total = 0
    for name, kind, flags, _, offset, length in headers:
        content = b"" if kind == _NOBITS else data[offset : offset + length]
        # Sections that lie over one another would be compared again and again.
        total += len(content)
        if total > 2 * len(data):
            return None
        shown = texts[name : name + 200].partition(b"\0")[0].decode("ascii", "backslashreplace")
        found.append(Section(shown, content, bool(flags & _ALLOCATED)))
    return found


def _loading(data: bytes) -> tuple[bytes, bytes]:
    """What the headers say of how it is run: the file's, up to the entry point, and those of the segments."""
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    (at,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", data, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
    return data[: 32 if wide else 28], data[at : at + size * count]


def _without_go(a: Section, b: Section) -> bool:
    if a.name in (_GO_NOTE, _BUILD_ID):
        return True
    return _GO.sub(b"", a.content) == _GO.sub(b"", b.content)


def _listed(names: list[str]) -> str:
    shown = ", ".join(name or "(none)" for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _dates(a: bytes, b: bytes) -> str:
    for one, other in zip(DATE.findall(a), DATE.findall(b)):
        if one != other:
            return f"{one.decode('ascii', 'replace')} -> {other.decode('ascii', 'replace')}"
    return ""
