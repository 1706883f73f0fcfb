"""From an image's file system and a command to a sandbox: who runs it, where its files lie, what it finds in /etc.

A RUN step and `pybuild run` are the same sandbox.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from builder.engine import accounts, mountpoints
from builder.errors import BuildError, DockerfileError, SandboxError
from builder.layers import owners
from builder.layers.folder import set_root
from builder.layers.ownerform import form, noted
from builder.sandbox.resources import numbered
from builder.sandbox.spec import INSECURE, BindMount, FileMount, SandboxSpec, Shape
from builder.sandbox.stack import NAME_SERVER
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.engine.mountpoints import Attachment
    from builder.engine.roots import Root, Roots
    from builder.errors import Span
    from builder.layers.index import Tree
    from builder.sandbox.spec import Mount, ScriptMount

CONTAINER_FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")


MAX_LOWERS = 500


class Process(NamedTuple):
    """A command as an image or a RUN wants it; `user` is what USER takes."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    network: Literal["host", "none", "stack"]
    hosts: tuple[tuple[str, str], ...]
    shm_size: int
    scripts: tuple[ScriptMount, ...] = ()
    """What it finds below /dev beside the devices."""
    attachments: tuple[Attachment, ...] = ()
    """What RUN --mount asks for."""
    insecure: bool = False
    """It has all rights that the builder can give (RUN --security=insecure)."""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """Name, soft and hard; -1 for no limit."""
    readonly: bool = False
    """The root file system cannot be written to."""
    groups: tuple[str, ...] = ()
    """Beside those that the user has in the image."""
    stack: str = ""
    """The program behind the network `stack`."""
    chroot: bool = False
    """It runs in a copy of its root file system, without namespaces and mounts (`rungs`)."""
    make_cwd: bool = False
    """Its folder is made where it is missing, as root's."""


class Prepared(NamedTuple):
    spec: SandboxSpec
    folders: list[str]
    """The folder of each layer, the lowest first."""
    attached: tuple[tuple[Mount, Span | None], ...] = ()
    """Of the spec's mounts, those that the process asked for, and where."""


def prepare(roots: Roots, root: Root, scratch: str, process: Process) -> Prepared:
    """The sandbox for `process` on `root`; its upper and work folders are made in `scratch`.

    Raises BuildError for an unknown user, for an image in which nothing can be mounted at /proc, /etc/hosts and the like, and
    for an environment that no process can have.
    """
    if nameless := [value for name, value in process.env if not name]:
        raise BuildError(
            f"the environment has a variable without a name: '={nameless[0][:40]}'", hint="the image is damaged: see its Env"
        )
    tree = roots.tree(root)
    upper = new_folder(scratch, "upper")
    # The upper's root *is* the command's `/`, so it needs the metadata of the image's.
    set_root(upper, tree)
    points = mountpoints.find(tree, CONTAINER_FILES, process.attachments, (process.cwd,) if process.make_cwd else ())
    stub = () if points.stub.is_empty else (roots.stub(points.stub),)
    if process.chroot:
        _refuse_unmade(process, points)
    else:
        refuse_too_many(len(root.layers), most=MAX_LOWERS - len(stub))
    # Before anything is read of it: a layer that is but a compressed tar would be unpacked for that, too.
    folders = roots.folders(root)
    who = _identity(process, accounts.of_image(roots, root))
    contents = {
        "etc/hosts": _hosts(process),
        "etc/hostname": process.hostname.encode() + b"\n",
        "etc/resolv.conf": _name_servers(process.network),
    }
    env = dict(process.env)
    env.setdefault("HOME", who.home)
    spec = SandboxSpec(
        lowers=(*stub, *reversed(folders)),
        upper=upper,
        work=new_folder(scratch, "work"),
        argv=process.argv,
        env=tuple(env.items()),
        cwd=process.cwd,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        hostname=process.hostname,
        network=process.network,
        stack=process.stack,
        shm_size=process.shm_size,
        without=_without(process),
        ulimits=numbered(process.ulimits),
        chroot=process.chroot,
        readonly=process.readonly,
        emulate=_emulation(),
        mounts=(
            *(FileMount(path, contents[name]) for name, path in points.files),
            *process.scripts,
            *(mount for mount, _ in points.mounts),
        ),
    )
    return Prepared(spec, folders, points.mounts)


def shape(process: Process) -> Shape:
    """That of its sandbox."""
    return Shape(process.network, process.stack, process.shm_size, _without(process), _emulation())


def _without(process: Process) -> frozenset[str]:
    return INSECURE if process.insecure else frozenset()


def _emulation() -> Literal["", "mknod", "owners"]:
    return "owners" if noted() else "mknod" if form() else ""


def _identity(process: Process, known: accounts.Accounts) -> accounts.Identity:
    """Raises BuildError for whom the image does not know, and SandboxError where the sandbox lacks his ids."""
    who = accounts.identity(process.user, known)
    if process.groups:
        who = who._replace(groups=(*who.groups, *(accounts.group_number(group, known) for group in process.groups)))
    for gid in (who.gid, *who.groups):
        owners.require(who.uid, gid)
    return who


def _refuse_unmade(process: Process, points: mountpoints.MountPoints) -> None:
    """What takes a mount or a namespace, which a chroot has not."""
    for mount, span in points.mounts:
        if isinstance(mount, FileMount):
            raise DockerfileError(
                "a secret cannot be mounted as a file with --isolation=chroot: it would lie on the disk",
                span,
                hint="take it from a variable: --mount=type=secret,id=...,env=NAME",
            )
        if isinstance(mount, BindMount) and not mount.readonly and span is None:
            raise SandboxError(
                f"--isolation=chroot gives no folder of the host to be written to: {mount.target}",
                hint="add :ro, which shows a copy; 'pybuild doctor' says what a stronger rung takes",
            )
    unmade = {"--security=insecure": process.insecure, "--read-only": process.readonly}
    if asked := [name for name, value in unmade.items() if value]:
        raise SandboxError(f"--isolation=chroot cannot do {asked[0]}", hint="see 'pybuild doctor' for a stronger rung")


def exec_hint(process: Process, error: int, tree: Tree) -> str | None:
    """What an exec that failed with errno `error` means, None where the program is simply not there."""
    match error:
        case errno.EACCES:
            return "the file is not executable: chmod +x it"
        case errno.ENOEXEC:
            return "it is no program for this machine, or a script without a first line like #!/bin/sh"
        case errno.E2BIG:
            return "the command and its environment are longer than the kernel takes: put them into files"
        case errno.ENOENT if _is_there(process, tree):
            return "the file is there, but not the interpreter that it asks for: see its first line (CRLF?), or its C library"
    return None


def _is_there(process: Process, tree: Tree) -> bool:
    program = process.argv[0]
    folders = [process.cwd] if "/" in program else dict(process.env).get("PATH", "").split(":")
    with suppress(BuildError):  # A link that leads nowhere.
        for folder in folders:
            path = os.path.join(folder, program).lstrip("/").encode("utf-8", "surrogateescape")
            if tree.lookup(tree.resolve(path)) is not None:
                return True
    return False


def refuse_too_many(layers: int, *, most: int = MAX_LOWERS) -> None:
    """overlayfs takes 500 lower folders (measured); where the image lacks a mount point, one of them holds it."""
    if layers > most:
        raise BuildError(
            f"the image has {layers} layers, and a command can look into {most} at most",
            hint="join RUN lines with &&, or COPY --from an earlier stage into a new one",
        )


def _hosts(process: Process) -> bytes:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"127.0.1.1\t{process.hostname}"]
    lines += [f"{address}\t{name}" for name, address in process.hosts]
    return "".join(f"{line}\n" for line in lines).encode()


def _name_servers(network: Literal["host", "none", "stack"]) -> bytes:
    """Under host network the host's: the one declared exception to an environment that is the same everywhere (SPEC, 5)."""
    if network != "host":
        return NAME_SERVER if network == "stack" else b""
    try:
        with open("/etc/resolv.conf", "rb") as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return b""


def new_folder(scratch: str, name: str) -> str:
    """An empty folder of mode 0755 in `scratch`."""
    path = os.path.join(scratch, name)
    os.mkdir(path, 0o755)
    # A default ACL of the store's folder must not reach the sandbox (SPEC section 5).
    for attribute in ("system.posix_acl_default", "system.posix_acl_access"):
        if attribute in os.listxattr(path):
            os.removexattr(path, attribute)
    os.chmod(path, 0o755)
    return path
