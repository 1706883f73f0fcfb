"""The overlay: many layers, long paths, layers that want to lead elsewhere."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from sandbox_room import Room, run_child

from builder.sandbox.launcher import Launcher

_MANY = """
import sys
import sandbox_bpf
if sys.argv[2] == "lowerdir+":
    sandbox_bpf.refuse_lowerdir_plus()
elif sys.argv[2] == "mount-api":
    sandbox_bpf.refuse(sandbox_bpf.Refusal(430))
from test_sandbox_layers import many
import json
print(json.dumps(many(sys.argv[1])))
"""


def many(folder: str) -> list[object]:
    """What 500 layers show, and what 501 end in."""
    room = Room(folder)
    # fsconfig takes 255 bytes of one path, mount(2) a page of all.
    stem = os.path.join(folder, "l" * 100, "m" * 100)
    os.makedirs(stem)
    lowers = [f"{stem}/{number}" for number in range(499)]
    for lower in lowers:
        os.mkdir(lower)
    os.mkdir(lowers[0] + "/top")
    os.mkdir(lowers[-1] + "/deep")
    with Launcher() as launcher:
        outcome, written = room.sh(launcher, "ls -d /top /deep /bin", lowers=(*lowers, room.rootfs))
        above, _ = room.sh(launcher, "true", lowers=(*lowers, stem, room.rootfs))
    return [outcome.code, written.split(), above.exec_error, above.failed_at.split()[0]]


@pytest.mark.parametrize("missing", ["nothing", "lowerdir+", "mount-api"])
def test_500_layers_and_no_more(tmp_path: Path, missing: str) -> None:
    assert json.loads(run_child(_MANY, str(tmp_path), missing)) == [
        0,
        ["/bin", "/deep", "/top"],
        errno.EINVAL,
        "overlay",
    ]


def _layer(room: Room, name: str, **files: str) -> str:
    folder = os.path.join(room.folder, name)
    os.makedirs(folder)
    for path, text in files.items():
        with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
            file.write(text)
    return folder


def test_the_same_layer_twice_counts_where_it_is_higher(room: Room, launcher: Launcher) -> None:
    a, b = _layer(room, "a", file="from a"), _layer(room, "b", file="from b")
    assert room.sh(launcher, "cat /file", lowers=(a, b, a + "/", room.rootfs))[1] == "from a"


@pytest.mark.parametrize("prefix", ["user", "trusted"])
def test_a_layer_cannot_redirect(room: Room, launcher: Launcher, prefix: str) -> None:
    """overlay's own attributes in a hostile layer: another folder's content, or another file's, under a name of its choice."""
    below = _layer(room, "below")
    os.mkdir(below + "/secret", 0o700)
    with open(below + "/secret/key", "w", encoding="utf-8") as file:
        file.write("the secret")
    hostile = _layer(room, "hostile", data="own")
    os.mkdir(hostile + "/shown")
    os.setxattr(hostile + "/shown", f"{prefix}.overlay.redirect", b"/secret")
    os.setxattr(hostile + "/data", f"{prefix}.overlay.metacopy", b"")
    os.setxattr(hostile + "/data", f"{prefix}.overlay.redirect", b"/secret/key")
    _, written = room.sh(launcher, "cat /shown/key /data", lowers=(hostile, below, room.rootfs))
    assert "the secret" not in written
    if prefix == "trusted":
        # The same layers by a plain mount: they are hostile indeed.
        mount = f"mount -t overlay -o redirect_dir=on,metacopy=on,lowerdir={hostile}:{below} overlay {room.path('mnt')}"
        script = f"{mount} && cat {room.path('mnt')}/shown/key"
        shown = subprocess.run(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, check=True)
        assert shown.stdout == b"the secret"


def test_what_is_removed_stays_removed(room: Room, launcher: Launcher) -> None:
    """The store's own format: whiteouts as device 0:0, opaque folders by user.overlay.opaque."""
    below = _layer(room, "below", gone="x", kept="y")
    os.mkdir(below + "/folder")
    _layer(room, "below/folder/inner")
    above = _layer(room, "above")
    os.mknod(above + "/gone", 0o020000, os.makedev(0, 0))
    os.mkdir(above + "/folder")
    os.setxattr(above + "/folder", "user.overlay.opaque", b"y")
    _, written = room.sh(launcher, "ls -d /gone; ls /folder; cat /kept", lowers=(above, below, room.rootfs))
    assert written == "ls: /gone: No such file or directory\ny"


def test_the_upper_can_be_a_layer_at_once(room: Room, launcher: Launcher) -> None:
    first = room.spec("sh", "-c", "echo one > /tmp/file; mkdir /tmp/dir; rm /etc/hosts; mv /mnt /moved")
    assert launcher.run(first).code == 0
    _, written = room.sh(launcher, "cat /tmp/file; ls -d /etc/hosts /mnt /moved", lowers=(first.upper, room.rootfs))
    assert sorted(written.splitlines()) == [
        "/moved",
        "ls: /etc/hosts: No such file or directory",
        "ls: /mnt: No such file or directory",
        "one",
    ]


def test_a_path_with_every_separator(tmp_path: Path, launcher: Launcher) -> None:
    room = Room(str(tmp_path / "a:b,c\\d e=f"))
    assert room.sh(launcher, "echo works > /tmp/x; cat /tmp/x")[1] == "works\n"
