"""The user namespace of the sandboxes of a builder that has no id but its own.

The builder is in one of its own already, in which it kept its number: what it starts beside the server (ssh, git) goes by that.
In the server's, one further down, the number is root's. Both see the same files as their own, and have every right over them.

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel


def single_uid() -> bool:
    """Whether this process's user namespace has a single user."""
    with open("/proc/self/uid_map", "rb") as file:
        extents = file.read().split(b"\n")
    return len(extents) == 2 and extents[0].split()[2] == b"1"


def enter_single_uid() -> None:
    """Go to where this user is root, in a mount namespace that belongs to it: else the mount calls are refused."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and gid == 0:
        kernel.unshare(kernel.CLONE_NEWNS)
        return
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)
