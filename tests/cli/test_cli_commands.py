"""The commands on images of the store: images, inspect, history, tag, rmi, import, run."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.conftest import Pybuild

EPOCH = 315619200

DOCKERFILE = """FROM base
ENV GREETING=hello EMPTY=
LABEL org.example.team="a b"
COPY file /file
RUN true
RUN echo hello > /hello && mkdir /data && chown 1000:1000 /data
WORKDIR /data
USER 1000:50
EXPOSE 80/tcp
VOLUME /data
STOPSIGNAL SIGINT
CMD ["cat", "/file"]
"""


@pytest.fixture
def app(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> str:
    """The id of the image `app:1`, made from DOCKERFILE on `base`."""
    assert pybuild("import", busybox_base, "base").returncode == 0
    return build(pybuild, tmp_path, DOCKERFILE, "-t", "app:1")


def build(pybuild: Pybuild, tmp_path: Path, dockerfile: str, *flags: str) -> str:
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "file").write_text("five\n")
    (context / "Dockerfile").write_text(dockerfile)
    done = pybuild("-q", *flags, context)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def out(pybuild: Pybuild, *args: str) -> str:
    done = pybuild(*args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def table(text: str) -> list[list[str]]:
    return [re.split(" {2,}", line) for line in text.splitlines()]


def config(pybuild: Pybuild, image: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((pybuild.store / "blobs" / image.replace(":", "/")).read_bytes())
    return value


# What the store holds.


def test_images(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    base = out(pybuild, "images", "-q", "--no-trunc").split()[1]
    size = table(out(pybuild, "images"))[1][4]
    nameless = build(pybuild, tmp_path, "FROM base\nCOPY file /\n")
    assert table(out(pybuild, "images")) == [
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
        ["<none>", "<none>", nameless[7:19], "just now", size],
        ["app", "1", app[7:19], "just now", size],
        ["base", "latest", base[7:19], "just now", size],
    ]
    assert out(pybuild, "images", "-q") == f"{nameless[7:19]}\n{app[7:19]}\n{base[7:19]}\n"
    assert out(pybuild, "images", "--no-trunc").splitlines()[1].split()[2] == nameless


def test_an_image_that_lost_its_name_to_a_newer_build_is_kept(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    newer = build(pybuild, tmp_path, "FROM base\nCOPY file /\n", "-t", "app:1")
    rows = table(out(pybuild, "images"))
    assert [row[:3] for row in rows[1:3]] == [["<none>", "<none>", app[7:19]], ["app", "1", newer[7:19]]]
    assert json.loads(out(pybuild, "inspect", app[:20]))[0]["RepoTags"] == []
    assert out(pybuild, "run", app[7:17]) == "five\n"
    assert out(pybuild, "rmi", app[7:17]) == f"Deleted: {app}\n"
    assert app[7:19] not in out(pybuild, "images")


def test_inspect(pybuild: Pybuild, app: str) -> None:
    (shown,) = json.loads(out(pybuild, "inspect", "app:1"))
    layers = shown["RootFS"].pop("Layers")
    size = shown.pop("Size")
    assert re.fullmatch("sha256:[0-9a-f]{64}", shown.pop("BuildRequest"))
    assert shown == {
        "Id": app,
        "RepoTags": ["app:1"],
        "RepoDigests": [],
        "Created": "1980-01-02T00:00:00Z",
        "Author": "",
        "Architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "Os": "linux",
        "Config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hello", "EMPTY="],
            "Labels": {"org.example.team": "a b"},
            "User": "1000:50",
            "WorkingDir": "/data",
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGINT",
            "Cmd": ["cat", "/file"],
        },
        "RootFS": {"Type": "layers"},
    }
    (base,) = json.loads(out(pybuild, "inspect", "base"))
    assert layers[0] == base["RootFS"]["Layers"][0]
    assert (len(layers), size) == (3, base["Size"] + 5 + 6)
    both = json.loads(out(pybuild, "inspect", "base", app[7:20]))
    assert [image["Id"] for image in both] == [base["Id"], app]


def test_history_has_one_entry_for_each_instruction(pybuild: Pybuild, app: str) -> None:
    lines = [
        ("pybuild import", False),
        ("ENV GREETING=hello EMPTY=", True),
        ("LABEL org.example.team=a b", True),
        ("COPY file /file", False),
        ("RUN /bin/sh -c true", True),
        ("RUN /bin/sh -c echo hello > /hello && mkdir /data && chown 1000:1000 /data", False),
        ("WORKDIR /data", True),
        ("USER 1000:50", True),
        ("EXPOSE [80/tcp]", True),
        ("VOLUME [/data]", True),
        ("STOPSIGNAL SIGINT", True),
        ('CMD ["cat" "/file"]', True),
    ]
    history = config(pybuild, app)["history"]
    assert [(line["created_by"], line.get("empty_layer", False)) for line in history] == lines
    assert {line["created"] for line in history} == {"1980-01-02T00:00:00Z"}
    rows = table(out(pybuild, "history", "--no-trunc", "app:1"))
    assert rows[0] == ["CREATED", "CREATED BY", "SIZE", "COMMENT"]
    base = table(out(pybuild, "images"))[2][4]
    sizes = {"COPY file /file": "5 B", lines[5][0]: "6 B", "pybuild import": base}
    assert [row[1:3] for row in rows[1:]] == [[text, sizes.get(text, "0 B")] for text, _ in reversed(lines)]
    cut = table(out(pybuild, "history", "app:1"))[7][1]
    assert cut == lines[5][0][:59] + "…"
    assert out(pybuild, "history", "-q", "app:1").splitlines() == [app[7:19]] + ["<missing>"] * 11


def test_tag_and_rmi(pybuild: Pybuild, app: str) -> None:
    out(pybuild, "tag", "app:1", "registry.example:5000/team/app")
    out(pybuild, "tag", app[7:15], "other")
    names = ["other:latest", "app:1", "registry.example:5000/team/app:latest"]
    assert json.loads(out(pybuild, "inspect", "other"))[0]["RepoTags"] == sorted(names, key=_normalised)
    refused = pybuild("rmi", app[7:19])
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: the image '{app[7:19]}' has 3 names\n  hint: remove the names: pybuild rmi ")
    assert out(pybuild, "rmi", "other", "app:1") == "Untagged: other:latest\nUntagged: app:1\n"
    last = out(pybuild, "rmi", app[7:19])
    assert last == f"Untagged: registry.example:5000/team/app:latest\nDeleted: {app}\n"
    missing = pybuild("rmi", "app:1")
    assert (missing.returncode, missing.stderr) == (
        2,
        "error: there is no image 'app:1' in the store\n  hint: see: pybuild images\n",
    )
    assert out(pybuild, "rmi", "base").splitlines()[0] == "Untagged: base:latest"
    assert table(out(pybuild, "images")) == [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]]


def _normalised(name: str) -> str:
    return name if "/" in name else f"docker.io/library/{name}"


def test_a_name_that_is_nearly_right(pybuild: Pybuild, app: str) -> None:
    for command in (["inspect"], ["history"], ["run", "--pull=never"], ["rmi"]):
        done = pybuild(*command, "ap:1")
        message = "error: there is no image 'ap:1' in the store\n  hint: did you mean 'app:1'?\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    done = pybuild("tag", "app:1", "App:2")
    assert (done.returncode, done.stderr) == (
        2,
        "error: 'App:2' is not an image reference: 'App' is not a name\n  hint: write 'app:2'\n",
    )
    done = pybuild("inspekt", "app:1")
    assert done.returncode == 2
    assert "did you mean 'inspect'?" in done.stderr


# Import.


def _tar(format: int = tarfile.PAX_FORMAT) -> bytes:
    """A root file system with owners, modes, times, links and a name that is not ASCII."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as tar:
        for name, kind, mode, owner, mtime, content in (
            ("./etc", tarfile.DIRTYPE, 0o755, (0, 0), 1_000_000_000, b""),
            ("./etc/passwd", tarfile.REGTYPE, 0o644, (0, 0), 1_600_000_000, b"ann:x:70:70::/home:/bin/sh\n"),
            ("./home", tarfile.DIRTYPE, 0o1770, (70, 70), 86_400, b""),
            ("./home/grün", tarfile.REGTYPE, 0o4711, (70, 71), 1_700_000_000, b"green\n"),
            ("./home/link", tarfile.SYMTYPE, 0o777, (0, 0), 5, b"/etc/passwd"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, mode, mtime
            member.uid, member.gid = owner
            if kind == tarfile.SYMTYPE:
                member.linkname = content.decode()
            elif kind == tarfile.REGTYPE:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if member.size else None)
    return data.getvalue()


def shipped(pybuild: Pybuild, image: str, tmp_path: Path) -> list[tuple[str, int, tuple[int, int], float]]:
    """Name, mode, owner and time of all that ships."""
    dest = tmp_path / "shipped.tar"
    done = pybuild("-f", "-", "-o", f"type=tar,dest={dest}", tmp_path, stdin=f"FROM {image}\n".encode())
    assert done.returncode == 0, done.stderr
    with tarfile.open(dest) as tar:
        return [(member.name, member.mode, (member.uid, member.gid), member.mtime) for member in tar]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "rootfs.tar": lambda data: data,
    "rootfs.tar.gz": gzip.compress,
    "rootfs.tgz": lambda data: gzip.compress(data, 1),
    "misleading.zip": bz2.compress,
    "rootfs.txz": lzma.compress,
    "rootfs": zstandard.compress,
}


def test_import_of_an_archive_keeps_owners_and_times(pybuild: Pybuild, tmp_path: Path) -> None:
    data = _tar()
    images = set()
    for name, pack in PACKERS.items():
        (tmp_path / name).write_bytes(pack(data))
        images.add(out(pybuild, "import", str(tmp_path / name), "rootfs"))
    piped = pybuild("import", "-", "piped", stdin=gzip.compress(data))
    images.add(piped.stdout)
    assert len(images) == 1
    (image,) = images
    assert config(pybuild, image.strip())["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(data).hexdigest()]
    assert shipped(pybuild, "rootfs", tmp_path) == [
        ("etc", 0o755, (0, 0), 1_000_000_000),
        ("etc/passwd", 0o644, (0, 0), 1_600_000_000),
        ("home", 0o1770, (70, 70), 86_400),
        ("home/grün", 0o4711, (70, 71), 1_700_000_000),
        ("home/link", 0o777, (0, 0), 5),
    ]


def test_import_of_a_folder_takes_the_constant_time(pybuild: Pybuild, tmp_path: Path) -> None:
    folder = tmp_path / "rootfs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("text")
    os.chown(folder / "sub" / "file", 12, 34)
    os.chmod(folder / "sub", 0o2750)
    first = out(pybuild, "import", str(folder), "rootfs")
    os.utime(folder / "sub" / "file", (0, 0))
    assert out(pybuild, "import", str(folder), "rootfs") == first
    assert shipped(pybuild, "rootfs", tmp_path) == [
        ("sub", 0o2750, (0, 0), EPOCH),
        ("sub/file", 0o644, (12, 34), EPOCH),
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    made = config(pybuild, out(pybuild, "import", str(empty)).strip())
    assert (made["rootfs"]["diff_ids"], made["history"]) == ([], [])


# Run.


def run(pybuild: Pybuild, *args: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = pybuild("run", *args, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_run_takes_the_command_of_the_image_or_another(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    assert run(pybuild, "app:1") == (0, "five\n", "")
    assert run(pybuild, "app:1", "echo", "-n", "--version", "$HOME") == (0, "--version $HOME", "")
    build(pybuild, tmp_path, 'FROM base\nENTRYPOINT ["echo", "entry"]\nCMD ["one", "two"]\n', "-t", "entry")
    assert run(pybuild, "entry") == (0, "entry one two\n", "")
    assert run(pybuild, "entry", "three") == (0, "entry three\n", "")
    build(pybuild, tmp_path, "FROM base\nENV A=b\nCMD echo $A; exit 3\n", "-t", "shell")
    assert run(pybuild, "shell") == (3, "b\n", "")
    refused = run(pybuild, "base")
    assert refused == (2, "", "error: the image has no command\n  hint: give one: pybuild run IMAGE COMMAND\n")


def test_run_is_who_where_and_with_what_the_image_says(pybuild: Pybuild, app: str) -> None:
    code, text, _ = run(pybuild, "app:1", "sh", "-c", "id -u; id -g; pwd; echo $GREETING; echo $HOSTNAME; hostname; umask")
    assert (code, text) == (0, f"1000\n50\n/data\nhello\n{app[7:19]}\n{app[7:19]}\n0022\n")
    code, text, _ = run(pybuild, "--network=none", "base", "ls", "/sys/class/net")
    assert (code, text) == (0, "lo\n")


def test_run_hands_on_codes_and_streams(pybuild: Pybuild, app: str) -> None:
    assert run(pybuild, "base", "sh", "-c", "echo out; echo err >&2; exit 42") == (42, "out\n", "err\n")
    assert run(pybuild, "base", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?")[0] == 143
    data = bytes(range(256)) * 4096
    code, text, _ = run(pybuild, "-i", "--rm", "base", "sha256sum", stdin=data)
    assert (code, text) == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")
    done = subprocess.run(
        [*pybuild.command, "run", "-i", "base", "cat"], env=pybuild.environment(), input=data, capture_output=True, check=True
    )
    assert done.stdout == data
    for command, wanted, reason, hint in (
        (
            "nosuch",
            127,
            "No such file or directory",
            "check the name and the PATH; the image's own command: pybuild inspect IMAGE",
        ),
        ("/etc/passwd", 126, "Permission denied", "the file is not executable: chmod +x it"),
    ):
        message = f"error: the command '{command}' cannot be run: {reason}\n  hint: {hint}\n"
        assert run(pybuild, "base", command) == (wanted, "", message)


def test_what_a_run_writes_is_gone(pybuild: Pybuild, app: str) -> None:
    assert run(pybuild, "base", "sh", "-c", "echo x > /new; rm -r /etc; ls /new")[:2] == (0, "/new\n")
    code, text, _ = run(pybuild, "base", "ls", "/", "/etc/passwd")
    assert code == 0
    assert "new\n" not in text
    assert os.listdir(pybuild.store / "tmp") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_run_is_interrupted(pybuild: Pybuild, app: str, number: signal.Signals, code: int) -> None:
    # Seconds that nobody else on the machine waits for.
    ours = f"864{os.getpid():08}"
    script = f"sleep {ours}1 & echo begun; sleep {ours}2"
    with pybuild.start("run", "base", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        # A shell with -c catches SIGINT, and as the first process it cannot end itself by it: the signal would be lost.
        last = f"sleep\0{ours}2\0".encode()
        while not any(_read(path) == last for path in Path("/proc").glob("[0-9]*/cmdline")):
            time.sleep(0.01)
        begun = time.monotonic()
        os.killpg(process.pid, number)
        rest, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 1.0
    assert (process.returncode, rest, err) == (code, b"", b"")
    assert not any(ours.encode() in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert os.listdir(pybuild.store / "tmp") == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # It ended meanwhile.
