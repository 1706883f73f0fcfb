"""Bad input, each item of it through the whole program: one clear message, the right exit code, nothing left behind.

The messages are goldens, `tests/golden/errors/*.txt`, written by hand before the first run; `{platform}` stands for this
machine's. Each is compared with what the plain reader shows and with what the JSON stream carries.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.build.build_layout import Layout
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import ROOT, Pybuild

GOLDEN = ROOT / "tests" / "golden" / "errors"
MACHINE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(os.uname().machine, "")


class Case(NamedTuple):
    """A build that fails. Its command line is `arguments`, run in the context, which holds `CONTEXT` and the Dockerfile."""

    name: str
    code: int
    dockerfile: str | None
    arguments: tuple[str, ...] = (".",)
    files: Mapping[str, str] = {}


CONTEXT = {
    "app.py": "print('hello')\n",
    "requirements.txt": "flask\n",
    "deploy/Dockerfile.prod": "FROM base\n",
    "secret.env": "TOKEN=1\n",
}

FINE = "FROM base\nRUN true\n"

STATIC = [
    Case("missing-dockerfile", 2, None, files={"Dockerfil": FINE}),
    Case("missing-dockerfile-named", 2, None, ("-f", "deploy/Dockerfile.prdo", ".")),
    Case("missing-dockerfile-counts", 2, None, ("-f", "Dockerfile.prod", "deploy")),
    Case("missing-dockerfile-alone", 2, None),
    Case("dockerfile-is-folder", 2, None, ("-f", "deploy", ".")),
    Case("missing-context", 2, FINE, ("deplyo",)),
    Case("context-is-file", 2, FINE, ("app.py",)),
    Case("context-is-dockerfile", 2, FINE, ("Dockerfile",)),
    Case("no-context", 2, FINE, ()),
    Case("empty", 3, ""),
    Case("comments-only", 3, "# syntax=docker/dockerfile:1\n\n# nothing here\n"),
    Case("unknown-instruction", 3, "FROM base\nRUUN echo hello\n"),
    Case("unknown-flag", 3, "FROM base\nCOPY --chwon=1000 app.py /\n"),
    Case("unknown-target", 2, "FROM base AS build\nFROM base\n", ("--target=biuld", ".")),
    Case("unknown-stage", 3, "FROM base AS build\nFROM scratch\nCOPY --from=biuld /etc/passwd /p\n", ("--pull=never", ".")),
    Case("from-nothing", 3, "ARG BASE\nFROM ${BASE}\n"),
    Case("base-missing", 3, "FROM debian:bookworm AS build\nRUN true\n", ("--pull=never", ".")),
    Case("base-near", 3, "FROM bsae\n", ("--pull=never", ".")),
    Case("base-near-stage", 3, "FROM base AS build\nFROM biuld\nRUN true\n", ("--pull=never", ".")),
    Case("base-tag-empty", 3, "FROM base:${TAG}\n"),
    Case("base-name-invalid", 3, "FROM Base\n"),
    Case("copy-missing", 3, "FROM base\nCOPY requirments.txt /app/\n"),
    Case("copy-ignored", 3, "FROM base\nCOPY secret.env /app/\n", files={".dockerignore": "*.env\n"}),
    Case("copy-above", 3, "FROM base\nCOPY ../secret.txt /\n"),
    Case("copy-no-match", 3, "FROM base\nCOPY *.go /src/\n"),
    Case("copy-from-missing", 3, "FROM base AS build\nFROM scratch\nCOPY --from=build /etc/paswd /p\n"),
    Case("copy-link-owner", 3, "FROM base\nCOPY --link --chown=nobody app.py /\n"),
    Case("copy-parents-missing", 3, "FROM base\nCOPY --parents deploy/Dockerfile.prdo /\n"),
    Case("copy-parents-file", 3, "FROM base\nCOPY --parents app.py/./x /\n"),
    Case("copy-exclude", 3, "FROM base\nCOPY --exclude=[x deploy /\n"),
    Case("copy-chmod", 3, "FROM base\nCOPY --chmod=u+z app.py /\n"),
    Case("copy-chown-unknown", 1, "FROM base\nCOPY --chown=rooot app.py /\n"),
    Case("workdir-file", 1, "FROM base\nWORKDIR /etc/passwd\n"),
    Case("dockerignore", 3, "FROM base\nCOPY . /\n", files={".dockerignore": "# what is made\nbuild/[a-\n"}),
    Case("tag", 2, FINE, ("-t", "registry.example/My/App", ".")),
    Case("tag-digest", 2, FINE, ("-t", "app@sha256:" + "0" * 64, ".")),
    Case("build-arg", 2, FINE, ("--build-arg", "=1.0", ".")),
    Case("iidfile", 2, FINE, ("--iidfile=missing/id", ".")),
    Case("metadata-file", 2, FINE, ("--metadata-file=deploy", ".")),
    Case("output", 2, FINE, ("-o", "type=oci,dest=missing/image.tar", ".")),
    Case("output-folder", 2, FINE, ("-o", "type=oci,dest=deploy", ".")),
    Case("output-local-file", 2, FINE, ("-o", "app.py", ".")),
    Case("platform", 2, FINE, ("--platform=linux/amd64,a/b/c/d", ".")),
    Case("build-context", 2, "FROM base\nCOPY --from=src / /\n", ("--build-context", "src=missing", ".")),
    Case(
        "secret-unknown",
        2,
        "FROM base\nRUN --mount=type=secret,id=tokn,required cat /run/secrets/tokn\n",
        ("--secret", "id=token,src=secret.env", "."),
    ),
    Case("secret-missing", 2, "FROM base\nRUN --mount=type=secret,id=npm,required cat /run/secrets/npm\n"),
    Case(
        "secret-unset",
        2,
        "FROM base\nRUN --mount=type=secret,id=npm,required cat /run/secrets/npm\n",
        ("--secret", "id=npm,env=NPM_TOKEN", "."),
    ),
    Case("secret-file", 2, "FROM base\nRUN true\n", ("--secret", "id=npm,src=secret.evn", ".")),
    Case("secret-folder", 2, "FROM base\nRUN true\n", ("--secret", "id=npm,src=deploy", ".")),
    Case("secret-key", 2, "FROM base\nRUN true\n", ("--secret", "id=npm,fle=secret.env", ".")),
    Case("ssh-missing", 2, "FROM base\nRUN --mount=type=ssh,required ssh git@example.com\n"),
    Case("ssh-no-agent", 2, "FROM base\nRUN true\n", ("--ssh", "default", ".")),
    Case(
        "ssh-passphrase",
        2,
        "FROM base\nRUN true\n",
        ("--ssh", "work=key", "."),
        files={"key": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"},
    ),
    Case("ssh-no-key", 2, "FROM base\nRUN true\n", ("--ssh", "work=app.py", ".")),
    Case("mount-source", 3, "FROM base\nRUN --mount=source=requirments.txt,target=/r cat /r\n"),
    Case("mount-ignored", 3, "FROM base\nRUN --mount=source=secret.env,target=/r cat /r\n", files={".dockerignore": "*.env\n"}),
    Case("mount-stage", 3, "FROM base AS build\nFROM base\nRUN --mount=from=build,source=/etc/paswd,target=/p cat /p\n"),
    Case("mount-cache-source", 3, "FROM base\nRUN --mount=type=cache,source=/a,target=/c true\n"),
    Case("mount-cache-file", 3, "FROM base\nRUN --mount=type=cache,from=base,source=/etc/passwd,target=/c true\n"),
    Case(
        "mount-twice-by-link",
        3,
        "FROM base\nRUN ln -s /tmp /t\nRUN --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/t true\n",
    ),
    Case("mount-proc", 3, "FROM base\nRUN --mount=type=tmpfs,target=/proc/x true\n"),
    Case("mount-on-file", 3, "FROM base\nRUN --mount=type=tmpfs,target=/etc/passwd true\n"),
    Case("mount-in-file", 3, "FROM base\nRUN --mount=type=tmpfs,target=/etc/hosts/x true\n"),
    Case(
        "mount-in-readonly-cache",
        3,
        "FROM base\nRUN --mount=type=cache,target=/c,readonly --mount=type=tmpfs,target=/c/x true\n",
    ),
    Case("insecure", 3, "FROM base\nRUN --security=insecure echo\n"),
    Case("yet-device", 3, "FROM base\nRUN --device=vendor.com/gpu=all echo\n"),
    Case("user-unknown", 1, "FROM base\nUSER rooot\nRUN id\n"),
]

STEPS = [
    Case("run-fails", 1, "FROM base\nCOPY app.py /\nRUN echo one; echo two >&2; exit 3\n"),
    Case("run-fails-lines", 1, "FROM base\nRUN echo first && \\\n    # a comment\n    false && \\\n    echo last\n"),
    Case("run-killed", 1, "FROM base\nRUN sh -c 'kill -9 $$'; exit $?\n"),
    Case("run-tail", 1, "FROM base\nRUN seq 1 1000; false\n"),
    Case("shell-not-found", 1, "FROM base\nRUN nosuchtool --version\n"),
    Case("exec-not-found", 1, 'FROM base\nRUN ["nosuchtool", "--version"]\n'),
    Case("exec-not-executable", 1, 'FROM base\nRUN ["/etc/passwd"]\n'),
    Case(
        "exec-crlf",
        1,
        'FROM base\nCOPY --chmod=755 start.sh /\nRUN ["/start.sh"]\n',
        files={"start.sh": "#!/bin/sh\r\ntrue\r\n"},
    ),
    Case("exec-too-long", 1, f"FROM base\nENV A={'x' * 200_000}\nRUN true\n"),
    Case("name-too-long", 1, f"FROM base\nWORKDIR /{'n' * 256}\n"),
    Case("shell-json", 1, "FROM base\nRUN ['echo', 'hi']\n"),
    Case("no-shell", 1, "FROM scratch\nCOPY app.py /\nRUN echo hello\n"),
    Case("add-truncated", 1, "FROM base\nADD cut.tar.gz /opt/\n"),
    Case("add-truncated-tar", 1, "FROM base\nADD cut.tar /opt/\n"),
]
CODES = {"run-fails": 3, "run-fails-lines": 1, "run-killed": 137, "run-tail": 1, "shell-not-found": 127, "shell-json": 127}
"""The commands' own exit codes."""

IMPORTS = {
    "import-truncated": "cut.tar.gz",
    "import-truncated-tar": "cut.tar",
    "import-garbage": "app.py",
    "import-empty": "empty",
    "import-missing": "nowhere.tar",
}

OTHERS = [
    "store-blob",
    "store-index",
    "store-read-only",
    "disk-full-run",
    "disk-full-copy",
    "disk-full-export",
    "disk-full-local",
    "stdout-closed",
    "hostile-proc",
    "hostile-environment",
    "hostile-hosts",
    "hostile-passwd",
]

GOOD = "FROM base\nCOPY app.py /\nRUN echo good > /good\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, busybox_base: Path) -> Pybuild:
    """The program with one store for all cases, which must survive them all; `base` is in it."""
    home = tmp_path_factory.mktemp("badinput")
    pybuild = Pybuild(home / "store", home)
    done = pybuild("import", busybox_base, "base")
    assert done.returncode == 0, done.stderr
    return pybuild


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    _fill(folder, CONTEXT)
    archive = _archive()
    packed = gzip.compress(archive, mtime=0)
    (folder / "cut.tar").write_bytes(archive[: 512 + 10_000])
    (folder / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    return folder


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _archive() -> bytes:
    """A tar of two files whose content does not compress."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("one", "two"):
            member = tarfile.TarInfo(name)
            member.size = 50_000
            tar.addfile(member, io.BytesIO(os.urandom(50_000)))
    return out.getvalue()


def golden(name: str, values: Mapping[str, str]) -> str:
    """The golden with what stands for its placeholders."""
    text = (GOLDEN / f"{name}.txt").read_text()
    for key, value in {"platform": MACHINE, **values}.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def message(stderr: str) -> str:
    """What the plain reader wrote without the progress of the steps and without warnings, which may come before an error."""
    lines = (line for line in stderr.splitlines(keepends=True) if line.strip() and not line.startswith("#"))
    return "".join(line for line in lines if ": warning: " not in line)


def failure(stderr: str) -> dict[str, Any]:
    """The error of the JSON stream's one `build.failed`, which is its last line."""
    events = [json.loads(line) for line in stderr.splitlines()]
    assert [event["type"] for event in events].count("build.failed") == 1
    assert events[-1]["type"] == "build.failed"
    error: dict[str, Any] = events[-1]["error"]
    return error


def rendered(error: Mapping[str, Any], lines: list[str]) -> str:
    """The person's message made of the fields of the JSON one; `lines` are those of the golden that show the source."""
    where = error["file"] or ""
    if error["line"] is not None:
        where += f":{error['line']}:{error['column']}"
    out = [f"{where}: error: {error['message']}" if where else f"error: {error['message']}", *lines]
    if error["tail"]:
        out += ["  last output:", *(f"    {line}" for line in error["tail"])]
    if error["hint"]:
        out.append(f"  hint: {error['hint']}")
    return "".join(f"{line}\n" for line in out)


def check(program: Pybuild, case: Case, context: Path, values: Mapping[str, str] | None = None) -> None:
    """Both readers say what the golden says, with the case's exit code; the store is valid and the machine clean."""
    _fill(context, case.files)
    if case.dockerfile is not None:
        (context / "Dockerfile").write_text(case.dockerfile)
    expected = golden(case.name, values or {})
    plain = program("build", "--progress=plain", *case.arguments, cwd=context)
    assert message(plain.stderr) == expected
    assert (plain.returncode, plain.stdout) == (case.code, "")
    again = program("build", "--progress=json", *case.arguments, cwd=context)
    assert (again.returncode, again.stdout) == (case.code, "")
    if case.name not in ("no-context", "build-arg"):  # They are wrong before a progress mode is known.
        error = failure(again.stderr)
        shown = [line for line in expected.splitlines() if re.match(r" +\d* \| ", line)]
        assert rendered(error, shown) == expected
        assert error["exit_code"] == case.code
        assert error["code"] == CODES.get(case.name)
    assert_nothing_left(program.store)
    assert_valid(program.store)


@pytest.mark.parametrize("case", STATIC, ids=lambda case: case.name)
def test_message(case: Case, program: Pybuild, context: Path) -> None:
    check(program, case, context)


@pytest.mark.parametrize("case", STEPS, ids=lambda case: case.name)
def test_a_step_that_fails(case: Case, program: Pybuild, context: Path) -> None:
    check(program, case, context)
    (context / "Dockerfile").write_text(GOOD)
    assert program("-q", ".", cwd=context).returncode == 0


def test_every_golden_is_used() -> None:
    used = [case.name for case in STATIC + STEPS] + [*DAMAGE, *IMPORTS, *OTHERS]
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(used)


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_that_is_refused(name: str, program: Pybuild, context: Path) -> None:
    (context / "empty").touch()
    before = _contents(program.store)
    done = program("import", IMPORTS[name], "imported", cwd=context)
    assert (done.stderr, done.stdout, done.returncode) == (golden(name, {}), "", 2)
    assert _contents(program.store) == before
    assert_valid(program.store)


def _contents(store: Path) -> list[str]:
    return sorted(str(path) for folder in ("blobs", "index", "snapshots", "tmp") for path in (store / folder).rglob("*"))


# Images that others made.


class Damage(NamedTuple):
    """What is wrong with a layout, the exit code, and how it is done: the values for the golden's placeholders."""

    code: int
    do: Callable[[Layout], Mapping[str, str]]


def _flipped(layout: Layout) -> Mapping[str, str]:
    _flip(layout.blob(layout.layers[0]))
    return {}


def _truncated(layout: Layout) -> Mapping[str, str]:
    path = layout.blob(layout.layers[0])
    os.truncate(path, path.stat().st_size // 2)
    return {}


def _missing(layout: Layout) -> Mapping[str, str]:
    layout.blob(layout.layers[0]).unlink()
    return {}


def _wrong_size(layout: Layout) -> Mapping[str, str]:
    def shrink(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["size"] -= 1

    layout.change_manifest(shrink)
    return {}


def _wrong_manifest(layout: Layout) -> Mapping[str, str]:
    layout.set_manifest(b"{}}")
    return {"manifest": layout.manifest_digest}


def _wrong_index(layout: Layout) -> Mapping[str, str]:
    (layout.folder / "index.json").write_bytes(b"\xff")
    return {}


def _wrong_config(layout: Layout) -> Mapping[str, str]:
    layout.change_config(lambda config: config["rootfs"].update(diff_ids=[1]))
    return {}


def _wrong_diff_id(layout: Layout) -> Mapping[str, str]:
    wrong = "sha256:" + "5" * 64
    layout.change_config(lambda config: config["rootfs"]["diff_ids"].__setitem__(0, wrong))
    return {"wrong": wrong}


def _wrong_count(layout: Layout) -> Mapping[str, str]:
    layout.change_config(lambda config: config["rootfs"]["diff_ids"].pop())
    return {}


def _no_layout(layout: Layout) -> Mapping[str, str]:
    (layout.folder / "oci-layout").unlink()
    return {}


def _cut_gzip(layout: Layout) -> Mapping[str, str]:
    return {"layer": layout.replace_layer(gzip.compress(_archive())[:5000])}


def _cut_tar(layout: Layout) -> Mapping[str, str]:
    data = _archive()[:5000]
    diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
    return {"layer": layout.replace_layer(gzip.compress(data), diff_id=diff_id)}


def _onbuild(layout: Layout) -> Mapping[str, str]:
    layout.change_config(lambda config: config["config"].update(OnBuild=["ENV A=1", "ONBUILD RUN echo child"]))
    return {}


DAMAGE = {
    "layout-flipped": Damage(2, _flipped),
    "layout-truncated": Damage(2, _truncated),
    "layout-missing": Damage(2, _missing),
    "layout-size": Damage(2, _wrong_size),
    "layout-manifest": Damage(2, _wrong_manifest),
    "layout-index": Damage(2, _wrong_index),
    "layout-config": Damage(2, _wrong_config),
    "layout-diff-id": Damage(2, _wrong_diff_id),
    "layout-layers": Damage(2, _wrong_count),
    "layout-none": Damage(2, _no_layout),
    "layout-gzip": Damage(2, _cut_gzip),
    "layout-tar": Damage(2, _cut_tar),
    "layout-onbuild": Damage(3, _onbuild),
}


@pytest.fixture(scope="module")
def application(program: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout of an image with two layers, whose content no store has."""
    folder = tmp_path_factory.mktemp("application")
    (folder / "file").write_bytes(os.urandom(3000))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /one\nCOPY file /two\n")
    maker = Pybuild(folder / "store", folder)
    done = maker("-o", "type=oci,tar=false,dest=image", ".", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "image"


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_base(name: str, program: Pybuild, application: Path, context: Path) -> None:
    shutil.copytree(application, context / "image")
    layout = Layout(context / "image")
    values = {"layer": layout.layers[0], **DAMAGE[name].do(layout)}
    named = ("--build-context", "app:1.0=oci-layout://image", ".")
    check(program, Case(name, DAMAGE[name].code, "FROM app:1.0\nRUN true\n", named), context, values)
    assert program("images", "-q").stdout.count("\n") <= 2


def test_a_base_that_was_damaged_is_fetched_again(pybuild: Pybuild, application: Path, context: Path) -> None:
    """The first layer was good and stays; a layout that was mended is taken."""
    named = ("-q", "--build-context", "app:1.0=oci-layout://image", ".")
    (context / "Dockerfile").write_text("FROM app:1.0\nCOPY app.py /\n")
    shutil.copytree(application, context / "image")
    layout = Layout(context / "image")
    whole = layout.blob(layout.layers[1]).read_bytes()
    _flip(layout.blob(layout.layers[1]))
    assert pybuild(*named, cwd=context).returncode == 2
    layout.blob(layout.layers[1]).write_bytes(whole)
    assert pybuild(*named, cwd=context).returncode == 0
    assert_valid(pybuild.store)


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file that may be read-only."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


# The store itself.


def test_a_corrupt_blob_of_the_store(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    base = pybuild("import", busybox_base, "base").stdout.strip()
    blob = pybuild.store / "blobs" / base.replace(":", "/")
    good = blob.read_bytes()
    _flip(blob)
    values = {"digest": base, "hex": base.removeprefix("sha256:"), "store": str(pybuild.store)}
    (context / "Dockerfile").write_text(GOOD)
    refused(pybuild, "store-blob", 7, context, values)
    blob.unlink()
    assert pybuild("import", busybox_base, "base").stdout.strip() == base
    assert blob.read_bytes() == good
    assert pybuild("-q", ".", cwd=context).returncode == 0
    assert_valid(pybuild.store)


def test_a_corrupt_index_of_the_store(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    pybuild("import", busybox_base, "base")
    (context / "Dockerfile").write_text(GOOD)
    good = pybuild("-q", ".", cwd=context).stdout
    layers = json.loads(pybuild("inspect", good.strip()).stdout)[0]["RootFS"]["Layers"]
    index = pybuild.store / "index" / layers[1]
    _flip(index)
    (context / "Dockerfile").write_text(GOOD + "RUN echo more\n")
    refused(pybuild, "store-index", 7, context, {"digest": layers[1], "store": str(pybuild.store)})
    index.unlink()
    # The step is done again, and gives the same.
    (context / "Dockerfile").write_text(GOOD)
    assert pybuild("-q", ".", cwd=context).stdout == good
    assert_valid(pybuild.store)


def test_a_store_that_lost_its_snapshots(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """As messages tell users to remove them. What is left of layers are compressed copies, and no step can start from those."""
    flags = ("-q", "--build-context", f"base={busybox_base}", "-o", f"type=oci,compression=gzip,dest={tmp_path}/out.tar")
    (context / "Dockerfile").write_text("FROM base\nRUN echo one > /one\n")
    assert pybuild(*flags, ".", cwd=context).returncode == 0
    shutil.rmtree(pybuild.store / "snapshots")
    (context / "Dockerfile").write_text("FROM base\nRUN echo one > /one\nRUN cat /one\n")
    done = pybuild(*flags, ".", cwd=context)
    assert done.returncode == 0, done.stderr
    assert pybuild(*flags, ".", cwd=context).returncode == 0


def test_a_record_that_is_no_digest(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    flags = ("-q", "--build-context", f"base={busybox_base}")
    (context / "Dockerfile").write_text("FROM base\nRUN : > /one\n")
    assert pybuild(*flags, ".", cwd=context).returncode == 0
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        database.execute("UPDATE records SET diff_id = 'sha256:none'")
        database.commit()
    done = pybuild(*flags, ".", cwd=context)
    assert done.returncode == 7, done.stderr
    database_path = pybuild.store / "db.sqlite"
    told = f"error: the store's database {database_path} is corrupt: a record of the cache: 'sha256:none' is not a digest"
    assert told in done.stderr and "Traceback" not in done.stderr


def refused(program: Pybuild, name: str, code: int, context: Path, values: Mapping[str, str], *flags: str) -> None:
    done = program("--progress=plain", *flags, ".", cwd=context)
    assert (message(done.stderr), done.returncode) == (golden(name, values), code)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(pybuild: Pybuild, busybox_base: Path, small: Path, context: Path) -> None:
    """The store's, while a command runs, while files are copied and while an output is made. Nothing of it stays."""
    pybuild.store = small / "store"
    values = {"store": str(pybuild.store)}
    assert pybuild("import", busybox_base, "base").returncode == 0
    (context / "Dockerfile").write_text("FROM base\nRUN cat /dev/zero > /big\nRUN true\n")
    refused(pybuild, "disk-full-run", 7, context, values)
    big = context / "big"
    big.write_bytes(os.urandom(20 << 20))
    (context / "Dockerfile").write_text("FROM base\nCOPY big /big\n")
    refused(pybuild, "disk-full-copy", 7, context, values)
    (context / "Dockerfile").write_text("FROM base\nCOPY big /big\nRUN true\n")
    refused(pybuild, "disk-full-copy", 7, context, values)
    os.truncate(big, 6 << 20)
    (context / "Dockerfile").write_text("FROM base\nCOPY big /big\n")
    assert pybuild("-q", ".", cwd=context).returncode == 0
    # The layer's tar is there, and there is no room for its compressed form.
    refused(pybuild, "disk-full-copy", 7, context, values, "-o", "type=oci,dest=image.tar")
    assert not (context / "image.tar").exists()
    big.unlink()
    (context / "Dockerfile").write_text(GOOD)
    assert pybuild("-q", ".", cwd=context).returncode == 0
    assert_nothing_left(pybuild.store)
    assert_valid(pybuild.store)


def test_a_full_disk_at_the_destination(program: Pybuild, small: Path, context: Path) -> None:
    (context / "big").write_bytes(os.urandom(20 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
    values = {"small": str(small)}
    refused(program, "disk-full-export", 7, context, values, "-o", f"type=oci,dest={small}/image.tar")
    assert os.listdir(small) == []
    refused(program, "disk-full-local", 7, context, values, "-o", f"type=local,dest={small}/out")
    assert_valid(program.store)


def test_a_read_only_store(pybuild: Pybuild, busybox_base: Path, small: Path, context: Path) -> None:
    pybuild.store = small / "store"
    assert pybuild("import", busybox_base, "base").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    (context / "Dockerfile").write_text(GOOD)
    refused(pybuild, "store-read-only", 7, context, {"store": str(pybuild.store)})
    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    assert pybuild("-q", ".", cwd=context).returncode == 0
    assert_valid(pybuild.store)


# Streams that nobody reads.


def test_stdout_whose_reader_ends(program: Pybuild, context: Path) -> None:
    (context / "big").write_bytes(os.urandom(1 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
    done = _shell(program, "pybuild --progress=plain -o - . | head -c 1 | wc -c; echo ${PIPESTATUS[0]}", context)
    assert (message(done.stderr), done.stdout) == (golden("stdout-closed", {}), "1\n1\n")
    done = _shell(program, "pybuild images | true; echo ${PIPESTATUS[0]}", context)
    assert (done.stderr, done.stdout) in (("", "0\n"), ("", "1\n"))
    assert_valid(program.store)


def test_streams_that_are_closed(program: Pybuild, context: Path) -> None:
    """What the user closed is not written to, whatever is opened later, and the build is none the worse for it."""
    (context / "Dockerfile").write_text(GOOD)
    good = program("-q", ".", cwd=context).stdout
    assert program("--progress=plain", ".", cwd=context).returncode == 0
    for redirection, code, out in (
        ("2>&-", 0, good),
        ("2>/dev/full", 0, good),
        ("<&-", 0, good),
        ("0<&- 2>&-", 0, good),
        (">&-", 1, ""),
        (">/dev/full", 7, ""),
    ):
        done = _shell(program, f"pybuild -q --no-cache . {redirection}", context)
        assert (done.returncode, done.stdout) == (code, out), redirection
        assert "Traceback" not in done.stderr
    # Progress that cannot be shown makes the exit code, and nothing else.
    done = _shell(program, "pybuild --progress=plain --no-cache -t told . 2>/dev/full", context)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert program("inspect", "told").returncode == 0
    assert_valid(program.store)


def _shell(program: Pybuild, command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{os.path.dirname(program.command[0])}:{program.environment()['PATH']}"
    environment = program.environment({"PATH": path})
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


# Bases that mean harm.


def _hostile(busybox_base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    shutil.copytree(busybox_base, folder, symlinks=True)
    return folder


def test_a_base_where_nothing_can_be_mounted(program: Pybuild, busybox_base: Path, tmp_path: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM hostile\nRUN true\n")
    base = _hostile(busybox_base, tmp_path)
    named = ("--build-context", f"hostile={base}")
    shutil.rmtree(base / "proc", ignore_errors=True)
    (base / "proc").write_text("")
    refused(program, "hostile-proc", 1, context, {}, *named)
    (base / "proc").unlink()
    (base / "etc" / "hosts").mkdir()
    refused(program, "hostile-hosts", 1, context, {}, *named)
    (base / "etc" / "hosts").rmdir()
    os.truncate(base / "etc" / "passwd", (16 << 20) + 1)
    refused(program, "hostile-passwd", 1, context, {}, *named)
    assert_nothing_left(program.store)
    assert_valid(program.store)


def test_a_base_whose_environment_is_none(program: Pybuild, application: Path, context: Path) -> None:
    shutil.copytree(application, context / "image")
    Layout(context / "image").change_config(lambda config: config["config"].update(Env=["A=b", "=x"]))
    (context / "Dockerfile").write_text("FROM app\nRUN true\n")
    refused(program, "hostile-environment", 1, context, {}, "--build-context", "app=oci-layout://image")
    assert_valid(program.store)


def test_a_base_whose_etc_leads_to_the_host(program: Pybuild, busybox_base: Path, tmp_path: Path, context: Path) -> None:
    """Its links are followed inside the image alone: what the sandbox puts there does not reach the host."""
    canary = tmp_path / "canary"
    canary.mkdir()
    base = _hostile(busybox_base, tmp_path)
    shutil.rmtree(base / "etc")
    (base / "etc").symlink_to(canary)
    (context / "Dockerfile").write_text(f"FROM hostile\nRUN cat {canary}/hosts && echo x > /etc/new\n")
    done = program("--progress=plain", "--build-context", f"hostile={base}", "-o", "out", ".", cwd=context)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in done.stderr
    assert list(canary.iterdir()) == []
    inside = context / "out" / str(canary).lstrip("/")
    assert [path.name for path in inside.iterdir()] == ["new"]
    assert os.readlink(context / "out" / "etc") == str(canary)


def test_warnings(program: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base AS scratch\nARG VERSION=1\nRUN true\n")
    arguments = ("--build-arg", "VERISON=2", "--build-arg", "other=1", ".")
    done = program("--progress=plain", *arguments, cwd=context)
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if "warning:" in line]
    assert told == [
        'Dockerfile:1:14: warning: Stage name should not use the same name as reserved stage "scratch" (ReservedStageName)',
        "warning: --build-arg VERISON is not declared by any ARG (did you mean 'VERSION'?) (UnusedBuildArg)",
        "warning: --build-arg other is not declared by any ARG (UnusedBuildArg)",
    ]
    done = program("--progress=json", *arguments, cwd=context)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    codes = [(event["code"], event["line"]) for event in events if event["type"] == "warning"]
    assert codes == [("ReservedStageName", 1), ("UnusedBuildArg", None), ("UnusedBuildArg", None)]


def test_a_stage_that_comes_later_is_no_base(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM later AS one\nFROM scratch AS later\nFROM one\n")
    done = pybuild("--pull=never", tmp_path)
    assert done.returncode == 3
    assert "hint: FROM sees the stages before it: move the stage 'later' up" in done.stderr
