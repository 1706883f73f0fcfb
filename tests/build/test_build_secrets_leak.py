"""Secrets leak nowhere: builds are given canaries in every way that there is, and then every byte that the builder left or said
is searched for them, raw and encoded, inside compressed blobs too."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import pty
import secrets
import select
import signal
import subprocess
import tarfile
import threading
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard

from tests.build.build_store import assert_nothing_left
from tests.conftest import SEARCH_PATH, Pybuild
from tests.context.context_server import Server, answer


class Canaries(NamedTuple):
    """Each is a word that occurs nowhere else; the ssh key is a real one, and its canary is a line of it."""

    file: str
    env: str
    ssh: str
    proxy: str
    url: str


DOCKERFILE = """FROM base
ARG PLAIN=seen-by-all
RUN --mount=type=secret,id=file --mount=type=secret,id=other,target=/elsewhere/token,mode=0444 \\
    --mount=type=secret,id=env,env=TOKEN --mount=type=ssh --mount=type=cache,target=/cache \\
    wc -c < /run/secrets/file > /sizes; wc -c < /elsewhere/token >> /sizes; echo ${{#TOKEN}} >> /sizes; \\
    test -S "$SSH_AUTH_SOCK" && test -n "$http_proxy" && echo used; {after}
ADD {url} /fetched
RUN --mount=type=secret,id=file cat /run/secrets/file | wc -c > /again
"""


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    key = tmp_path / "key"
    tool = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nobody", "-f", str(key)]
    subprocess.run(tool, check=True, env={"PATH": SEARCH_PATH}, timeout=30)
    line = key.read_text().splitlines()[2]
    words = (f"canary-{kind}-{secrets.token_hex(12)}" for kind in ("file", "env", "proxy", "url"))
    file, env, proxy, url = words
    return Canaries(file, env, line, proxy, url)


class Room(NamedTuple):
    """A context, and what a build in it is told."""

    context: Path
    flags: list[str]
    env: dict[str, str]
    url: str


@pytest.fixture
def room(tmp_path: Path, busybox_base: Path, canaries: Canaries) -> Iterator[Room]:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "secret").write_text(canaries.file)
    with Server() as server:
        server.routes[f"/file?token={canaries.url}"] = answer(b"content", ETag='"1"')
        url = f"http://me:{canaries.url}@{server.host}/file?token={canaries.url}"
        flags = [f"--build-context=base={busybox_base}", "--secret", f"id=file,src={tmp_path / 'secret'}"]
        flags += ["--secret", f"id=other,src={tmp_path / 'secret'}", "--secret", "id=env,env=THE_TOKEN"]
        flags += ["--ssh", f"default={tmp_path / 'key'}"]
        proxy = f"http://me:{canaries.proxy}@proxy.example:3128"
        env = {"THE_TOKEN": canaries.env, "http_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": "127.0.0.1,localhost"}
        yield Room(context, flags, env, url)


def write(room: Room, after: str = "true") -> None:
    (room.context / "Dockerfile").write_text(DOCKERFILE.format(after=after, url=room.url))


# Looking


def forms(word: str) -> dict[str, bytes]:
    """The word as it may stand somewhere: raw, in base64 at each of the three offsets, in hex, percent-encoded, as UTF-16."""
    raw = word.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "utf-16": word.encode("utf-16-le")}
    for offset in range(3):
        coded = base64.b64encode(bytes(offset) + raw)
        # Without the first and the last characters, which depend on what stands beside the word.
        found[f"base64+{offset}"] = coded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
    quoted = urllib.parse.quote(word, safe="")
    if quoted != word:
        found["quoted"] = quoted.encode()
    return found


def contents(data: bytes, name: str, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes themselves, and those inside them where they are compressed or an archive, to any depth that occurs."""
    yield name, data
    if depth > 4:
        return
    inner = _decompressed(data)
    if inner is not None:
        yield from contents(inner, f"{name} (decompressed)", depth + 1)
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield from contents(file.read(), f"{name}!{member.name}", depth + 1)


def _decompressed(data: bytes) -> bytes | None:
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        if data.startswith(b"BZh"):
            return bz2.decompress(data)
        if data.startswith(b"\xfd7zXZ"):
            return lzma.decompress(data)
        if data[:1] == b"\x78":
            return zlib.decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
        return None
    return None


def leaks(data: bytes, name: str, canaries: Canaries) -> list[str]:
    found = []
    for where, piece in contents(data, name):
        for kind, word in canaries._asdict().items():
            found += [f"{kind} in {where} ({form})" for form, text in forms(word).items() if text in piece]
    return found


def leaks_below(folder: Path, canaries: Canaries) -> list[str]:
    """In the content, the name, the link target and the attributes of everything below; also in a file's slack."""
    found = []
    files = 0
    for path in sorted(folder.rglob("*")):
        found += leaks(os.fsencode(str(path.relative_to(folder))), f"the name {path}", canaries)
        try:
            for attribute in os.listxattr(path, follow_symlinks=False):
                found += leaks(os.getxattr(path, attribute, follow_symlinks=False), f"{attribute} of {path}", canaries)
            if path.is_symlink():
                found += leaks(os.fsencode(os.readlink(path)), str(path), canaries)
            elif path.is_file():
                found += leaks(path.read_bytes(), str(path), canaries)
                files += 1
        except FileNotFoundError:
            # Of a builder that runs: a lock that it has given back meanwhile.
            continue
    assert files > 2, "nothing was looked at"
    return found


def processes() -> Iterator[tuple[str, bytes]]:
    """The command line of every process of the machine."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield process.name, (process / "cmdline").read_bytes()
        except OSError:
            continue


# The controls: each way of hiding is seen.


@pytest.mark.parametrize("hide", [
    lambda data: data, base64.b64encode, lambda data: base64.b64encode(b"x" + data + b"y"), bytes.hex, gzip.compress,
    lambda data: base64.b64encode(b"me:" + data), lambda data: zstandard.ZstdCompressor().compress(data), zlib.compress,
    lambda data: gzip.compress(gzip.compress(data)), lambda data: tarred(gzip.compress(data)), bz2.compress,
])  # fmt: skip
def test_the_search_finds_what_is_hidden(hide: object) -> None:
    word = f"canary-{secrets.token_hex(12)}"
    nothing = Canaries(word, *[f"other-{secrets.token_hex(9)}" for _ in range(4)])
    hidden = hide(b"before " + word.encode() + b" after")  # type: ignore[operator]  # a list of functions of one shape
    assert leaks(hidden if isinstance(hidden, bytes) else hidden.encode(), "x", nothing)
    assert not leaks(b"nothing of it", "x", nothing)


def tarred(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("name")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


# The builds


def said_on_a_terminal(pybuild: Pybuild, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> tuple[int, bytes]:
    """What the program writes to a terminal, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*pybuild.command, *arguments], cwd=cwd, env=pybuild.environment(env), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                break  # EIO: nobody has the other end any more.
            if not data:
                break
            said += data
        return process.wait(timeout=60), said
    finally:
        os.close(ours)


def test_a_build_that_works(pybuild: Pybuild, tmp_path: Path, room: Room, canaries: Canaries) -> None:
    write(room)
    out = tmp_path / "out"
    out.mkdir()
    flags = ["-t", "image", *room.flags, "-o", f"type=oci,dest={out}/oci.tar", "-o", f"type=docker,dest={out}/docker.tar"]
    flags += ["-o", f"type=oci,dest={out}/zstd.tar,compression=zstd", "-o", f"type=local,dest={out}/local", "--explain"]
    flags += ["--metadata-file", f"{out}/meta.json", "--iidfile", f"{out}/iid", "--debug"]
    flags += ["--cache-to", f"type=local,dest={out}/cache,mode=max"]
    said = []
    for mode in ("plain", "json"):
        done = pybuild("--progress", mode, "--no-cache", *flags, ".", cwd=room.context, env=room.env)
        assert done.returncode == 0, done.stderr
        assert "used" in done.stderr
        said.append(done.stdout + done.stderr)
    code, terminal = said_on_a_terminal(
        pybuild, ["--progress=tty", "--no-cache", *flags, "."], room.context, room.env
    )  # fmt: skip
    assert code == 0, terminal
    # They were there, and whole.
    assert (out / "local" / "sizes").read_text().split() == [
        str(len(canaries.file)), str(len(canaries.file)), str(len(canaries.env))
    ]  # fmt: skip
    assert (out / "local" / "again").read_text().split() == [str(len(canaries.file))]
    assert (out / "local" / "fetched").read_text() == "content"
    commands = [["images"], ["history", "image"], ["inspect", "image"], ["why"], ["why", "--format=json"]]
    commands += [["du", "--verbose"], ["du", "--format=json"], ["doctor", "--store"], ["--print-plan", *room.flags, "."]]
    commands += [["check", room.flags[0], "."]]
    for command in commands:
        done = pybuild(*command, cwd=room.context, env=room.env)
        assert done.returncode in (0, 3), (command, done.stderr)
        said.append(done.stdout + done.stderr)
    found = leaks(terminal, "the terminal", canaries)
    for number, text in enumerate(said):
        found += leaks(text.encode(errors="surrogateescape"), f"output {number}", canaries)
    found += leaks_below(pybuild.store, canaries)
    found += leaks_below(out, canaries)
    assert found == []


def test_a_step_that_fails(pybuild: Pybuild, room: Room, canaries: Canaries) -> None:
    """Its file system is kept for `pybuild shell`, and holds none of them."""
    write(room, after="touch /left; exit 7")
    done = pybuild("--progress=plain", *room.flags, ".", cwd=room.context, env=room.env)
    assert done.returncode == 1 and "exit code 7" in done.stderr, done.stderr
    shell = pybuild("shell", "2:failed", "--", "ls", "/left", "/run/secrets", "/elsewhere", cwd=room.context)
    assert "/left" in shell.stdout
    found = leaks((done.stdout + done.stderr + shell.stdout + shell.stderr).encode(), "output", canaries)
    assert found + leaks_below(pybuild.store, canaries) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_build_that_is_ended(pybuild: Pybuild, room: Room, canaries: Canaries, number: int) -> None:
    """Seen from the host while the command has them, and after the end of the builder."""
    write(room, after="echo at-it; sleep 60")
    with pybuild.start("--progress=plain", *room.flags, ".", cwd=room.context, env=room.env) as process:
        assert process.stderr is not None
        said = b""
        while b" at-it" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        found = [leak for pid, command in processes() for leak in leaks(command, f"process {pid}", canaries)]
        found += leaks_below(pybuild.store, canaries)
        process.send_signal(number)
        said += process.communicate(timeout=20)[1]
    assert_nothing_left(pybuild.store)
    found += leaks(said, "output", canaries) + leaks_below(pybuild.store, canaries)
    assert found == []


@pytest.mark.parametrize("place", ["/r.git/info/refs?service=git-upload-pack", "/file"], ids=["git", "a file"])
def test_what_is_fetched_with_credentials(pybuild: Pybuild, tmp_path: Path, canaries: Canaries, place: str) -> None:
    """Seen from the host while the server is slow, and after the builder was killed."""
    context = tmp_path / "context"
    context.mkdir()
    begun, end = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        end.wait(30)

    with Server() as server:
        server.routes[place] = hang
        url = f"{server.url}{place.partition('/info')[0]}"
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {url.replace('//', f'//me:{canaries.url}@')} /d/\n")
        with pybuild.start("--progress=plain", "--debug", context) as process:
            assert begun.wait(30)
            seen = list(processes())
            # The control: git is among them, and the URL without the credentials is what it was told.
            assert any(b"remote-http" in command and url.encode() in command for _, command in seen) == place.startswith(
                "/r.git"
            )
            found = [leak for pid, command in seen for leak in leaks(command, f"process {pid}", canaries)]
            found += leaks_below(pybuild.store, canaries)
            process.kill()
            said = b"".join(process.communicate(timeout=20))
            end.set()
    assert_nothing_left(pybuild.store, url)
    assert found + leaks(said, "output", canaries) + leaks_below(pybuild.store, canaries) == []


def test_errors_about_secrets_show_none(pybuild: Pybuild, tmp_path: Path, room: Room, canaries: Canaries) -> None:
    """What is refused is named by its id or its file, and never by what it holds."""
    write(room)
    (tmp_path / "large").write_text(canaries.file * 20_000)
    wrong = [
        ["--secret", f"id=file,src={tmp_path}/large"],
        ["--secret", "id=file,env=NOT_THERE"],
        ["--ssh", f"default={tmp_path}/secret"],
        ["--build-arg", f"http_proxy=http://me:{canaries.proxy}@proxy.example:3128", "--secret", "id=other"],
    ]
    (room.context / "Dockerfile").write_text(
        "FROM base\nRUN --mount=type=secret,id=file,required --mount=type=ssh cat /run/secrets/file\n"
    )
    for flags in wrong:
        done = pybuild("--progress=plain", *flags, *room.flags[:1], ".", cwd=room.context, env=room.env)
        assert done.returncode != 0, flags
        assert "error: " in done.stderr
        assert leaks((done.stdout + done.stderr).encode(), "an error", canaries) == []
    assert leaks_below(pybuild.store, canaries) == []


def test_nothing_of_a_secret_is_in_a_key(pybuild: Pybuild, tmp_path: Path, room: Room, canaries: Canaries) -> None:
    """Another secret, another agent, another proxy: all is cached."""
    write(room)
    assert pybuild(*room.flags, ".", cwd=room.context, env=room.env).returncode == 0
    (tmp_path / "secret").write_text("another one")
    env = {**room.env, "THE_TOKEN": "else", "http_proxy": "http://other.example:1"}
    done = pybuild("--progress=json", *room.flags, ".", cwd=room.context, env=env)
    assert done.returncode == 0, done.stderr
    ends = [event for line in done.stderr.splitlines() if (event := json.loads(line))["type"] == "step.finished"]
    assert {event["status"] for event in ends} == {"cached"}
