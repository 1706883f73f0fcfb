"""Builds of an ordinary user with subordinate ids: all that a Dockerfile can say, and the same bytes and keys as root's."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.layers.entry import EPOCH
from tests.build.test_build_startup import TOO_SLOW
from tests.conftest import ROOT, Pybuild
from tests.rootless.rootless_users import PYBUILD, UserPybuild

DOCKERFILE = """# syntax=docker/dockerfile:1
FROM base AS first
ARG WHO=nobody
RUN printf 'app:x:1000:1000::/home/app:/bin/sh\\nfar:x:60000:60000::/home/far:/bin/sh\\n' >> /etc/passwd \\
 && printf 'app:x:1000:\\nfar:x:60000:\\n' >> /etc/group && mkdir -p /home/app /home/far && chown app:app /home/app \\
 && chown far:far /home/far && mkdir -p /data/in && touch /data/in/file /data/two \\
 && chown -R app:app /data && chown 60000:60001 /data/two && chmod 6755 /data/two && ln /data/two /data/link
RUN id > /id; mkfifo -m 640 /pipe; chown 7:8 /pipe; ln -s nowhere /soft; chown -h 9:10 /soft; chmod 1777 /data
ADD archive.tar /unpacked/
COPY --chown=app:app files /home/app/files
COPY --chmod=u=rwX,go= files /files
COPY --link --chown=123:456 files/a /linked/
WORKDIR /work/deep
RUN <<END sh
rm -r /home/far; mkdir /home/far
echo heredoc > out; cp out /work/installed; chown app:far /work/installed; chmod 0604 /work/installed
END
USER app
RUN id; test "$(id -u)" = 1000; touch /home/app/mine; ! touch /root/mine 2>/dev/null; echo words > /dev/stdout
USER 4321:1234
RUN test "$(id -u):$(id -g)" = 4321:1234; touch /tmp/numbers
USER root
RUN --mount=type=cache,target=/c,uid=1000,mode=0750 --mount=type=bind,source=files,target=/b,rw \\
    --mount=type=bind,from=base,source=/bin,target=/base --mount=type=tmpfs,target=/t --mount=type=secret,id=s,uid=1000 \\
    stat -c '%a %u:%g %n' /c /t /run/secrets/s > /mounts; cat /run/secrets/s | wc -c >> /mounts; \\
    touch /c/1 /b/new /t/x; ls /b >> /mounts
RUN --network=none ls /sys/class/net > /net; stat -c '%a %u %n' /dev/shm /dev/mqueue /dev/pts /dev >> /net

FROM base
COPY --from=first / /copied
COPY --from=first --chown=0:0 /data /data
VOLUME /data
CMD ["cat", "/id"]
"""


def fill(context: Path, dockerfile: str = DOCKERFILE) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    (context / "secret").write_text("four")
    (context / "files").mkdir()
    (context / "files/a").write_text("a")
    (context / "files/b").write_text("b")
    os.utime(context / "files/a", (1_600_000_000, 1_600_000_000))
    (context / "files/b").chmod(0o755)
    os.chown(context / "files/b", 0, 50)
    with tarfile.open(context / "archive.tar", "w") as tar:
        for name, kind, owner in (
            ("dir", tarfile.DIRTYPE, 11),
            ("dir/char", tarfile.CHRTYPE, 12),
            ("dir/block", tarfile.BLKTYPE, 0),
            ("dir/pipe", tarfile.FIFOTYPE, 13),
            ("dir/file", tarfile.REGTYPE, 65534),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.uid, member.gid, member.mode = kind, owner, owner + 1, 0o751
            member.devmajor, member.devminor = (7, 3) if "/" in name else (0, 0)
            member.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"text"))


def built(pybuild: Callable[..., subprocess.CompletedProcess[str]], folder: Path, context: Path, *flags: str) -> dict[str, Any]:
    """What `--metadata-file` has of a build with all its forms."""
    done = pybuild(
        *flags, "--metadata-file", folder / "metadata", "-o", f"type=oci,dest={folder}/image.tar", "--progress=plain", context
    )
    assert done.returncode == 0, done.stderr
    metadata: dict[str, Any] = json.loads((folder / "metadata").read_text())
    (folder / "log").write_text(done.stderr)
    return metadata


def test_all_that_a_dockerfile_can_say_gives_what_root_gets(
    user: UserPybuild,
    pybuild: Pybuild,
    base: Path,
    context: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    fill(context)
    flags = ("--build-context", f"base={base}", "--secret", f"id=s,src={context}/secret")
    ours = built(user, user.account.home, context, *flags)
    roots = built(pybuild, tmp_path, context, *flags)
    assert ours["containerimage.config.digest"] == roots["containerimage.config.digest"]
    assert ours["containerimage.digest"] == roots["containerimage.digest"]
    assert [(step["name"], step["key"], step["diff_id"]) for step in ours["pybuild.steps"]] == [
        (step["name"], step["key"], step["diff_id"]) for step in roots["pybuild.steps"]
    ]
    log = (user.account.home / "log").read_text()
    assert log.count("sandbox: userns, a user namespace with the ids 0 to 6553") == 1
    assert "uid=1000(app) gid=1000(app)" in log and "sandbox:" not in (tmp_path / "log").read_text()
    # What the folders hold is what their indexes say, whoever looks.
    done = user("doctor", "--store")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing is damaged")
    # Cached, nothing is said of a sandbox.
    done = user(*flags, "--progress=plain", context)
    assert done.returncode == 0 and " 0 ran" in done.stderr and "sandbox" not in done.stderr
    record_property("rung", "userns")
    record_property("rung", "root")


def test_the_hello_sample_is_the_same(user: UserPybuild, pybuild: Pybuild, base: Path, tmp_path: Path) -> None:
    flags = ("--build-context", f"busybox={base}", "-t", "hello")
    sample = ROOT / "sample_projects" / "hello"
    ours, roots = built(user, user.account.home, sample, *flags), built(pybuild, tmp_path, sample, *flags)
    assert ours["containerimage.digest"] == roots["containerimage.digest"]
    assert user("run", "hello").stdout == pybuild("run", "hello").stdout != ""


def test_the_sandbox_is_no_more_of_the_host_than_roots(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path) -> None:
    """The same mounts with the same flags, the same powers, and nothing of the host in /sys that a fresh one would not have."""
    (context / "Dockerfile").write_text(
        "FROM base\nRUN grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status; \\\n"
        " ls /sys/fs/cgroup /sys/kernel/debug; cat /proc/self/uid_map; mount -t tmpfs x /tmp 2>&1; umount /sys 2>&1; \\\n"
        " awk '{print $5, $6}' /proc/self/mountinfo; touch /sys/x 2>&1; unshare -U true 2>&1; true\n"
    )
    flags = ("--progress=json", "--no-cache", "--build-context", f"base={base}", context)

    def said(one: Callable[..., subprocess.CompletedProcess[str]]) -> list[str]:
        done = one(*flags)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stderr.splitlines()]
        return "".join(event["text"] for event in events if event["type"] == "step.log").splitlines()

    ours, roots = said(user), said(pybuild)
    different = [line for line in ours if line not in roots]
    # The user's map; and what covers the host's mounts in /sys.
    maps = [line for line in different if len(line.split()) == 3 and all(word.isdigit() for word in line.split())]
    covers = [line for line in different if line.startswith("/sys/")]
    assert sorted(different) == sorted(maps + covers)
    assert len(maps) == 3 and sum(int(line.split()[2]) for line in maps) == 65537
    # Root owns what /proc tells of the machine, which a mount for each entry keeps from it; here it is nobody's.
    sealed = [line for line in roots if line.startswith("/proc/") and line not in ours]
    assert "/proc/version ro,nosuid,nodev,noexec,relatime" in sealed
    assert all(line.endswith(" ro,nosuid,nodev,noexec,relatime") for line in sealed)
    assert [line for line in roots if line not in ours + sealed] == ["         0          0 4294967295"]
    tops = {line.split()[0] for line in covers if "ro,nosuid,nodev,noexec" in line}
    assert all(any(line.split()[0].startswith(top) for top in tops) for line in covers)


@pytest.mark.parametrize("flag", ["--isolation=userns", "--isolation=auto", "--isolation=rootless"])
def test_a_rung_is_asked_for(flag: str, user: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nUSER 5\nRUN id\n")
    done = user(flag, "--no-cache", "--progress=plain", "--build-context", f"base={base}", context)
    assert done.returncode == 0 and "\nsandbox: userns, " in done.stderr and "uid=5 " in done.stderr


def test_a_rung_that_is_not_there(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--build-context", f"base={base}", context)
    done = user("--isolation=root", *flags)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        6,
        "error: --isolation=root does not work here: the builder is not root",
    )
    done = user("--isolation=chroot", *flags)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        6,
        "error: --isolation=chroot does not work here: the builder is not root",
    )
    assert "hint: leave --isolation out: it is for root in a container" in done.stderr
    done = user(*flags, env={"PYBUILD_ISOLATION": "usrens"})
    assert done.returncode == 2 and "'usrens' is not a value of PYBUILD_ISOLATION" in done.stderr
    assert "did you mean 'userns'?" in done.stderr
    # Root has the strongest; what is weaker is tried where it is asked for.
    assert "uid=0(root)" in pybuild("--isolation=root", "--progress=plain", *flags).stderr
    done = pybuild("--isolation=userns", *flags)
    assert done.returncode in (0, 6)


def test_file_capabilities_of_the_context_stay(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path) -> None:
    """The kernel keeps those that are given in a user namespace in another form than root's, and shows both alike."""
    (context / "Dockerfile").write_text("FROM base\nCOPY program /\nRUN chmod 700 /program\n")
    (context / "program").write_text("#!/bin/sh\n")
    (context / "program").chmod(0o755)
    os.setxattr(context / "program", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    flags = ("-q", "--build-context", f"base={base}", context)
    assert user(*flags).stdout == pybuild(*flags).stdout != ""


def test_contexts_and_stdin_are_read_as_the_user(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path) -> None:
    """What the user may read by its groups or as its own, a git repository that it owns, an archive on stdin."""
    home = user.account.home
    user.sh(
        "mkdir repo; cd repo; printf 'FROM base\\nCOPY a /\\nRUN cat /a\\n' > Dockerfile; echo a > a; chmod 600 a\n"
        "git init -q .; git add .; git -c user.name=a -c user.email=a@b commit -q -m m; tar cf ../context.tar ."
    )
    flags = ("-q", "--build-context", f"base={base}")
    folder = user(*flags, home / "repo")
    assert folder.returncode == 0, folder.stderr
    archive = user(*flags, "-", stdin=(home / "context.tar").read_bytes())
    assert archive.returncode == 0 and archive.stdout == folder.stdout
    assert pybuild(*flags, home / "repo").stdout == folder.stdout
    # Of others it may read what everybody may.
    (context / "Dockerfile").write_text("FROM base\nCOPY closed /\n")
    (context / "closed").write_text("")
    (context / "closed").chmod(0o640)
    done = user(*flags, context)
    assert done.returncode != 0 and "'closed' cannot be read: permission denied" in done.stderr
    os.chown(context / "closed", 0, user.account.gid)
    assert user(*flags, context).returncode == 0


def test_an_older_kernel_will_do(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path) -> None:
    """Without the mount calls of Linux 5.2 and what came later; without clone3 and others."""
    (context / "Dockerfile").write_text(
        "FROM base\nRUN id > /id; stat -c %a /sys/fs/cgroup; ! touch /sys/kernel/x 2>/dev/null\n"
    )
    numbers = (428, 429, 430, 431, 432, 435, 436, 437, 442)
    older = (
        sys.executable, "-c",
        f"import os, sys; sys.path.insert(0, {str(ROOT / 'tests/sandbox')!r})\n"
        f"from sandbox_bpf import Refusal, refuse\nrefuse(*map(Refusal, {numbers})); os.execvp(sys.argv[1], sys.argv[1:])",
    )  # fmt: skip
    flags = ("-q", "--no-cache", "--build-context", f"base={base}", context)
    done = user(*flags, before=older)
    assert done.returncode == 0, done.stderr
    assert done.stdout == pybuild(*flags).stdout


def test_a_cached_build_imports_little_more_than_roots(frozen: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nUSER 7\nRUN id\n")
    flags = ("-q", "--build-context", f"base={base}", context)
    assert frozen(*flags).returncode == 0
    done = frozen(*flags, program=(sys.executable, "-X", "importtime", str(PYBUILD)))
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert imported & TOO_SLOW == set()
    own = {"builder.cli.isolation", "builder.sandbox.namespace"}
    assert own <= imported and not imported & {"builder.cli.probing", "builder.sandbox.ladder", "builder.sandbox.subids", "pwd"}


def test_an_id_that_the_user_does_not_have(
    user: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    """As OpenShift's and those of directories are: which it is, where, and what to do."""
    hint = "  hint: give this user more of them in /etc/subuid and /etc/subgid, or take --isolation=single-uid, which has all\n"
    (context / "f").write_text("f\n")

    def refused(text: str, *flags: str | Path) -> str:
        (context / "Dockerfile").write_text(text)
        done = user("--build-context", f"base={base}", *flags, context)
        assert done.returncode in (1, 6), done.stderr
        return done.stderr

    said = refused("FROM base\nCOPY --chown=1000660000 f /f\nRUN ls -ln /f\n")
    assert "Dockerfile:2:1: error: the user 1000660000 is not among the ids of this user namespace: 0 to 6553" in said
    assert said.endswith(hint)
    said = refused("FROM base\nUSER 7:1000660000\nRUN id\n")
    assert "Dockerfile:3:1: error: the group 1000660000 is not among the ids of this user namespace: 0 to 6553" in said
    said = refused("FROM base\nRUN chown 100000 /tmp\n")
    assert "the command may want an id that this user namespace lacks: give this user more of them" in said
    # An image that has one: nothing is wrong before a command is to look into it.
    tar = context / "big.tar"
    with tarfile.open(tar, "w") as archive:
        member = tarfile.TarInfo("big")
        member.uid = 1000660000
        archive.addfile(member)
    done = user("import", tar, "big")
    assert done.returncode == 6 and "error: the user 1000660000 is not among the ids" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.endswith(hint)
    # No command looks into it: then nothing has to have the owner here, and the image is root's.
    (context / "Dockerfile").write_text("FROM scratch\nCOPY --chown=1000660000 f /f\n")
    assert user("-q", context).stdout == pybuild("-q", context).stdout != ""


COUNTING = """
import os, sys
from builder.layers import beside
beside._free[0] = 1
written = []
answer = beside.Beside.answer
def counting(self):
    found = answer(self)
    written.append(sum(found or b""))
    return found
beside.Beside.answer = counting
end = os._exit
os._exit = lambda code: (print("written beside:", sum(written), file=sys.stderr), sys.stderr.flush(), end(code))
from builder.cli.main import main
main()
"""


def test_a_second_process_writes_files_of_all_owners(
    new_user: UserPybuild, pybuild: Pybuild, base: Path, room: Path, tmp_path: Path
) -> None:
    """It is handed the capabilities that it takes to give files away; the commands see what root's see."""
    context = tmp_path / "many"
    context.mkdir()
    with tarfile.open(context / "many.tar", "w") as tar:
        for number in range(6000):
            member = tarfile.TarInfo(f"d{number // 100}/f{number}")
            member.uid, member.gid, member.mode, member.size = number % 7 * 1000, number % 3, 0o640, 5
            # That of the image, which root's store knows by its own folders.
            member.mtime = EPOCH
            tar.addfile(member, io.BytesIO(b"%05d" % number))
    (context / "Dockerfile").write_text("FROM base\nADD many.tar /many\n")
    image = room / "many.tar"
    pybuild("--build-context", f"base={base}", "-t", "many", "-o", f"type=oci,dest={image}", context)
    image.chmod(0o644)
    look = b"find /many -type f -exec stat -c '%n %a %u:%g %Y' {} + | sort > /all; cat /many/*/f* | sha256sum >> /all"
    text = b"FROM many\nRUN " + look + b"\n"
    ids = []
    for run, program in ((pybuild, None), (new_user, (sys.executable, "-c", COUNTING))):
        loaded = run("load", "-i", image)
        assert loaded.returncode == 0, loaded.stderr
        if program is None:
            done = run("-q", "-f", "-", tmp_path, stdin=text)
        else:
            done = new_user("-q", "-f", "-", new_user.account.home, stdin=text, program=program)
            # The child that has the ids mapped says so, too.
            assert max(int(line.split(":")[1]) for line in done.stderr.splitlines() if "written beside" in line) > 600
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout)
    assert ids[0] == ids[1]
