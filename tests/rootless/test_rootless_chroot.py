"""The last rung, in what an ordinary container leaves to root: Docker's capabilities and seccomp profile, and no mount."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from builder.sandbox.capabilities import DOCKER_CAPABILITIES
from tests.conftest import ROOT, Pybuild
from tests.rootless.rootless_table import TOOLS

_CAPABILITIES = ",".join("+" + name.removeprefix("CAP_").lower() for name in DOCKER_CAPABILITIES)
_FILTER = (
    f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "from builder.sandbox import kernel, seccomp\n"
    "from builder.sandbox.capabilities import DOCKER_CAPABILITIES\n"
    "kernel.load_seccomp(seccomp.docker_profile(DOCKER_CAPABILITIES, os.uname().machine))\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
CONTAINER = (sys.executable, "-c", _FILTER, "setpriv", f"--bounding-set=-all,{_CAPABILITIES}", "--inh-caps=-all")


class Contained(Pybuild):
    """pybuild as root of an ordinary container; `before` makes it another one."""

    def __init__(self, store: Path, home: Path, before: tuple[str, ...] = ()) -> None:
        super().__init__(store, home)
        self.command = [*before, *CONTAINER, *self.command]

    def environment(self, extra: Any = None) -> dict[str, str]:
        return super().environment({"PYBUILD_ISOLATION": "chroot", **(extra or {})})


@pytest.fixture
def contained(tmp_path: Path) -> Contained:
    return Contained(tmp_path / "contained", tmp_path)


def rung(one: Pybuild, name: str) -> dict[str, Any]:
    rungs = json.loads(one("doctor", "--format=json").stdout)["sandbox"]["rungs"]
    (found,) = [each for each in rungs if each["rung"] == name]
    return dict(found)


def test_no_command_makes_what_means_a_removed_file(contained: Contained, busybox_base: Path, tmp_path: Path) -> None:
    """The device 0:0: elsewhere the kernel refuses it."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN rm -f /etc/group && mknod /etc/group c 0 0\n")
    done = contained("--build-context", f"base={busybox_base}", context)
    assert done.returncode == 6, done.stderr
    assert "what the command changed cannot be kept: /etc/group: Operation not permitted" in done.stderr


def test_what_keeps_a_container_from_it_is_named(tmp_path: Path) -> None:
    """As podman has it: no CAP_MKNOD, and its root file system and volumes mounted with nodev."""
    (tmp_path / "poor").mkdir()
    poor = Contained(tmp_path / "poor/store", tmp_path, ("setpriv", "--bounding-set=-mknod", "--inh-caps=-all"))
    # Docker's list would give it again, if it could be had.
    poor.command = [*poor.command[:3], *Pybuild(tmp_path, tmp_path).command]
    found = rung(poor, "chroot")
    assert (found["usable"], found["reason"]) == (False, "root lacks CAP_MKNOD")
    assert found["hint"] == "in a container, start it with --cap-add=MKNOD"
    place = tmp_path / "nodev"
    place.mkdir()
    mount = ("unshare", "--mount", "sh", "-ec", f'mount -t tmpfs -o nodev tmpfs {place}; exec "$@"', "sh")
    found = rung(Contained(place / "store", tmp_path, mount), "chroot")
    assert (found["usable"], found["reason"]) == (
        False,
        "the store's file system is mounted with nodev: commands would have no /dev/null",
    )
    assert "-v pybuild:/var/lib/pybuild:dev (podman)" in found["hint"]


def test_a_store_without_attributes_of_users(tmp_path: Path) -> None:
    """As a tmpfs has none before Linux 6.6; here a ramfs, which has none at all."""
    place = tmp_path / "none"
    place.mkdir()
    one = Pybuild(place / "store", tmp_path)
    one.command = ["unshare", "--mount", "sh", "-ec", f'mount -t ramfs ramfs {place}; exec "$@"', "sh", *one.command]
    found = rung(one, "single-uid")
    assert (found["usable"], found["reason"]) == (False, "the store's file system keeps no extended attributes of users")
    assert found["hint"].startswith("put the store on ext4, xfs, btrfs")


def steps(one: Pybuild, place: Path, context: Path, *flags: str | Path) -> tuple[str, list[tuple[str, str]], str]:
    """Manifest digest; key and diff ID of each step; the log."""
    place.mkdir(exist_ok=True)
    metadata = place / "metadata"
    done = one("-o", f"type=oci,dest={place}/image.tar", "--metadata-file", metadata, "--progress=plain", *flags, context)
    assert done.returncode == 0, done.stderr
    found = json.loads(metadata.read_text())
    return found["containerimage.digest"], [(each["key"], each["diff_id"]) for each in found["pybuild.steps"]], done.stderr


def compared(contained: Contained, pybuild: Pybuild, tmp_path: Path, context: Path, *flags: str | Path) -> str:
    """Builds on both; the log of the one in the container. The bytes are the same, and no key of a RUN is."""
    ours = steps(contained, tmp_path / "ours", context, *flags)
    roots = steps(pybuild, tmp_path / "roots", context, *flags)
    assert [each[1] for each in ours[1]] == [each[1] for each in roots[1]]
    assert ours[0] == roots[0]
    return ours[2]


def test_it_is_taken_when_it_is_asked_for(contained: Contained, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--build-context", f"base={base}", context)
    done = contained("--isolation=auto", *flags)
    assert done.returncode == 6
    assert "no sandbox can be made here (root: root lacks CAP_SYS_ADMIN" in done.stderr or "root: " in done.stderr
    assert "--isolation=chroot works, and keeps nothing apart but files: for Dockerfiles that you trust" in done.stderr
    done = contained("doctor", "--format=json")
    assert done.returncode == 0
    found = rung(contained, "chroot")
    assert found["usable"] and found["reason"].startswith("a copy of the root file system, and no namespaces")
    done = contained("--progress=plain", *flags)
    assert done.returncode == 0, done.stderr
    assert (
        "\nsandbox: chroot, a copy of the root file system, and no namespaces: nothing but files is kept apart\n" in done.stderr
    )
    for warned in (
        "--isolation=chroot keeps nothing apart but files: commands see and can end the processes of this machine",
        "the network of commands is the host's, since a chroot has no network of its own",
        "the builder may load no seccomp filter",
    ):
        assert done.stderr.count(f"warning: {warned}") == 1, warned


CHANGES = """FROM base
RUN mkdir -p /d/sub/deep /e/f /g /h/i && for n in a b c sub/x sub/deep/y; do echo $n > /d/$n; done && ln /d/a /d/linked \\
 && echo f > /e/f/one && echo g > /g/one && ln -s /g/one /soft && mkfifo /pipe && touch -d 2001-01-01 /d/b /e/f/one \\
 && chmod 4755 /d/c && chown 5:6 /d/c /e && mkdir -p /opaque/old && echo 1 > /opaque/old/file && echo k > /h/i/kept
RUN chmod 4755 /d/c && touch -r /d/b /d/b && cat /d/a > /dev/null
RUN echo more >> /d/a
RUN rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/x
RUN rm -r /e/f && echo file > /e/f && rm /g/one && mkdir /g/one && echo in > /g/one/file
RUN mv /d/sub /moved && mv /moved/x /moved/z && ln /moved/z /again && ln -sf nowhere /soft
RUN rm -rf /opaque && mkdir /opaque && chmod 700 /h && touch /h/i/added && rm /pipe && mkfifo -m 600 /pipe2
RUN dd if=/dev/zero of=/sparse bs=1 count=0 seek=64M 2>/dev/null && echo end >> /sparse \\
 && echo x > "$(printf '/new\\nline\\377')"
RUN du -k /sparse | awk '$1 < 99 { print "sparse" }' > /how; tail -c 4 /sparse >> /how
RUN rm -r /h/i/kept /d && chown 7:8 / && touch /etc/hosts /etc/resolv.conf && mkdir -p /run/x && rmdir /run/x
RUN touch /h/i/added && { rm -f /dev/null || true; } && echo gone > /dev/shm/x && mkdir /etc/new && rm -rf /proc/x
"""


def test_what_a_command_changes_is_what_an_overlay_would_have(
    contained: Contained, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text(CHANGES)
    compared(contained, pybuild, tmp_path, context, "--build-context", f"base={base}")


def test_debian_with_its_tools_is_the_same(
    contained: Contained, pybuild: Pybuild, debian_base: Path, context: Path, tmp_path: Path
) -> None:
    """All but devices, which its commands may not make."""
    tools = {name: command for name, command in TOOLS.items() if name not in ("mknod", "cp -a of a device")}
    as_user = tools.pop("USER")
    # Each RUN costs a copy of all of Debian.
    tried = " \\\n && ".join(f"( {command} )" for command in tools.values())
    (context / "Dockerfile").write_text(f"FROM debian:12\nRUN {tried}\nUSER app\nRUN {as_user}\n")
    for one in (contained, pybuild):
        assert one("import", debian_base, "debian:12").returncode == 0
    compared(contained, pybuild, tmp_path, context)


MOUNTS = """FROM base AS first
RUN mkdir /data && echo staged > /data/file && ln -s /data/file /data/soft && rm -f /gone && chown 3:4 /data/file

FROM base
RUN mkdir /t && echo hidden > /t/below
RUN --mount=type=cache,target=/c,uid=9,mode=0700 stat -c '%u %a' /c > /owner; echo 1 > /c/one; mkdir /c/folder; cp /c/one /made
RUN --mount=type=bind,source=files,target=/b,rw --mount=type=bind,from=first,source=/data,target=/s \\
    --mount=type=tmpfs,target=/t --mount=type=secret,id=s,env=WORD cat /b/a /s/file /s/soft; ls -la /t; echo new > /b/new; \\
    rm /b/a; touch /t/x /s/x; test $WORD = four
RUN --mount=type=bind,from=first,source=/data,target=/etc ls /etc > /listed; test -f /etc/file
RUN cat /t/below; test ! -e /b; test ! -e /c
RUN <<END sh
echo here > /heredoc
END
"""


def test_mounts_are_there_and_leave_nothing(
    contained: Contained, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    (context / "files").mkdir()
    (context / "files/a").write_text("from the context\n")
    (context / "secret").write_text("four")
    (context / "Dockerfile").write_text(MOUNTS)
    flags = ("--build-context", f"base={base}", "--secret", f"id=s,src={context}/secret")
    log = compared(contained, pybuild, tmp_path, context, *flags)
    said = [line.split(" ", 2)[2] for line in log.splitlines() if line.startswith("#") and line.count(" ") > 1]
    assert {"from the context", "staged", "hidden"} <= set(said)


def test_no_cache_and_no_layer_leads_out(contained: Contained, base: Path, context: Path, tmp_path: Path) -> None:
    """A cache is a copy, of which nothing goes back: whatever lies in its place in the end."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a").write_text("precious")
    (context / "Dockerfile").write_text(
        "FROM base\nRUN mkdir /p\n"
        f"RUN --mount=type=cache,target=/c rm -rf /c; ln -s {victim} /c\n"
        f"RUN --mount=type=cache,id=x,target=/p/c rm -rf /p/c; ln -s {victim} /p/c\n"
        "RUN --mount=type=cache,id=h,target=/c echo one > /c/f; ln /c/f /out\n"
        "RUN --mount=type=cache,id=h,target=/c cat /out; ls /c | wc -l; echo two > /c/f\n"
        "RUN cat /out; rm -rf /c; true\n"
    )
    done = contained("--progress=plain", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    assert (victim / "a").read_text() == "precious" and [each.name for each in victim.iterdir()] == ["a"]
    assert [line.split()[-1] for line in done.stderr.splitlines() if line.split()[-1:] in (["one"], ["two"], ["0"])] == [
        "one",
        "0",
        "one",
    ]


@pytest.mark.parametrize("command", ["ln /etc/hosts /etc/saved", "mv /etc/resolv.conf /etc/saved", "mv /dev /dev2"])
def test_what_would_be_mounted_stays_in_its_place(command: str, contained: Contained, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM base\nRUN {command}\n")
    done = contained("--build-context", f"base={base}", context)
    assert done.returncode == 6 and ": error: what the command changed cannot be kept: /" in done.stderr, done.stderr
    assert "Device or resource busy" in done.stderr


def test_no_folder_of_the_host_is_written_to(contained: Contained, base: Path, tmp_path: Path) -> None:
    assert contained("import", base, "base").returncode == 0
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f").write_text("good")
    done = contained("run", "-v", f"{folder}:/v:ro", "base", "sh", "-c", "cat /v/f; echo evil > /v/f; echo more > /v/g")
    assert (done.returncode, done.stdout) == (0, "good"), done.stderr
    assert [each.read_text() for each in folder.iterdir()] == ["good"]
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").symlink_to(folder / "f")
    mounts = ("-v", f"{tmp_path}/link:/v:ro", "-v", f"{tmp_path}/file:/g:ro")
    done = contained("run", *mounts, "base", "sh", "-c", "cat /v/f /g; stat -c %A /v")
    assert (done.returncode, done.stdout) == (0, "goodgooddrwxr-xr-x\n"), done.stderr
    done = contained("run", "-v", f"{folder}:/v", "base", "true")
    assert done.returncode == 6 and "--isolation=chroot gives no folder of the host to be written to: /v" in done.stderr


def test_a_deep_tree_is_kept(contained: Contained, base: Path, context: Path) -> None:
    deep = "n=0; while [ $n -lt 1300 ]; do mkdir a; cd a; n=$((n + 1)); done; "
    again = "n=0; while [ $n -lt 1300 ]; do cd a; n=$((n + 1)); done; echo 1 > end"
    (context / "Dockerfile").write_text(f"FROM base\nRUN {deep}\nRUN {again}\n")
    done = contained("--build-context", f"base={base}", context)
    # Deeper than pytest can remove.
    subprocess.run(["rm", "-rf", contained.store], check=True)
    assert done.returncode == 0, done.stderr


_ASKS = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un name = {AF_UNIX, ""};
    char answer[9];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(name.sun_path, getenv("SSH_AUTH_SOCK"), sizeof name.sun_path - 1);
    if (connect(fd, (void *)&name, sizeof name)) return 1;
    write(fd, "\0\0\0\1\x0b", 5);
    write(1, answer, read(fd, answer, sizeof answer));
    return 0;
}
"""


def test_an_ssh_agent_answers(contained: Contained, base: Path, context: Path, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "agent"))
    listener.listen()

    def answer() -> None:
        # Until the listener is closed.
        while listener.fileno() >= 0:
            with suppress(OSError), listener.accept()[0] as connection:
                # SSH_AGENTC_REQUEST_IDENTITIES, and SSH_AGENT_FAILURE.
                while connection.recv(100) == b"\0\0\0\1\x0b":
                    connection.sendall(b"\0\0\0\1\x05")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    compiled(_ASKS, context / "ask")
    (context / "Dockerfile").write_text("FROM base\nCOPY ask /\nRUN --mount=type=ssh,uid=7 /ask | od -An -tx1\n")
    done = contained("--ssh", f"default={tmp_path}/agent", "--progress=plain", "--build-context", f"base={base}", context)
    listener.close()
    assert done.returncode == 0 and " 00 00 00 01 05\n" in done.stderr, done.stderr


REFUSED = {
    "a secret as a file": (
        "RUN --mount=type=secret,id=s true",
        ":2:5: error: a secret cannot be mounted as a file with --isolation=chroot: it would lie on the disk",
    ),
    "no network": ("RUN --network=none true", "--isolation=chroot cannot take the network away"),
    "all rights": ("RUN --security=insecure true", "--isolation=chroot cannot do --security=insecure"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_said(name: str, contained: Contained, base: Path, context: Path) -> None:
    line, told = REFUSED[name]
    (context / "Dockerfile").write_text(f"FROM base\n{line}\n")
    (context / "secret").write_text("four")
    flags = ("--build-context", f"base={base}", "--secret", f"id=s,src={context}/secret", "--allow=security.insecure")
    done = contained(*flags, context)
    assert done.returncode in (3, 6) and told in done.stderr, done.stderr
    leaked = subprocess.run(["grep", "-r", "four", contained.store], capture_output=True, text=True)
    assert leaked.stdout == ""


def test_run_has_no_terminal_and_no_read_only_root(contained: Contained, base: Path) -> None:
    assert contained("import", base, "base").returncode == 0
    done = contained("run", "base", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.count("warning: --isolation=chroot keeps nothing apart but files") == 1
    done = contained("run", "base", "sh", "-c", "kill -SEGV $$")
    assert done.returncode == 128 + signal.SIGSEGV
    done = contained("run", "base", "none")
    assert done.returncode == 127 and "the command 'none' cannot be run: No such file or directory" in done.stderr
    master, terminal = os.openpty()
    command = [*contained.command, "run", "-t", "base", "true"]
    asked = subprocess.run(
        command, env=contained.environment(), stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True
    )
    os.close(master)
    os.close(terminal)
    assert asked.returncode == 6 and "--isolation=chroot has no terminals" in asked.stderr
    done = contained("run", "--read-only", "base", "true")
    assert done.returncode == 6 and "--isolation=chroot cannot do --read-only" in done.stderr


TRICKS = {
    "a chroot in the chroot": "mkdir -p /j && chroot /j /bin/true 2>&1; chroot / true 2>&1",
    "a disk": "mknod /disk b 8 0 2>&1",
    "the host's root by /proc": "ls /proc/1/root 2>&1",
    "a mount": "mount -t tmpfs none /mnt 2>&1",
    "dots": "ls /../../../../../../../.. | sort | head -1",
    "no list of what is open": "ls /proc/self/fd 2>&1",
    "what is open": "for n in 3 4 5 6 7 8 9 10 11 12; do (: <&$n) 2>/dev/null && echo open $n; done; true",
}
WAYS = (
    "chroot: can't change root directory to '/j': Operation not permitted\n"
    "chroot: can't change root directory to '/': Operation not permitted\n"
    "mknod: /disk: Operation not permitted\n"
    "ls: /proc/1/root: No such file or directory\n"
    "mount: permission denied (are you root?)\n"
    "bin\n"
    "ls: /proc/self/fd: No such file or directory\n"
)


def test_it_keeps_files_apart(contained: Contained, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\n" + "".join(f"RUN {trick} || true\n" for trick in TRICKS.values()))
    done = contained("--progress=json", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    said = "".join(event["text"] for event in events if event["type"] == "step.log")
    assert said == WAYS


def test_an_image_leads_nowhere(contained: Contained, base: Path, context: Path, tmp_path: Path) -> None:
    """Links of the image where the builder writes: files of the container, mount points, caches."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (context / "Dockerfile").write_text(
        f"FROM base\nRUN rm -rf /etc/hosts /etc/hostname && ln -s {outside}/hosts /etc/hosts && ln -s {outside} /c\n"
        "RUN ln -s / /up\n"
        "RUN --mount=type=cache,target=/c/x --mount=type=tmpfs,target=/up/here echo 1 > /c/x/file; touch /up/here/y\n"
        "RUN --mount=type=cache,target=/c/x find / -name hosts | sort\n"
    )
    done = contained("--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    assert list(outside.iterdir()) == []


def running(word: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", word], capture_output=True, text=True)
    return found.stdout.split()


def settled(word: str, patience: float = 10) -> bool:
    until = time.monotonic() + patience
    while running(word) and time.monotonic() < until:
        time.sleep(0.02)
    return not running(word)


@pytest.mark.parametrize("way", ["it ends", "it fails", "interrupt", "terminate", "kill"])
def test_nothing_is_left_running(way: str, contained: Contained, base: Path, context: Path) -> None:
    """Daemons in sessions of their own, whose parents are gone."""
    word = f"77{os.getpid()}{len(way)}"
    ends = {"it ends": "true", "it fails": "exit 3"}.get(way, "sleep 60")
    (context / "Dockerfile").write_text(
        f"FROM base\nRUN (setsid sh -c 'setsid sleep {word} & trap \"\" TERM INT HUP; sleep {word}' &) ; sleep 0.3; \\\n"
        f"  echo begun; {ends}\n"
    )
    process = contained.start("--progress=plain", "--build-context", f"base={base}", context)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith(b"begun"):
                break
        if way in ("interrupt", "terminate", "kill"):
            assert len(running(f"sleep {word}")) >= 2
            process.send_signal({"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[way])
        process.stderr.read()
        code = process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert code == {"it ends": 0, "it fails": 1, "interrupt": 130, "terminate": 143, "kill": -9}[way]
    assert settled(f"sleep {word}")
    if way != "kill":
        assert [each for each in (contained.store / "tmp").iterdir() if each.is_dir()] == []


def test_root_takes_nothing_of_it(contained: Contained, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN echo 1 > /one\nCOPY Dockerfile /\n")
    flags = ("--build-context", f"base={base}")
    ours = steps(contained, tmp_path / "ours", context, *flags, "--cache-to", f"type=local,dest={tmp_path}/cache")
    roots = steps(pybuild, tmp_path / "roots", context, *flags, "--cache-from", f"type=local,src={tmp_path}/cache")
    assert ours[0] == roots[0]
    (_, our_run, our_copy), (_, roots_run, roots_copy) = ours[1], roots[1]
    assert our_run[0] != roots_run[0] and our_run[1] == roots_run[1] and our_copy == roots_copy
    assert " 1 ran, 1 cached" in roots[2]


def test_a_failed_step_can_be_looked_into(contained: Contained, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN echo left > /here; exit 3\n")
    done = contained("--build-context", f"base={base}", context)
    assert done.returncode == 1
    done = contained("shell", "2:failed", "cat", "/here")
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr


_HANDS_OVER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* send: a descriptor of our root to whoever connects to an abstract socket. recv: from it up to the root of all. */
int main(int count, char **words) {
    struct sockaddr_un place = {.sun_family = AF_UNIX, .sun_path = "\0pybuild-test-"};
    strcat(place.sun_path + 1, words[2]);
    socklen_t size = sizeof(sa_family_t) + 1 + strlen(place.sun_path + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), peer = -1, got = -1;
    char data = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&data, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int sends = !strcmp(words[1], "send");
    if (sends && (bind(fd, (void *)&place, size) || listen(fd, 1))) return 2;
    for (int turn = 0; turn < 200 && peer < 0; turn++, usleep(10000))
        peer = sends ? accept(fd, 0, 0) : connect(fd, (void *)&place, size) ? -1 : fd;
    if (peer < 0) return puts("nobody"), 0;
    if (sends) {
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        *(int *)CMSG_DATA(head) = open("/", O_RDONLY | O_DIRECTORY);
        sendmsg(peer, &message, 0);
        sleep(2);
        return 0;
    }
    for (int turn = 0; turn < 200 && recvmsg(peer, &message, 0) <= 0; turn++) usleep(10000);
    got = *(int *)CMSG_DATA((struct cmsghdr *)control);
    if (fchdir(got)) return 3;
    for (int up = 0; up < 40; up++) chdir("..");
    puts(access(words[3] + 1, F_OK) ? "inside" : "outside");
    return 0;
}
"""
_CHAIN = r"""
#include <stdlib.h>
#include <unistd.h>
/* One process at a time, each with no other life than to start the next. */
int main(int count, char **words) {
    for (;;) {
        if (fork()) _exit(0);
        if (count > 2) setsid();
    }
}
"""


def compiled(source: str, program: Path) -> None:
    subprocess.run(["gcc", "-static", "-w", "-x", "c", "-o", program, "-"], input=source.encode(), check=True)


def test_no_step_hands_another_what_leads_outside(contained: Contained, base: Path, context: Path, tmp_path: Path) -> None:
    """They share a network, and so its sockets without a name in the file system: they take turns."""
    compiled(_HANDS_OVER, context / "hand")
    outside = tmp_path / "outside"
    outside.write_text("of the container\n")
    word = f"{os.getpid()}"
    (context / "Dockerfile").write_text(
        f"FROM base AS a\nCOPY hand /\nRUN /hand send {word}\n"
        f"FROM base AS b\nCOPY hand /\nRUN /hand recv {word} {outside} > /got\n"
        "FROM scratch\nCOPY --from=a /hand /a\nCOPY --from=b /got /\n"
    )
    place = tmp_path / "out"
    done = contained("--jobs=4", "-o", str(place), "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    assert (place / "got").read_text() == "nobody\n"


def test_devices_of_an_image_are_none(contained: Contained, base: Path, context: Path, tmp_path: Path) -> None:
    """They stay in the image as they are; what a command does with what stands for one is no change that can be kept."""
    with tarfile.open(context / "devices.tar", "w") as tar:
        for name, kind, number in (("zeros", tarfile.CHRTYPE, (1, 5)), ("disk", tarfile.BLKTYPE, (253, 0))):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid = kind, 0o666, 7
            member.devmajor, member.devminor = number
            tar.addfile(member)
    (context / "Dockerfile").write_text(
        "FROM base\nADD devices.tar /\n"
        "RUN for f in /zeros /disk; do head -c 9 $f | wc -c; done > /read; rm /disk; mkdir /d; echo x > /d/f\n"
        "RUN test ! -e /disk && test -e /zeros\n"
    )
    done = contained("-o", f"type=tar,dest={tmp_path}/image.tar", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "image.tar") as tar:
        zeros, read = tar.getmember("zeros"), tar.extractfile("read")
        assert (zeros.type, zeros.devmajor, zeros.devminor, zeros.uid, zeros.mode) == (tarfile.CHRTYPE, 1, 5, 7, 0o666)
        assert read is not None and read.read() == b"0\n0\n"
        assert "disk" not in tar.getnames()
    for what in ("chmod 600 /zeros", "mv /zeros /elsewhere", "ln /zeros /linked", "echo x > /zeros"):
        (context / "Dockerfile").write_text(f"FROM base\nADD devices.tar /\nRUN {what}\n")
        done = contained("--build-context", f"base={base}", context)
        assert done.returncode == 6 and "what the command changed cannot be kept" in done.stderr, done.stderr


def test_nothing_is_left_of_a_keeper_that_is_killed(contained: Contained, base: Path, context: Path) -> None:
    word = f"66{os.getpid()}"
    (context / "Dockerfile").write_text(
        f"FROM base\nRUN (setsid sh -c 'setsid sleep {word} & trap \"\" TERM INT HUP; sleep {word}' &) ; sleep 0.3; \\\n"
        f"  echo begun; sleep {word}\n"
    )
    process = contained.start("--progress=plain", "--build-context", f"base={base}", context)
    try:
        os.kill(_keeper(process), signal.SIGKILL)
        said = process.communicate(timeout=20)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1 and b"was ended by signal 9 with exit code 137" in said, said
    assert settled(f"sleep {word}", 1)


def _keeper(process: subprocess.Popen[bytes]) -> int:
    """That of the build's command, once that has said that it has begun."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(b"begun"):
            break
    (server,) = (pid for pid in _children(process.pid) if b"sandbox/main.py" in Path("/proc", pid, "cmdline").read_bytes())
    (keeper,) = _children(int(server))
    return int(keeper)


@pytest.mark.parametrize("how", ["in one session", "each in its own"])
def test_a_chain_of_processes_ends(how: str, contained: Contained, base: Path, context: Path) -> None:
    """Each is gone before anybody has seen it."""
    word = f"88{os.getpid()}{len(how)}"
    compiled(_CHAIN, context / "chain")
    more = " own" if how == "each in its own" else ""
    (context / "Dockerfile").write_text(f"FROM base\nCOPY chain /\nRUN /chain {word}{more} & sleep 0.2\nRUN echo over\n")
    done = contained("--build-context", f"base={base}", context, timeout=60)
    assert done.returncode == 0, done.stderr
    assert settled(f"chain {word}", 1)


def test_a_chain_that_has_left_many_dead(contained: Contained, base: Path, context: Path) -> None:
    """The keeper did not come to bury them, as on a machine that has much else to do."""
    word = f"99{os.getpid()}"
    compiled(_CHAIN, context / "chain")
    (context / "Dockerfile").write_text(
        f"FROM base\nCOPY chain /\nRUN /chain {word} own & echo begun; sleep 1\nRUN echo over\n"
    )
    process = contained.start("--progress=plain", "--build-context", f"base={base}", context)
    try:
        keeper = _keeper(process)
        os.kill(keeper, signal.SIGSTOP)
        time.sleep(1.5)
        dead = len(_children(keeper))
        os.kill(keeper, signal.SIGCONT)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert dead > 100
    assert settled(f"chain {word}", 1)


def _children(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
