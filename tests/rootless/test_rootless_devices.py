"""Devices where the kernel makes none: what a command makes, moves and gives away is a device in the layer, as root's is."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.rootless.rootless_users import UserPybuild
from tests.rootless.test_rootless_build import built

DOCKERFILE = """FROM base
RUN mkdir /d /g && chmod 2775 /g && chown 0:9 /g && mknod /d/null c 1 3 && mknod -m 640 /d/disk b 8 17 && mknod /g/zero c 1 5 \\
 && chown 0:5 /d/null && chmod 4666 /d/null && ln /d/disk /d/link && mv /d/disk /d/moved && mkfifo /d/fifo
RUN touch /d/null && chown -R 0:44 /g && rm /d/link && (cd /d; umask 077; mknod late c 5 1) && ! mknod /d/late c 5 1
COPY --chown=3:4 archive.tar /packed
ADD archive.tar /unpacked
RUN touch /unpacked/theirs && chmod 600 /unpacked/theirs && mv /unpacked/roots /d/renamed
USER 7
RUN ! mknod /tmp/mine c 1 3
"""


def make_archive(context: Path) -> None:
    with tarfile.open(context / "archive.tar", "w") as tar:
        for name, owner in (("theirs", 12), ("roots", 0), ("file", 0)):
            member = tarfile.TarInfo(name)
            member.type, member.uid, member.mode = tarfile.CHRTYPE if name != "file" else tarfile.REGTYPE, owner, 0o660
            member.devmajor, member.devminor = (7, 3) if name != "file" else (0, 0)
            tar.addfile(member, io.BytesIO(b""))


@pytest.mark.parametrize("rung", ["userns", "single-uid"])
def test_devices_are_devices_in_the_layer(
    rung: str, user: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    make_archive(context)
    (context / "Dockerfile").write_text(DOCKERFILE)
    flags = ("--build-context", f"base={base}")
    ours = built(user, user.account.home, context, f"--isolation={rung}", *flags)
    roots = built(pybuild, tmp_path, context, *flags)
    assert ours["containerimage.digest"] == roots["containerimage.digest"]
    done = user("doctor", "--store")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing is damaged"), done.stdout
    log = (user.account.home / "log").read_text()
    assert f"sandbox: {rung}, " in log
    # In the other one programs see devices, too.
    assert ("in a user namespace programs see empty files" in log) == (rung == "userns")


PLANTED = """FROM base
COPY setxattr.py /
RUN mkdir -m 777 /open && touch /open/roots && chmod 666 /open/roots && mknod /open/real c 1 3 && chmod 666 /open/real
USER 1000
RUN cd /open && touch planted && for file in planted roots real; do python3 -I -S /setxattr.py $file; done
"""


def test_nobody_but_root_makes_a_device(user: UserPybuild, debian_base: Path, context: Path) -> None:
    """Any user may write such a note where it may write: it counts at root's files alone, for what root made."""
    (context / "setxattr.py").write_text("import os, sys\nos.setxattr(sys.argv[1], 'user.pybuild.device', b'b 8:0')\n")
    (context / "Dockerfile").write_text(PLANTED.replace("FROM base", "FROM debian:12"))
    assert user("import", debian_base, "debian:12").returncode == 0
    metadata = built(user, user.account.home, context, "-o", f"type=tar,dest={user.account.home}/rootfs.tar")
    assert metadata
    done = user.sh("tar --numeric-owner -tvf rootfs.tar open/planted open/roots open/real")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["-rw-r--r--", "1000/0"],
        ["-rw-rw-rw-", "0/0"],
        ["-rw-rw-rw-", "0/0"],
    ]
    log = (user.account.home / "log").read_text()
    for name in ("planted", "roots", "real"):
        assert f"the extended attribute user.pybuild.device of 'open/{name}' is left out" in log


SHOWN = """FROM base AS devices
RUN mknod /node c 1 3
RUN test -c /node && echo device > /kind || echo file > /kind
FROM base
COPY --from=devices /kind /first
RUN --mount=from=devices,target=/other test -c /other/node && echo device > /second || echo file > /second
RUN echo plain > /plain
"""


def test_what_saw_files_for_devices_is_no_result_of_roots(
    user: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    """In a cache that both have: root takes what is right for root alone."""
    (context / "Dockerfile").write_text(SHOWN)
    flags = ("--build-context", f"base={base}", "--progress=json")
    ours = (*flags, "--isolation=userns")
    cache = user.account.home / "cache"

    def statuses(done: subprocess.CompletedProcess[str]) -> list[str]:
        """Of the three RUN in the order of the plan, and of the plain one."""
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        ended = {event["step"]: event for event in events if event["type"] == "step.finished" and " RUN " in event["name"]}
        return [ended[number]["status"] for number in sorted(ended)]

    done = user(*ours, f"--cache-to=type=local,dest={cache},mode=max", context)
    assert statuses(done) == ["done"] * 4
    # The second step and the mounted one saw it; the first made it, which is told in its own words.
    assert done.stderr.count("the image has device nodes, which programs see as empty files") == 2
    # In its own store, what is kept apart is as good as any.
    assert statuses(user(*ours, context)) == ["cached"] * 4
    done = pybuild(*flags, f"--cache-from=type=local,src={cache}", "-o", f"type=local,dest={tmp_path}/out", context)
    assert (statuses(done)[:3], (tmp_path / "out/first").read_text()) == (["done"] * 3, "device\n")
    assert (tmp_path / "out/second").read_text() == "device\n"
    # Root's results are everybody's.
    roots = tmp_path / "roots"
    done = pybuild(*flags, f"--cache-to=type=local,dest={roots},mode=max", context)
    subprocess.run(["chmod", "-R", "a+rX", roots], check=True)
    subprocess.run(["cp", "-r", roots, user.account.home / "roots"], check=True)
    done = user(*ours, "--root", user.account.home / "other", f"--cache-from=type=local,src={user.account.home}/roots", context)
    assert statuses(done) == ["cached"] * 4
