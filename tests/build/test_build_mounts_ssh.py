"""RUN --mount=type=ssh against OpenSSH's own agent: what passes to it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_shipped import refused, run_build
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import SEARCH_PATH, Pybuild

CLIENT = r"""
/* Speaks to the agent of SSH_AUTH_SOCK: each argument is a request, and its answer's kind is printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned char in[1 << 18];

static unsigned number(unsigned char *at) { return at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void put(unsigned char *at, unsigned value) { for (int i = 0; i < 4; i++) at[i] = value >> (24 - 8 * i); }

static int ask(int fd, unsigned char *body, unsigned length) {
    unsigned char head[4];
    put(head, length);
    if (write(fd, head, 4) != 4 || write(fd, body, length) != (int) length) return -1;
    unsigned got = 0, want = 4;
    while (got < want) {
        int more = read(fd, in + got, want - got);
        if (more <= 0) return -1;
        got += more;
        if (got == 4) want = 4 + number(in);
    }
    return in[4];
}

int main(int count, char **words) {
    struct sockaddr_un address = {AF_UNIX};
    strcpy(address.sun_path, getenv("SSH_AUTH_SOCK"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *) &address, sizeof address)) { perror("connect"); return 1; }
    for (int i = 1; i < count; i++) {
        static unsigned char body[1 << 18];
        unsigned length = 1;
        body[0] = atoi(words[i]);
        if (body[0] == 13) {  /* sign with the first key of the last list */
            unsigned blob = number(in + 9);
            memcpy(body + 1, in + 9, 4 + blob);
            put(body + 5 + blob, 4);
            memcpy(body + 9 + blob, "data", 4);
            put(body + 13 + blob, 0);
            length = 17 + blob;
        }
        int kind = ask(fd, body, length);
        printf(kind == 12 ? "%d:%u " : "%d ", kind, number(in + 5));
    }
    printf("\n");
    return 0;
}
"""
LIST, SIGN = "11", "13"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "client.c").write_text(CLIENT)
    subprocess.run(["gcc", "-O", "-w", "-static", "-o", folder / "client", folder / "client.c"], check=True)
    return folder / "client"


@pytest.fixture
def context(tmp_path: Path, client: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    shutil.copy(client, folder / "client")
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """Two private keys, one of them readable for everybody, as in many a CI."""
    folder = tmp_path / "keys"
    folder.mkdir()
    found = []
    for kind in ("ed25519", "ecdsa"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", folder / kind], check=True)
        found.append(folder / kind)
    found[1].chmod(0o644)
    return found


@pytest.fixture
def agent(tmp_path: Path, keys: list[Path]) -> Iterator[Path]:
    """A running agent that has the first key; its path is longer than a socket's may be for those who say it whole."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with subprocess.Popen(["ssh-agent", "-D", "-a", "s"], cwd=folder, stdout=subprocess.DEVNULL) as process:
        while not (folder / "s").exists():
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", keys[0]], env={**os.environ, "SSH_AUTH_SOCK": "s"}, cwd=folder, check=True)
        yield folder / "s"
        process.terminate()


def said(stderr: str) -> list[str]:
    return re.findall(r"^#\d+ \d+\.\d+ ?(.*)$", stderr, re.MULTILINE)


def build(pybuild: Pybuild, context: Path, base: Path, dockerfile: str, *flags: str | Path) -> list[str]:
    return [line.strip() for line in said(run_build(pybuild, context, dockerfile, "--build-context", f"base={base}", *flags))]


def test_the_agent_of_the_user(pybuild: Pybuild, busybox_base: Path, context: Path, agent: Path) -> None:
    """Keys are listed and sign; nothing else passes: no adding, removing, locking, extending."""
    text = f"""FROM base
RUN --mount=type=ssh --mount=target=/c /c/client {LIST} {SIGN} 17 18 19 22 23 27 255 {LIST}; \\
    echo $SSH_AUTH_SOCK; stat -c '%a %u:%g' $SSH_AUTH_SOCK
RUN --mount=type=ssh,target=/tmp/a/sock,mode=0660,uid=1000,gid=7 stat -c '%F %a %u:%g' $SSH_AUTH_SOCK
USER 1000
RUN --network=none --mount=type=ssh,uid=1000 --mount=target=/c /c/client {LIST}; chmod 777 $SSH_AUTH_SOCK 2>&1 || true
RUN --mount=type=ssh --mount=target=/c /c/client {LIST} 2>&1 || true
"""
    (context / "Dockerfile").write_text(text)
    flags = ("--progress=plain", "--ssh=default", "--build-context", f"base={busybox_base}")
    done = pybuild(*flags, context, env={"SSH_AUTH_SOCK": os.fspath(agent)})
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in said(done.stderr)] == [
        "12:1 14 5 5 5 5 5 5 5 12:1",
        "/run/buildkit/ssh_agent.0",
        "600 0:0",
        "socket 660 1000:7",
        "12:1",
        "chmod: /run/buildkit/ssh_agent.0: Read-only file system",
        "connect: Permission denied",
    ]
    assert_valid(pybuild.store)


def test_sockets_and_keys_by_id(pybuild: Pybuild, busybox_base: Path, context: Path, agent: Path, keys: list[Path]) -> None:
    text = f"""FROM base
RUN --mount=type=ssh,id=one --mount=type=ssh,id=two --mount=target=/c \\
    /c/client {LIST} {SIGN} && SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 /c/client {LIST} {SIGN}
ENV SSH_AUTH_SOCK=/mine
RUN --mount=type=ssh,id=two,target=/mine --mount=target=/c /c/client 18 {LIST}; /c/client {LIST}
RUN --mount=type=ssh,id=absent ls /run/buildkit 2>&1 || true
"""
    flags = ("--ssh", f"one={agent}", "--ssh", f"two={keys[0]},{keys[1]}")
    assert build(pybuild, context, busybox_base, text, *flags) == [
        *("12:1 14", "12:2 14"),
        *("5 12:2", "12:2"),
        "ls: /run/buildkit: No such file or directory",
    ]
    assert_nothing_left(pybuild.store)


def agents(mark: str) -> list[str]:
    """The ids of the ssh agents that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ssh-agent" in (folder / "cmdline").read_bytes() and mark.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_the_key_is_nowhere_and_its_agent_ends_with_the_builder(
    pybuild: Pybuild, busybox_base: Path, context: Path, keys: list[Path]
) -> None:
    """Also where the builder is killed."""
    secret = "".join(keys[0].read_text().splitlines()[2:-1])[:60].encode()
    script = "echo > /k/running; until [ -e /k/end ]; do sleep 0.05; done"
    text = f"FROM base\nRUN --mount=type=ssh --mount=type=cache,target=/k --mount=target=/c /c/client {LIST} && {script}\n"
    (context / "Dockerfile").write_text(text)
    flags = ("--ssh", f"default={keys[0]}", "--progress=plain", "--build-context", f"base={busybox_base}", context)
    for kill in (True, False):
        # An agent has nothing of the builder's environment but PATH.
        process = pybuild.start(*flags, env={"PATH": f"{SEARCH_PATH}:{pybuild.store}/no-such-folder"})
        while not (found := list((pybuild.store / "mounts").glob("*/running"))):
            assert process.poll() is None, process.communicate()
        assert len(agents(f"{pybuild.store}/no-such-folder")) == 1
        for path in pybuild.store.rglob("*"):
            assert not path.is_file() or secret not in path.read_bytes()
        found[0].unlink()
        if kill:
            process.kill()
        else:
            (found[0].parent / "end").touch()
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, secret in stderr) == (-9 if kill else 0, False)
        deadline = time.monotonic() + 5
        while agents(f"{pybuild.store}/no-such-folder") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert agents(f"{pybuild.store}/no-such-folder") == []
        (found[0].parent / "end").unlink(missing_ok=True)


def test_keys_and_secrets_from_pipes(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path, keys: list[Path]
) -> None:
    """As the shell's `<(command)` gives them: they can be read once, and several steps may want them."""
    writers = []
    for name, data in (("key", keys[0].read_bytes()), ("secret", b"piped\n")):
        os.mkfifo(tmp_path / name)
        writers.append(threading.Thread(target=(tmp_path / name).write_bytes, args=(data,)))
        writers[-1].start()
    use = f"--mount=type=ssh --mount=type=secret,id=s --mount=target=/c /c/client {LIST} && cat /run/secrets/s"
    flags = ("--ssh", f"default={tmp_path}/key", "--secret", f"id=s,src={tmp_path}/secret")
    assert build(pybuild, context, busybox_base, f"FROM base\nRUN {use}\nRUN {use} # again\n", *flags) == ["12:1", "piped"] * 2
    for writer in writers:
        writer.join()


def test_git_asks_the_default_agent(pybuild: Pybuild, context: Path, agent: Path, tmp_path: Path) -> None:
    """An ADD of git over ssh: the ssh of this test says what it was given, and refuses."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(
        f'#!/bin/sh\necho "${{SSH_AUTH_SOCK-none}}" >> {tmp_path}/asked\necho Permission denied >&2\nexit 1\n'
    )
    (programs / "ssh").chmod(0o755)
    (context / "Dockerfile").write_text("FROM scratch\nADD git@example.com:a/b.git /b\n")
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "SSH_AUTH_SOCK": os.fspath(agent)}
    for flags in ([], ["--ssh", "default"]):
        done = pybuild(*flags, context, env=env)
        assert (done.returncode, "hint: give the build your ssh agent (--ssh default)" in done.stderr) == (5, True), done.stderr
    assert set((tmp_path / "asked").read_text().splitlines()) == {"none", os.fspath(agent)}


def test_agents_that_do_not_answer(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=ssh true\n"
    flags = ("--build-context", f"base={busybox_base}")
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind(dead.name)
    told = refused(pybuild, context, text, *flags, "--ssh", f"default={dead}", code=2)
    assert f"Dockerfile:2:5: error: the ssh agent at '{dead}' does not answer: Connection refused\n" in told
    key = tmp_path / "key"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    told = refused(pybuild, context, text, *flags, "--ssh", f"default={key}", code=2)
    assert f"Dockerfile:2:5: error: ssh-add does not take the key '{key}': " in told
    assert_nothing_left(pybuild.store)


def test_a_real_passphrase_is_found_out(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    for form in ((), ("-m", "PEM")):
        key = tmp_path / f"key{len(form)}"
        kind = "rsa" if form else "ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *form, "-N", "passphrase", "-f", key], check=True)
        told = refused(pybuild, context, "FROM scratch\n", "--ssh", f"default={key}", code=2)
        assert f"error: the key '{key}' of --ssh default has a passphrase, and a build cannot ask for it\n" in told
    told = refused(pybuild, context, "FROM scratch\n", "--ssh", f"default={key}.pub", code=2)
    assert f"'{key}.pub' of --ssh default is no private key\n  hint: did you mean '{key}'?" in told
