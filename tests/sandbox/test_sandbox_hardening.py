"""Each line of the sandbox's hardening holds, and would be missed: with it switched off, the same attempt succeeds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from sandbox_bpf import FSCONFIG, KEYCTL, Refusal
from sandbox_probes import PROBES, WITH_A_CHILD, host_device
from sandbox_room import Room, run_child

from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import HARDENING, BindMount, FileMount, TmpfsMount

_RELEASE = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
LACKING = {name for name, since in {"landlock-scope": (6, 12), "overlay-lowerdir+": (6, 7)}.items() if since > _RELEASE}
"""What the kernel that the tests run on is too old for itself."""


@pytest.mark.parametrize("line", HARDENING)
def test_the_line_holds_and_is_needed(room: Room, launcher: Launcher, line: str) -> None:
    assert PROBES[line](room, launcher, frozenset()) == (line in LACKING)
    assert PROBES[line](room, launcher, frozenset((line,)))


# Older kernels: the fallback runs, says so, and the sandbox is as strong

FALLBACKS: dict[str, tuple[tuple[Refusal, ...], tuple[str, ...]]] = {
    "clone3": ((Refusal(435),), ("clone3",)),
    "close_range": ((Refusal(436),), ("close_range",)),
    "openat2": ((Refusal(437),), ("openat2",)),
    "openat2-eperm": ((Refusal(437, 1),), ("openat2",)),
    "mount_setattr": ((Refusal(442),), ("mount_setattr",)),
    "landlock": ((Refusal(444), Refusal(445), Refusal(446)), ("landlock-scope",)),
    "open_tree": ((Refusal(428),), ("mount-api", "overlay-lowerdir+")),
    "move_mount": ((Refusal(429),), ("mount-api", "overlay-lowerdir+")),
    "fsopen": ((Refusal(430),), ("mount-api", "overlay-lowerdir+")),
    "fsconfig": ((Refusal(FSCONFIG),), ("mount-api", "overlay-lowerdir+")),
    "fsconfig-string": ((Refusal(FSCONFIG, 22, second=1),), ("mount-api", "overlay-lowerdir+")),
    "fsmount": ((Refusal(432),), ("mount-api", "overlay-lowerdir+")),
    "keyctl": ((Refusal(KEYCTL),), ("session-keyring",)),
    "lowerdir+": ((), ("overlay-lowerdir+",)),
    "all": (
        tuple(Refusal(number) for number in (428, 429, 430, 431, 432, 435, 436, 437, 442, 444, KEYCTL)),
        (
            "clone3",
            "close_range",
            "landlock-scope",
            "mount-api",
            "mount_setattr",
            "openat2",
            "overlay-lowerdir+",
            "session-keyring",
        ),
    ),
}

_ON_AN_OLDER_KERNEL = """
import json, sys
import sandbox_bpf
refusals = [sandbox_bpf.Refusal(*r) for r in json.loads(sys.argv[2])]
if refusals:
    sandbox_bpf.refuse(*refusals)
else:
    sandbox_bpf.refuse_lowerdir_plus()
from test_sandbox_hardening import everyday
print(json.dumps(everyday(sys.argv[1])))
"""


def everyday(folder: str) -> dict[str, object]:
    """What a sandbox on this kernel does and does not do; runs in a child."""
    room = Room(folder)
    # More than mount(2) takes by their paths.
    lowers = [os.path.join(folder, "layers", str(number)) for number in range(59)]
    for lower in lowers:
        os.makedirs(lower)
    for name in ("ro", "rw"):
        os.makedirs(room.path(name))
        os.makedirs(os.path.join(folder, name))
    # As /var/run is one on some machines: its `..` lead to the machine's root.
    linked = os.path.join(folder, "linked")
    os.symlink("../" * folder.count("/") + folder[1:], linked)
    mounts = (
        BindMount(linked + "/ro", "/ro"),
        BindMount(folder + "/rw", "/rw", readonly=False),
        FileMount("/etc/hosts", b"127.0.0.1 localhost\n"),
        room.overlay("stage", "/mnt", "inner"),
        TmpfsMount("/mnt/link/made", readonly=True),
        FileMount("/mnt/secret", b"secret", 0o400, readonly=True),
    )
    script = (
        "cat /etc/hosts; touch /ro/x 2>/dev/null || echo ro; touch /rw/x && echo rw;"
        "for f in /mnt/x /mnt/there/made/x /mnt/secret; do (echo > $f) 2>/dev/null || echo ro; done; cat /mnt/secret /mnt/file;"
        f"mknod /rw/disk {host_device(folder)} && ! head -c 1 /rw/disk 2>/dev/null && echo nodev; ls /proc/1/fd; echo $$"
    )
    with Launcher() as launcher:
        outcome, written = room.sh(launcher, script, mounts=mounts)
        many, _ = room.sh(launcher, "true", lowers=(*lowers, linked + "/rootfs"))
        _, mountinfo = room.sh(launcher, "cat /proc/self/mountinfo")
        opened = [line for line in PROBES if line not in WITH_A_CHILD and PROBES[line](room, launcher, frozenset())]
        refused, _ = room.sh(launcher, "true", lowers=(_with_link(room, "sys"), room.rootfs))
    return {
        "fallbacks": [name for name in outcome.fallbacks if name != "limits"],
        "written": written.split(),
        "many": many.code,
        "host path": folder in mountinfo,
        "opened": opened,
        "link": refused.failed_at,
    }


def _with_link(room: Room, name: str) -> str:
    lower = os.path.join(room.folder, "with-link")
    os.makedirs(lower)
    os.symlink("tmp", os.path.join(lower, name))
    return lower


@pytest.mark.parametrize("name", [*FALLBACKS, "none"])
def test_on_an_older_kernel(tmp_path: Path, name: str) -> None:
    refusals, refused = FALLBACKS.get(name, ((), ()))
    expected = sorted({*refused, *LACKING})
    if name == "none":
        result = everyday(str(tmp_path))
    else:
        result = json.loads(run_child(_ON_AN_OLDER_KERNEL, str(tmp_path), json.dumps(refusals)))
    assert result == {
        "fallbacks": expected,
        "written": [
            *("127.0.0.1", "localhost", "ro", "rw", "ro", "ro", "ro", "secretstage"),
            *("nodev", "0", "1", "2", "1"),
        ],
        "many": 0,
        "host path": False,
        # Nothing replaces the scope: Outcome.fallbacks is how the user learns of it.
        "opened": ["landlock-scope"] if "landlock-scope" in expected else [],
        "link": "mount /sys",
    }


_NO_EXECUTABLE_MEMORY = """
import os, sys
if os.path.exists("/proc/sys/vm/memfd_noexec"):
    with open("/proc/sys/vm/memfd_noexec", "w") as file:
        file.write("2")
    expected = True
else:
    # Before Linux 6.3.
    expected = False
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
with Launcher() as launcher:
    outcome, written = Room(sys.argv[1]).sh(launcher, "echo works")
print(written.strip(), ("sealed-server" in outcome.fallbacks) == expected)
"""

_OWN_LIBRARIES = """
import os, shutil, sys
# A Python that says $ORIGIN, as one that brings its libraries along; the text after its end means nothing to the kernel.
here = sys.argv[1] + "/python/bin"
os.makedirs(here)
shutil.copy(sys.executable, here + "/python")
with open(here + "/python", "ab") as file:
    file.write(b"$ORIGIN/../lib")
with open(here + "/pyvenv.cfg", "w") as file:
    file.write("home = " + os.path.dirname(os.path.realpath(sys.executable)) + "\\n")
sys.executable = here + "/python"
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
with Launcher() as launcher:
    outcome, written = Room(sys.argv[1]).sh(launcher, "echo works")
print(written.strip(), "sealed-server" in outcome.fallbacks)
"""


@pytest.mark.parametrize("code", [_NO_EXECUTABLE_MEMORY, _OWN_LIBRARIES], ids=["memfd_noexec", "origin"])
def test_python_that_cannot_be_copied_runs_from_its_place(tmp_path: Path, code: str) -> None:
    # The setting belongs to a pid namespace.
    assert run_child(code, str(tmp_path), before=("unshare", "--pid", "--fork", "--mount-proc")) == "works True\n"


_WITHOUT_MQUEUE = """
import os, sys
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
with Launcher() as launcher:
    outcome, written = Room(sys.argv[1]).sh(launcher, "stat -c %a /dev/mqueue; grep -c mqueue /proc/self/mountinfo")
print(written.split(), "mqueue" in outcome.fallbacks)
"""


def test_a_kernel_without_message_queues(tmp_path: Path) -> None:
    with open("/proc/filesystems", encoding="ascii") as source:
        others = [line for line in source if "mqueue" not in line]
    (tmp_path / "filesystems").write_text("".join(others))
    script = f'mount --bind {tmp_path}/filesystems /proc/filesystems && exec "$@"'
    written = run_child(_WITHOUT_MQUEUE, str(tmp_path), before=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert written == "['755', '0'] True\n"
