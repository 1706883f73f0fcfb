"""What a failed attempt at a sandbox means on this machine, and what to change: the kernel's errno alone says little."""

from __future__ import annotations

import errno
import os
import sys

from builder.values import NamedTuple

_SYSCTLS = (
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
    "user.max_user_namespaces",
    "user.max_mnt_namespaces",
)


_ELSEWHERE = "put the store on ext4, xfs, btrfs or a tmpfs of Linux 6.6 with --root; NFS and a container's own root have none"


class Machine(NamedTuple):
    """What may stand in the way."""

    sysctls: tuple[tuple[str, int], ...] = ()
    """Those that this kernel has."""
    container: bool = False
    no_new_privs: bool = False
    filtered: bool = False
    """A seccomp filter is on this process."""
    root: bool = False
    """The builder is root, and needs no namespace of its own."""
    program: str = ""
    """The Python that runs the builder, for an AppArmor profile."""

    def sysctl(self, name: str) -> int | None:
        return dict(self.sysctls).get(name)


def read_machine() -> Machine:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.split(":", 1) for line in file if ":" in line)
    sysctls = []
    for name in _SYSCTLS:
        try:
            with open(f"/proc/sys/{name.replace('.', '/')}", encoding="utf-8") as file:
                sysctls.append((name, int(file.read())))
        except (FileNotFoundError, PermissionError, ValueError):
            continue  # Not every kernel has it.
    return Machine(
        tuple(sysctls),
        any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv")),
        status.get("NoNewPrivs", "").strip() == "1",
        status.get("Seccomp", "").strip() == "2",
        os.geteuid() == 0,
        os.path.realpath(sys.executable),
    )


def explain(stage: str, code: int, said: str, machine: Machine) -> tuple[str, str]:
    """Reason and hint for an attempt that failed at `stage` (`ladder.Trial`) with errno `code`."""
    reason = os.strerror(code) if code else ""
    first = stage.split(" ")[0]
    if stage == "user namespace":
        return _no_namespace(code, machine)
    if stage == "ids":
        return said, _no_ids(said, machine)
    if stage == "powers" or (first in ("clone", "mounts", "overlay") and code == errno.EPERM):
        if machine.sysctl("kernel.apparmor_restrict_unprivileged_userns"):
            return "AppArmor lets a user namespace come to life without its powers", _profile(machine)
        what = "the user namespace has no powers" if not machine.root else "root may make no namespace or mount"
        return f"{what} ({said or stage})", _outside(machine)
    if first == "mounts" and code == errno.EINVAL:
        # mount(2): `/` is no mount, and no change of what is mounted there counts.
        return "the builder runs in a chroot", "start it outside, or bind the chroot's folder to itself before: mount --bind"
    if stage == "mount /proc":
        return (
            f"/proc cannot be mounted ({reason}): parts of the builder's own are hidden",
            "in a container: --security-opt systempaths=unconfined (Docker), --security-opt unmask=ALL (podman), "
            "procMount: Unmasked (Kubernetes)",
        )
    if first == "attributes":
        return "the store's file system keeps no extended attributes of users", _ELSEWHERE
    if first == "owners":
        return "the store's file system gives files to no other user", _ELSEWHERE
    if first == "overlay":
        return (
            f"the store's file system cannot carry an overlay ({stage.removeprefix('overlay').strip() or reason})",
            _ELSEWHERE,
        )
    if first == "probe":
        return f"the probe failed: {said or reason}", ""
    return f"the sandbox could not be made: {stage}: {reason}", _outside(machine) if code == errno.EPERM else ""


def _no_namespace(code: int, machine: Machine) -> tuple[str, str]:
    if machine.sysctl("kernel.unprivileged_userns_clone") == 0:
        return (
            "this kernel lets only root make user namespaces (kernel.unprivileged_userns_clone is 0)",
            "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1, and in /etc/sysctl.d for the next boot",
        )
    if machine.sysctl("user.max_user_namespaces") == 0 or code == errno.ENOSPC:
        return (
            f"there may be no more user namespaces (user.max_user_namespaces is {machine.sysctl('user.max_user_namespaces')})",
            "allow more: sudo sysctl -w user.max_user_namespaces=10000, and in /etc/sysctl.d for the next boot",
        )
    if code == errno.EPERM:
        if machine.sysctl("kernel.apparmor_restrict_unprivileged_userns"):
            return "AppArmor refuses user namespaces", _profile(machine)
        what = "a seccomp filter, as a container has one," if machine.filtered else "a chroot or a security module"
        return f"user namespaces are refused, by {what} it seems", _outside(machine)
    return f"the kernel makes no user namespace: {os.strerror(code)}", "the kernel needs CONFIG_USER_NS"


def _no_ids(said: str, machine: Machine) -> str:
    if "owned by a different user" in said:
        return "your group is not that of your account, as after newgrp: start the builder from a new login"
    if machine.no_new_privs:
        return (
            "the builder runs under no_new_privs, where newuidmap has no rights: start it without (systemd: NoNewPrivileges=no)"
        )
    if machine.container:
        return "in a container newuidmap needs its rights: start it with --cap-add SETUID,SETGID, on a mount without nosuid"
    return "newuidmap must be setuid root, or have file capabilities: reinstall the package uidmap"


def _outside(machine: Machine) -> str:
    if machine.container:
        return (
            "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined, or --privileged"
        )
    return "start the builder outside of the sandbox, chroot or container that it is in"


def _profile(machine: Machine) -> str:
    profile = f"abi <abi/4.0>, include <tunables/global> profile pybuild {machine.program} flags=(unconfined) {{ userns, }}"
    return (
        f"write this to /etc/apparmor.d/pybuild and load it with sudo apparmor_parser -r /etc/apparmor.d/pybuild: {profile} "
        "-- or, for all programs: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )
