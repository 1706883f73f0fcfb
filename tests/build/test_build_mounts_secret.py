"""RUN --mount=type=secret: how a command gets it, and that it is nowhere else."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import zlib
from pathlib import Path

import pytest
import zstandard

from tests.build.build_shipped import refused, run_build
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild

CANARY = "canary-5f3c91d7e2"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def said(stderr: str) -> list[str]:
    return re.findall(r"^#\d+ \d+\.\d+ ?(.*)$", stderr, re.MULTILINE)


def test_files_and_variables(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"file\0secret\n")
    (tmp_path / "other").write_text("other")
    (tmp_path / "home" / "lone").write_text("by its id")
    text = """FROM base
RUN --mount=type=secret,id=token,target=/t stat -c '%n %a %u:%g' /t; tr '\\0' ' ' < /t; (echo x > /t) 2>&1 || true
USER 1000:50
RUN --mount=type=secret,id=other,target=/etc/my,mode=0440,uid=1000,gid=50 stat -c '%a %u:%g' /etc/my; cat /etc/my; echo
RUN --mount=type=secret,id=var,env=TOKEN echo "$TOKEN" | rev; ls /run/secrets 2>&1 || true
RUN --mount=type=secret,id=var,env=PATH,target=rel,mode=0444 /bin/sh -c 'echo ${PATH%e}; /bin/cat /rel; echo'
RUN --mount=type=secret,id=lone,mode=0444 --mount=type=secret,id=VAR2,env=B cat /run/secrets/lone; echo " $B"
RUN --mount=type=secret,id=absent --mount=type=secret,id=unset,env=UNSET ls /run/secrets 2>&1; echo "${UNSET-none}"
USER 0
RUN --mount=type=secret,id=token,target=/bin/hidden --mount=type=secret,id=other ls -A /run /bin/hidden
"""
    (context / "Dockerfile").write_text(text)
    flags = ["--secret", f"id=token,src={tmp_path}/token", "--secret", f"type=file,id=other,source={tmp_path}/other"]
    flags += ["--secret", "id=var,env=SECRET", "--secret", "id=lone", "--secret", "id=VAR2", "--secret", "id=unset,env=NOTSET"]
    done = pybuild(
        "--progress=plain", *flags, "--build-context", f"base={busybox_base}", context, env={"SECRET": "value", "VAR2": "two"}
    )
    assert done.returncode == 0, done.stderr
    assert said(done.stderr) == [
        "/t 400 0:0",
        "file secret",
        "/bin/sh: can't create /t: Read-only file system",
        *("440 1000:50", "other"),
        *("eulav", "ls: /run/secrets: No such file or directory"),
        *("valu", "value"),
        "by its id two",
        *("ls: /run/secrets: No such file or directory", "none"),
        *("/bin/hidden", "", "/run:", "secrets"),
    ]
    assert "/run" not in os.listdir(busybox_base)


def test_whether_it_was_given_is_in_no_key(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=s [ -e /run/secrets/s ] && echo given || echo not given\n"
    flags = ("--build-context", f"base={busybox_base}")
    assert said(run_build(pybuild, context, text, *flags)) == ["not given"]
    for content in ("one", "two"):
        (tmp_path / "s").write_text(content)
        assert "#2 CACHED" in run_build(pybuild, context, text, *flags, "--secret", f"id=s,src={tmp_path}/s")


def test_the_limit(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s\n"
    flags: tuple[str, ...] = ("--build-context", f"base={busybox_base}", "--secret", f"id=s,src={tmp_path}/s")
    (tmp_path / "s").write_bytes(b"x" * (500 << 10))
    assert said(run_build(pybuild, context, text, *flags)) == ["512000"]
    (tmp_path / "s").write_bytes(b"x" * ((500 << 10) + 1))
    assert "has 512001 bytes, and a secret 512000 at most" in refused(pybuild, context, text, *flags, code=2)
    # What shows its size only when it is read.
    flags = ("--build-context", f"base={busybox_base}", "--secret", "id=s,src=/dev/zero", "--no-cache")
    assert "the secret 's' is too large: 500 KiB are allowed" in refused(pybuild, context, text, *flags, code=2)
    flags = ("--build-context", f"base={busybox_base}", "--secret", "id=s,src=/dev/null", "--no-cache")
    assert said(run_build(pybuild, context, text, *flags)) == ["0"]


@pytest.mark.parametrize("name", ["file", "folder/file"])
def test_a_file_that_the_user_may_not_read(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path, name: str
) -> None:
    """Its own mode forbids it, or that of the folder around it; by --secret and by --ssh."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    path.write_text(CANARY)
    (context / "Dockerfile").write_text("FROM base\nRUN --mount=type=secret,id=s true\n")
    os.chown(path, 65534, 65534)
    os.chown(tmp_path / "folder", 65534, 65534)
    path.chmod(0o600)
    (tmp_path / "folder").chmod(0o700)
    # Root without what lets root read everything.
    plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    for flag, where in ((f"--secret=id=s,src={path}", "--secret id=s"), (f"--ssh=default={path}", "--ssh default")):
        command = [*plain, *pybuild.command, "--build-context", f"base={busybox_base}", flag, str(context)]
        done = subprocess.run(command, env=pybuild.environment(), capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert done.stderr == (
            f"error: '{path}' of {where} cannot be read: permission denied\n  hint: make it readable for yourself\n"
        )


def test_a_nul_in_a_variable(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"a\0" + CANARY.encode())
    flags: tuple[str, ...] = ("--build-context", f"base={busybox_base}", "--secret", f"id=s,src={tmp_path}/s")
    told = refused(pybuild, context, "FROM base\nRUN --mount=type=secret,id=s,env=S true\n", *flags, code=2)
    assert "Dockerfile:2:5: error: the secret 's' has a NUL byte, so no variable can hold it" in told
    assert CANARY not in told


@pytest.mark.parametrize("progress", ["plain", "json", "tty"])
def test_a_secret_is_nowhere(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path, progress: str) -> None:
    """In files of the store whatever their form, in outputs, in messages; after a success, a failure and an error of exec."""
    (tmp_path / "file").write_text(f"{CANARY}-file\n")
    secrets = ["--secret", f"id=f,src={tmp_path}/file", "--secret", "id=e,env=CANARY_E"]
    mounts = "--mount=type=secret,id=f --mount=type=secret,id=e,env=E --mount=type=secret,id=e,target=/etc/hosts"
    use = 'test -n "$E" && wc -c < /run/secrets/f && cat /etc/hosts | wc -c'
    outputs = [tmp_path / "oci.tar", tmp_path / "docker.tar"]
    flags = ["--debug", f"--progress={progress}", "--build-context", f"base={busybox_base}", *secrets, "-t", "secret"]
    flags += ["-o", f"type=oci,dest={outputs[0]},compression=zstd", "-o", f"type=docker,dest={outputs[1]}"]
    written = []
    for text, code in (
        (f"FROM base\nRUN {mounts} {use}\nRUN {mounts} {use} > /size\n", 0),
        (f"FROM base\nRUN {mounts} {use}; exit 3\n", 1),
        (f'FROM base\nRUN {mounts} ["/nothing"]\n', 1),
        (f"FROM base\nRUN {mounts} --mount=type=tmpfs,target=/etc/hosts/x true\n", 3),
    ):
        (context / "Dockerfile").write_text(text)
        done = pybuild(*flags, context, env={"CANARY_E": f"{CANARY}-env"})
        assert done.returncode == code, done.stderr
        written += [done.stdout, done.stderr]
    written += [pybuild(command, "secret").stdout for command in ("history", "inspect")]
    wanted = [CANARY.encode(), base64.b64encode(CANARY.encode())[:-4], CANARY[::-1].encode()]
    assert not [text for text in written for canary in wanted if canary in text.encode(errors="surrogateescape")]
    found = [path for path in (*pybuild.store.rglob("*"), *outputs) if path.is_file()]
    assert len(found) > 10
    for path in found:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data += zlib.decompressobj(31).decompress(data)
        elif data.startswith(zstandard.FRAME_HEADER):
            data += zstandard.ZstdDecompressor().decompressobj().decompress(data)
        assert not [canary for canary in wanted if canary in data], path
    assert_valid(pybuild.store)


def test_the_search_would_find_it(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """The control of the test above: a command that copies its secret is beyond help."""
    (tmp_path / "file").write_text(f"{CANARY}\n")
    flags = ("--build-context", f"base={busybox_base}", "--secret", f"id=f,src={tmp_path}/file")
    run_build(pybuild, context, "FROM base\nRUN --mount=type=secret,id=f cp /run/secrets/f /f\n", *flags)
    assert [path for path in pybuild.store.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_no_process_shows_it(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """Neither arguments nor environments, while the step runs: but the builder's own, where the user put it, and the command's,
    which asked for it."""
    (tmp_path / "file").write_text(CANARY)
    script = "echo $$ > /c/running; until [ -e /c/end ]; do sleep 0.05; done"
    mounts = "--mount=type=secret,id=f,env=SECRET --mount=type=secret,id=e --mount=type=cache,target=/c"
    (context / "Dockerfile").write_text(f"FROM base\nRUN {mounts} {script}\n")
    flags = [
        "--secret",
        f"id=f,src={tmp_path}/file",
        "--secret",
        "id=e,env=CANARY_E",
        "--build-context",
        f"base={busybox_base}",
    ]
    process = pybuild.start(*flags, context, env={"CANARY_E": CANARY})
    while not (running := list((pybuild.store / "mounts").glob("*/running"))):
        assert process.poll() is None, process.communicate()
    shown = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            texts = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        assert CANARY.encode() not in texts[0]
        if CANARY.encode() in texts[1]:
            shown[int(folder.name)] = texts
    (running[0].parent / "end").touch()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert shown.pop(process.pid, None)
    # The shell and its sleep.
    assert all(b"SECRET=" in environ and b"CANARY_E" not in environ for _, environ in shown.values())
    assert 1 <= len(shown) <= 2
