"""Which system calls of a command are answered by a supervisor (seccomp's user notification), as a BPF program.

Two kinds: `mknod` where the builder is in a user namespace, which has no devices; `owners` where that namespace has a single
user, so that nobody can own anything else: every call that gives, asks for or depends on owners and identities is answered.

The program is loaded beside Docker's profile and not mixed with it: of two filters the kernel takes the stricter answer, so
what the profile refuses stays refused, and what the supervisor lets continue is what the profile allows.

On the builder's side: the fork server gets the program and the numbers as values.
"""

from __future__ import annotations

import struct

from builder.sandbox.seccomp import native_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Emulation = Literal["", "mknod", "owners"]

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_ALLOW, _NOTIFY, _NO_SUCH_CALL = 0x7FFF0000, 0x7FC00000, 0x00050000 | 38

_KINDS, _CHAR, _BLOCK = 0o170000, 0o020000, 0o060000
_O_CREAT, _O_TMPFILE = 0o100, 0o20000000
_PR_SET_KEEPCAPS = 8
_RLIMIT_LOCKS = 10

# Each call with the handler that answers it (`supervisor`); a call that a machine has not is left out.
_OWNERS = {
    "chown": "chown",
    "lchown": "lchown",
    "fchown": "fchown",
    "fchownat": "fchownat",
    "stat": "stat",
    "lstat": "lstat",
    "fstat": "fstat",
    "newfstatat": "newfstatat",
    "statx": "statx",
    "open": "open",
    "openat": "openat",
    "openat2": "openat2",
    "creat": "creat",
    "mkdir": "mkdir",
    "mkdirat": "mkdirat",
    "symlink": "symlink",
    "symlinkat": "symlinkat",
    "mknod": "mknod",
    "mknodat": "mknodat",
    "execve": "execve",
    "execveat": "execveat",
    "listxattr": "listxattr",
    "llistxattr": "llistxattr",
    "flistxattr": "flistxattr",
    "setxattr": "setxattr",
    "lsetxattr": "lsetxattr",
    "fsetxattr": "fsetxattr",
    "removexattr": "removexattr",
    "lremovexattr": "lremovexattr",
    "fremovexattr": "fremovexattr",
    "prctl": "keepcaps",
    "capset": "capset",
    "setrlimit": "setrlimit",
    "getrlimit": "getrlimit",
    "prlimit64": "prlimit64",
    **{
        name: name
        for name in (
            *("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups"),
            *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"),
        )
    },
}
_UNKNOWN = ("setxattrat", "listxattrat", "removexattrat")
"""Newer calls that nobody needs to have: programs take the older ones, which are answered."""
_DEVICES = {"mknod": "device", "mknodat": "deviceat"}
_IDS = {
    **dict.fromkeys(("chown", "lchown", "fchown"), (1, 2)),
    "fchownat": (2, 3),
    **dict.fromkeys(("setuid", "setgid", "setfsuid", "setfsgid"), (0,)),
    **dict.fromkeys(("setreuid", "setregid"), (0, 1)),
    **dict.fromkeys(("setresuid", "setresgid"), (0, 1, 2)),
}
"""Which arguments of a call are ids."""
ALL_IDS = 0xFFFFFFFF
"""As many as there are; the last one, -1, is none."""

_STRANGER = "stranger"
_Code = list[tuple[int, int, int, int]]

_ASK: _Code = [(_RETURN, 0, 0, _NOTIFY)]
_PASS: _Code = [(_RETURN, 0, 0, _ALLOW)]


def program(emulate: Emulation, machine: str, ids: int = ALL_IDS) -> tuple[bytes, tuple[tuple[int, str], ...]]:
    """The program for seccomp(2) (struct sock_filter, 8 bytes an instruction), and the handler's name for each number that it
    asks about. With `mknod` the kernel refuses ids from `ids` on: who wants them is heard of. Raises KeyError for a machine
    other than ``x86_64`` and ``aarch64``."""
    numbers = native_numbers(machine)
    wanted = _OWNERS if emulate == "owners" else _DEVICES
    if emulate == "mknod" and ids < ALL_IDS:
        wanted = {**wanted, **{name: stranger(places) for name, places in _IDS.items()}}
    calls = sorted((numbers[name], name) for name in wanted if name in numbers)
    # What else runs on this machine (32-bit programs, x32) has other numbers and other structures. Owners would be wrong there
    # without a word, hence such programs do not run; for devices the kernel itself refuses.
    foreign = _NO_SUCH_CALL if emulate == "owners" else _ALLOW
    code: _Code = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, foreign)]
    code += [(_LOAD, 0, 0, _NUMBER), (_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, foreign)]
    for number, name in calls:
        rule = _if_stranger(_IDS[name], ids) if wanted[name].startswith(_STRANGER) else _rule(wanted[name])
        code += [(_JUMP_EQUAL, 0, len(rule), number), *rule]
    if emulate == "owners":
        for name in _UNKNOWN:
            code += [(_JUMP_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    code += _PASS
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    return packed, tuple((number, wanted[name]) for number, name in calls)


def stranger(places: tuple[int, ...]) -> str:
    """The handler's name for calls with ids at these places."""
    return _STRANGER + "".join(map(str, places))


def _rule(handler: str) -> _Code:
    match handler:
        case "open":
            return _if_any_bit(1, _O_CREAT | _O_TMPFILE)
        case "openat":
            return _if_any_bit(2, _O_CREAT | _O_TMPFILE)
        case "device":
            return _if_device(1)
        case "deviceat":
            return _if_device(2)
        case "keepcaps":
            return _if_equal(0, _PR_SET_KEEPCAPS)
        case "setrlimit" | "getrlimit":
            return _if_equal(0, _RLIMIT_LOCKS)
        case "prlimit64":
            return _if_equal(1, _RLIMIT_LOCKS)
        case _:
            return _ASK


def _if_any_bit(argument: int, bits: int) -> _Code:
    return [(_LOAD, 0, 0, _argument(argument)), (_JUMP_ANY_BIT, 0, 1, bits), *_ASK, *_PASS]


def _if_equal(argument: int, value: int) -> _Code:
    return [(_LOAD, 0, 0, _argument(argument)), (_JUMP_EQUAL, 0, 1, value), *_ASK, *_PASS]


def _if_stranger(arguments: tuple[int, ...], ids: int) -> _Code:
    code: _Code = []
    for argument in arguments:
        # -1 is none: it leaves the id as it is.
        code += [(_LOAD, 0, 0, _argument(argument)), (_JUMP_EQUAL, 2, 0, ALL_IDS), (_JUMP_AT_LEAST, 0, 1, ids), *_ASK]
    return [*code, *_PASS]


def _if_device(argument: int) -> _Code:
    kind = [(_LOAD, 0, 0, _argument(argument)), (_AND, 0, 0, _KINDS)]
    return [*kind, (_JUMP_EQUAL, 1, 0, _CHAR), (_JUMP_EQUAL, 0, 1, _BLOCK), *_ASK, *_PASS]


def _argument(number: int) -> int:
    # The lower half: both machines are little endian.
    return 16 + 8 * number
