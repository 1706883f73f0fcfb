"""Keys of the cache: what a step's result depends on, as canonical bytes. Pure.

A key is the sha256 of `pybuild-key-v1`, a NUL, and canonical JSON; the record keeps that JSON, the *preimage*. Keys are made
of results (the chain ID below, the content that is copied), never of other keys, of spans, times or paths of the host, so
that an equal result anywhere stops the rebuilding. A field's meaning never changes within a version (SPEC section 7).
"""

from __future__ import annotations

from builder import canonical
from builder.hashing import sha256
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.plan.mounts import CacheMount, Mount, SecretMount, SshMount
    from builder.plan.steps import CopyStep, RunStep, WorkdirStep

VERSION = "pybuild-key-v1"


class Key(NamedTuple):
    hex: str
    preimage: bytes


def run_key(step: RunStep, root: Digest | None, platform: Platform, rung: str, contents: Sequence[str | None] = ()) -> Key:
    """`root` is the chain ID of the file system that the command starts from; None for an empty one. `contents` has, for each
    of its mounts, the digest of what is mounted, or of what a new cache begins with; None where there is no such thing.

    The proxy variables of `step` stay out: where a program fetches from must not change what it builds. So does what a
    secret, an agent or a cache holds, and whether the command line provides them.
    """
    script = step.script
    return _key(
        "run",
        root,
        argv=list(step.argv),
        cwd=step.cwd,
        env=[list(pair) for pair in step.env],
        hostname=step.hostname,
        hosts=[list(pair) for pair in step.hosts],
        mounts=[_mount(*pair) for pair in zip(step.mounts, contents, strict=True)] if step.mounts else [],
        # Which way a command reaches the network is not what it builds from: a machine without a stack gives the same result.
        network="none" if step.network == "none" else "host",
        platform=str(platform),
        rung=rung,
        security=step.security,
        shm_size=step.shm_size,
        user=step.user,
        # Most have none, and keep the key that they had before there were scripts, or limits.
        **({"script": [script.name, script.data.decode()]} if script else {}),
        **({"ulimits": [list(each) for each in step.ulimits]} if step.ulimits else {}),
    )


def _mount(mount: Mount, content: str | None) -> dict[str, object]:
    from builder.plan import mounts  # for steps that have some

    fields: dict[str, object] = {"target": mount.target, "type": mounts.kind(mount)}
    match mount:
        case mounts.BindMount():
            return fields | {"content": content, "readonly": mount.readonly}
        case mounts.CacheMount():
            fields |= {"content": content, "id": mount.id, "readonly": mount.readonly, "sharing": mount.sharing}
            return fields | _owner(mount)
        case mounts.TmpfsMount():
            return fields | {"readonly": mount.readonly, "size": mount.size}
        case mounts.SecretMount():
            return fields | {"env": mount.env, "id": mount.id, "required": mount.required} | _owner(mount)
        case mounts.SshMount():
            return fields | {"id": mount.id, "required": mount.required} | _owner(mount)


def _owner(mount: CacheMount | SecretMount | SshMount) -> dict[str, object]:
    return {"gid": mount.gid, "mode": mount.mode, "uid": mount.uid}


def copy_key(step: CopyStep, root: Digest | None, content: str) -> Key:
    """`content` is the digest of the selection, which holds names, types, modes, owners, links, and bytes, and no times.

    What `--exclude`, `--parents` and a symbolic `--chmod` do has been done to the selection; a `--link` has no `root`: it is
    the copy onto nothing.
    """
    chmod = step.chmod if isinstance(step.chmod, int) else None
    return _key("copy", root, chmod=chmod, chown=step.chown, content=content, dest=step.dest, unpack=step.unpack)


def workdir_key(step: WorkdirStep, root: Digest | None) -> Key:
    return _key("workdir", root, path=step.path, user=step.user)


def directory_key(content: str) -> Key:
    """A folder that stands for a base image, by the digest of all that it holds."""
    return _key("directory", None, content=content)


def _key(op: str, root: Digest | None, **fields: object) -> Key:
    body: Mapping[str, object] = {"op": op, "root": str(root) if root else None, **fields}
    preimage = canonical.dumps(body).encode()
    return Key(hex_of(preimage), preimage)


def hex_of(preimage: bytes) -> str:
    """The key whose preimage this is."""
    return sha256(VERSION.encode() + b"\0" + preimage).hexdigest()
