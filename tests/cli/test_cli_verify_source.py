"""`pybuild verify --context DIR IMAGE`: an image says of its own build what it takes to repeat it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.plan import recorded
from tests.conftest import Pybuild

DOCKERFILE = """FROM base AS first
ARG A=1
ARG FROM_WHERE=
RUN echo $A > /made
FROM first AS final
COPY src /app/
RUN --mount=type=bind,source=tool,target=/tool cat /tool > /used
ADD other /other
FROM first AS last
RUN exit 3
"""
FLAGS = ("--build-arg", "A=2", "--build-arg", "UNKNOWN=x", "--target", "final", "--label", "l=v", "--network=none")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "docker").mkdir(parents=True)
    (folder / "docker/app.Dockerfile").write_text(DOCKERFILE)
    (folder / "src").mkdir()
    (folder / "src/main.c").write_text("int main;\n")
    (folder / "tool").write_text("tool\n")
    (folder / "other").write_text("other\n")
    return folder


def built(program: Pybuild, source: Path, *flags: str | Path) -> str:
    done = program("-q", "-t", "app", "-f", source / "docker/app.Dockerfile", *FLAGS, *flags, source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def verified(program: Pybuild, source: Path, image: str, *flags: str | Path) -> tuple[int, dict[str, Any], str]:
    done = program("verify", "--format=json", *flags, "--context", source, image)
    return done.returncode, json.loads(done.stdout), done.stderr


def differences(found: dict[str, Any]) -> list[str]:
    return [each["text"] for each in found["request"]["differences"]]


def test_no_flag_is_given_again(program: Pybuild, source: Path) -> None:
    built(program, source)
    done = program("verify", "-q", "--context", source, "app")
    assert done.returncode == 0, done.stdout + done.stderr
    digest = json.loads(program("inspect", "app").stdout)[0]["BuildRequest"]
    lines = done.stdout.splitlines()
    assert lines[0] == f"app and {source} are identical"
    assert lines[-3].startswith(f"the request of the image is {digest}, made of the contents sha256:")
    # What the image asked for by itself is told.
    flags = ["--target=final", "--label=l=v", "--network=none", "--build-arg=A=2"]
    assert lines[-2] == f"  with the flags of its own build: {' '.join(flags)}"
    assert lines[-1] == "  this one is the same"


def test_which_part_of_the_source_is_another(program: Pybuild, source: Path) -> None:
    built(program, source)
    (source / "src/main.c").write_text("int other;\n")
    (source / "tool").write_text("tool 2\n")
    code, found, _ = verified(program, source, "app")
    assert (code, found["verdict"]) == (4, "different")
    assert differences(found) == ["line 6, COPY src /app/: other files", "line 7, RUN --mount=bind,target=/tool: other files"]
    assert [each["files"] for each in found["request"]["differences"]] == [
        [{"path": "src/main.c", "change": "changed"}],
        [{"path": ".", "change": "changed"}],
    ]
    assert [each["path"] for each in found["files"]] == ["/app/main.c", "/used"]
    # Elsewhere the same files are the same.
    (source / "src/main.c").write_text("int main;\n")
    (source / "tool").write_text("tool\n")
    moved = source.rename(source.parent / "moved")
    code, found, _ = verified(program, moved, "app")
    assert (code, found["verdict"], differences(found)) == (0, "identical", [])
    with open(moved / "docker/app.Dockerfile", "a") as file:
        file.write("# more\n")
    code, found, _ = verified(program, moved, "app")
    assert (code, differences(found)) == (0, ["the Dockerfile has another text"])
    # A flag that is given counts, and is told.
    code, found, _ = verified(program, moved, "app", "--build-arg=A=3")
    assert code == 4 and differences(found)[1:] == ["--build-arg: A=2 then, A=3 now"]


def test_the_files_are_named_that_the_image_does_not_have(program: Pybuild, source: Path, tmp_path: Path) -> None:
    """Those of a stage that is built and left behind, and of a build that took all from the cache."""
    tree = source / "tree"
    for number in range(250):
        (tree / f"{number % 5}").mkdir(parents=True, exist_ok=True)
        (tree / f"{number % 5}/{number}").write_text(f"{number}\n")
    (source / "Dockerfile").write_text(
        "FROM base AS build\nCOPY --chmod=600 tree /tree\nRUN cat /tree/*/* | wc -l > /n\n"
        "FROM scratch\nCOPY --from=build /n /n\n"
    )
    for _ in range(2):
        assert program("-q", "-t", "staged", source).returncode == 0
    (tree / "1/6").write_text("other\n")
    (tree / "1/11").chmod(0o755)
    (tree / "2/7").unlink()
    (tree / "2/new").symlink_to("2")
    done = program("verify", "-q", "--context", source, "staged")
    assert done.returncode == 0, "one line for another: the image is the same"
    assert done.stdout.endswith(
        "\n  line 2, COPY --chmod=600 tree /tree: other files\n"
        "    changed  tree/1/6\n    removed  tree/2/7\n    added    tree/2/new\n"
    )
    for number in range(30):
        (tree / f"3/more{number:02}").write_text("more\n")
    done = program("verify", "-q", "--context", source, "staged")
    assert (done.returncode, done.stdout.count("    added    tree/3/more")) == (4, 17)
    assert done.stdout.endswith("    added    tree/3/more16\n    and 13 more\n"), done.stdout


def test_a_named_context_is_asked_for(program: Pybuild, source: Path, tmp_path: Path) -> None:
    """Its name must not become that of an image in somebody's registry."""
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "part").write_text("part\n")
    (source / "Dockerfile").write_text("FROM base\nCOPY --from=lib part /\n")
    assert program("-q", "-t", "named", "--build-context", f"lib={lib}", source).returncode == 0
    done = program("verify", "-q", "--context", source, "named")
    assert (done.returncode, done.stderr) == (
        2,
        "error: 'named' was built with the build context 'lib', and this source has none of that name\n"
        "  hint: say where it is: --build-context lib=DIR\n",
    )
    assert program("verify", "-q", "--context", source, "--build-context", f"lib={lib}", "named").returncode == 0


def test_the_same_source_and_another_image(program: Pybuild, source: Path) -> None:
    """A step that gives something else each time: where to look is said."""
    (source / "Dockerfile").write_text("FROM base\nRUN head -c 8 /dev/urandom > /noise\n")
    assert program("-q", "-t", "noise", source).returncode == 0
    done = program("verify", "-q", "--context", source, "noise")
    assert done.returncode == 4
    assert done.stdout.endswith(
        f"  this one is the same\n  so a step does not come out the same again: pybuild verify {source} says which, and why\n"
    )


def test_another_base_is_told(program: Pybuild, source: Path, tmp_path: Path, busybox_base: Path) -> None:
    built(program, source)
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", busybox_base, other], check=True)
    (other / "new").write_text("new\n")
    assert program("import", other, "base").returncode == 0
    code, found, _ = verified(program, source, "app")
    assert code == 4
    (told,) = differences(found)
    assert told.startswith("base is another image now: it was sha256:")


def index_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        member = tar.extractfile("index.json")
        assert member is not None
        found: dict[str, Any] = json.load(member)
        return found


def test_it_goes_with_the_image_and_not_into_its_digests(
    program: Pybuild, source: Path, tmp_path: Path, busybox_base: Path
) -> None:
    archive, plain = tmp_path / "app.tar", tmp_path / "plain.tar"
    built(program, source, "-o", f"type=oci,dest={archive}")
    (descriptor,) = index_of(archive)["manifests"]
    said = descriptor["annotations"]["dev.pybuild.request"]
    request = json.loads(said)
    assert request["args"] == [["A", "2"]] and request["path"] == "docker/app.Dockerfile" and request["target"] == "final"
    manifest = descriptor["digest"]
    # The same image by another request: the same digest.
    (source / "docker/app.Dockerfile").write_text(f"# other\n{DOCKERFILE}")
    built(program, source, "-o", f"type=oci,dest={plain}")
    (other,) = index_of(plain)["manifests"]
    assert other["digest"] == manifest and other["annotations"]["dev.pybuild.request"] != said
    (source / "docker/app.Dockerfile").write_text(DOCKERFILE)
    # In another store, by the archive and by what is loaded from it, and saved again.
    elsewhere = Pybuild(tmp_path / "elsewhere", tmp_path)
    assert elsewhere("import", busybox_base, "base").returncode == 0
    code, found, _ = verified(elsewhere, source, f"oci-archive:{archive}")
    assert (code, found["verdict"], differences(found)) == (0, "identical", [])
    third = Pybuild(tmp_path / "third", tmp_path)
    assert third("load", "-i", archive).returncode == 0
    assert json.loads(third("inspect", "app").stdout)[0]["BuildRequest"] == found["request"]["digest"]
    saved = tmp_path / "saved.tar"
    assert third("save", "--format=oci-archive", "-o", saved, "app").returncode == 0
    assert index_of(saved)["manifests"][0]["annotations"]["dev.pybuild.request"] == said


def test_an_image_that_says_nothing(program: Pybuild, source: Path, tmp_path: Path, busybox_base: Path) -> None:
    """One of another builder, or from where no request is kept: the flags are given, and what can be compared is."""
    built(program, source)
    archive = tmp_path / "docker.tar"
    assert program("save", "-o", archive, "app").returncode == 0
    elsewhere = Pybuild(tmp_path / "elsewhere", tmp_path)
    assert elsewhere("import", busybox_base, "base").returncode == 0
    image = f"docker-archive:{archive}"
    flags = ("-f", source / "docker/app.Dockerfile", *FLAGS)
    code, found, said = verified(elsewhere, source, image, *flags)
    assert (code, found["verdict"], found["request"]) == (0, "identical", None)
    assert f"warning: {image} says nothing of its build: the flags given here are those that count" in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said.replace('"A","2"', '"A","9"').replace('"format":2', '"format":3'), "it has the format 3"),
        (lambda said: said.replace("sha256:", "sha256:0", 1), "it is not what pybuild writes: it was changed"),
        (lambda said: "[" * 100000, "it is no JSON"),
        (lambda said: "\x1b[2J", "it is no JSON"),
    ],
)
def test_a_request_that_was_changed_does_not_count(
    change: Any, told: str, program: Pybuild, source: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    built(program, source, "-o", f"type=oci,tar=false,dest={layout}")
    index = json.loads((layout / "index.json").read_text())
    annotations = index["manifests"][0]["annotations"]
    annotations["dev.pybuild.request"] = change(annotations["dev.pybuild.request"])
    (layout / "index.json").write_text(json.dumps(index))
    code, found, said = verified(program, source, f"oci:{layout}", "-f", source / "docker/app.Dockerfile", *FLAGS)
    assert (code, found["verdict"], found["request"]) == (0, "identical", None)
    assert f"says of its build does not count: {told}" in said and "\x1b" not in said
    third = Pybuild(tmp_path / "third", tmp_path)
    done = third("load", "-i", layout)
    assert done.returncode == 0 and "says of its build is not kept: it" in done.stderr


def says(layout: Path, **changes: Any) -> None:
    """Make the image's request another one, well formed and with its digest."""
    index = json.loads((layout / "index.json").read_text())
    annotations = index["manifests"][0]["annotations"]
    request = recorded.parse(annotations["dev.pybuild.request"])._replace(**changes)
    annotations["dev.pybuild.request"] = recorded.dump(request)
    (layout / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path": "/etc/passwd"}, "its Dockerfile lies outside of the build context"),
        ({"path": "docker/../../secret"}, "its Dockerfile lies outside of the build context"),
        ({"path": "a\0b"}, "there is a NUL in it"),
        ({"network": "bogus"}, "there is no network 'bogus'"),
    ],
)
def test_a_hostile_request_reads_no_other_file(changes: Any, told: str, program: Pybuild, source: Path, tmp_path: Path) -> None:
    (source.parent / "secret").write_text("s3cret\n")
    layout = tmp_path / "layout"
    built(program, source, "-o", f"type=oci,tar=false,dest={layout}")
    says(layout, **changes)
    code, found, said = verified(program, source, f"oci:{layout}", "-f", source / "docker/app.Dockerfile", *FLAGS)
    assert (code, found["verdict"], found["request"]) == (0, "identical", None)
    assert f"says of its build does not count: {told}" in said and "s3cret" not in said


@pytest.mark.parametrize(
    ("changes", "told", "hint"),
    [
        (
            {"network": "host"},
            "'oci:{layout}' was built with the host's network, which no image gets by its own word",
            "say --allow network.host to build it so, or --network=default to build it without",
        ),
        (
            {"hosts": (("a", "no address"),)},
            "what 'oci:{layout}' says of its build cannot be: 'no address' in 'a:no address' is not an IP address",
            "",
        ),
    ],
)
def test_what_an_image_asks_for_is_looked_at(
    changes: Any, told: str, hint: str, program: Pybuild, source: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    built(program, source, "-o", f"type=oci,tar=false,dest={layout}")
    says(layout, **changes)
    done = program("verify", "-q", "--context", source, f"oci:{layout}")
    assert done.returncode == 2
    assert f"error: {told.format(layout=layout)}" in done.stderr and hint in done.stderr


def test_limits_that_no_machine_gives(program: Pybuild, source: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    built(program, source, "-o", f"type=oci,tar=false,dest={layout}")
    says(layout, ulimits=(("nofile", -1, -1),))
    done = program("verify", "-q", "--context", source, f"oci:{layout}")
    assert done.returncode == 6
    assert (
        "--ulimit nofile: this kernel gives" in done.stderr and "descriptors at most (fs.nr_open), not unlimited" in done.stderr
    )


def test_the_host_s_network_can_be_allowed(program: Pybuild, source: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    built(program, source, "--network=host", "-o", f"type=oci,tar=false,dest={layout}")
    code, found, _ = verified(program, source, f"oci:{layout}", "--allow=network.host")
    assert (code, found["verdict"], found["request"]["differences"]) == (0, "identical", [])
    assert "--network=host" in found["request"]["flags"]


@pytest.mark.parametrize("kind", ["another layer", "a damaged blob"])
def test_an_image_must_have_the_layers_that_its_config_says(kind: str, program: Pybuild, source: Path, tmp_path: Path) -> None:
    """Its config alone proves nothing of what people run."""
    layout = tmp_path / "layout"
    built(program, source, "-o", f"type=oci,tar=false,dest={layout}")
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    layer = manifest["layers"][-1]
    if kind == "a damaged blob":
        data = bytearray((blobs / layer["digest"][7:]).read_bytes())
        data[-20] ^= 1
        (blobs / layer["digest"][7:]).write_bytes(data)
        told = f"the layer 'blobs/sha256/{layer['digest'][7:]}' is not {layer['digest']}"
    else:
        evil = put(blobs, gzip.compress(tar_of({"evil": b"evil"})))
        told = f"the layer sha256:{evil['digest'][7:]} is not what the image's config says: sha256:"
        manifest["layers"][-1] = {**layer, **evil}
        index["manifests"][0] |= put(blobs, json.dumps(manifest).encode())
        (layout / "index.json").write_text(json.dumps(index))
    done = program("verify", "-q", "--context", source, f"oci:{layout}")
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert f"/layout' is damaged: {told}" in done.stderr
    for pair in ([f"oci:{layout}", "app"], ["app", f"oci:{layout}"], [f"oci:{layout}", f"oci:{layout}"]):
        done = program("diff", "--require=diff-ids", *pair)
        assert (done.returncode, done.stdout) == (2, ""), done.stdout
        assert f"/layout' is damaged: {told}" in done.stderr


def put(blobs: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_a_containerfile_beside_a_dockerfile(program: Pybuild, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM base\nCOPY other /other\n")
    (source / "Containerfile").write_text("FROM base\nCOPY tool /tool\n")
    assert program("-q", "-t", "contained", "-f", source / "Containerfile", source).returncode == 0
    code, found, _ = verified(program, source, "contained")
    assert (code, found["verdict"], differences(found)) == (0, "identical", [])


def test_an_image_for_another_platform_is_built_for_it(program: Pybuild, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM scratch\nCOPY tool /tool\n")
    assert program("-q", "-t", "other", "--platform=linux/s390x", source).returncode == 0
    code, found, _ = verified(program, source, "other")
    assert (code, found["verdict"], found["a"]["platform"]) == (0, "identical", "linux/s390x")


def test_an_image_of_a_locked_build(program: Pybuild, source: Path, tmp_path: Path, busybox_base: Path) -> None:
    """Where the name of its base moved on, the lock is named."""
    flags = [flag for flag in FLAGS if flag not in ("--label", "l=v", "--network=none")]
    done = program("lock", "-f", source / "docker/app.Dockerfile", *flags, source)
    assert done.returncode == 0, done.stderr
    built(program, source, "--locked")
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", busybox_base, other], check=True)
    (other / "new").write_text("new\n")
    assert program("import", other, "base").returncode == 0
    done = program("verify", "-q", "--context", source, "app")
    assert done.returncode == 4
    assert done.stdout.endswith(
        "  a lock file lies beside the Dockerfile: with --locked the images are those that it names\n"
    ), done.stdout + done.stderr


def test_no_credentials_are_in_it(program: Pybuild, source: Path) -> None:
    built(program, source, "--build-arg=FROM_WHERE=https://me:s3cret@example.com/x", "--secret=id=s,env=HOME")
    found = subprocess.run(["grep", "-rac", "s3cret", program.store / "db.sqlite"], capture_output=True, text=True)
    code, told, _ = verified(program, source, "app")
    assert code == 4 or differences(told) == []
    request = json.loads(
        subprocess.run(
            [
                "python3",
                "-c",
                "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select request from requests').fetchone())",
                program.store / "db.sqlite",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert request["withheld"] == ["FROM_WHERE"] and request["args"] == [["A", "2"]]
    assert "s3cret" not in json.dumps(request) and found.returncode in (0, 1)
