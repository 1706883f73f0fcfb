"""Builds for several platforms: one graph, one index, and what is the same for all of them done once."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.engine.emulation import abilities, program
from tests.build.build_emulator import emulated
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Foreign, Pybuild

OWN = "arm64" if os.uname().machine == "aarch64" else "amd64"
TWO = "linux/amd64,linux/arm64"
COPIES = """\
FROM scratch
ARG TARGETPLATFORM TARGETARCH TARGETVARIANT BUILDPLATFORM
COPY <<EOF /who
$TARGETPLATFORM $TARGETARCH $TARGETVARIANT on $BUILDPLATFORM
EOF
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def built(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str | Path) -> list[dict[str, Any]]:
    (context / "Dockerfile").write_text(dockerfile)
    done = pybuild("--progress=json", *flags, context)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def steps(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((event["name"], event["status"]) for event in events if event["type"] == "step.finished")


def raw(image: str) -> dict[str, Any]:
    done = subprocess.run(["skopeo", "inspect", "--raw", image], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def platforms_of(index: dict[str, Any]) -> list[str]:
    found = (one["platform"] for one in index["manifests"])
    return ["/".join(each[key] for key in ("os", "architecture", "variant") if key in each) for each in found]


def test_the_result_is_an_index(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    files = (tmp_path / "id", tmp_path / "metadata")
    flags = ("--platform", TWO, "--platform=linux/arm/v6", "-t", "app", f"--iidfile={files[0]}", f"--metadata-file={files[1]}")
    events = built(pybuild, context, COPIES, *flags, "-o", "type=oci,dest=app.tar", "-o", "type=oci,dest=app,tar=false")
    finished = next(event for event in events if event["type"] == "build.finished")
    assert finished["platforms"] == ["linux/amd64", "linux/arm64", "linux/arm/v6"]
    home = pybuild.environment()["HOME"]
    for place in (f"oci-archive:{home}/app.tar", f"oci:{home}/app:latest"):
        index = raw(place)
        assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert platforms_of(index) == finished["platforms"]
    metadata = json.loads(files[1].read_text())
    assert files[0].read_text() == finished["image_id"] == metadata["containerimage.digest"]
    assert "containerimage.config.digest" not in metadata
    outer = json.loads((Path(home) / "app" / "index.json").read_text())["manifests"]
    assert [(one["digest"], one["annotations"]["io.containerd.image.name"]) for one in outer] == [
        (finished["image_id"], "docker.io/library/app:latest")
    ]
    assert [export["digest"] for export in events if export["type"] == "export.finished"] == [finished["image_id"]] * 2
    # Other tools take it whole and by platform.
    subprocess.run(["skopeo", "copy", "-q", "--all", f"oci-archive:{home}/app.tar", f"oci:{tmp_path}/all"], check=True)
    command = ["skopeo", "--override-arch=arm", "--override-variant=v6", "inspect", "--config", f"oci:{tmp_path}/all"]
    config = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v6")
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_quiet_says_the_index_and_it_is_an_id(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(COPIES)
    done = pybuild("-q", "--platform", TWO, context)
    digest = done.stdout.strip()
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    inspected = json.loads(pybuild("inspect", digest).stdout)[0]
    assert (inspected["Architecture"], inspected["Index"]) == (OWN, digest)
    assert inspected["Platforms"] == TWO.split(",")
    assert pybuild("tag", digest, "named").returncode == 0
    assert json.loads(pybuild("inspect", "named").stdout)[0]["Index"] == digest
    # What Docker's archives have no place for is said.
    saved = pybuild("save", "-o", "saved.tar", "named")
    assert (saved.returncode, saved.stderr) == (
        0,
        f"warning: 'named' stands for several platforms: its image for linux/{OWN} is saved\n",
    )
    # Built again it is the same, and without a name nobody lost one.
    assert pybuild("-q", "--platform", TWO, context).stdout.strip() == digest
    assert pybuild("images", "-q").stdout.count("\n") == 2


def test_one_image_may_be_for_all_platforms(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """Its last stage is for the machine, whatever is asked for: as with buildx the index names it twice."""
    text = "FROM --platform=$BUILDPLATFORM scratch\nCOPY Dockerfile /\n"
    (context / "Dockerfile").write_text(text)
    digest = pybuild("-q", "--platform", TWO, context).stdout.strip()
    found = json.loads(pybuild("inspect", digest).stdout)[0]["Images"]
    assert [one["Platform"] for one in found] == TWO.split(",")
    assert len({one["Id"] for one in found}) == 1
    built(pybuild, context, text, "--platform", TWO, "-t", "app", "-o", f"type=oci,dest={tmp_path}/app.tar")
    index = raw(f"oci-archive:{tmp_path}/app.tar")
    assert (platforms_of(index), len({one["digest"] for one in index["manifests"]})) == (TWO.split(","), 1)
    assert_valid(pybuild.store)


def test_variables_follow_the_platform(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    built(pybuild, context, COPIES, "--platform=linux/arm/v7,linux/amd64", "-o", tmp_path / "out")
    built(pybuild, context, COPIES, "--platform=linux/arm/v7,linux/amd64", "-o", f"type=tar,dest={tmp_path}/out.tar")
    said = {
        "linux_arm_v7/who": f"linux/arm/v7 arm v7 on linux/{OWN}\n",
        "linux_amd64/who": f"linux/amd64 amd64  on linux/{OWN}\n",
    }
    assert {name: (tmp_path / "out" / name).read_text() for name in said} == said
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["linux_amd64", "linux_amd64/who", "linux_arm_v7", "linux_arm_v7/who"]
        for name, text in said.items():
            member = tar.extractfile(name)
            assert member is not None
            assert member.read().decode() == text


def test_links_stay_inside_of_their_platform(pybuild: Pybuild, context: Path, tmp_path: Path, busybox_base: Path) -> None:
    text = (
        "FROM --platform=$BUILDPLATFORM base AS made\n"
        "RUN mkdir /d && echo x > /d/a && ln /d/a /d/b && ln -s /a /d/c\n"
        "FROM scratch\nCOPY --from=made /d /d/\n"
    )
    flags = (f"--build-context=base={busybox_base}", "--platform", TWO)
    built(pybuild, context, text, *flags, "-o", tmp_path / "out")
    folders = sorted((tmp_path / "out").glob("*/d"))
    assert [folder.parent.name for folder in folders] == ["linux_amd64", "linux_arm64"]
    for folder in folders:
        assert (folder / "a").samefile(folder / "b")
        assert os.readlink(folder / "c") == "/a"
    assert not (folders[0] / "a").samefile(folders[1] / "a")


SHARED = """\
FROM --platform=$BUILDPLATFORM tools AS tools
RUN echo tools > /tools
FROM --platform=$BUILDPLATFORM tools AS cross
ARG TARGETARCH
RUN echo for $TARGETARCH > /cross
FROM scratch
COPY --from=tools /tools /tools
COPY --from=cross /cross /cross
"""


def test_what_does_not_depend_on_the_platform_is_done_once(
    pybuild: Pybuild, context: Path, busybox_base: Path, foreign: Foreign
) -> None:
    own, other = f"linux/{OWN}", foreign.platform
    flags = (f"--build-context=toolbox={busybox_base}", f"--platform={own},{other}", "-t", "app")
    text = SHARED.replace("$BUILDPLATFORM tools", "$BUILDPLATFORM toolbox")
    names = [
        f"[{own} tools 1/2] FROM toolbox",
        f"[{own} tools 2/2] RUN echo tools > /tools",
        f"[{own} cross 2/2] RUN echo for $TARGETARCH > /cross",
        f"[{own}->{other.partition('/')[2]} cross 2/2] RUN echo for $TARGETARCH > /cross",
    ]
    for platform in (own, other):
        names += [
            f"[{platform} stage-2 1/3] FROM scratch",
            f"[{platform} stage-2 2/3] COPY --from=tools /tools /tools",
            f"[{platform} stage-2 3/3] COPY --from=cross /cross /cross",
        ]
    first = steps(built(pybuild, context, text, *flags))
    assert [name for name, _ in first] == sorted(names)
    # What two platforms have as their lowest layer is made by one, and known to the other: a key knows nothing of a platform.
    assert {status for name, status in first if "RUN" in name} == {"done"}
    again = steps(built(pybuild, context, text, *flags))
    assert {status for _, status in again} == {"cached"}
    # One of them alone finds all that it needs.
    alone = steps(built(pybuild, context, text, flags[0], f"--platform={other}"))
    assert {status for _, status in alone} == {"cached"}
    assert not any("linux/" in name.partition("]")[0] for name, _ in alone)


def test_a_portable_cache_has_the_steps_of_all_platforms(
    pybuild: Pybuild, context: Path, busybox_base: Path, tmp_path: Path
) -> None:
    text = SHARED.replace("$BUILDPLATFORM tools", "$BUILDPLATFORM toolbox")
    flags = (f"--build-context=toolbox={busybox_base}", "--platform", TWO)
    built(pybuild, context, text, *flags, f"--cache-to=type=local,dest={tmp_path}/max,mode=max")
    built(pybuild, context, text, *flags, f"--cache-to=type=local,dest={tmp_path}/min,mode=min")
    for mode in ("max", "min"):
        home = tmp_path / f"home-{mode}"
        home.mkdir()
        other = Pybuild(tmp_path / mode / "store", home)
        done = steps(built(other, context, text, *flags, f"--cache-from=type=local,src={tmp_path}/{mode}"))
        missed = [name for name, status in done if status != "cached"]
        assert missed == [] if mode == "max" else missed and all("RUN" in name for name in missed)


def test_programs_of_another_platform_run_by_an_emulator(
    pybuild: Pybuild, context: Path, busybox_base: Path, foreign: Foreign, tmp_path: Path
) -> None:
    text = "ARG TARGETARCH\nFROM base-$TARGETARCH\nRUN uname -m > /machine && id -u > /id && mkdir /d && chown 1:1 /d\n"
    arch = foreign.platform.partition("/")[2]
    flags = (f"--build-context=base-{OWN}={busybox_base}", f"--build-context=base-{arch}={foreign.base}")
    with emulated(foreign):
        built(pybuild, context, text, *flags, f"--platform=linux/{OWN},{foreign.platform}", "-t", "app", "-o", tmp_path / "out")
        listed = json.loads(pybuild("doctor", "--format=json").stdout)["platforms"]
        assert {"platform": foreign.platform, "emulated": True} in listed
        assert listed[0] == {"platform": f"linux/{OWN}", "emulated": False}
        told = pybuild("run", f"--platform={foreign.platform}", "app", "uname", "-m")
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout == (tmp_path / "out" / foreign.platform.replace("/", "_") / "machine").read_text()
    machines = {path.parent.name: path.read_text().strip() for path in (tmp_path / "out").glob("*/machine")}
    assert machines == {"linux_amd64": "x86_64", "linux_arm64": "aarch64"}
    # What the cache knows needs no emulator.
    events = built(pybuild, context, text, *flags, f"--platform={foreign.platform}")
    assert [status for _, status in steps(events)] == ["cached", "cached"]


@pytest.mark.parametrize("flags", ["", "OC"])
def test_an_emulator_that_no_image_has_is_said_to_be_registered_wrongly(
    pybuild: Pybuild, context: Path, foreign: Foreign, flags: str
) -> None:
    (context / "Dockerfile").write_text("FROM base\nCOPY Dockerfile /\nRUN true\n")
    with emulated(foreign, flags):
        done = pybuild(f"--platform={foreign.platform}", f"--build-context=base={foreign.base}", "--progress=plain", context)
    assert done.returncode == 6
    assert f"Dockerfile:3:1: error: the emulator for {foreign.platform} is registered without the flag F" in done.stderr


def test_what_to_install_is_said_at_the_first_run(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """Of what this machine cannot run. Whoever copies alone needs nothing."""
    absent = next(name for name in ("s390x", "wasm") if abilities([name])[name] != "runs")
    base = tmp_path / "base"
    base.mkdir()
    flags = (f"--platform=linux/{absent}", f"--build-context=base={base}")
    built(pybuild, context, "FROM base\nWORKDIR /w\nCOPY Dockerfile /\n", *flags, "-t", "copied")
    told = pybuild("run", "copied", "/x")
    warned = f"warning: the image is for linux/{absent}, this machine is linux/{OWN}" in told.stderr
    assert (told.returncode, warned) == (6, True), told.stderr
    (context / "Dockerfile").write_text("FROM base\nWORKDIR /w\nCOPY Dockerfile /\nRUN one\nRUN two\n")
    done = pybuild(*flags, "--progress=plain", context)
    assert done.returncode == 6
    assert f"Dockerfile:4:1: error: this machine (linux/{OWN}) cannot run programs for linux/{absent}\n" in done.stderr
    assert "apt-get install qemu-user-static binfmt-support" in done.stderr
    assert f"tonistiigi/binfmt --install {absent}" in done.stderr
    (context / "Dockerfile").write_text("FROM scratch\nRUN x\n")
    done = pybuild("--platform=windows/amd64", "--progress=plain", context)
    assert (done.returncode, "a command for windows/amd64 cannot run on linux/" in done.stderr) == (6, True)


def test_32_bit_programs_of_this_machine_need_no_emulator(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    name, platform = ("arm", "linux/arm/v7") if OWN == "arm64" else ("386", "linux/386")
    base = tmp_path / "base"
    base.mkdir()
    (base / "true").write_bytes(program(name))
    (base / "true").chmod(0o755)
    (context / "Dockerfile").write_text('FROM base\nRUN ["/true"]\n')
    done = pybuild(f"--platform={platform}", f"--build-context=base={base}", context)
    # A processor may have given them up, and a kernel may be made without.
    assert done.returncode == (0 if abilities([name])[name] == "runs" else 6), done.stderr


def test_outputs_that_hold_one_image(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(COPIES)
    done = pybuild("--platform", TWO, "--progress=plain", "-o", "type=docker,dest=x.tar", context)
    assert (done.returncode, done.stderr.strip()) == (
        2,
        "error: type=docker holds an image for one platform, and there are 2\n"
        "  hint: use type=oci, which holds an index, or build for one --platform at a time",
    )


def test_a_name_that_stands_for_an_index(pybuild: Pybuild, context: Path) -> None:
    """Listed, kept by prune, given to others, removed: always whole."""
    built(pybuild, context, COPIES, "--platform", TWO, "-t", "app")
    lines = [line.split() for line in pybuild("images").stdout.splitlines()]
    assert lines[0][-1] == "PLATFORM"
    assert [(line[0], line[-1]) for line in lines[1:]] == [("app", "linux/amd64"), ("app", "linux/arm64")]
    assert pybuild("prune", "--force", "--all").returncode == 0
    assert "nothing is damaged" in pybuild("doctor", "--store").stdout
    assert pybuild("tag", "app", "other").returncode == 0
    part = pybuild("rmi", lines[1][2])
    assert (part.returncode, "is part of the index sha256:" in part.stderr) == (2, True)
    assert pybuild("rmi", "app").stdout == "Untagged: app:latest\n"
    gone = pybuild("rmi", "other").stdout.splitlines()
    assert [line.split(":")[0] for line in gone] == ["Untagged", "Deleted", "Deleted"]
    assert pybuild("images", "-q").stdout == ""
    assert pybuild("prune", "--force", "--all").returncode == 0
    assert_valid(pybuild.store)
    assert not any((pybuild.store / "blobs" / "sha256").iterdir())


def test_a_name_goes_over_from_one_image_to_an_index_and_back(pybuild: Pybuild, context: Path) -> None:
    built(pybuild, context, COPIES, "-t", "app")
    built(pybuild, context, COPIES, "--platform", TWO, "-t", "app")
    assert pybuild("images").stdout.count("app") == 2
    built(pybuild, context, COPIES, "-t", "app")
    assert pybuild("images").stdout.count("app") == 1
    inspected = json.loads(pybuild("inspect", "app").stdout)[0]
    assert "Index" not in inspected
    # As Docker keeps what lost its name.
    assert pybuild("images").stdout.count("<none>") == 2
    assert_valid(pybuild.store)


def test_a_damaged_index_is_found(pybuild: Pybuild, context: Path) -> None:
    built(pybuild, context, COPIES, "--platform", TWO, "-t", "app")
    index = json.loads(pybuild("inspect", "app").stdout)[0]["Index"]
    manifest = json.loads((pybuild.store / "blobs" / index.replace(":", "/")).read_bytes())["manifests"][1]["digest"]
    (pybuild.store / "blobs" / manifest.replace(":", "/")).unlink()
    told = pybuild("doctor", "--store")
    assert (told.returncode, f"damaged: the index {index} has lost {manifest}" in told.stdout) == (7, True)
    # A build makes it whole again.
    built(pybuild, context, COPIES, "--platform", TWO, "-t", "app")
    assert "nothing is damaged" in pybuild("doctor", "--store").stdout


def test_from_takes_the_image_for_the_platform(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    built(pybuild, context, COPIES, "--platform", TWO, "-t", "base")
    for platform in TWO.split(","):
        out = tmp_path / platform.replace("/", "_")
        built(pybuild, context, f"FROM --platform={platform} base\n", "--pull=never", "-o", out)
        assert (out / "who").read_text().startswith(f"{platform} ")
    built(pybuild, context, "FROM base\nCOPY Dockerfile /\n", "--pull=never", "--platform", TWO, "-o", tmp_path / "both")
    assert {path.read_text().split()[0] for path in (tmp_path / "both").glob("*/who")} == set(TWO.split(","))


def test_an_index_in_a_layout_is_a_base(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    built(pybuild, context, COPIES, "--platform", TWO, "-o", f"type=oci,tar=false,dest={tmp_path}/layout")
    flags = (f"--build-context=base=oci-layout://{tmp_path}/layout", "--platform", TWO)
    built(pybuild, context, "FROM base\n", *flags, "-o", tmp_path / "out")
    assert {path.read_text().split()[0] for path in (tmp_path / "out").glob("*/who")} == set(TWO.split(","))
    (context / "Dockerfile").write_text("FROM base\n")
    done = pybuild(flags[0], "--platform=linux/s390x", "--progress=plain", context)
    assert (done.returncode, "has no image for linux/s390x\n" in done.stderr) == (2, True), done.stderr
    assert "hint: it is for linux/amd64, linux/arm64\n" in done.stderr


def test_an_imported_image_is_for_the_platform_that_is_said(pybuild: Pybuild, context: Path, foreign: Foreign) -> None:
    assert pybuild("import", f"--platform={foreign.platform}", foreign.base, "there").returncode == 0
    assert json.loads(pybuild("inspect", "there").stdout)[0]["Architecture"] == foreign.platform.partition("/")[2]
    built(pybuild, context, "FROM there\nCOPY Dockerfile /\n", f"--platform={foreign.platform}", "-t", "copied")
    told = pybuild("run", "--pull=never", f"--platform=linux/{OWN}", "copied")
    assert (told.returncode, f"is for {foreign.platform}, not linux/{OWN}" in told.stderr) == (2, True), told.stderr


def test_plans_and_checks_of_several_platforms(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM --platform=linux/amd64 scratch AS x\nFROM scratch\nCOPY --from=x / /\nCOPY Dockerfile$NO /\n"
    )
    done = pybuild("--print-plan", "--progress=plain", "--platform", TWO, context)
    plan = json.loads(done.stdout)
    assert [image["platform"] for image in plan["images"]] == TWO.split(",")
    assert (plan["platform"], plan["target"]) == (plan["images"][0]["platform"], plan["images"][0]["target"])
    assert [step["name"] for step in plan["steps"]].count("[linux/amd64 x 1/1] FROM scratch") == 1
    # What is wrong for each platform is told once.
    assert done.stderr.count("FromPlatformFlagConstDisallowed") == 1
    checked = pybuild("--check", "--platform", TWO, context)
    assert (checked.returncode, checked.stdout.count("WARNING: FromPlatformFlagConstDisallowed")) == (3, 1), checked.stdout
    outline = pybuild("--call=targets", "--platform", TWO, context)
    assert outline.returncode == 0
