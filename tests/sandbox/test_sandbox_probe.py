"""A machine that lets nobody make a sandbox says so before anything runs, and what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sandbox_room import Room, run_child

from builder.errors import render
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain, require
from builder.sandbox.spec import Outcome

_LESS_CAPABLE = """
import json, sys
from builder.errors import SandboxError
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain, require
from sandbox_room import Room
try:
    require()
except SandboxError as error:
    said = [error.message, error.hint, error.exit_code]
with Launcher() as launcher:
    outcome = Room(sys.argv[1]).run(launcher, "true")[0]
told = explain(outcome)
print(json.dumps([said, outcome.failed_at, outcome.exec_error, told and told.hint]))
"""

_A_USER = """
import os
from builder.errors import SandboxError
from builder.sandbox.probe import require
from builder.sandbox.rungs import Isolation
os.setresuid(1000, 1000, 1000)
try:
    require(Isolation(None, "no rung works", "change this"))
except SandboxError as error:
    print(error.message, "|", error.hint)
"""


def test_this_machine_will_do() -> None:
    require()


def test_a_user_is_told_why_there_is_no_sandbox() -> None:
    assert run_child(_A_USER) == "no rung works | change this\n"


def test_root_of_an_ordinary_container_is_told_what_it_lacks(tmp_path: Path) -> None:
    without = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert json.loads(run_child(_LESS_CAPABLE, str(tmp_path), before=without)) == [
        [
            "the builder is root without CAP_SYS_ADMIN",
            "in a container, start it with --privileged (Docker's default leaves out CAP_SYS_ADMIN)",
            6,
        ],
        "clone",
        1,
        "let this machine make namespaces: in a container, start it with --privileged",
    ]


_FEWER_CAPABILITIES = """
import sys
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import require
from sandbox_room import Room
require()
with Launcher() as launcher:
    outcome, written = Room(sys.argv[1]).sh(launcher, "cat /proc/self/status")
print("capabilities" in outcome.fallbacks, [line for line in written.splitlines() if line.startswith("CapEff")])
"""


def test_a_capability_that_the_builder_lacks_is_named(tmp_path: Path) -> None:
    # Docker's mask without CAP_AUDIT_WRITE (29) and CAP_MKNOD (27).
    before = ("setpriv", "--bounding-set=-audit_write,-mknod", "--inh-caps=-audit_write,-mknod")
    written = run_child(_FEWER_CAPABILITIES, str(tmp_path), before=before)
    assert written == "True ['CapEff:\\t00000000800425fb']\n"


_LOWER_LIMITS = """
import resource, sys
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 600))
with Launcher() as launcher:
    outcome, written = Room(sys.argv[1]).sh(launcher, "ulimit -n; ulimit -Hn")
print(written.split(), "limits" in outcome.fallbacks)
"""


def test_limits_that_may_not_be_raised_are_named(tmp_path: Path) -> None:
    before = ("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource")
    assert run_child(_LOWER_LIMITS, str(tmp_path), before=before) == "['600', '600'] True\n"


_IN_A_CHROOT = """
import json, os, sys
from builder.sandbox import kernel
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain
from builder.sandbox.troubles import explain as reason, read_machine
from sandbox_room import Room
os.mkdir(sys.argv[1])
room = Room(sys.argv[1])
top = sys.argv[1] + "/top"
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE)
for entry in os.scandir("/"):
    if entry.is_dir(follow_symlinks=False):
        os.makedirs(top + entry.path)
        kernel.mount(os.fsencode(entry.path), os.fsencode(top + entry.path), None, kernel.MS_BIND | kernel.MS_REC)
    elif entry.is_symlink():
        os.symlink(os.readlink(entry.path), top + entry.path)
if sys.argv[2] == "bound":
    kernel.mount(os.fsencode(top), os.fsencode(top), None, kernel.MS_BIND | kernel.MS_REC)
os.chroot(top)
os.chdir("/")
with Launcher() as launcher:
    outcome, written = room.sh(launcher, "echo here")
told = explain(outcome)
why, _ = reason(outcome.failed_at, outcome.exec_error, "", read_machine())
print(json.dumps([written, told and told.hint, why]))
"""


def test_a_builder_in_a_chroot_is_told_so(tmp_path: Path) -> None:
    written, hint, reason = json.loads(run_child(_IN_A_CHROOT, str(tmp_path / "plain"), ""))
    assert (written, reason) == ("", "the builder runs in a chroot")
    assert hint == "the builder must not run in a chroot; in a container, start that with --privileged"
    # What the other hint says: a chroot that is a mount will do.
    assert json.loads(run_child(_IN_A_CHROOT, str(tmp_path / "bound"), "bound"))[:2] == ["here\n", None]


@pytest.mark.parametrize("stage", ["exec", "cwd", ""])
def test_what_is_the_commands_own_is_no_error_of_the_machine(stage: str) -> None:
    assert explain(Outcome(127, exec_error=2 if stage else 0, failed_at=stage)) is None


def test_a_store_that_cannot_carry_an_overlay(room: Room, launcher: Launcher) -> None:
    # The upper folder on a read-only file system, as one that knows no whiteouts would be.
    outcome, _ = room.run(launcher, "true", upper="/proc/self", work="/proc/self")
    error = explain(outcome)
    assert error is not None
    assert error.exit_code == 6
    assert "the sandbox could not be made: overlay" in render(error)
    assert "put the store on a file system that can carry an overlay" in render(error)


_NO_SERVER = """
import sys
from builder.errors import SandboxError
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
room = Room(sys.argv[1])
sys.executable = sys.argv[2]
with Launcher() as launcher:
    for _ in range(2):
        try:
            room.run(launcher, "true")
        except SandboxError as error:
            print(error.message)
"""


@pytest.mark.parametrize(
    ("executable", "message"),
    [
        ("/no/such/python", "the sandbox's fork server does not start: [Errno 2] No such file or directory: '/no/such/python'"),
        ("/bin/false", "the sandbox's fork server ended unexpectedly"),
    ],
)
def test_a_server_that_does_not_start(tmp_path: Path, executable: str, message: str) -> None:
    assert run_child(_NO_SERVER, str(tmp_path), executable) == f"{message}\n" * 2
