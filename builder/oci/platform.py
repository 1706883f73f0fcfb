"""Platforms, by containerd's names (github.com/containerd/platforms)."""

from __future__ import annotations

from builder.errors import BuildError
from builder.values import NamedTuple

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6", "armhf": "v7", "armel": "v6"}
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

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def _variant(architecture: str, variant: str) -> str:
    """The default variant is not named, but for arm."""
    match architecture, variant:
        case ("arm64", "v8" | "8") | ("amd64", "v1") | ("386", _):
            return ""
        case "arm", "":
            return "v7"
        case "arm", "5" | "6" | "7" | "8":
            return f"v{variant}"
    return variant


def _is_name(part: str) -> bool:
    return part.isascii() and bool(part) and part.replace("_", "").replace(".", "").replace("-", "").isalnum()
