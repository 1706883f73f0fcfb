"""`pybuild diff` through the whole program: images of the store, of archives by other tools, and of a registry."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_server import RegistryServer

DOCKERFILE = """\
FROM base
ARG WORD
RUN echo $WORD > /word; printf 'built %s\\n' "$STAMP" > /stamp; ln -s $WORD /link; echo x > /same
COPY --chmod=0${MODE} file /file
CMD ["cat", "/word"]
"""


class Pair:
    """Images `one` and `two` of one Dockerfile, with other arguments."""

    def __init__(self, pybuild: Pybuild, base: Path, folder: Path) -> None:
        self.pybuild = pybuild
        self._base = base
        self.context = folder / "context"
        self.context.mkdir()
        (self.context / "Dockerfile").write_text(DOCKERFILE.replace("ARG WORD", "ARG WORD\nARG STAMP\nARG MODE=644"))
        (self.context / "file").write_text("text\n")
        self.build("one", WORD="a", STAMP="Thu Nov 26 10:00:00 UTC 2020")
        self.build("two", WORD="b", STAMP="Fri Nov 27 11:00:00 UTC 2020", MODE="755")

    def build(self, name: str, **args: str) -> None:
        flags = [f"--build-arg={key}={value}" for key, value in args.items()]
        done = self.pybuild("-q", "-t", name, "--build-context", f"base={self._base}", *flags, self.context)
        assert done.returncode == 0, done.stderr

    def diff(self, *args: str, code: int = 4) -> str:
        done = self.pybuild("diff", *args)
        assert (done.returncode, done.stderr) == (code, "")
        return done.stdout

    def json(self, *args: str, code: int = 4) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.diff("--format=json", *args, code=code))
        assert found["v"] == 1 and found["met"] is (code == 0)
        return found


@pytest.fixture
def pair(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> Pair:
    return Pair(pybuild, busybox_base, tmp_path)


def test_what_differs_is_told(pair: Pair, pybuild: Pybuild) -> None:
    told = pair.diff("one", "two")
    assert told.startswith("one and two are different\n")
    assert "layers:\n  = 1:1 FROM base\n  ~ 2:2 " in told
    line = f"{pair.context}/Dockerfile:5: RUN "
    assert "the text has a date or time of the build [date-in-text]:\n  fix: date -ud @$SOURCE_DATE_EPOCH in the place" in told
    assert f"  ~ /stamp  ({line}" in told
    assert "      -a\n      +b\n" in told and "      target: a -> b\n" in told and "      mode: 0644 -> 0755\n" in told
    assert "/same" not in told.partition("files:")[2]
    assert pair.diff("one", "one", code=0).startswith("one and one are identical\n")
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_as_json(pair: Pair) -> None:
    found = pair.json("one", "two")
    assert found["verdict"] == "different" and found["required"] == "manifest"
    files = {file["path"]: file for file in found["files"]}
    assert sorted(files) == ["/file", "/link", "/stamp", "/word"]
    assert files["/stamp"]["findings"][0]["pattern"] == "date-in-text" and files["/stamp"]["explained"]
    assert [aspect["name"] for aspect in files["/file"]["aspects"]] == ["mode"]
    assert found["b"]["layers"][1]["line"] == 5 and found["layers"][0]["by"] == "diff-id"
    assert {field["field"].partition("[")[0] for field in found["fields"]} == {"history"}
    few = pair.json("--limit=1", "one", "two")
    assert len(few["files"]) == 1 and few["files_differ"] == 4
    assert "3 more files differ" in pair.diff("--limit=1", "one", "two")


def test_what_is_ignored(pair: Pair) -> None:
    rest = ("--ignore=history", "--ignore=mode", "--ignore=/word", "--ignore=/l*", "--ignore=date-in-text")
    told = pair.diff("--semantic", *rest, "one", "two", code=0)
    assert told.startswith("one and two are semantically equal") and "ignored: " in told and " and 4 files\n" in told
    pair.diff(*rest, "one", "two")
    # How the layers were made is no matter of what the image is.
    pair.diff("--require=semantic", *rest[1:], "one", "two", code=0)
    files = pair.json("--semantic", *rest[:-1], "one", "two")["files"]
    assert [file["path"] for file in files] == ["/stamp"]
    done = pair.pybuild("diff", "--ignore=tar-time", "one", "two")
    assert done.returncode == 2 and "did you mean 'tar-times'?" in done.stderr
    assert pair.pybuild("diff", "--semantic", "--require=diff-ids", "one", "two").returncode == 2


def test_images_of_archives_and_other_tools(pair: Pair, tmp_path: Path) -> None:
    """The same layers, packed in another way, are the same diff IDs; skopeo keeps the config."""
    pybuild = pair.pybuild
    done = pybuild("save", "--format=oci-archive", "-o", tmp_path / "one.tar", "one")
    assert done.returncode == 0, done.stderr
    for target in (f"docker-archive:{tmp_path}/docker.tar:one:1", f"oci:{tmp_path}/layout:1"):
        command = ["skopeo", "--insecure-policy", "copy", "-q", f"oci-archive:{tmp_path}/one.tar", target]
        copied = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert copied.returncode == 0, copied.stderr
    for name in (f"oci-archive:{tmp_path}/one.tar", f"oci:{tmp_path}/layout", f"docker-archive:{tmp_path}/docker.tar"):
        assert pair.json("--require=diff-ids", "one", name, code=0)["verdict"] in ("identical", "diff-ids")
        found = pair.json("--limit=9", name, "two")
        assert [file["path"] for file in found["files"]] == ["/file", "/link", "/stamp", "/word"]
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes((tmp_path / "one.tar").read_bytes()[:5000])
    done = pybuild("diff", "one", f"oci-archive:{damaged}")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_an_image_of_a_registry(pair: Pair, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "registry") as registry:
        name = f"{registry.host}/some/one:1"
        assert pair.pybuild("push", "one", name).returncode == 0
        before = pair.pybuild("images").stdout
        assert pair.json(f"docker://{name}", "one", code=0)["verdict"] == "identical"
        asked = len(registry.asked("GET"))
        found = pair.json(f"docker://{name}", "two")
        assert [file["path"] for file in found["files"]] == ["/file", "/link", "/stamp", "/word"]
        # Layers that are in the store are not fetched: manifest and config alone.
        assert not [one for one in registry.asked("GET")[asked:] if "/blobs/" in one.path and one.size > 100_000]
        other = Pybuild(tmp_path / "other", tmp_path / "home")
        done = other("diff", "--format=json", f"docker://{name}", f"docker://{name}")
        assert done.returncode == 0, done.stderr
        assert pair.pybuild("images").stdout == before
        missing = pair.pybuild("diff", "one", f"docker://{registry.host}/none")
        assert missing.returncode == 5 and "has no image" in missing.stderr


def test_bad_input(pair: Pair, tmp_path: Path, foreign: Any) -> None:
    done = pair.pybuild("diff", "one", "tow")
    assert (done.returncode, done.stdout) == (2, "") and "did you mean 'two'?" in done.stderr
    done = pair.pybuild("diff", "one", "none-such-image")
    assert done.returncode == 2 and "docker://none-such-image" in done.stderr
    assert pair.pybuild("import", f"--platform={foreign.platform}", foreign.base, "other").returncode == 0
    done = pair.pybuild("diff", "one", "other")
    assert done.returncode == 2 and f"'other' for {foreign.platform}" in done.stderr
    assert "images of one platform can be compared" in done.stderr
    # An image of another tool.
    assert pair.pybuild("diff", "one").returncode == 2


def test_what_an_image_says_is_nothing_that_a_terminal_obeys(pair: Pair) -> None:
    """Files and history of others, with escape sequences and credentials in them."""
    pair.build("red", WORD="\x1b[31mred\x07")
    pair.build("url", WORD="https://jane:s3cret@example.com/x")
    told = pair.diff("red", "url")
    assert "\x1b" not in told and "\x07" not in told and "\\x1b[31mred" in told
    assert "s3cret" not in told and "xxxxx" in told


def test_annotations_for_github(pair: Pair) -> None:
    told = pair.diff("--format=github", "one", "two")
    commands = [line for line in told.splitlines() if line.startswith("::")]
    dockerfile = str(pair.context / "Dockerfile")
    message = "one and two are different: config.Env, "
    assert commands[0].startswith(f"::error file={dockerfile},line=5,title=pybuild diff::one and two are different: "), message
    assert commands[1].startswith(f"::error file={dockerfile},line=6,title=pybuild diff::one and two are different: ")
    # The text behind them, in which the runner takes no commands.
    (stop,) = [line for line in commands if line.startswith("::stop-commands::")]
    token = stop.removeprefix("::stop-commands::")
    text = told.partition(f"{stop}\n")[2]
    assert text.endswith(f"::{token}::\n") and text.startswith("one and two are different\n")
    assert pair.diff("--format=github", "one", "one", code=0).startswith("::stop-commands::")


class Documents(Pair):
    """Images with a document each, in a form that nothing here knows."""

    def __init__(self, pybuild: Pybuild, base: Path, folder: Path) -> None:
        super().__init__(pybuild, base, folder)
        for name, number in (("left", 2), ("right", 3)):
            (self.context / "Dockerfile").write_text("FROM base\nCOPY file.json /-$(x).json\n")
            (self.context / "file.json").write_text(json.dumps({"a": 1, "b": number, "c": list(range(60))}))
            self.build(name)


@pytest.fixture
def documents(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> Documents:
    return Documents(pybuild, busybox_base, tmp_path)


@contextmanager
def diffoscope(script: str) -> Iterator[dict[str, str]]:
    """An environment in which it is this script."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "diffoscope")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        yield {"PATH": f"{folder}:/usr/bin:/bin"}


def test_diffoscope_is_asked_about_what_nothing_explains(documents: Documents, pybuild: Pybuild) -> None:
    assert '-    "b": 2,' not in documents.diff("left", "right")
    told = documents.diff("--diffoscope", "left", "right")
    # It takes the document apart, which one line of text does not.
    assert '-    "b": 2,' in told and '+    "b": 3,' in told and "pybuild-" not in told
    (file,) = documents.json("--diffoscope", "left", "right")["files"]
    assert any('-    "b": 2,' in line for line in file["diff"]) and not file["explained"]


def test_diffoscope_that_fails_or_is_not_there(documents: Documents, pybuild: Pybuild, tmp_path: Path) -> None:
    plain = documents.diff("left", "right")
    with diffoscope("echo no way >&2; exit 2") as environment:
        done = pybuild("diff", "--diffoscope", "left", "right", env=environment)
    assert (done.returncode, done.stdout) == (4, plain)
    assert done.stderr == "warning: diffoscope has no answer for /-$(x).json: no way\n"
    done = pybuild("diff", "--diffoscope", "left", "right", env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: diffoscope is not installed\n  hint: apt-get install diffoscope-minimal")


def test_diffoscope_is_nobody_and_leaves_nothing(documents: Documents, pybuild: Pybuild) -> None:
    """What it is given is somebody else's, and so may be what it does."""
    script = 'for last; do :; done; id -u; ulimit -f; basename "$last"; env | grep -c . ; sleep 1000 > /dev/null 2>&1 & exit 1'
    with diffoscope(script) as environment:
        done = pybuild("diff", "--diffoscope", "left", "right", env={**environment, "SECRET": "x"})
    lines = [line.strip() for line in done.stdout.splitlines()]
    at = lines.index("65534")
    assert lines[at + 1 : at + 3] == [str((1 << 30) // 512), "__x_.json"]
    assert not any("SECRET" in line for line in lines)
    assert subprocess.run(["pgrep", "-fx", "sleep 1000", "-u", "65534"], capture_output=True).stdout == b""


def foreign(path: Path, label: str) -> Path:
    """An image as another tool may write it, whose only file has an attribute that no layer of ours carries."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("file")
        member.pax_headers = {"SCHILY.xattr.security.selinux": label}
        tar.addfile(member)
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": ["foreign:1"], "Layers": ["layer.tar"]}]
    parts = {"config.json": config, "manifest.json": manifest}
    with tarfile.open(path, "w") as tar:
        for name, data in (*((n, json.dumps(v).encode()) for n, v in parts.items()), ("layer.tar", layer.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_what_no_layer_of_ours_carries_is_said_to_be_left_out(pybuild: Pybuild, tmp_path: Path) -> None:
    one, two = (foreign(tmp_path / f"{label}.tar", label) for label in ("one", "two"))
    done = pybuild("diff", "--platform=linux/amd64", "--format=json", f"docker-archive:{one}", f"docker-archive:{two}")
    assert done.returncode == 4
    notes = [note for note in json.loads(done.stdout)["notes"] if "not compared" in note]
    assert len(notes) == 2 and all("security.selinux" in note for note in notes), notes


def test_a_file_that_is_not_there(pybuild: Pybuild, tmp_path: Path) -> None:
    done = pybuild("diff", f"oci:{tmp_path}/nowhere", "x")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: there is no file or folder '{tmp_path}/nowhere'\n  hint: as in oci:PATH, or oci:PATH:NAME\n",
    )
