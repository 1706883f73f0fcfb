"""Whether this machine runs programs of another architecture: by itself, or by an emulator that binfmt_misc knows.

It is tried, as BuildKit does: whether a handler counts does not show in /proc/sys/fs/binfmt_misc, which a container has not
mounted, and which says nothing of what the processor can. A program of a few bytes, which does nothing but end, is started in
an empty root folder, as in an image without an emulator of its own.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import tempfile

from builder.errors import SandboxError
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from builder.errors import Span

    Ability = Literal["runs", "absent", "unfixed", "unknown"]
    """`unfixed`: a handler without the flag F, whose emulator an image would have to bring; `unknown`: nothing was tried."""


class _Kind(NamedTuple):
    """What programs of an architecture look like (elf(5)), and the instructions of exit(0)."""

    machine: int
    code: bytes
    bits: int = 64
    order: Literal["<", ">"] = "<"
    flags: int = 0


def _words(*words: int, order: Literal["<", ">"] = "<") -> bytes:
    return struct.pack(f"{order}{len(words)}I", *words)


_KINDS = {
    "386": _Kind(3, bytes.fromhex("b801000000 31db cd80"), bits=32),
    "amd64": _Kind(62, bytes.fromhex("b83c000000 31ff 0f05")),
    "arm": _Kind(40, _words(0xE3A07001, 0xE3A00000, 0xEF000000), bits=32, flags=0x05000000),
    "arm64": _Kind(183, _words(0xD2800BA8, 0xD2800000, 0xD4000001)),
    "loong64": _Kind(258, _words(0x0381740B, 0x03800004, 0x002B0000), flags=0x43),
    "mips64": _Kind(8, _words(0x240213C2, 0x24040000, 0x0000000C, order=">"), order=">", flags=0x80000007),
    "mips64le": _Kind(8, _words(0x240213C2, 0x24040000, 0x0000000C), flags=0x80000007),
    "ppc64le": _Kind(21, _words(0x38000001, 0x38600000, 0x44000002), flags=2),
    "riscv64": _Kind(243, _words(0x05D00893, 0x00000513, 0x00000073)),
    "s390x": _Kind(22, bytes.fromhex("a7290000 0a01"), order=">"),
}
ARCHITECTURES = tuple(_KINDS)

# The child has one thread, may change its root, and tells of each program by a line. Without root it does so in a user
# namespace.
_CHILD = """
import ctypes, os, sys
folder, names = sys.argv[1], sys.argv[2:]
if os.geteuid():
    ctypes.CDLL(None).unshare(0x10000000)
inside = True
try:
    os.chroot(folder)
    os.chdir("/")
except OSError:
    inside = False
for name in names:
    path = ("/" if inside else folder + "/") + name
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.execve(path, [name], {})
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        os._exit(127)
    os.close(tell)
    failed = os.read(told, 16).decode()
    os.close(told)
    status = os.waitpid(child, 0)[1]
    print(name, failed or ("0" if status == 0 else "-1"), flush=True)
"""
_SECONDS = 30.0


def require(platform: Platform, span: Span | None = None) -> None:
    """Raises SandboxError, with what to install, where this machine runs no programs for `platform`; `span` is of the first
    instruction that needs it."""
    own = Platform.of_machine(os.uname().machine)
    wanted = platform.normal()
    if wanted.os != own.os:
        raise SandboxError(
            f"a command for {platform} cannot run on {own}",
            span,
            hint="COPY, ADD and WORKDIR need no command to run; RUN belongs into a stage FROM --platform=$BUILDPLATFORM",
        )
    if wanted.architecture == own.architecture:
        return
    match abilities([wanted.architecture])[wanted.architecture]:
        case "absent":
            raise SandboxError(f"this machine ({own}) cannot run programs for {platform}", span, hint=_install(wanted))
        case "unfixed":
            raise SandboxError(
                f"the emulator for {platform} is registered without the flag F: in an image it is not found",
                span,
                hint=f"register it with that flag: {_install(wanted)}",
            )


def abilities(architectures: Iterable[str] = ARCHITECTURES) -> dict[str, Ability]:
    """What becomes of a program of each architecture here."""
    found: dict[str, Ability] = dict.fromkeys(architectures, "unknown")
    known = [name for name in found if name in _KINDS]
    with tempfile.TemporaryDirectory(prefix="pybuild-") as folder:
        for name in known:
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(program(name))
            os.chmod(path, 0o755)
        # Whoever is somebody else in a user namespace is to get in.
        os.chmod(folder, 0o755)
        command = [sys.executable, "-I", "-S", "-c", _CHILD, folder, *known]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, env={}, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            # Nobody can say; a step that cannot run says so itself.
            return found
    for line in done.stdout.decode().splitlines():
        name, _, code = line.partition(" ")
        if name in found:
            found[name] = _ability(int(code))
    return found


def _ability(code: int) -> Ability:
    match code:
        case 0:
            return "runs"
        case errno.ENOENT:
            # The program is there: it is the emulator that is not.
            return "unfixed"
        case errno.ENOEXEC | -1:
            return "absent"
    return "unknown"


def usable(own: Platform, found: dict[str, Ability]) -> list[tuple[Platform, bool]]:
    """The platforms whose commands can run, the own one first, each with whether the machine needs no emulator for it."""
    own = own.normal()
    native = [one for one in own.compatible() if one.architecture == own.architecture or found.get(one.architecture) == "runs"]
    others = []
    for name in ARCHITECTURES:
        if found.get(name) == "runs" and name != own.architecture:
            others += [one for one in Platform(own.os, name).compatible() if one.architecture == name]
    return [*((one, True) for one in native), *((one, False) for one in dict.fromkeys(others) if one not in native)]


def is_refused(platform: Platform, own: Platform, rung: str | None) -> bool:
    """Whether the sandbox does not let its programs run: a supervisor knows the system calls of 64 bits alone."""
    return rung == "single-uid" and (own.architecture, platform.architecture) in (("amd64", "386"), ("arm64", "arm"))


def program(architecture: str) -> bytes:
    """The smallest program of an architecture (elf(5)): one segment, which holds its headers and exit(0)."""
    kind = _KINDS[architecture]
    wide = kind.bits == 64
    header, segment = (64, 56) if wide else (52, 32)
    base = 0x400000
    start = header + segment
    size = start + len(kind.code)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if kind.order == "<" else 2, 1)) + bytes(9)
    address = "Q" if wide else "I"
    head = struct.pack(
        f"{kind.order}HHI{address * 3}IHHHHHH",
        2, kind.machine, 1, base + start, header, 0, kind.flags, header, segment, 1, 0, 0, 0,
    )  # fmt: skip
    if wide:
        load = struct.pack(f"{kind.order}II6Q", 1, 5, 0, base, base, size, size, 0x10000)
    else:
        load = struct.pack(f"{kind.order}8I", 1, 0, base, base, size, size, 5, 0x10000)
    return ident + head + load + kind.code


def _install(platform: Platform) -> str:
    name = platform.architecture
    return (
        "apt-get install qemu-user-static binfmt-support; where Docker runs:"
        f" docker run --privileged --rm tonistiigi/binfmt --install {name if name in _KINDS else 'all'}"
    )
