"""WORKDIR: the folder that it makes, whose it is, and when there is nothing to make."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

from tests.build.build_shipped import Member, a_base, a_dir, refused, run_build, ship, under
from tests.conftest import Pybuild

DIR = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE


def config_of(layout: Path) -> dict[str, object]:
    """The config of the only image of an OCI layout."""

    def blob(descriptor: dict[str, str]) -> dict[str, object]:
        found: dict[str, object] = json.loads((layout / "blobs" / descriptor["digest"].replace(":", "/")).read_text())
        return found

    manifest = blob(json.loads((layout / "index.json").read_text())["manifests"][0])
    return blob(manifest["config"])  # type: ignore[arg-type]  # a descriptor


def test_it_is_relative_to_the_one_before_and_what_exists_makes_no_layer(pybuild: Pybuild, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("srv", DIR, mode=0o755),
        Member("srv/kept", DIR, mode=0o700, uid=5, gid=6),
        Member("link", LINK, link="/srv"),
        Member("up", LINK, link="srv/../../.."),
    )
    layout = tmp_path / "layout"
    found = ship(
        pybuild,
        tmp_path / "context",
        "FROM base:1\n"
        "ARG SUB=given\n"
        "ENV DEEP=b/${SUB}\n"
        "WORKDIR /\n"
        "WORKDIR srv\n"
        "WORKDIR kept/\n"
        "WORKDIR a/$DEEP\n"
        "WORKDIR ../../c\n"
        "WORKDIR /link/through\n"
        "WORKDIR /up/top\n"
        "WORKDIR /with space\n"
        "WORKDIR ..\n",
        "-o",
        f"type=oci,tar=false,dest={layout}",
    )
    assert under(found, "srv") == {
        ".": a_dir(),
        "kept": a_dir(0o700, "5:6"),
        "kept/a": a_dir(),
        "kept/a/b": a_dir(),
        "kept/a/b/given": a_dir(),
        "kept/a/c": a_dir(),
        "through": a_dir(),
    }
    assert (found["top"], found["with space"]) == (a_dir(), a_dir())
    config = config_of(layout)
    assert config["config"]["WorkingDir"] == "/"  # type: ignore[index]  # JSON
    history = config["history"]
    assert isinstance(history, list)
    assert [(line["created_by"], line.get("empty_layer", False)) for line in history[-9:]] == [
        ("WORKDIR /", True),
        ("WORKDIR /srv", True),
        ("WORKDIR /srv/kept", True),
        ("WORKDIR /srv/kept/a/b/given", False),
        ("WORKDIR /srv/kept/a/c", False),
        ("WORKDIR /link/through", False),
        ("WORKDIR /up/top", False),
        ("WORKDIR /with space", False),
        ("WORKDIR /", True),
    ]
    assert len(config["rootfs"]["diff_ids"]) == 1 + 5  # type: ignore[index]  # JSON


def test_commands_run_in_it_and_copies_are_relative_to_it(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("x")
    os.utime(context / "file", (5, 5))
    said = run_build(
        pybuild,
        context,
        "FROM base\nRUN ln -s /opt/real /opt-link\nWORKDIR /opt-link/x\nCOPY file .\nRUN echo in=$(pwd -P) there=$(ls)\n",
        "--build-context",
        f"base={busybox_base}",
    )
    assert "in=/opt/real/x there=file" in said


def test_the_folders_that_it_makes_are_the_users(pybuild: Pybuild, tmp_path: Path) -> None:
    """As BuildKit's llb.WithUser: a number is its own group; what exists keeps its owner."""
    a_base(
        pybuild,
        tmp_path,
        Member("etc", DIR, mode=0o755),
        Member("etc/passwd", data=b"app:x:77:88::/:/bin/sh\n"),
        Member("etc/group", data=b"team:x:99:\n"),
        Member("old", DIR, mode=0o755),
    )
    found = ship(
        pybuild,
        tmp_path / "context",
        "FROM base:1\n"
        "WORKDIR /root\n"
        "USER app\n"
        "WORKDIR /old/name/deep\n"
        "USER app:team\n"
        "WORKDIR /both\n"
        "USER 77\n"
        "WORKDIR /number\n"
        "USER 5:6\n"
        "WORKDIR /numbers\n"
        "USER 5:team\n"
        "WORKDIR /mixed\n"
        "USER 0\n"
        "WORKDIR /again\n",
    )
    assert {path: entry.owner for path, entry in found.items() if entry.kind == "dir" and path != "etc"} == {
        "root": "0:0",
        "old": "0:0",
        "old/name": "77:88",
        "old/name/deep": "77:88",
        "both": "77:99",
        "number": "77:77",
        "numbers": "5:6",
        "mixed": "5:99",
        "again": "0:0",
    }
    said = refused(pybuild, tmp_path / "context", "FROM base:1\nUSER ap\nWORKDIR /x\n", code=1)
    assert "Dockerfile:3:1: error: unknown user 'ap'" in said and "did you mean 'app'?" in said


def test_a_file_in_the_way_is_an_error(pybuild: Pybuild, tmp_path: Path) -> None:
    a_base(pybuild, tmp_path, Member("file", data=b"f"), Member("loop", LINK, link="loop"))
    for path, message in {
        "/file": "'/file' is no folder",
        "/file/below": "'/file' is no folder",
        "/loop/x": "'loop/x' leads through too many symbolic links",
    }.items():
        said = refused(pybuild, tmp_path / "context", f"FROM base:1\nWORKDIR {path}\n", code=1)
        assert f"Dockerfile:2:1: error: {message}" in said and f"  2 | WORKDIR {path}\n    | ^^^" in said
