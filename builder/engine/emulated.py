"""What a step is told of a sandbox in which owners and identities are emulated (`sandbox.supervisor`)."""

from __future__ import annotations

from builder.errors import SandboxError
from builder.layers.owners import MORE_IDS


def emulated(notes: tuple[str, ...]) -> list[str]:
    """Words for what the supervisor said of one command. Raises SandboxError where it failed itself: what the command was told
    then was wrong, and nobody knows what it made of that."""
    faults = [note.partition(":")[2] for note in notes if note.startswith("internal:")]
    if faults:
        raise SandboxError(
            f"the supervisor of the sandbox failed: {faults[0]}",
            hint="this is a fault of pybuild: please report it; with ids in /etc/subuid the build needs no supervisor",
        )
    out = []
    users = sorted({int(note.partition(":")[2]) for note in notes if note.startswith("switched:")})
    if users:
        named = ", ".join(map(str, users[:5])) + (", ..." if len(users) > 5 else "")
        out.append(
            f"programs ran as another user (uid {named}), and were refused nothing that root may do: a sandbox with a single"
            " uid cannot do that, and who asks a unix socket for the other end's user (as PostgreSQL does) is told root. Owners"
            " in the layer are right"
        )
    if "32-bit" in notes:
        out.append("a 32-bit program was not run: a sandbox with a single uid cannot answer for it")
    if "unresolved" in notes:
        out.append("a file that another user made through a link of /proc belongs to root in the layer")
    return out


def devices_as_files(emulate: str, devices: frozenset[bytes]) -> list[str]:
    """Words for the devices that one command made where owners are real: there alone programs see what stands for them."""
    if emulate != "mknod" or not devices:
        return []
    named = ", ".join(device.decode() for device in sorted(devices)[:5]) + (", ..." if len(devices) > 5 else "")
    return [
        f"device nodes were made ({named}): the layer has them, but in a user namespace programs see empty files, and one that"
        " copies or packs them (cp, tar) copies files"
    ]


def wanted_ids(notes: tuple[str, ...]) -> list[str]:
    """Words for the ids that one command wanted and could not have; none where it had all."""
    ids = sorted({int(note.partition(":")[2]) for note in notes if note.startswith("stranger:")})
    if not ids:
        return []
    named = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return [
        f"a program wanted ids that this user namespace lacks, and was refused them ({named}): where it goes on all the same,"
        f" the result is another than root's, and is kept apart from it. {MORE_IDS[:1].upper()}{MORE_IDS[1:]}"
    ]


def made_devices(notes: tuple[str, ...]) -> frozenset[bytes]:
    """The devices that one command made, as `layers.nodes` writes them."""
    return frozenset(note.partition(":")[2].encode() for note in notes if note.startswith("device:"))
