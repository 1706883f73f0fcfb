"""Platforms, by containerd's names (github.com/containerd/platforms)."""

from __future__ import annotations

from builder.errors import BuildError
from builder.values import NamedTuple

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "armv5tel": "arm",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
}
_VARIANTS = {"armv8l": "v8", "armv7l": "v7", "armv6l": "v6", "armv5tel": "v5", "armhf": "v7", "armel": "v6"}
_KNOWN = frozenset((
    *_ARCHITECTURES.values(), "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
))  # fmt: skip
"""What a name alone may be: of anything else nobody knows whether it is a system or an architecture."""


class Platform(NamedTuple):
    """`os/architecture[/variant]`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``linux/amd64``, ``linux/arm64/v8``, ``arm64`` (linux is meant). Raises BuildError."""
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts] if parts[0] in _KNOWN or parts[0] in _ARCHITECTURES else []
        if not 2 <= len(parts) <= 3 or not all(_is_name(part) for part in parts):
            raise BuildError(f"'{text}' is not a platform", hint="a platform looks like linux/amd64 or linux/arm/v7")
        variant = parts[2] if len(parts) == 3 else _VARIANTS.get(parts[1], "")
        architecture = _ARCHITECTURES.get(parts[1], parts[1])
        return cls(parts[0], architecture, _variant(architecture, variant))

    @classmethod
    def of_machine(cls, machine: str) -> Platform:
        """The linux platform of a machine name as uname(2) gives it."""
        return cls("linux", _ARCHITECTURES.get(machine, machine), _VARIANTS.get(machine, ""))

    def normal(self) -> Platform:
        """By the names that containerd prefers, as an image's config may not have it."""
        architecture = _ARCHITECTURES.get(self.architecture, self.architecture)
        return self._replace(architecture=architecture, variant=_variant(architecture, self.variant))

    def compatible(self) -> tuple[Platform, ...]:
        """The platforms whose programs this one runs by itself, the best first: itself, older variants, and what processors
        of its kind did before (containerd's compare.go, platformVector)."""
        own = self.normal()
        match own.architecture:
            case "amd64":
                older = [own._replace(variant=f"v{n}" if n > 1 else "") for n in range(_version(own.variant) - 1, 0, -1)]
                return (own, *older, Platform(own.os, "386"))
            case "arm":
                return (own, *(own._replace(variant=f"v{n}") for n in range(_version(own.variant) - 1, 4, -1)))
            case "arm64":
                names = _arm64_variants(own.variant)
                if not names:
                    return (own,)
                return (own, *(own._replace(variant=name) for name in names[1:]), *Platform(own.os, "arm", "v8").compatible())
        return (own,)

    def runs(self, other: Platform) -> bool:
        """Whether an image for `other` is one for this platform: the same, or an older variant of it."""
        return other.normal() in [each for each in self.compatible() if each.architecture == self.normal().architecture]

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def _variant(architecture: str, variant: str) -> str:
    """The default variant is not named, but for arm."""
    match architecture, variant:
        case ("arm64", "v8" | "8" | "v8.0") | ("amd64", "v1") | ("386", _):
            return ""
        case "arm64", "9" | "9.0" | "v9.0":
            return "v9"
        case "arm", "":
            return "v7"
        case "arm", "5" | "6" | "7" | "8":
            return f"v{variant}"
    return variant


def _version(variant: str) -> int:
    """Of `v3` the number; 0 where there is none to compare."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) == 1 else 0


def _arm64_variants(variant: str) -> list[str]:
    """`v8.2` runs what is for v8.1 and v8; `v9.1` is a v8.6 besides. Empty for a variant that nobody knows."""
    major, _, minor = variant.removeprefix("v").partition(".")
    if major not in ("", "8", "9") or not (minor == "" or (minor.isascii() and minor.isdigit() and len(minor) == 1)):
        return []
    number = int(minor or 0)
    found = [f"v{major or 8}.{n}" for n in range(number, -1, -1)]
    if major == "9":
        found += [f"v8.{n}" for n in range(number + 5, -1, -1)]
    return [_variant("arm64", name) for name in found]


def _is_name(part: str) -> bool:
    return part.isascii() and bool(part) and part.replace("_", "").replace(".", "").replace("-", "").isalnum()
