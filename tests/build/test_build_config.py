"""The config of an image, from every instruction and from every kind of base: what a child inherits, byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.build.build_layout import Layout
from tests.conftest import ROOT, SEARCH_PATH, Pybuild

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GOLDEN = ROOT / "tests" / "golden" / "config" / "image.json"

DOCKERFILE = """\
ARG BASE=base
FROM ${BASE}
MAINTAINER Ada <ada@example.com>
ARG VERSION=1 UNSET
ENV APP_HOME=/srv/app FILE="the version"
ENV GREETING hello   world
LABEL org.example.title="A title" \\
      # not part of it
      org.example.version=$VERSION
WORKDIR /tmp
WORKDIR ../srv/./app
COPY --chmod=640 files/ data/
RUN echo "$VERSION in $PWD" > version && touch /empty.txt
RUN true
RUN ["/bin/sh", "-c", "test \\"$0 $1\\" = 'a b'", "a", "b"]
COPY files/a data/
USER 1000:1000
EXPOSE 80 443/udp 8000-8001
VOLUME /data /logs
STOPSIGNAL SIGQUIT
SHELL ["/bin/ash", "-c"]
HEALTHCHECK --interval=30s --retries=2 CMD test -e /empty.txt
ENTRYPOINT ["/bin/cat"]
CMD ["version"]
"""


def tool(*command: str | Path) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env={**os.environ, "PATH": SEARCH_PATH}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Built(Layout):
    """An image as `-o type=oci,tar=false` wrote it."""

    @property
    def manifest(self) -> dict[str, Any]:
        return self.read(self.manifest_digest)

    @property
    def config(self) -> dict[str, Any]:
        return self.read(self.manifest["config"]["digest"])

    @property
    def diff_ids(self) -> list[str]:
        found: list[str] = self.config["rootfs"]["diff_ids"]
        return found

    def history(self) -> list[str]:
        return [line.get("created_by", "") for line in self.config["history"]]


def build(pybuild: Pybuild, folder: Path, dockerfile: str, *flags: str | Path) -> Built:
    context = folder / "context"
    context.mkdir(parents=True, exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    out = folder / f"out{len(list(folder.glob('out*')))}"
    done = pybuild("--progress=plain", "-o", f"type=oci,tar=false,dest={out}", *flags, context)
    assert done.returncode == 0, done.stderr
    return Built(out)


def refused(pybuild: Pybuild, folder: Path, dockerfile: str, *flags: str | Path) -> str:
    context = folder / "context"
    context.mkdir(parents=True, exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    done = pybuild("--progress=plain", *flags, context)
    assert done.returncode == 3, done.stderr
    return done.stderr


def layers_are_what_they_say(built: Built) -> None:
    """The digest of each blob, and of what is in it, by other means than ours."""
    for layer, diff_id in zip(built.manifest["layers"], built.diff_ids, strict=True):
        data = built.blob(layer["digest"]).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
        if layer["mediaType"].endswith("+gzip"):
            data = gzip.decompress(data)
        elif layer["mediaType"].endswith("+zstd"):
            data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == diff_id


def test_every_instruction_in_one_image(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    files = tmp_path / "context" / "files"
    files.mkdir(parents=True)
    (files / "a").write_text("a")
    (files / "a").chmod(0o640)
    flags = ("--build-context", f"base={busybox_base}", "--build-arg", "VERSION=2", "--label", "from.flag=yes")
    built = build(pybuild, tmp_path, DOCKERFILE, *flags, "-t", "parent")
    expected = json.loads(GOLDEN.read_text())
    found = built.config
    assert len(built.diff_ids) == len(expected["rootfs"]["diff_ids"])
    expected["rootfs"]["diff_ids"] = built.diff_ids
    assert found == expected
    # The blob has no spaces, its keys are sorted, and the image id is its digest.
    data = built.blob(built.manifest["config"]["digest"]).read_bytes()
    assert data == json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert pybuild("-q", *flags, tmp_path / "context").stdout == f"sha256:{hashlib.sha256(data).hexdigest()}\n"
    layers_are_what_they_say(built)
    shown = json.loads(pybuild("inspect", "parent").stdout)[0]
    assert (shown["Config"], shown["RootFS"]["Layers"]) == (expected["config"], built.diff_ids)

    child = build(pybuild, tmp_path, "FROM parent\n")
    assert child.config == expected
    child = build(
        pybuild,
        tmp_path,
        'FROM parent\nENV FILE=$FILE.txt NEW=1\nLABEL org.example.title=Other\nEXPOSE 90\nENTRYPOINT ["/x"]\nWORKDIR sub\n'
        "HEALTHCHECK NONE\nMAINTAINER Bob\n",
    )
    assert child.config["config"] == {
        **{k: v for k, v in expected["config"].items() if k != "Cmd"},
        "Env": [PATH, "APP_HOME=/srv/app", "FILE=the version.txt", "GREETING=hello   world", "NEW=1"],
        "Labels": {"from.flag": "yes", "org.example.title": "Other", "org.example.version": "2"},
        "ExposedPorts": {**expected["config"]["ExposedPorts"], "90/tcp": {}},
        "Entrypoint": ["/x"],
        "WorkingDir": "/srv/app/sub",
        "Healthcheck": {"Test": ["NONE"]},
    }
    assert child.config["author"] == "Bob"
    assert child.diff_ids[:5] == built.diff_ids
    assert child.config["history"][: len(expected["history"])] == expected["history"]
    assert child.history()[len(expected["history"]) :] == [
        "ENV FILE=the version.txt NEW=1",
        "LABEL org.example.title=Other",
        "EXPOSE [90/tcp]",
        'ENTRYPOINT ["/x"]',
        "WORKDIR /srv/app/sub",
        "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        "MAINTAINER Bob",
    ]


def test_what_an_image_of_nothing_says(pybuild: Pybuild, tmp_path: Path) -> None:
    built = build(pybuild, tmp_path, "FROM scratch\n", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    assert built.config == {
        "architecture": "amd64",
        "config": {"Env": [PATH], "WorkingDir": "/"},
        "created": "2023-11-14T22:13:20Z",
        "history": [],
        "os": "linux",
        "rootfs": {"diff_ids": [], "type": "layers"},
    }
    assert built.manifest["layers"] == []


@pytest.fixture
def umoci_layout(busybox_base: Path, tmp_path: Path) -> Path:
    """A layout of umoci's: several layers in gzip, whiteouts, an opaque folder, and a config."""
    layout = tmp_path / "umoci"
    image = f"{layout}:v1"
    one, two = tmp_path / "one", tmp_path / "two"
    for path, text in ((one / "a/x", "x"), (one / "a/y", "y"), (one / "gone/deep", "d"), (one / "kept", "k"), (two / "z", "z")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.link(one / "kept", one / "linked")
    os.symlink("a/x", one / "soft")
    tool("umoci", "init", "--layout", layout)
    tool("umoci", "new", "--image", image)
    tool("umoci", "insert", "--image", image, busybox_base, "/")
    tool("umoci", "insert", "--image", image, one, "/d")
    tool("umoci", "insert", "--image", image, "--whiteout", "/d/gone")
    tool("umoci", "insert", "--image", image, "--opaque", two, "/d/a")
    tool(
        *("umoci", "config", "--image", image, "--config.env", "A=1", "--config.user", "0:0", "--config.workingdir", "/d"),
        *("--config.cmd", "old", "--config.label", "l=1", "--config.exposedports", "1/tcp", "--config.volume", "/v"),
        *("--config.stopsignal", "SIGTERM", "--author", "umoci"),
    )
    return layout


LOOK = """\
RUN test "$(pwd) $A" = "/d 1"
RUN test "$(ls -A /d | xargs)" = "a kept linked soft" && test "$(ls -A /d/a)" = z
RUN test /d/kept -ef /d/linked && test "$(readlink /d/soft)" = a/x && echo changed >> /d/kept
"""


@pytest.mark.parametrize("form", ["umoci", "gzip", "zstd", "uncompressed"])
def test_layers_of_a_foreign_layout_are_never_rewritten(
    pybuild: Pybuild, umoci_layout: Path, tmp_path: Path, form: str
) -> None:
    base = Built(umoci_layout)
    if form != "umoci":
        copy = tmp_path / f"skopeo-{form}"
        how = ("--dest-oci-accept-uncompressed-layers",) if form == "uncompressed" else ("--dest-compress-format", form)
        plain = f"dir:{tmp_path / 'plain'}"
        # skopeo compresses only what is not compressed.
        tool("skopeo", "copy", "--dest-decompress", f"oci:{umoci_layout}:v1", plain)
        tool("skopeo", "copy", *how, plain, f"oci:{copy}:v1")
        base = Built(copy)
        suffixes = {layer["mediaType"].rpartition(".")[2] for layer in base.manifest["layers"]}
        assert suffixes == {{"gzip": "tar+gzip", "zstd": "tar+zstd", "uncompressed": "tar"}[form]}
    reference = f"base=oci-layout://{base.folder}:v1"
    child = build(pybuild, tmp_path, f'FROM base\n{LOOK}CMD ["new"]\n', "--build-context", reference)
    count = len(base.layers)
    assert count >= 4
    assert child.manifest["layers"][:count] == base.manifest["layers"]
    assert child.diff_ids[:count] == base.diff_ids
    assert len(child.diff_ids) == count + 1
    layers_are_what_they_say(child)
    was, found = base.config, child.config
    env = was["config"]["Env"]
    assert found["config"] == {
        **was["config"],
        "Env": env if any("PATH=" in item for item in env) else [*env, PATH],
        "Cmd": ["new"],
    }
    assert (found["author"], found["history"][: len(was["history"])]) == ("umoci", was["history"])
    full = [line for line in found["history"] if not line.get("empty_layer")]
    assert len(full) == len(child.diff_ids)


def test_an_image_of_ours_through_a_layout_is_the_same_base(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = ("--build-context", f"busybox={busybox_base}")
    parent = build(
        pybuild, tmp_path, "FROM busybox\nRUN echo 1 > /one && ln /one /two\nENV A=1\nRUN rm /two\n", *context, "-t", "p"
    )
    parent_context = tmp_path / "parent"
    shutil.copytree(tmp_path / "context", parent_context)
    text = "FROM p\nRUN cat /one > /three && test ! -e /two\nLABEL a=b\n"
    from_store = build(pybuild, tmp_path, text)
    from_layout = build(pybuild, tmp_path, text, "--build-context", f"p=oci-layout://{parent.folder}")
    other = Pybuild(tmp_path / "other-store", tmp_path)
    elsewhere = build(other, tmp_path, text, "--build-context", f"p=oci-layout://{parent.folder}")
    assert from_store.manifest_digest == from_layout.manifest_digest == elsewhere.manifest_digest
    assert elsewhere.manifest["layers"][:3] == parent.manifest["layers"]
    assert elsewhere.diff_ids[:3] == parent.diff_ids
    # By a tool that packs otherwise: its blobs are kept, the diff IDs stay.
    packed = tmp_path / "packed"
    tool("skopeo", "copy", f"oci:{parent.folder}", f"dir:{packed}-dir", "--dest-decompress")
    tool("skopeo", "copy", "--dest-compress-format", "zstd", f"dir:{packed}-dir", f"oci:{packed}:x")
    again = Pybuild(tmp_path / "third-store", tmp_path)
    repacked = build(again, tmp_path, text, "--build-context", f"p=oci-layout://{packed}")
    assert repacked.diff_ids == elsewhere.diff_ids
    assert repacked.manifest["layers"][:3] == Built(packed).manifest["layers"] != parent.manifest["layers"]
    # What a store has seen before does not matter: each base is shipped in its own blobs.
    here = build(pybuild, tmp_path, text, "--build-context", f"p=oci-layout://{packed}")
    assert here.manifest_digest == repacked.manifest_digest
    # Nor does it for the layers of an image that was built here: they are ours, and packed as asked for.
    zstd = tmp_path / "zstd"
    fresh = Pybuild(tmp_path / "fourth-store", tmp_path)
    for number, program in enumerate((pybuild, fresh)):
        done = program("-o", f"type=oci,tar=false,compression=zstd,dest={zstd}{number}", *context, parent_context)
        assert done.returncode == 0, done.stderr
    assert Built(Path(f"{zstd}0")).manifest_digest == Built(Path(f"{zstd}1")).manifest_digest


def hand_made(folder: Path, files: list[str], **config: Any) -> Layout:
    """A layout of one layer for each file, with exactly this config beside the diff IDs."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    layout = Layout(folder)
    layers, diff_ids = [], []
    for name in files:
        tar = folder.parent / "layer.tar"
        with tarfile.open(tar, "w") as archive:
            archive.addfile(tarfile.TarInfo(name))
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **layout.add(tar.read_bytes())})
        diff_ids.append(layers[-1]["digest"])
    body = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **config}
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", **layout.add(json.dumps(body).encode())}
    manifest = {"schemaVersion": 2, "config": described, "layers": layers}
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **layout.add(json.dumps(manifest).encode())}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return layout


def test_fields_that_nobody_knows_are_kept_and_layers_get_their_history(pybuild: Pybuild, tmp_path: Path) -> None:
    config = {
        "created": "2020-01-01T00:00:00Z",
        "config": {
            "Env": ["A=1", "PATH=/bin"],
            "Unknown": {"a": [1, None]},
            "ArgsEscaped": True,
            "Hostname": "h",
            "Image": "x",
        },
        "os.version": "1.2",
        "container_config": {"Cmd": ["x"]},
        "docker_version": "1.13",
        "moby.buildkit.cache.v0": "e30=",
    }
    layout = hand_made(tmp_path / "base", ["a", "b"], **config)
    built = build(pybuild, tmp_path, "FROM base\nENV A=2\n", "--build-context", f"base=oci-layout://{layout.folder}")
    comment = {"comment": "a layer without history"}
    assert built.config == {
        "architecture": "amd64",
        "config": {"ArgsEscaped": True, "Env": ["A=2", "PATH=/bin"], "Unknown": {"a": [1, None]}},
        "created": "1980-01-02T00:00:00Z",
        "history": [
            comment,
            comment,
            {
                "comment": "pybuild.dockerfile.v1",
                "created": "1980-01-02T00:00:00Z",
                "created_by": "ENV A=2",
                "empty_layer": True,
            },
        ],
        "os": "linux",
        "os.version": "1.2",
        "rootfs": {"type": "layers", "diff_ids": built.diff_ids},
    }
    assert built.layers == layout.layers
    assert "a layer without history" in tool("skopeo", "inspect", "--config", f"oci:{built.folder}")


def test_a_blob_counts_for_a_layer_only_when_its_content_was_compared(pybuild: Pybuild, tmp_path: Path) -> None:
    """Also where the store has the layer already: else another image could ship its bytes under the same diff ID."""
    layout = hand_made(tmp_path / "base", ["a"])
    flags = ("--build-context", f"base=oci-layout://{layout.folder}")
    first = build(pybuild, tmp_path, "FROM base\nLABEL a=b\n", *flags)
    blob = layout.blob(layout.layers[0])
    packed = layout.replace_layer(gzip.compress(blob.read_bytes(), mtime=0))
    again = build(pybuild, tmp_path, "FROM base\nLABEL a=b\n", *flags)
    assert (first.layers, again.layers) == ([blob_digest(blob)], [packed])
    assert again.config == first.config
    other = layout.replace_layer(gzip.compress(blob.read_bytes().replace(b"a", b"b", 1), mtime=0))
    context = tmp_path / "context"
    done = pybuild("--progress=plain", *flags, context)
    assert done.returncode == 2, done.stderr
    assert f"Dockerfile:1:6: error: the layer {other} is not what the image's config says: {blob_digest(blob)}" in done.stderr


def blob_digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_args_epochs_and_proxies_as_a_command_sees_them(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    text = """\
FROM base
RUN test "$SOURCE_DATE_EPOCH" = 315619200 && test -z "$TARGETARCH$A"
ARG SOURCE_DATE_EPOCH TARGETARCH A=1
RUN test "$SOURCE_DATE_EPOCH $TARGETARCH $A" = "1700000000 amd64 given" && test "$(hostname) $HOSTNAME" = "box box"
RUN test "$http_proxy $HTTP_PROXY" = "http://x.invalid http://x.invalid"
ENV A=env
RUN test $A = env
"""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(text)
    out = tmp_path / "image"
    done = pybuild(
        *("--progress=plain", "-o", f"type=oci,tar=false,dest={out}", "--build-context", f"base={busybox_base}"),
        *("--build-arg", "A=given", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box", "--build-arg", "TARGETACH=x"),
        *("--build-arg", "http_proxy=http://x.invalid", context),
        env={"SOURCE_DATE_EPOCH": "1700000000"},
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "UnusedBuildArg" in line or "build-arg" in line]
    assert len(warnings) == 1
    assert "--build-arg TARGETACH is not declared by any ARG (did you mean 'TARGETARCH'?)" in warnings[0]
    built = Built(out)
    assert built.config["created"] == "2023-11-14T22:13:20Z"
    assert {line["created"] for line in built.config["history"][1:]} == {"2023-11-14T22:13:20Z"}
    assert built.history()[2:] == [
        "ARG SOURCE_DATE_EPOCH=1700000000 TARGETARCH=amd64 A=given",
        *(
            f"RUN |3 SOURCE_DATE_EPOCH=1700000000 TARGETARCH=amd64 A=given /bin/sh -c {line.removeprefix('RUN ')}"
            for line in text.splitlines()[3:5]
        ),
        "ENV A=env",
        "RUN |3 SOURCE_DATE_EPOCH=1700000000 TARGETARCH=amd64 A=env /bin/sh -c test $A = env",
    ]


def test_arguments_that_are_no_utf8_leave_an_image_that_can_be_read(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text('FROM base\nARG RAW\nENV NAME=$RAW\nRUN printf %s "$RAW" > /raw\n')
    raw = os.fsdecode(b"a\xffb")
    flags = ("--build-arg", f"RAW={raw}", "--label", f"l={raw}", "-t", "app")
    assert pybuild("-q", "--build-context", f"base={busybox_base}", *flags, ".", cwd=tmp_path).returncode == 0
    (image,) = json.loads(pybuild("inspect", "app").stdout)
    # As with Docker: the command sees the bytes, JSON has no way to say them.
    assert "NAME=a\ufffdb" in image["Config"]["Env"] and image["Config"]["Labels"] == {"l": "a\ufffdb"}
    assert pybuild("run", "app", "od", "-An", "-c", "/raw").stdout.split() == ["a", "377", "b"]
    for command in (("du",), ("prune", "--all"), ("doctor", "--store"), ("history", "app")):
        done = pybuild(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_base_for_another_platform_is_warned_of(pybuild: Pybuild, tmp_path: Path) -> None:
    """As BuildKit does: the files can be copied, if not run. The image says the platform of the build."""
    layout = hand_made(tmp_path / "base", ["a"], architecture="arm64", variant="v8")
    flags = ("--build-context", f"base=oci-layout://{layout.folder}")
    message = 'Base image base was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    for text, place in (("FROM base\n", "1:6"), ("FROM scratch\nCOPY --from=base a /\n", "2:6")):
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(text)
        done = pybuild("--progress=plain", *flags, context)
        assert done.returncode == 0
        assert f"Dockerfile:{place}: warning: {message} (InvalidBaseImagePlatform)" in done.stderr
    built = build(pybuild, tmp_path, "FROM base\n", *flags)
    assert (built.config["architecture"], built.config.get("variant")) == ("amd64", None)
    # Nobody needs it, nobody minds.
    build(pybuild, tmp_path, "FROM base AS unneeded\nFROM scratch\n", *flags)


def test_a_folder_as_base(pybuild: Pybuild, tmp_path: Path) -> None:
    base = tmp_path / "folder"
    (base / "d").mkdir(parents=True)
    (base / "d/f").write_text("f")
    os.link(base / "d/f", base / "d/g")
    os.symlink("f", base / "d/l")
    os.chown(base / "d/f", 7, 8)
    os.chmod(base / "d", 0o750)
    os.utime(base / "d/f", (5, 5))
    (base / ".dockerignore").write_text("ignored\n")
    (base / "ignored").write_text("x")
    built = build(pybuild, tmp_path, "FROM base\nLABEL a=b\n", "--build-context", f"base={base}")
    (layer,) = built.manifest["layers"]
    with tarfile.open(built.blob(layer["digest"])) as archive:
        found = [(m.name, m.type, oct(m.mode), m.uid, m.gid, m.mtime, m.linkname) for m in archive]
    epoch = 315619200
    assert found == [
        (".dockerignore", tarfile.REGTYPE, "0o644", 0, 0, epoch, ""),
        ("d", tarfile.DIRTYPE, "0o750", 0, 0, epoch, ""),
        ("d/f", tarfile.REGTYPE, "0o644", 0, 0, epoch, ""),
        ("d/g", tarfile.LNKTYPE, "0o644", 0, 0, epoch, "d/f"),
        ("d/l", tarfile.SYMTYPE, "0o777", 0, 0, epoch, "f"),
    ]
    assert built.config["config"] == {"Env": [PATH], "Labels": {"a": "b"}, "WorkingDir": "/"}
    assert built.history() == ["FROM base", "LABEL a=b"]


def test_an_image_of_the_store_by_any_of_its_names(pybuild: Pybuild, tmp_path: Path) -> None:
    parent = build(pybuild, tmp_path, "FROM scratch\nLABEL a=b\n", "-t", "example/parent:v1")
    image_id = parent.manifest["config"]["digest"]
    for name in (
        "example/parent:v1",
        "docker.io/example/parent:v1",
        image_id,
        image_id.removeprefix("sha256:"),
        image_id[7:27],
    ):
        assert build(pybuild, tmp_path, f"FROM {name}\n").config == parent.config
    message = refused(pybuild, tmp_path, "FROM example/parnt:v1\n", "--pull=never")
    assert "there is no image 'example/parnt:v1' in the store" in message
    assert "did you mean 'example/parent:v1'?" in message


def test_named_contexts_hide_images_and_stages(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "f").write_text("from the folder")
    text = (
        "FROM alpine AS build\nRUN false\nFROM docker.io/library/alpine:latest\nCOPY --from=Build f /copied\n"
        "COPY --from=0 f /numbered\nRUN cmp /copied /numbered && grep folder /copied\n"
    )
    flags = ("--build-context", f"alpine={busybox_base}", "--build-context", f"build={files}")
    built = build(pybuild, tmp_path, text, *flags)
    assert len(built.diff_ids) == 3


def test_the_output_of_the_store_names_the_image(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    done = pybuild("-q", "-t", "kept", "-o", 'type=image,"name=one:1,two"', tmp_path)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[:3] for line in pybuild("images").stdout.splitlines()[1:]]
    short = done.stdout.removeprefix("sha256:")[:12]
    assert sorted(listed) == [["kept", "latest", short], ["one", "1", short], ["two", "latest", short]]
    refused = pybuild("-o", "type=image,compression=zstd", tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: the store compresses no layer\n  hint: compression counts for type=oci and type=docker\n",
    )
