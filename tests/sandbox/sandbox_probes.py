"""Attempts to get out of a sandbox, one for each line of its hardening: true when the attempt succeeds.

A probe succeeds with its line switched off, on the same machine, so its failure with the line on means something.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable

from sandbox_builder import Builder, ended, fresh_token
from sandbox_room import Room, run_child

from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import FileMount

Probe = Callable[[Room, Launcher, frozenset[str]], bool]


def _script(text: str, **fields: object) -> Probe:
    def probe(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
        outcome, written = room.sh(launcher, text, without=without, **fields)
        assert not outcome.failed_at, outcome
        assert outcome.code in (0, 1), (outcome, written)
        return outcome.code == 0

    return probe


def host_device(folder: str) -> str:
    """The arguments of mknod for a device of the host that the builder itself may open: a disk, where one lets it."""
    with open("/proc/partitions", encoding="ascii") as file:
        disks = [(int(words[0]), int(words[1])) for line in file if (words := line.split()) and words[0].isdecimal()]
    for major, minor in (*disks, (7, 0)):
        path = os.path.join(folder, f"disk-{major}-{minor}")
        if not os.path.lexists(path):
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            # A device cgroup, or nothing behind the number.
            continue
        return f"b {major} {minor}"
    return "c 1 5"


def _open_host_device(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    device = host_device(room.folder)
    text = f"for d in /tmp /dev; do mknod $d/disk {device} || exit 9; dd if=$d/disk of=/dev/null bs=512 count=1"
    outcome, written = room.sh(launcher, text + " 2>&1 && exit 0; done; exit 1", without=without)
    assert outcome.code in (0, 1), written
    return outcome.code == 0


def _write_through_a_link(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    """An image whose /etc points to a folder of the host."""
    victim = os.path.join(room.folder, "victim")
    hostile = os.path.join(room.folder, "hostile")
    os.makedirs(victim, exist_ok=True)
    os.makedirs(hostile, exist_ok=True)
    with open(victim + "/hosts", "w", encoding="utf-8") as file:
        file.write("the host's own")
    if not os.path.lexists(hostile + "/etc"):
        os.symlink(victim, hostile + "/etc")
    room.sh(
        launcher, "true", lowers=(hostile, room.rootfs), mounts=(FileMount("/etc/hosts", b"the sandbox's"),), without=without
    )
    with open(victim + "/hosts", encoding="utf-8") as file:
        return file.read() != "the host's own"


_KEYCTL = """
import ctypes, os
number = {"x86_64": 250, "aarch64": 219, "riscv64": 219}[os.uname().machine]
raise SystemExit(0 if ctypes.CDLL(None).syscall(number, 0, -3, 0) >= 0 else 1)
"""


def _call_keyctl(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    outcome, written = room.python(launcher, _KEYCTL, without=without)
    assert outcome.code in (0, 1), written
    return outcome.code == 0


_CONNECT = """
import _socket, sys
s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
try:
    s.connect("\\0" + sys.argv[1])
except PermissionError:
    raise SystemExit(1)
"""


def _connect_to_abstract_socket(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    name = f"pybuild-test-{os.getpid()}-{room.uppers}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + name)
        listener.listen()
        outcome, written = room.python(launcher, _CONNECT, name, without=without)
    assert outcome.code in (0, 1), written
    return outcome.code == 0


def _shares(namespace: str) -> Probe:
    def probe(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
        _, written = room.sh(launcher, f"readlink /proc/self/ns/{namespace}", without=without)
        assert written.startswith(namespace + ":["), written
        return written.strip() == os.readlink(f"/proc/self/ns/{namespace}")

    return probe


def _sees_host_dev(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    return _script(f'[ "$(stat -c %d /dev)" = {os.stat("/dev").st_dev} ]')(room, launcher, without)


_IN_OWN_MOUNT_NAMESPACE = """
import os, sys
from builder.sandbox.launcher import Launcher
from sandbox_builder import Builder, ended, fresh_token
from sandbox_room import Room, run_child
with Launcher() as launcher:
    written = Room(sys.argv[1]).sh(launcher, "readlink /proc/self/ns/mnt", without=frozenset(sys.argv[2:]))[1]
assert written.startswith("mnt:["), written
print(written.strip() == os.readlink("/proc/self/ns/mnt"))
"""


def _shares_mounts(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    # Without the line the sandbox's mounts stay where they were made: in a namespace that ends with this child.
    return run_child(_IN_OWN_MOUNT_NAMESPACE, room.folder, *without, before=("unshare", "--mount")) == "True\n"


def _outlives_builder_and_server(room: Room, launcher: Launcher, without: frozenset[str]) -> bool:
    """The builder is killed while the server stands still, so that neither can act: only the kernel is left."""
    builder = Builder(room.folder, fresh_token(), *without)
    server = os.pidfd_open(builder.server)
    try:
        os.kill(builder.server, signal.SIGSTOP)
        builder.process.kill()
        # The builder's death kills the server, whose death sends the signals to its children.
        assert ended(server, 10_000)
        return not all(ended(pidfd, 1_000) for pidfd in builder.pidfds)
    finally:
        os.close(server)
        builder.clean_up()


PROBES: dict[str, Probe] = {
    # A network of its own, so that the host's keeps its lo whatever happens.
    "capabilities": _script("ip link set lo down 2>/dev/null || exit 1", network="none"),
    "seccomp": _call_keyctl,
    "nodev": _open_host_device,
    "detached-mounts": _write_through_a_link,
    # The same value again: harmless where it succeeds.
    "masked-paths": _script(
        'v=$(cat /proc/sys/vm/swappiness); (echo $v > /proc/sys/vm/swappiness) 2>/dev/null || [ -n "$(head -c 1 /proc/keys)" ]'
    ),
    # The mode that it has already: it is the host's.
    "readonly-proc": _script("chmod 0444 /proc/version 2>/dev/null"),
    "readonly-sys": _script("chmod 0555 /sys 2>/dev/null"),
    "landlock-scope": _connect_to_abstract_socket,
    "pid-namespace": _shares("pid"),
    "pdeathsig": _outlives_builder_and_server,
    "mount-namespace": _shares_mounts,
    "ipc-namespace": _shares("ipc"),
    "uts-namespace": _shares("uts"),
    "cgroup-namespace": _shares("cgroup"),
    "own-dev": _sees_host_dev,
    # The mode that it has already: the node is the host's, and must stay as it is when the line is off.
    "readonly-nodes": _script("chmod 0666 /dev/full"),
    # The session's leader, seen from inside: 0 when it is outside.
    "session": _script('set -- $(cat /proc/self/stat); [ "$6" != 1 ]'),
}
"""One for each name of `spec.HARDENING`."""

WITH_A_CHILD = ("mount-namespace", "pdeathsig")
"""Those that start a builder of their own."""
