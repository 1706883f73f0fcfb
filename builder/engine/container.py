"""From an image's file system and a command to a sandbox: who runs it, where its files lie, what it finds in /etc.

A RUN step and `pybuild run` are the same sandbox.
"""

from __future__ import annotations

import os
from typing import Literal

from builder.engine import accounts, mountpoints
from builder.engine.roots import Root, Roots
from builder.layers.folder import set_root
from builder.sandbox.spec import FileMount, SandboxSpec
from builder.values import NamedTuple

CONTAINER_FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")


class Process(NamedTuple):
    """A command as an image or a RUN wants it; `user` is what USER takes."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    network: Literal["host", "none"]
    hosts: tuple[tuple[str, str], ...]
    shm_size: int


class Prepared(NamedTuple):
    spec: SandboxSpec
    folders: list[str]
    """The folder of each layer, the lowest first."""


def prepare(roots: Roots, root: Root, scratch: str, process: Process) -> Prepared:
    """The sandbox for `process` on `root`; its upper, work and stub folders are made in `scratch`.

    Raises BuildError for an unknown user and for an image in which nothing can be mounted at /proc, /etc/hosts and the like.
    """
    who = accounts.identity(process.user, image_accounts(roots, root))
    folders = roots.folders(root)
    tree = roots.tree(root)
    upper = _folder(scratch, "upper")
    # The upper's root *is* the command's `/`, so it needs the metadata of the image's.
    set_root(upper, tree)
    points = mountpoints.prepare(tree, _folder(scratch, "stub"), CONTAINER_FILES)
    contents = {
        "etc/hosts": _hosts(process),
        "etc/hostname": process.hostname.encode() + b"\n",
        "etc/resolv.conf": _name_servers() if process.network == "host" else b"",
    }
    env = dict(process.env)
    env.setdefault("HOME", who.home)
    spec = SandboxSpec(
        lowers=(points.stub, *reversed(folders)),
        upper=upper,
        work=_folder(scratch, "work"),
        argv=process.argv,
        env=tuple(env.items()),
        cwd=process.cwd,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        hostname=process.hostname,
        network=process.network,
        shm_size=process.shm_size,
        mounts=tuple(FileMount(path, contents[name]) for name, path in points.files),
    )
    return Prepared(spec, folders)


def image_accounts(roots: Roots, root: Root) -> accounts.Accounts:
    """The users and groups that the file system knows."""
    return accounts.parse(roots.read(root, b"etc/passwd"), roots.read(root, b"etc/group"))


def _hosts(process: Process) -> bytes:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"127.0.1.1\t{process.hostname}"]
    lines += [f"{address}\t{name}" for name, address in process.hosts]
    return "".join(f"{line}\n" for line in lines).encode()


def _name_servers() -> bytes:
    """The host's, the one declared exception to an environment that is the same everywhere (SPEC section 5)."""
    try:
        with open("/etc/resolv.conf", "rb") as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return b""


def _folder(scratch: str, name: str) -> str:
    path = os.path.join(scratch, name)
    os.mkdir(path, 0o755)
    # A default ACL of the store's folder must not reach the sandbox (SPEC section 5).
    for attribute in ("system.posix_acl_default", "system.posix_acl_access"):
        if attribute in os.listxattr(path):
            os.removexattr(path, attribute)
    os.chmod(path, 0o755)
    return path
