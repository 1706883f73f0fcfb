"""Descriptors that go over a unix socket beside data (SCM_RIGHTS, unix(7)).

Part of the fork server's program; the builder's side of it uses this, too. By `_socket`: `socket` costs 3 ms at start.
"""

from __future__ import annotations

import _socket
import sys


def send(channel: _socket.socket, data: bytes, *fds: int) -> None:
    """Raises OSError; ConnectionError where nobody has the other end."""
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    channel.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_NOSIGNAL)


def receive(channel: _socket.socket, size: int, most: int = 1, *, stays: bool = False) -> tuple[bytes, list[int]]:
    """`size` bytes at most, empty at the end of what is said, and what came with them, which closes at an exec. What `stays`
    can be received again."""
    flags = _socket.MSG_CMSG_CLOEXEC | (_socket.MSG_PEEK if stays else 0)
    data, ancillary, _, _ = channel.recvmsg(size, _socket.CMSG_SPACE(most * 4), flags)
    found: list[int] = []
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            found += memoryview(rights[: len(rights) // 4 * 4]).cast("i")
    return data, found
