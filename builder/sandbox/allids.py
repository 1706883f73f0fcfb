"""A user namespace with all ids of the builder, each as it is outside: for root, whose steps are to be repeated in one.

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel

_IDS = "0 0 4294967294"
"""All but the last, with which it would be the map of the first namespace (user_namespaces(7))."""


def enter() -> None:
    """Raises OSError. The map is written by a child that stays outside: who has gone in may write that of his own id alone."""
    waits, go = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(go)
            if os.read(waits, 1):
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{os.getppid()}/{name}", "w", encoding="utf-8") as file:
                        file.write(_IDS)
                code = 0
        finally:
            os._exit(code)
    os.close(waits)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.write(go, b"g")
    finally:
        os.close(go)
        _, status = os.waitpid(child, 0)
    if status:
        raise PermissionError("the ids of the user namespace could not be written")
