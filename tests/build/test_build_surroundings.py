"""What the machine around a build, and what others made, may change in it: in the key, in a warning, in a media type."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.build.build_layout import Layout
from tests.conftest import Pybuild


def context_of(tmp_path: Path, dockerfile: str) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    return context


def test_a_capability_that_the_builder_lacks_is_in_the_key_and_told(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = context_of(tmp_path, "FROM base\nRUN grep CapBnd /proc/self/status > /bounding\n")
    command = ["--build-context", f"base={busybox_base}", str(context)]
    whole = pybuild("-q", *command)
    assert whole.returncode == 0, whole.stderr
    weaker = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *pybuild.command, *command],
        env=pybuild.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert weaker.returncode == 0, weaker.stderr
    assert "#2 CACHED" not in weaker.stderr
    assert "the builder itself lacks capabilities that Docker gives to RUN steps: what needs them fails" in weaker.stderr
    assert f"image id  {whole.stdout.strip()}" not in weaker.stderr
    # The result with all of them is still known.
    again = pybuild(*command)
    assert "#2 CACHED" in again.stderr
    assert f"image id  {whole.stdout.strip()}" in again.stderr


def test_a_layer_of_a_layout_ships_under_the_type_that_it_is(pybuild: Pybuild, tmp_path: Path) -> None:
    """Layouts that Docker wrote call every layer by Docker's types, or a gzip layer a plain tar."""
    made = context_of(tmp_path, "FROM scratch\nCOPY Dockerfile /file\n")
    layout = Layout(tmp_path / "layout")
    assert pybuild("-o", f"type=oci,tar=false,dest={layout.folder}", made).returncode == 0
    (right,) = (layer["mediaType"] for layer in layout.read(layout.manifest_digest)["layers"])
    assert right == "application/vnd.oci.image.layer.v1.tar+gzip"

    def mistype(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar"

    layout.change_manifest(mistype)
    (made / "Dockerfile").write_text("FROM it\nCOPY Dockerfile /more\n")
    out = tmp_path / "out"
    done = pybuild("--build-context", f"it=oci-layout://{layout.folder}", "-o", f"type=oci,tar=false,dest={out}", made)
    assert done.returncode == 0, done.stderr
    inspected = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{out}"], capture_output=True, text=True, check=True)
    assert [layer["mediaType"] for layer in json.loads(inspected.stdout)["layers"]] == [right, right]


def test_an_import_is_dated_by_source_date_epoch(pybuild: Pybuild, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "file").write_text("text\n")
    dates = []
    for env in ({}, {"SOURCE_DATE_EPOCH": "1000"}):
        assert pybuild("import", folder, "made", env=env).returncode == 0
        dates.append(json.loads(pybuild("inspect", "made").stdout)[0]["Created"])
    assert dates == ["1980-01-02T00:00:00Z", "1970-01-01T00:16:40Z"]


def test_a_full_standard_output_is_not_blamed_on_the_store(pybuild: Pybuild, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM scratch\nCOPY Dockerfile /file\n")
    for command in (["-q", str(context)], ["images"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*pybuild.command, *command], env=pybuild.environment(), stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode != 0
        assert "no space left on the disk" in done.stderr
        assert str(pybuild.store) not in done.stderr


def test_a_limit_that_the_builder_cannot_raise_is_in_the_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM base\nRUN ulimit -Hn > /most\n")
    command = ["-o", f"type=local,dest={tmp_path / 'out'}", "--build-context", f"base={busybox_base}", str(context)]
    powerless = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]

    def most(hard: int) -> tuple[str, bool]:
        limited = ["prlimit", f"--nofile=300:{hard}", *powerless, *pybuild.command, *command]
        done = subprocess.run(limited, env=pybuild.environment(), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "out" / "most").read_text().strip(), "#2 CACHED" in done.stderr

    assert [most(700), most(600), most(700)] == [("700", False), ("600", False), ("700", True)]


def test_paths_that_are_not_there_in_folders_that_the_user_may_not_list(pybuild: Pybuild, tmp_path: Path) -> None:
    """The hint of a near name is given up, and not the message."""
    context = context_of(tmp_path, "FROM scratch\nCOPY Dockerfile /\n")
    closed = tmp_path / "closed"
    closed.mkdir()
    os.chown(closed, 65534, 65534)
    closed.chmod(0o700)
    plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    for mode in (0o700, 0o711):
        closed.chmod(mode)
        for arguments, told in (
            ([f"{closed}/nothing"], "the build context"),
            (["-f", f"{closed}/nothing", context], "Dockerfile"),
        ):
            command = [*plain, *pybuild.command, *map(str, arguments)]
            done = subprocess.run(command, env=pybuild.environment(), capture_output=True, text=True, timeout=30)
            assert done.returncode == 2
            assert told in done.stderr and f"'{closed}/nothing'" in done.stderr


def test_an_etc_that_leads_into_the_kernels_own_is_the_images_fault(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = context_of(tmp_path, "FROM base AS base\nFROM scratch\nCOPY --from=base /bin /bin\nCOPY root /\nRUN echo hi\n")
    (context / "root").mkdir()
    (context / "root" / "etc").symlink_to("/proc/self")
    done = pybuild("--build-context", f"base={busybox_base}", context)
    assert done.returncode == 1
    error = (
        "Dockerfile:5:1: error: the image's own links lead its /etc/hosts to /proc/self/hosts, where nothing can be mounted: No"
    )
    assert error in done.stderr
    assert "hint: let /etc, and what is in it, stay among the image's own files" in done.stderr
