"""What must not get lost in silence: file capabilities of a context, and damage in the store."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

from tests.conftest import Pybuild

# capabilities(7), version 2: cap_net_bind_service+ep
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def test_file_capabilities_of_the_context_are_copied(pybuild: Pybuild, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "program").write_text("x")
    (context / "program").chmod(0o755)
    os.setxattr(context / "program", "security.capability", CAPABILITY)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY program /program\n")
    assert pybuild("-o", f"type=tar,dest={tmp_path}/out.tar", context).returncode == 0
    with tarfile.open(tmp_path / "out.tar") as tar:
        value = tar.getmember("program").pax_headers["SCHILY.xattr.security.capability"]
    assert value.encode("utf-8", "surrogateescape") == CAPABILITY


def test_a_damaged_folder_of_the_store_is_told_as_the_stores(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN echo good > /file\n")
    flags = ["--build-context", f"base={busybox_base}"]
    assert pybuild(*flags, context).returncode == 0
    [damaged] = (pybuild.store / "snapshots").glob("*/file")
    damaged.write_text("evil\n")
    done = pybuild(*flags, "-o", f"type=local,dest={tmp_path}/out", context)
    assert done.returncode == 7, done.stderr
    assert "error: the store is damaged: " in done.stderr

    (context / "Dockerfile").write_text("FROM base AS one\nRUN echo good > /file\nFROM base\nCOPY --from=one /file /copy\n")
    done = pybuild(*flags, context)
    assert done.returncode == 7, done.stderr
    assert "error: the store is damaged: the content of 'copy' is not what was put there" in done.stderr
    assert "hint: remove its folder 'snapshots' and build again with --no-cache" in done.stderr


def test_a_base_ships_in_the_blobs_it_came_in_whatever_else_the_store_has_seen(pybuild: Pybuild, tmp_path: Path) -> None:
    """The same layer came in two compressions, and the image that is FROM it has one manifest."""
    contexts = {}
    for name, text in (
        ("made", "FROM scratch\nCOPY file /file\n"),
        ("kept", "FROM it\n"),
        ("child", "FROM kept\nCOPY file /b\n"),
    ):
        contexts[name] = tmp_path / name
        contexts[name].mkdir()
        (contexts[name] / "Dockerfile").write_text(text)
        (contexts[name] / "file").write_text("text\n" * 1000)
    for form in ("gzip", "zstd"):
        made = pybuild("-o", f"type=oci,tar=false,compression={form},dest={tmp_path / form}", contexts["made"])
        assert made.returncode == 0, made.stderr
    media_types = {}
    for order in (("gzip", "zstd"), ("zstd", "gzip")):
        other = Pybuild(tmp_path / f"store-{order[0]}", tmp_path / "home")
        for form in order:
            context = f"it=oci-layout://{tmp_path / form}"
            kept = other("-t", "kept", "-t", f"kept:{form}", "--build-context", context, contexts["kept"])
            assert kept.returncode == 0, kept.stderr
        for name in ("kept", "kept:gzip", "kept:zstd"):
            (contexts["child"] / "Dockerfile").write_text(f"FROM {name}\nCOPY file /b\n")
            layout = tmp_path / f"child-{order[0]}-{name}"
            child = other("-o", f"type=oci,tar=false,dest={layout}", contexts["child"])
            assert child.returncode == 0, child.stderr
            (described,) = json.loads((layout / "index.json").read_text())["manifests"]
            manifest = json.loads((layout / "blobs" / described["digest"].replace(":", "/")).read_text())
            media_types[order[0], name] = manifest["layers"][0]["mediaType"].rpartition("+")[2]
    assert media_types == {
        ("gzip", "kept"): "zstd",
        ("gzip", "kept:gzip"): "gzip",
        ("gzip", "kept:zstd"): "zstd",
        ("zstd", "kept"): "gzip",
        ("zstd", "kept:gzip"): "gzip",
        ("zstd", "kept:zstd"): "zstd",
    }


def test_a_damaged_config_is_made_again(pybuild: Pybuild, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    image_id = pybuild("-q", "-t", "it", context).stdout.strip().removeprefix("sha256:")
    os.truncate(pybuild.store / "blobs" / "sha256" / image_id, 10)
    assert pybuild("inspect", "it").returncode == 7
    assert pybuild("-q", "-t", "it", context).returncode == 0
    assert pybuild("inspect", "it").returncode == 0


def test_an_image_that_could_not_be_delivered_has_no_name(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN echo good > /file\n")
    flags = ["--build-context", f"base={busybox_base}"]
    assert pybuild(*flags, context).returncode == 0
    [damaged] = (pybuild.store / "snapshots").glob("*/file")
    damaged.write_text("evil\n")
    assert pybuild(*flags, "-t", "it", "-o", f"type=local,dest={tmp_path}/out", context).returncode == 7
    assert "it" not in pybuild("images").stdout
