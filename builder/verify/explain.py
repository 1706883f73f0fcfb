"""Why a file differs: what is known of its kind, of what it holds, or else what differs. Pure.

Three tiers: metadata that differs alone needs no look at the content; then the catalogue, from what is most certain (a format
whose every byte is accounted for) to what the path alone says; then the difference itself.
"""

from __future__ import annotations

from builder.values import NamedTuple
from builder.verify import formats
from builder.verify.difference import Finding
from builder.verify.elf import compare_elf
from builder.verify.members import members_of
from builder.verify.places import place_of
from builder.verify.shown import hex_diff, text_diff
from builder.verify.texts import compare_texts, is_text
from builder.verify.unpack import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.verify.members import Member, Members

LARGEST = 64 << 20
"""Bytes of a file that is looked into; of a larger one the path alone says something."""
_BUDGET = 256 << 20
"""Bytes that are unpacked of one file in all."""
_DEEPEST = 4
"""Archives in archives."""
_FINDINGS = 20
_LINES = 24
# A program's output is no cause: only what it may not be in at all is.
_WEAK = ("pycache",)
_ORDER = {"zip": "zip-order", "jar": "jar-order", "tar": "tar-order", "ar": "ar-order"}
_TIMES = {"zip": "zip-times", "jar": "jar-times", "tar": "tar-times", "ar": "ar-times"}
_OWNERS = {"zip": "zip-attributes", "jar": "zip-attributes", "tar": "tar-owners", "ar": "ar-times"}
_OTHERS = {"zip": "zip-attributes", "jar": "zip-attributes", "tar": "tar-form", "ar": "ar-times"}
_REST = {"zip": "zip-compression", "jar": "zip-compression", "tar": "tar-form", "ar": "ar-times"}


class Explained(NamedTuple):
    findings: tuple[Finding, ...] = ()
    complete: bool = False
    """The findings say all that differs."""
    diff: tuple[str, ...] = ()
    """What differs, where they do not."""


def explain_one_sided(path: bytes) -> Explained:
    """A file that one image alone has."""
    place = place_of(path)
    return Explained((Finding(place),), True) if place else Explained()


def explain_unread(path: bytes) -> Explained:
    """Two files that differ and are not looked into."""
    place = place_of(path)
    return Explained((Finding(place),), True) if place and place not in _WEAK else Explained()


def explain(path: bytes, a: bytes, b: bytes) -> Explained:
    """Two contents of the file at `path`, which differ."""
    return _Explainer().explain(path, a, b)


class _Explainer:
    """One file, with all that is in it, and what may still be unpacked of it."""

    def __init__(self) -> None:
        self._left = _BUDGET

    def explain(self, path: bytes, a: bytes, b: bytes, depth: int = 0) -> Explained:
        found = self._certain(path, a, b, depth)
        if found.complete:
            return _bounded(found)
        place = place_of(path)
        if place and place not in _WEAK and not found.findings:
            return Explained((Finding(place),), True)
        if is_text(a) and is_text(b):
            more, complete = compare_texts(a, b)
            if complete:
                return _bounded(Explained((*found.findings, *more), True))
        if found.diff or found.findings:
            return _bounded(found._replace(diff=found.diff or _difference(a, b)))
        return Explained((), False, _difference(a, b))

    def _certain(self, path: bytes, a: bytes, b: bytes, depth: int) -> Explained:
        answer = formats.known(path, a, b)
        if answer is not None:
            return Explained(tuple(answer[0]), answer[1])
        elf = compare_elf(a, b)
        if elf is not None:
            return Explained(tuple(elf[0]), elf[1], tuple(elf[2]))
        if depth == _DEEPEST:
            return Explained()
        return self._unpacked(path, a, b, depth) or self._members(path, a, b, depth) or Explained()

    def _unpacked(self, path: bytes, a: bytes, b: bytes, depth: int) -> Explained | None:
        one = opened(a, self._left)
        if one is None:
            return None
        self._left -= len(one.content)
        other = opened(b, self._left)
        if other is None or one.form != other.form:
            return None
        self._left -= len(other.content)
        findings = []
        if one.time != other.time:
            findings.append(Finding("gzip-time", detail=f"{one.time} -> {other.time}"))
        if one.header != other.header:
            findings.append(Finding("gzip-name"))
        if one.content == other.content:
            return Explained(tuple(findings or [Finding("compression")]), True)
        inner = self.explain(_inner_name(path), one.content, other.content, depth + 1)
        below = tuple(finding._replace(inside=_joined("", finding.inside)) for finding in inner.findings)
        return Explained((*findings, *below), inner.complete, inner.diff)

    def _members(self, path: bytes, a: bytes, b: bytes, depth: int) -> Explained | None:
        one, other = members_of(a, path), members_of(b, path)
        if one is None or other is None or one.form != other.form:
            return None
        form = one.form
        left, right = _numbered(one.members), _numbered(other.members)
        findings: dict[Finding, None] = {}
        if list(left) != list(right) and sorted(left) == sorted(right):
            findings[Finding(_ORDER[form])] = None
        complete, lines = True, []
        for key in left:
            if key not in right:
                complete = False
                lines.append(f"-{_show(key[0])}")
        for key in right:
            if key not in left:
                complete = False
                lines.append(f"+{_show(key[0])}")
        for key, member in left.items():
            partner = right.get(key)
            if partner is None:
                continue
            for pattern, differs in (
                (_TIMES[form], member.time != partner.time),
                (_OWNERS[form], member.owner != partner.owner),
                (_OTHERS[form], member.attributes != partner.attributes),
            ):
                if differs:
                    findings[Finding(pattern)] = None
            inner = self._inside((one, a, member), (other, b, partner), depth)
            if inner is None:
                continue
            name = _show(key[0])
            findings |= {finding._replace(inside=_joined(name, finding.inside)): None for finding in inner.findings}
            complete = complete and inner.complete
            if not inner.complete:
                lines += [f"in {name}:", *inner.diff]
        if not findings and complete:
            if form != "tar" and all(_packed(a, left[key]) == _packed(b, right[key]) for key in left):
                # A comment, extra fields: nobody knows what they say.
                return Explained((), False, ("the members are the same: what lies around them differs", *_difference(a, b)))
            findings[Finding(_REST[form])] = None
        return Explained(tuple(findings), complete, tuple(lines))

    def _inside(self, a: tuple[Members, bytes, Member], b: tuple[Members, bytes, Member], depth: int) -> Explained | None:
        """None for two members of the same content."""
        left, right = a[2], b[2]
        raw = [data[member.at : member.at + member.packed] for _, data, member in (a, b)]
        if raw[0] == raw[1] and left.packing == right.packing:
            return None
        contents = []
        for members, data, member in (a, b):
            content = members.content(data, member, self._left)
            if content is None:
                return Explained((), False, ("it cannot be looked into",))
            self._left -= len(content)
            contents.append(content)
        if contents[0] == contents[1]:
            return None
        return self.explain(left.name, contents[0], contents[1], depth + 1)


def _numbered(members: Sequence[Member]) -> dict[tuple[bytes, int], Member]:
    """By name; the second of a name is another one."""
    seen: dict[bytes, int] = {}
    found = {}
    for member in members:
        number = seen[member.name] = seen.get(member.name, -1) + 1
        found[member.name, number] = member
    return found


def _packed(data: bytes, member: Member) -> tuple[bytes, int]:
    return data[member.at : member.at + member.packed], member.packing


def _inner_name(path: bytes) -> bytes:
    """The name without the suffix of its compression."""
    for suffix in (b".gz", b".xz", b".bz2"):
        if path.endswith(suffix):
            return path.removesuffix(suffix)
    return path[:-4] + b".tar" if path.endswith(b".tgz") else path


def _joined(name: str, inside: str) -> str:
    return "!".join(part for part in (name, inside) if part)


def _show(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace")


def _difference(a: bytes, b: bytes) -> tuple[str, ...]:
    return tuple(text_diff(a, b) if is_text(a) and is_text(b) else hex_diff(a, b))


def _bounded(found: Explained) -> Explained:
    diff = found.diff if len(found.diff) <= _LINES else (*found.diff[:_LINES], "...")
    return found._replace(findings=_grouped(found.findings), diff=diff)


def _grouped(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each pattern first once, where it was met first; then others, as many as a person reads."""
    first: Mapping[str, Finding] = {finding.pattern: finding for finding in reversed(findings)}
    kept = [finding for finding in findings if first[finding.pattern] is finding]
    rest = [finding for finding in dict.fromkeys(findings) if first[finding.pattern] is not finding]
    return tuple((kept + rest)[:_FINDINGS]) if len(kept) <= _FINDINGS else tuple(kept)
