"""What is shown of images: --format, --filter, and how little `images` costs at its start."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from builder.oci.platform import Platform
from tests.conftest import Pybuild


def out(pybuild: Pybuild, *args: str | Path) -> str:
    done = pybuild(*args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def built(pybuild: Pybuild, tmp_path: Path, text: str, *names: str) -> str:
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    done = pybuild("-q", *(word for name in names for word in ("-t", name)), context)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def ids(pybuild: Pybuild, tmp_path: Path) -> dict[str, str]:
    """`old:1` and an image without a name, two hours old, and `app:1`, `app:2` and one of a registry, of an hour."""
    first = built(pybuild, tmp_path, "FROM scratch\nLABEL team=a\n", "old:1")
    nameless = built(pybuild, tmp_path, "FROM scratch\nLABEL team=b empty=\n")
    names = ("app:1", "app:2", "registry.example/team/app:1")
    second = built(pybuild, tmp_path, 'FROM scratch\nLABEL team=a size=big\nCMD ["x"]\n', *names)
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        now = int(time.time())
        database.execute("UPDATE images SET created = ?", (now - 2 * 3600 - 60,))
        database.execute("UPDATE images SET created = ? WHERE config = ?", (now - 3600 - 60, second))
        database.commit()
    return {"old": first, "": nameless, "app": second}


def names(pybuild: Pybuild, *args: str) -> list[str]:
    return out(pybuild, "images", "--format", "{{.Repository}}:{{.Tag}}", *args).split()


def test_formats(pybuild: Pybuild, ids: dict[str, str]) -> None:
    short = {name: id[7:19] for name, id in ids.items()}
    assert out(pybuild, "images", "--format", r"{{.ID}}\t{{.Repository}}\t{{.Tag}}\t{{.Size}}") == (
        f"{short['']}\t<none>\t<none>\t0 B\n{short['app']}\tapp\t1\t0 B\n{short['app']}\tapp\t2\t0 B\n"
        f"{short['old']}\told\t1\t0 B\n{short['app']}\tregistry.example/team/app\t1\t0 B\n"
    )
    assert out(pybuild, "images", "old", "--format", "table {{.Repository}}\t{{.ID}}") == (
        f"REPOSITORY   IMAGE ID\nold          {short['old']}\n"
    )
    (line,) = out(pybuild, "images", "--format=json", "--no-trunc", "old").splitlines()
    shown = json.loads(line)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC", shown.pop("CreatedAt"))
    assert shown == {
        "CreatedSince": "2 hours ago",
        "Digest": "<none>",
        "ID": ids["old"],
        "Platform": str(Platform.of_machine(os.uname().machine)),
        "Repository": "old",
        "Size": "0 B",
        "Tag": "1",
    }
    assert out(pybuild, "images", "old", "--digests").splitlines()[0].split() == [
        *("REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"),
    ]
    done = pybuild("images", "--format", "{{.Repo}}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: the template is wrong at column 3: there is no field '.Repo'\n  hint: there are: Repository,"
    )


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["app"], ["app:1", "app:2"]),
        (["app:2"], ["app:2"]),
        (["docker.io/library/app"], ["app:1", "app:2"]),
        (["*/*/app"], ["registry.example/team/app:1"]),
        (["nothing"], []),
        (["-f", "reference=a*:1", "-f", "reference=old"], ["app:1", "old:1"]),
        (["-f", "dangling=true"], ["<none>:<none>"]),
        (["-f", "dangling=false", "app"], ["app:1", "app:2"]),
        (["-f", "label=team=a", "-f", "label=size"], ["app:1", "app:2", "registry.example/team/app:1"]),
        (["--filter=label=empty="], ["<none>:<none>"]),
        (["-f", "label=none"], []),
        (["-f", "before=app:1"], ["<none>:<none>", "old:1"]),
        (["-f", "since=old:1"], ["app:1", "app:2", "registry.example/team/app:1"]),
        (["-a", "-f", "since=app:2"], []),
    ],
)
def test_filters(pybuild: Pybuild, ids: dict[str, str], args: list[str], expected: list[str]) -> None:
    assert names(pybuild, *args) == expected


def test_filters_that_are_none(pybuild: Pybuild, ids: dict[str, str]) -> None:
    for text, message in (
        ("dangling=maybe", "error: 'maybe' is not a value of the filter 'dangling'\n  hint: true or false\n"),
        ("labels=x", "error: 'labels=x' is no filter of images\n  hint: did you mean 'label'?\n"),
        ("label", "error: 'label' is no filter of images\n"),
        ("before=gone", "error: there is no image 'gone' in the store\n"),
        ("reference=[", "error: the pattern '[' has "),
    ):
        done = pybuild("images", "-f", text)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)


def test_inspect_by_a_template(pybuild: Pybuild, ids: dict[str, str]) -> None:
    form = "{{index .RepoTags 0}} {{.Config.Cmd}} {{json .Config.Labels}} {{.Os}}"
    assert out(pybuild, "inspect", "-f", form, "app:1") == 'app:1 [x] {"size":"big","team":"a"} linux\n'
    assert out(pybuild, "inspect", "--type=image", "-f", "{{.Id}}", "old:1", "app:2") == f"{ids['old']}\n{ids['app']}\n"
    assert json.loads(out(pybuild, "inspect", "--format=json", "old:1"))[0]["Id"] == ids["old"]
    config = out(pybuild, "inspect", "--config", "old:1")
    assert config.encode() == (pybuild.store / "blobs" / ids["old"].replace(":", "/")).read_bytes()
    manifest = json.loads(out(pybuild, "inspect", "--raw", "old:1"))
    assert manifest["config"]["digest"] == ids["old"]
    done = pybuild("inspect", "quite-another")
    assert done.stderr == (
        "error: there is no image 'quite-another' in the store\n"
        "  hint: see: pybuild images, or ask its registry: pybuild inspect --remote quite-another\n"
    )


def test_history_by_a_template(pybuild: Pybuild, ids: dict[str, str]) -> None:
    assert out(pybuild, "history", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.CreatedAt}}", "app:1") == (
        f'{ids["app"][7:19]} CMD ["x"] 0 B 1980-01-02T00:00:00Z\n<missing> LABEL team=a size=big 0 B 1980-01-02T00:00:00Z\n'
    )
    rows = [re.split(" {2,}", line) for line in out(pybuild, "history", "--human=false", "app:1").splitlines()]
    assert rows[1] == ["1980-01-02T00:00:00Z", 'CMD ["x"]', "0", "pybuild.dockerfile.v1"]


def test_rmi_by_force(pybuild: Pybuild, ids: dict[str, str]) -> None:
    done = pybuild("rmi", "-f", "gone:1", ids["app"][7:19])
    assert done.returncode == 0
    assert done.stderr == "warning: there is no image 'gone:1' in the store\n"
    assert sorted(done.stdout.splitlines()) == [
        f"Deleted: {ids['app']}",
        "Untagged: app:1",
        "Untagged: app:2",
        "Untagged: registry.example/team/app:1",
    ]
    assert names(pybuild) == ["<none>:<none>", "old:1"]


def test_images_imports_little(pybuild: Pybuild, ids: dict[str, str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "builder.cli.main", "images"]
    done = subprocess.run(command, env=pybuild.environment(), capture_output=True, text=True)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "builder.cli.images" in imported
    slow = (
        "json",
        "requests",
        "urllib3",
        "lark",
        "tarfile",
        "http.client",
        "builder.gotemplate",
        "builder.registry",
        "builder.archives",
    )
    assert sorted(name for name in imported if name.startswith(slow)) == []


def hostile(folder: Path) -> Path:
    """Docker's archive of an image without layers whose config is not what it should be."""
    history = [{"created": "\x1b[31m", "created_by": "\x1b]0;title\x07", "comment": "\x9b31m", "empty_layer": True}]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"a": "\x1b[31m", "b": "\x9b31m\x7f\u202e", "c": "λ"}},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": history,
    }
    list_of_images = [{"Config": "config.json", "RepoTags": ["hostile:1"], "Layers": []}]
    with tarfile.open(folder / "hostile.tar", "w") as archive:
        for name, value in (("config.json", config), ("manifest.json", list_of_images)):
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder / "hostile.tar"


def test_what_an_image_says_does_not_act_on_the_terminal(pybuild: Pybuild, tmp_path: Path) -> None:
    assert pybuild("load", "-i", hostile(tmp_path)).returncode == 0
    for args in (
        ["history", "hostile:1"],
        ["history", "--human=false", "hostile:1"],
        ["history", "--format", "{{.CreatedAt}} {{.CreatedSince}} {{.CreatedBy}} {{.Comment}}", "hostile:1"],
        ["inspect", "hostile:1"],
        ["inspect", "--format", "json", "hostile:1"],
    ):
        shown = out(pybuild, *args)
        assert [c for c in shown if c != "\n" and not c.isprintable()] == [], args
    (image,) = json.loads(shown)
    assert image["Config"]["Labels"] == {"a": "\x1b[31m", "b": "\x9b31m\x7f\u202e", "c": "λ"}


def test_what_the_encoding_of_the_user_lacks_is_escaped(pybuild: Pybuild, tmp_path: Path) -> None:
    assert pybuild("load", "-i", hostile(tmp_path)).returncode == 0
    done = pybuild("inspect", "--format", "{{.Config.Labels.c}}", "hostile:1", env={"PYTHONIOENCODING": "latin-1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u03bb\n", "")


def test_one_that_is_not_there_does_not_keep_the_others(pybuild: Pybuild, ids: dict[str, str]) -> None:
    done = pybuild("inspect", "--format", "{{.Id}}", "nope", "app:1", "neither")
    assert (done.returncode, done.stdout) == (2, f"{ids['app']}\n")
    assert re.findall("no image '(.*)'", done.stderr) == ["nope", "neither"]
    done = pybuild("rmi", "nope", "app:1", "neither", "app:2")
    assert (done.returncode, done.stdout) == (2, "Untagged: app:1\nUntagged: app:2\n")
    assert re.findall("no image '(.*)'", done.stderr) == ["nope", "neither"]
    assert names(pybuild) == ["<none>:<none>", "old:1", "registry.example/team/app:1"]


@pytest.mark.parametrize(
    ("days", "text"), [(1, "1 day ago"), (13, "13 days ago"), (20, "2 weeks ago"), (100, "3 months ago"), (1100, "3 years ago")]
)
def test_long_ago_is_told_as_docker_tells_it(pybuild: Pybuild, ids: dict[str, str], days: int, text: str) -> None:
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        database.execute("UPDATE images SET created = ?", (int(time.time()) - days * 86400 - 60,))
        database.commit()
    assert out(pybuild, "images", "old", "--format", "{{.CreatedSince}}") == f"{text}\n"


def test_an_id_is_written_as_in_docker_s_go_and_as_in_its_json(pybuild: Pybuild, ids: dict[str, str]) -> None:
    assert out(pybuild, "inspect", "--format", "{{.ID}} {{.Id}}", "app:1") == f"{ids['app']} {ids['app']}\n"
    (shown,) = json.loads(out(pybuild, "inspect", "app:1"))
    assert "ID" not in shown
