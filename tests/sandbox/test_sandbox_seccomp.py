"""The filter against Docker's published profile, and in a real process.

The oracle is what runc does with the published profile: libseccomp compiles it. Both programs then run in the
interpreter below for every system call number of every architecture, and the verdicts are compared.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.sandbox import seccomp
from builder.sandbox.capabilities import DOCKER_CAPABILITIES

ROOT = Path(__file__).parents[2]

# Unpacked by the set-up from Debian's golang-github-docker-docker-dev (Docker 20.10 in Debian 12).
PUBLISHED = ROOT / ".cache" / "docker-profile" / "default.json"

ALLOW = 0x7FFF0000
EPERM = 0x00050001
ENOSYS = 0x00050026
KILL = 0x00000000

X86_64, X86, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
X32 = 0x4000003E  # libseccomp's own token: the kernel reports x32 as x86_64 with a bit in the number.
X32_BIT = 0x40000000

ARCHITECTURES = {
    "x86_64": {"x86_64": X86_64, "x86": X86, "x32": X32},
    "aarch64": {"aarch64": AARCH64, "arm": ARM},
}
GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
# Those that the profile has a rule for.
ALL_CAPABILITIES = (
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
)

# What Docker changed between 20.10, which Debian 12 publishes, and 29, which the filter follows; with the version that
# brought it. The numbers are the kernel's, equal everywhere where one number stands.
ALLOWED_SINCE: dict[str, dict[str, int] | int] = {
    # 23.0: pkey_* only concern the process itself; ptrace and friends obey the ptrace access check.
    "pkey_mprotect": {"x86_64": 329, "x86": 380, "x32": 329, "aarch64": 288, "arm": 394},
    "pkey_alloc": {"x86_64": 330, "x86": 381, "x32": 330, "aarch64": 289, "arm": 395},
    "pkey_free": {"x86_64": 331, "x86": 382, "x32": 331, "aarch64": 290, "arm": 396},
    "process_vm_readv": {"x86_64": 310, "x86": 347, "x32": 539, "aarch64": 270, "arm": 376},
    "process_vm_writev": {"x86_64": 311, "x86": 348, "x32": 540, "aarch64": 271, "arm": 377},
    # 23.0: CAP_DAC_READ_SEARCH guards the half that matters, open_by_handle_at.
    "name_to_handle_at": {"x86_64": 303, "x86": 341, "x32": 303, "aarch64": 264, "arm": 370},
    # 25.0 and later: calls of kernels 6.5 to 6.13.
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "uretprobe": {"x86_64": 335, "x32": 335},
}
# 25.0: io_uring got around other filters and had too many holes.
REFUSED_SINCE = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
# With the capability alone: 23.0 (the two capabilities that were split from CAP_SYS_ADMIN, home_node, and clock_settime64
# that 20.10 forgot) and 28.0 (lsm_*).
ALLOWED_WITH_CAPABILITY: dict[str, dict[str, dict[str, int] | int]] = {
    "CAP_BPF": {"bpf": {"x86_64": 321, "x86": 357, "x32": 321, "aarch64": 280, "arm": 386}},
    "CAP_PERFMON": {"perf_event_open": {"x86_64": 298, "x86": 336, "x32": 298, "aarch64": 241, "arm": 364}},
    "CAP_SYS_NICE": {"set_mempolicy_home_node": 450},
    "CAP_SYS_ADMIN": {"lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461},
    "CAP_SYS_TIME": {"clock_settime64": {"x86": 404, "arm": 404}},
}
NEWEST = 466


class Call(NamedTuple):
    """struct seccomp_data."""

    architecture: int
    number: int
    arguments: tuple[int, ...] = (0, 0, 0, 0, 0, 0)

    def pack(self) -> bytes:
        return struct.pack("=IIQ6Q", self.number, self.architecture, 0, *self.arguments)


def unpack(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", program))


def run(program: list[tuple[int, int, int, int]], call: Call) -> int:
    """What the kernel's BPF machine returns (net/core/filter.c), for the instructions that seccomp programs use."""
    data = call.pack()
    accumulator = 0
    at = 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            assert operand % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x05:
            at += operand
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: accumulator == operand, 0x25: accumulator > operand, 0x35: accumulator >= operand}
            at += if_true if holds.get(code, bool(accumulator & operand)) else if_false
            assert code in holds or code == 0x45, f"unexpected instruction {code:#x}"


def verdict(program: list[tuple[int, int, int, int]], architecture: int, number: int, *arguments: int) -> int:
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    if architecture == X32:
        return run(program, Call(X86_64, X32_BIT | number, padded))
    return run(program, Call(architecture, number, padded))


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


_OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}


def _applies(rule: dict[str, Any], capabilities: tuple[str, ...], go_name: str) -> bool:
    """Docker's own reading of `includes` and `excludes` (profiles/seccomp/seccomp_linux.go); kernels are new enough."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if set(excludes.get("caps", ())) & set(capabilities) or go_name in excludes.get("arches", ()):
        return False
    return set(includes.get("caps", ())) <= set(capabilities) and go_name in includes.get("arches", [go_name])


def published_program(capabilities: tuple[str, ...], machine: str) -> list[tuple[int, int, int, int]]:
    """The published profile, compiled by libseccomp as runc has it done."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_arch_native.restype = ctypes.c_uint32
    context = ctypes.c_void_p(library.seccomp_init(EPERM))
    for token in ARCHITECTURES[machine].values():
        library.seccomp_arch_add(context, token)
    native = library.seccomp_arch_native()
    if native not in ARCHITECTURES[machine].values():
        assert library.seccomp_arch_remove(context, native) == 0
    assert library.seccomp_attr_set(context, 8, 2) == 0  # SCMP_FLTATR_CTL_OPTIMIZE: a binary tree, for speed.
    for rule in json.loads(PUBLISHED.read_text())["syscalls"]:
        if not _applies(rule, capabilities, GO_NAMES[machine]):
            continue
        action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else 0x00050000 | rule.get("errnoRet", 1)
        comparisons = [
            # The mask of MASKED_EQ is `value`, what it must equal is `valueTwo`, left out where it is zero.
            _Comparison(a["index"], _OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args") or ()
        ]
        array = (_Comparison * len(comparisons))(*comparisons)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue  # Unknown to this libseccomp; runc leaves it out too.
            assert library.seccomp_rule_add_array(context, action, number, len(comparisons), array) == 0, name
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        library.seccomp_release(context)
        file.seek(0)
        return unpack(file.read())


def numbers() -> Iterator[int]:
    yield from range(600)
    yield from range(0xF0000, 0xF0010)  # arm's private calls
    yield from (0x3FFFFFFF, 0x7FFFFFFF)


def known(table: Mapping[str, dict[str, int] | int], architecture: str) -> set[int]:
    found = (n if isinstance(n, int) else n.get(architecture) for n in table.values())
    return {n for n in found if n is not None}


CAPABILITY_SETS = [
    (),
    DOCKER_CAPABILITIES,
    (*DOCKER_CAPABILITIES, *ALL_CAPABILITIES),
    *((capability,) for capability in ALL_CAPABILITIES),
]


@pytest.mark.parametrize("capabilities", CAPABILITY_SETS, ids=lambda names: names[0] if len(names) == 1 else str(len(names)))
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_system_call_has_the_verdict_of_dockers_profile(machine: str, capabilities: tuple[str, ...]) -> None:
    ours = unpack(seccomp.docker_profile(capabilities, machine))
    theirs = published_program(capabilities, machine)
    for name, token in ARCHITECTURES[machine].items():
        allowed_since = known(ALLOWED_SINCE, name)
        for capability in capabilities:
            allowed_since |= known(ALLOWED_WITH_CAPABILITY.get(capability, {}), name)
        newest = 547 if name == "x32" else NEWEST
        verdicts = {number: (verdict(ours, token, number), verdict(theirs, token, number)) for number in numbers()}
        differing = {number: pair for number, pair in verdicts.items() if pair[0] != pair[1]}
        # runc answers ENOSYS for every call newer than the profile, before the profile is asked.
        stub = {n: (ENOSYS, EPERM) for n in numbers() if newest < n < 0xF0000}
        expected = (
            stub
            | {n: (ALLOW, EPERM) for n in allowed_since if verdict(theirs, token, n) == EPERM}
            | {n: (EPERM, ALLOW) for n in REFUSED_SINCE.values() if verdict(theirs, token, n) == ALLOW}
        )
        assert differing == expected, name
        if '"SCMP_ARCH_RISCV64"' not in PUBLISHED.read_text() and not set(capabilities) - set(DOCKER_CAPABILITIES):
            # Docker 20.10: no line of the tables above is stale.
            assert allowed_since | set(REFUSED_SINCE.values()) == set(differing) - set(stub)


def argument_values() -> list[int]:
    bits = [1 << n for n in range(64)]
    families = list(range(50))
    personalities = [0x20008, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x100000000, 0x100000008, 0x20000 | 0x40000]
    flags = [0x01200011, 0x003D0F00, 0x7E020000, 0x7E020011, 0xFFFFFFFF & ~0x7E020000]
    return bits + families + personalities + flags


NATIVE = {
    "x86_64": {"clone": 56, "socket": 41, "personality": 135},
    "aarch64": {"clone": 220, "socket": 198, "personality": 92},
}
OTHER = {
    "x86_64": {"clone": 120, "socket": 359, "personality": 136},
    "aarch64": {"clone": 120, "socket": 281, "personality": 136},
}


@pytest.mark.parametrize("capabilities", [DOCKER_CAPABILITIES, (*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN")], ids=len)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_argument_rules_of_clone_and_personality_are_dockers(machine: str, capabilities: tuple[str, ...]) -> None:
    ours = unpack(seccomp.docker_profile(capabilities, machine))
    theirs = published_program(capabilities, machine)
    tokens = list(ARCHITECTURES[machine].items())
    for (name, token), table in ((tokens[0], NATIVE[machine]), (tokens[1], OTHER[machine])):
        for call in ("clone", "personality"):
            # The registers of 32-bit programs are 32 bits wide; libseccomp does not even look at the rest.
            for value in (v for v in argument_values() if v < 2**32 or table is NATIVE[machine]):
                found, wanted = (verdict(p, token, table[call], value) for p in (ours, theirs))
                assert found == wanted, f"{name} {call} {value:#x}"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_sockets_of_the_two_refused_families(machine: str) -> None:
    """Docker 23.0 refuses AF_VSOCK (40), 29 AF_ALG (38) too; 20.10 refused none. The kernel reads 32 bits of it."""
    ours = unpack(seccomp.docker_profile(DOCKER_CAPABILITIES, machine))
    tokens = list(ARCHITECTURES[machine].values())
    for token, table in ((tokens[0], NATIVE[machine]), (tokens[1], OTHER[machine])):
        for value in argument_values() + [38 | 1 << 32, 40 | 1 << 63]:
            refused = value & 0xFFFFFFFF in (38, 40)
            assert verdict(ours, token, table["socket"], value) == (EPERM if refused else ALLOW), hex(value)


def test_clone3_is_unknown_and_namespaces_are_refused() -> None:
    """Written by hand, so that no oracle is needed: the lines that keep a step from making namespaces and mounts."""
    ours = unpack(seccomp.docker_profile(DOCKER_CAPABILITIES, "x86_64"))
    assert verdict(ours, X86_64, 435) == ENOSYS  # clone3
    assert verdict(ours, X86_64, 272, 0x10000000) == EPERM  # unshare(CLONE_NEWUSER)
    assert verdict(ours, X86_64, 56, 0x10000000 | 17) == EPERM  # clone(CLONE_NEWUSER | SIGCHLD)
    assert verdict(ours, X86_64, 56, 17) == ALLOW  # fork, as libc does it
    assert verdict(ours, X86_64, 165) == EPERM  # mount
    assert verdict(ours, X86_64, 250) == EPERM  # keyctl
    assert verdict(ours, X86_64, 161) == ALLOW  # chroot: Docker leaves CAP_SYS_CHROOT
    assert verdict(ours, X86, 21) == EPERM  # mount
    assert verdict(ours, X86, 102) == ALLOW  # socketcall
    with_admin = unpack(seccomp.docker_profile((*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN"), "x86_64"))
    assert verdict(with_admin, X86_64, 435) == verdict(with_admin, X86_64, 165) == ALLOW
    assert verdict(with_admin, X86_64, 56, 0x10000000 | 17) == ALLOW
    without = unpack(seccomp.docker_profile((), "x86_64"))
    assert verdict(without, X86_64, 161) == EPERM


def test_another_architecture_is_killed() -> None:
    ours = unpack(seccomp.docker_profile(DOCKER_CAPABILITIES, "x86_64"))
    assert verdict(ours, AARCH64, 63) == KILL
    assert verdict(unpack(seccomp.docker_profile((), "aarch64")), X86_64, 0) == KILL


@pytest.mark.parametrize("machine", ["riscv64", "", "X86_64", "armv7l"])
def test_an_unknown_machine_is_an_error(machine: str) -> None:
    with pytest.raises(ValueError, match="no seccomp profile for the machine"):
        seccomp.docker_profile(DOCKER_CAPABILITIES, machine)


@settings(max_examples=200, deadline=None)
@given(
    machine=st.sampled_from(["x86_64", "aarch64"]),
    capabilities=st.sets(st.sampled_from(ALL_CAPABILITIES)),
    architecture=st.one_of(st.sampled_from([X86_64, X86, AARCH64, ARM]), st.integers(0, 2**32 - 1)),
    number=st.integers(0, 2**32 - 1),
    arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6),
)
def test_every_call_ends_in_one_of_four_verdicts(
    machine: str, capabilities: set[str], architecture: int, number: int, arguments: tuple[int, ...]
) -> None:
    """And no jump leaves the program: the kernel would refuse to load it."""
    program = unpack(seccomp.docker_profile(tuple(capabilities), machine))
    found = run(program, Call(architecture, number, arguments))
    ours = architecture in ARCHITECTURES[machine].values()
    assert found in ({ALLOW, EPERM, ENOSYS} if ours else {KILL})


def test_the_program_is_small_and_does_not_depend_on_the_order_of_capabilities() -> None:
    program = seccomp.docker_profile(DOCKER_CAPABILITIES, "x86_64")
    assert program == seccomp.docker_profile(tuple(reversed(DOCKER_CAPABILITIES)), "x86_64")
    assert len(program) % 8 == 0
    assert len(program) // 8 < 1024, "the kernel takes 4096 instructions for all filters of a process together"


CHILD = """
import ctypes, os, socket, struct, subprocess, sys
sys.path.insert(0, sys.argv[1])
import seccomp
assert "builder" not in sys.modules
program = seccomp.docker_profile(tuple(sys.argv[2].split()), os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program, len(program))
fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, fprog, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

def errno_of(call):
    ctypes.set_errno(0)
    return ctypes.get_errno() if call() == -1 else 0

def family(number):
    try:
        socket.socket(number, socket.SOCK_STREAM if number < 38 else socket.SOCK_SEQPACKET).close()
    except OSError as error:
        return error.errno
    return 0

print("unshare", errno_of(lambda: libc.unshare(0x20000)))
print("mount", errno_of(lambda: libc.mount(b"none", b"/", b"tmpfs", 0, None)))
print("clone3", errno_of(lambda: libc.syscall(435, 0, 0)))
print("newer", errno_of(lambda: libc.syscall(1000)))
present, random_off = ctypes.c_ulong(0xFFFFFFFF), ctypes.c_ulong(0x40000)
print("personality", errno_of(lambda: libc.personality(present)), errno_of(lambda: libc.personality(random_off)))
print("sockets", family(socket.AF_INET), family(socket.AF_ALG), family(socket.AF_VSOCK))
sys.stdout.flush()
print("child", subprocess.run(["/bin/echo", "lives"], capture_output=True, text=True).stdout.strip())
"""


def test_a_real_process_under_the_filter() -> None:
    """With the capabilities of root in this process: what is refused is refused by the filter, not for want of them."""
    folder = os.path.dirname(seccomp.__file__)
    command = [sys.executable, "-I", "-c", CHILD, folder, " ".join(DOCKER_CAPABILITIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == textwrap.dedent("""\
        unshare 1
        mount 1
        clone3 38
        newer 38
        personality 0 1
        sockets 0 1 1
        child lives
        """), done.stderr
    assert done.returncode == 0
