"""Makes this process, and all that it starts, live on an older kernel: a seccomp filter answers in the newer calls' place.

Without no_new_privs, since setuid programs must go on working in what is started: so it needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from typing import NamedTuple

_LOAD, _JEQ, _RET = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}[os.uname().machine]
FSCONFIG = 431
_SET_STRING = 1
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Refusal(NamedTuple):
    """The system call `number` fails with `code`; only when its second argument is `second`, unless that is None."""

    number: int
    code: int = errno.ENOSYS
    second: int | None = None


def refuse(*refusals: Refusal) -> None:
    program = [_op(_LOAD, 0)]
    for refusal in refusals:
        answer = _op(_RET, _ERRNO | refusal.code)
        if refusal.second is None:
            program += [_op(_JEQ, refusal.number, 0, 1), answer]
        else:
            # The low half of seccomp_data.args[1], then the number again for the next rule.
            program += [_op(_JEQ, refusal.number, 0, 4), _op(_LOAD, 24), _op(_JEQ, refusal.second, 0, 1), answer, _op(_LOAD, 0)]
    _install([*program, _op(_RET, _ALLOW)], 0)


def refuse_lowerdir_plus() -> None:
    """EINVAL for fsconfig(..., "lowerdir+", ...), as before Linux 6.7: a thread of this process looks at the string."""
    listener = _install([_op(_LOAD, 0), _op(_JEQ, FSCONFIG, 0, 1), _op(_RET, _NOTIFY), _op(_RET, _ALLOW)], 1 << 3)
    threading.Thread(target=_answer, args=(listener,), daemon=True).start()


def _answer(listener: int) -> None:
    while True:
        request = ctypes.create_string_buffer(80)
        if _libc.ioctl(listener, ctypes.c_ulong(_NOTIF_RECV), request) < 0:
            continue
        ident, pid, _, _, _, _, *arguments = struct.unpack("=QIIiIQ6Q", request.raw)
        refused = arguments[1] == _SET_STRING and _string(pid, arguments[2]) == b"lowerdir+"
        answer = struct.pack("=QqiI", ident, 0, -errno.EINVAL if refused else 0, 0 if refused else _CONTINUE)
        _libc.ioctl(listener, ctypes.c_ulong(_NOTIF_SEND), ctypes.create_string_buffer(answer, 24))


def _string(pid: int, address: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(32).partition(b"\0")[0]


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _install(program: list[bytes], flags: int) -> int:
    code = ctypes.create_string_buffer(b"".join(program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    result: int = _libc.syscall(_SYS_SECCOMP[os.uname().machine], 1, flags, ctypes.create_string_buffer(fprog))
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return result
