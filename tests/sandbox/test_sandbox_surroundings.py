"""What a command finds around it: devices, /proc, /sys, network, capabilities, and no way to the host."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys

import pytest
from sandbox_bpf import KEYCTL
from sandbox_room import BUSYBOX, Room

from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import BindMount, FileMount, ScriptMount

_libc = ctypes.CDLL(None)

# docs.docker.com lists the 14; the mask is theirs by the numbers of linux/capability.h.
DOCKER_MASK = "00000000a80425fb"


def test_dev(room: Room, launcher: Launcher) -> None:
    _, written = room.sh(
        launcher, "cd /dev; stat -c '%n %F %t:%T %a' *; for l in fd stdin stdout stderr ptmx; do readlink $l; done"
    )
    assert written.splitlines() == [
        "fd symbolic link 0:0 777",
        "full character special file 1:7 666",
        "mqueue directory 0:0 1777",
        "null character special file 1:3 666",
        "ptmx symbolic link 0:0 777",
        "pts directory 0:0 755",
        "random character special file 1:8 666",
        "shm directory 0:0 1777",
        "stderr symbolic link 0:0 777",
        "stdin symbolic link 0:0 777",
        "stdout symbolic link 0:0 777",
        "tty character special file 5:0 666",
        "urandom character special file 1:9 666",
        "zero character special file 1:5 666",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_devices_work(room: Room, launcher: Launcher) -> None:
    script = (
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; (echo > /dev/full) 2>&1;"
        "echo shm > /dev/shm/x; cat /dev/shm/x; df -k /dev/shm | tail -n 1 | awk '{print $2}'"
    )
    _, written = room.sh(launcher, script, shm_size=2 << 20)
    assert written.splitlines() == ["3", "3", "sh: write error: No space left on device", "shm", "2048"]


def test_a_pseudo_terminal_of_its_own(room: Room, launcher: Launcher) -> None:
    code = "import os; a, b = os.openpty(); print(os.ttyname(b), sorted(os.listdir('/dev/pts')))"
    assert room.python(launcher, code, uid=1000, gid=1000)[1] == "/dev/pts/0 ['0', 'ptmx']\n"


def test_masked_and_readonly_paths(room: Room, launcher: Launcher) -> None:
    """Docker's two lists, as the command sees them (a kernel need not have each)."""
    masked = (
        "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi"
        " /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware"
    )
    script = f"""
for path in {masked}; do
    if [ -d $path ]; then [ -z "$(ls -A $path)" ] || echo shows $path; touch $path/x 2>/dev/null && echo takes $path/x
    elif [ -e $path ]; then [ -z "$(head -c 1 $path)" ] || echo shows $path; fi
done
for path in /proc/bus /proc/fs /proc/irq /proc/sys; do
    grep " $path ro,nosuid,nodev,noexec" /proc/self/mountinfo > /dev/null || [ ! -e $path ] || echo writable $path
done
cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness
[ -e /proc/keys ] && [ -d /sys/firmware ] && [ -e /proc/sys/kernel ] && echo looked
"""
    _, written = room.sh(launcher, script)
    assert written.splitlines() == ["sh: can't create /proc/sys/vm/swappiness: Read-only file system", "looked"]


def test_sys_is_readonly_and_without_cgroups(room: Room, launcher: Launcher) -> None:
    script = "chmod 0555 /sys/fs/cgroup || ls -A /sys/fs/cgroup; ls -d /sys/class/net"
    outcome, written = room.sh(launcher, script)
    assert (outcome.code, written.splitlines()) == (
        0,
        ["chmod: /sys/fs/cgroup: Read-only file system", "/sys/class/net"],
    )


def test_no_path_of_the_host_shows(room: Room, launcher: Launcher) -> None:
    _, written = room.sh(launcher, "cat /proc/self/mountinfo /proc/1/environ /proc/1/cmdline; ls -l /proc/1/exe /proc/1/cwd")
    assert room.folder not in written
    assert "/builder/" not in written


def test_capabilities_of_root_and_of_others(room: Room, launcher: Launcher) -> None:
    room_status = {}
    for uid in (0, 1000):
        _, written = room.sh(launcher, "cat /proc/self/status", uid=uid)
        lines = (line.split(":\t") for line in written.splitlines())
        room_status[uid] = {key: value for key, value in lines if key.startswith("Cap") or key in ("NoNewPrivs", "Seccomp")}
    none = "0" * 16
    common = {"CapInh": none, "CapBnd": DOCKER_MASK, "CapAmb": none, "NoNewPrivs": "0", "Seccomp": "2"}
    assert room_status[0] == common | {"CapPrm": DOCKER_MASK, "CapEff": DOCKER_MASK}
    assert room_status[1000] == common | {"CapPrm": none, "CapEff": none}


def test_setuid_programs_work(room: Room, launcher: Launcher) -> None:
    os.unlink(room.path("bin/su"))
    shutil.copy(BUSYBOX, room.path("bin/su"))
    os.chmod(room.path("bin/su"), 0o4755)
    room.write("etc/passwd", "root::0:0::/:/bin/sh\nuser::1000:1000::/:/bin/sh\n")
    outcome, written = room.sh(launcher, "id -u; /bin/su -c 'id -u; cat /proc/self/status' root", uid=1000, gid=1000)
    lines = written.splitlines()
    assert (outcome.code, lines[:2]) == (0, ["1000", "0"])
    # No more than the sandbox's root has.
    assert f"CapEff:\t{DOCKER_MASK}" in lines


def test_what_docker_lets_root_do(room: Room, launcher: Launcher) -> None:
    script = (
        "set -e; chown 12:34 /etc/hosts; mknod /tmp/null c 1 3; mkfifo /tmp/fifo; chmod 6755 /bin/busybox; chroot / /bin/true"
    )
    os.symlink("busybox", room.path("bin/chroot"))
    outcome, written = room.sh(launcher, script)
    assert (outcome.code, written) == (0, "")


@pytest.mark.parametrize("attempt", ["mount -t tmpfs none /mnt", "umount /proc", "hostname other", "mount -o remount,dev /"])
def test_what_docker_does_not_let_root_do(room: Room, launcher: Launcher, attempt: str) -> None:
    outcome, written = room.sh(launcher, attempt)
    assert (outcome.code, any(words in written for words in ("not permitted", "ermission denied"))) == (1, True), written


def test_a_device_in_a_writable_bind_mount_is_dead(room: Room, launcher: Launcher) -> None:
    cache = os.path.join(room.folder, "cache")
    os.mkdir(cache)
    mounts = (BindMount(cache, "/mnt", readonly=False),)
    _, written = room.sh(launcher, "mknod /mnt/zero c 1 5; head -c 1 /mnt/zero", mounts=mounts)
    assert written == "head: /mnt/zero: Permission denied\n"


@pytest.mark.parametrize("number", range(3, 16))
def test_no_folder_of_the_host_through_a_descriptor(room: Room, launcher: Launcher, number: int) -> None:
    # CVE-2024-21626: a cwd that is a descriptor which the program before the command holds open.
    outcome, written = room.sh(launcher, "pwd; ls", cwd=f"/proc/self/fd/{number}")
    assert outcome.failed_at == "cwd", written


def test_network_none(room: Room, launcher: Launcher) -> None:
    outcome, written = room.sh(launcher, "ls /sys/class/net; ping -c 1 -W 5 127.0.0.1 > /dev/null && echo lo", network="none")
    assert (outcome.code, written.split()) == (0, ["lo", "lo"])


def test_network_host(room: Room, launcher: Launcher) -> None:
    _, written = room.sh(launcher, "readlink /proc/self/ns/net")
    assert written.strip() == os.readlink("/proc/self/ns/net")


def test_the_hosts_name_stays(room: Room, launcher: Launcher) -> None:
    before = os.uname().nodename
    _, written = room.sh(launcher, "hostname; cat /proc/sys/kernel/hostname", hostname="other-name")
    assert written.split() == ["other-name", "other-name"]
    assert os.uname().nodename == before


def test_shared_memory_is_not_shared(room: Room, launcher: Launcher) -> None:
    ident = _libc.shmget(0, 4096, 0o666)
    assert ident >= 0
    try:
        _, written = room.sh(launcher, "wc -l < /proc/sysvipc/shm; ls -A /dev/mqueue")
    finally:
        _libc.shmctl(ident, 0, None)
    # The line with the names of the columns.
    assert written == "1\n"


_SESSION_KEYRING = """
import ctypes, os
print(ctypes.CDLL(None).syscall({"x86_64": 250, "aarch64": 219, "riscv64": 219}[os.uname().machine], 0, -3, 1))
"""


def test_a_new_session_keyring(room: Room, launcher: Launcher) -> None:
    # That of the builder may hold its secrets. The command may not ask, so the filter is off for once.
    _, written = room.python(launcher, _SESSION_KEYRING, without=frozenset({"seccomp"}))
    of_builder = _libc.syscall(KEYCTL, 0, -3, 1)
    assert int(written) > 0
    assert of_builder > 0
    assert int(written) != of_builder


_OWN_FILE = """
import fcntl, os
fd = os.open("/proc/self/exe", os.O_RDONLY)
print(os.readlink("/proc/self/exe"), fcntl.fcntl(fd, 1034) & 15)
try:
    os.open("/proc/self/exe", os.O_WRONLY)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("command", ["/proc/self/exe", "/bin/link", "/bin/script"])
def test_the_program_before_the_command_is_no_file_of_the_host(room: Room, launcher: Launcher, command: str) -> None:
    # CVE-2019-5736. The four seals are those against sealing, shrinking, growing and writing (fcntl(2)).
    os.symlink("/proc/self/exe", room.path("bin/link"))
    room.write("bin/script", "#!/proc/self/exe\n" + _OWN_FILE, 0o755)
    arguments = () if command == "/bin/script" else ("-I", "-S", "-c", _OWN_FILE)
    outcome, written = room.run(
        launcher, command, *arguments, mounts=room.host_python(), env=(("PYTHONHOME", sys.base_prefix),)
    )
    assert "sealed-server" not in outcome.fallbacks
    assert written.splitlines() == ["/memfd:pybuild-sandbox (deleted) 15", "Text file busy"]


def test_scripts(room: Room, launcher: Launcher) -> None:
    """Below /dev, executable and read-only; the other small files stay as they are, and nothing reaches the upper."""
    script = b'#!/bin/sh\nstat -c \'%a %u\' "$0"; (echo x >> "$0") 2>/dev/null || echo refused\n'
    mounts = (FileMount("/etc/hosts", b"h\n"), ScriptMount("/dev/pipes/a b", script), ScriptMount("/dev/pipes/c", b"#!/none\n"))
    spec = room.spec("/dev/pipes/a b", mounts=mounts)
    written: list[bytes] = []
    outcome = launcher.run(spec, output=written.append)
    assert (outcome.code, b"".join(written)) == (0, b"755 0\nrefused\n")
    assert os.listdir(spec.upper) == []
    _, said = room.sh(launcher, "ls /dev/pipes; cat /etc/hosts; grep -o 'etc/hosts.*noexec' /proc/mounts", mounts=mounts)
    assert said.splitlines() == ["a b", "c", "h", "etc/hosts tmpfs rw,nosuid,nodev,noexec"]
    outcome, _ = room.run(launcher, "/dev/pipes/c", mounts=mounts)
    assert (outcome.failed_at, outcome.exec_error) == ("exec", errno.ENOENT)
