"""RUN --mount: bind and tmpfs, where mounts can lie, and that nothing of them stays in a layer."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, a_base, a_dir, a_file, refused, run_build, ship
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "src" / "inner").mkdir(parents=True)
    (folder / "src" / "file").write_text("of the context\n")
    (folder / "src" / "inner" / "run").write_text("#!/bin/sh\necho ran\n")
    (folder / "src" / "inner" / "run").chmod(0o755)
    (folder / "src" / "secret.key").write_text("ignored\n")
    (folder / "link").symlink_to("src/file")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / ".dockerignore").write_text("**/*.key\nDockerfile\n")
    for path in (folder / "src" / "file", folder / "src"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    return folder


def said(stderr: str) -> list[str]:
    """What the commands wrote, without the prefix of the step and the seconds."""
    return re.findall(r"^#\d+ \d+\.\d+ ?(.*)$", stderr, re.MULTILINE)


def build(pybuild: Pybuild, context: Path, base: Path, dockerfile: str, *flags: str | Path) -> list[str]:
    return said(run_build(pybuild, context, dockerfile, "--build-context", f"base={base}", *flags))


def layers(folder: Path) -> list[list[str]]:
    """The names in each layer of an OCI layout, the lowest first."""
    import json

    def blob(digest: str) -> Path:
        return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    index = json.loads((folder / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    found = []
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer["digest"])) as tar:
            found.append(tar.getnames())
    return found


# bind


def test_bind_of_the_context(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    """Files of root, with their modes and times, without what is ignored; links stay, and lead nowhere but into the image."""
    text = """FROM base
WORKDIR /w
RUN --mount=target=. find . | sort && stat -c '%n %a %u:%g %Y' src src/file src/inner/run && cat link && cat out
RUN --mount=source=src/inner,target=/i /i/run
RUN --mount=source=link,target=/one cat /one
RUN ls -A /w /i /one 2>&1 | sort
"""
    lines = build(pybuild, context, busybox_base, text)
    assert lines[:7] == [".", "./.dockerignore", "./link", "./out", "./src", "./src/file", "./src/inner"]
    assert lines[7:] == [
        "./src/inner/run",
        "src 755 0:0 1500000000",
        "src/file 644 0:0 1500000000",
        f"src/inner/run 755 0:0 {int((context / 'src/inner/run').stat().st_mtime)}",
        "of the context",
        "pybuild",  # the sandbox's own /etc/hostname
        "ran",
        "of the context",
        "/w:",
        "ls: /i: No such file or directory",
        "ls: /one: No such file or directory",
    ]


def test_bind_is_read_only_and_what_rw_writes_is_dropped(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = """FROM base AS made
RUN mkdir /data && echo stage > /data/file && ln -s data /short
FROM base
RUN --mount=target=/c --mount=from=made,source=/short,target=/s \\
    for f in /c/new /c/src/file /s/file; do (echo x > $f) 2>&1; done; rm /s/file; cat /s/file
RUN --mount=target=/c,rw --mount=from=made,source=/data,target=/s,rw \\
    echo x > /c/src/file; rm /c/link; echo x > /s/file; cat /c/src/file /s/file; ls /c
RUN --mount=target=/c,rw --mount=from=made,target=/s,rw \\
    cat /c/link /s/short/file; rm -r /s/data; ls -d /s/data || true
"""
    assert build(pybuild, context, busybox_base, text) == [
        "/bin/sh: can't create /c/new: Read-only file system",
        "/bin/sh: can't create /c/src/file: Read-only file system",
        "/bin/sh: can't create /s/file: Read-only file system",
        "rm: can't remove '/s/file': Read-only file system",
        "stage",
        *("x", "x", "out", "src"),
        *("of the context", "stage", "ls: /s/data: No such file or directory"),
    ]
    assert (context / "src" / "file").read_text() == "of the context\n"
    assert_valid(pybuild.store)


def test_bind_from_a_named_context_and_an_image(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("other\n")
    (other / "b").write_text("ignored\n")
    (other / ".dockerignore").write_text("b\n")
    a_base(
        pybuild,
        tmp_path,
        Member("etc/", tarfile.DIRTYPE, mode=0o750, uid=5),
        Member("etc/x", data=b"image\n", uid=7),
        name="i:1",
    )
    text = """FROM base
RUN --mount=from=other,target=/o --mount=from=i:1,target=/i ls -A /o && cat /o/a /i/etc/x && stat -c '%a %u' /i/etc /i/etc/x
RUN --mount=from=i:1,source=etc/x,target=/etc/passwd cat /etc/passwd
RUN head -n 1 /etc/passwd
"""
    lines = build(pybuild, context, busybox_base, text, "--build-context", f"other={other}")
    assert lines == [".dockerignore", "a", "other", "image", "750 5", "644 7", "image", "root:x:0:0:root:/root:/bin/sh"]


def test_bind_of_an_empty_stage_and_for_a_user(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = """FROM scratch AS empty
FROM base
RUN --mount=from=empty,target=/e,rw ls -A /e; touch /e/x && ls /e
USER 1000:1000
RUN --mount=source=src,target=/s,rw cat /s/file; (echo > /s/file) 2>&1; id -u
"""
    assert build(pybuild, context, busybox_base, text) == [
        "x",
        "of the context",
        "/bin/sh: can't create /s/file: Permission denied",
        "1000",
    ]


def test_what_a_bind_shows_decides_about_the_cache(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    """Its content, modes and names; not times, not what is ignored, not where it comes from."""
    mounts = "--mount=source=src,target=/s --mount=from=a,source=/f,target=/f"
    text = f"FROM base AS a\nRUN echo {{stage}} > /f\nFROM base\nRUN {mounts} true\n"
    flags = ("--build-context", f"base={busybox_base}")

    def cached(stage: str = "1") -> bool:
        stderr = run_build(pybuild, context, text.format(stage=stage), *flags)
        number = stderr.partition(" [stage-1 2/2] RUN --mount=source=src")[0].rpartition("#")[2]
        return f"\n#{number} CACHED" in stderr

    assert (cached(), cached()) == (False, True)
    os.utime(context / "src" / "file")
    (context / "src" / "more.key").write_text("ignored")
    (context / "beside").write_text("not mounted")
    assert cached()
    # Another command with the same result.
    assert cached("  1")
    assert not cached("2")
    (context / "src" / "file").chmod(0o600)
    assert (cached("2"), cached("2")) == (False, True)
    (context / "src").chmod(0o700)
    assert not cached("2")
    (context / "src" / "file").write_text("of the Context\n")
    assert not cached("2")
    (context / "src" / "new").mkdir()
    assert not cached("2")


def test_mounts_in_a_trigger_and_with_a_heredoc(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = """FROM base AS parent
ONBUILD RUN --mount=target=/c cat /c/src/file > /copied
FROM parent
RUN --mount=source=src,target=/s <<EOF
#!/bin/sh
cat /s/file /copied
EOF
"""
    assert build(pybuild, context, busybox_base, text) == ["of the context", "of the context"]


def test_checks_and_plans_know_mounts(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN --mount=type=secret,id=a,required --mount=target=/c true\n")
    flags = ("--build-context", f"base={busybox_base}")
    assert pybuild("check", *flags, context).returncode == 0
    shown = pybuild("--print-plan", *flags, context)
    assert (shown.returncode, '"kind": "secret"' in shown.stdout) == (0, True)


# tmpfs


def test_tmpfs(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = """FROM base
RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -n 1 | awk '{print $2}'; stat -c %a /t; touch /t/x; \\
    dd if=/dev/zero of=/t/big bs=1M count=2 2>&1 | head -n 1; cp /bin/busybox /dev/shm/busybox
RUN --mount=type=tmpfs,target=/bin/hidden --mount=type=tmpfs,target=/dev/shm,size=2m ls /t; df -k /dev/shm | tail -n 1
USER 1000
RUN --mount=type=tmpfs,target=/t touch /t/y && ls /t
"""
    lines = build(pybuild, context, busybox_base, text)
    assert lines[:3] == ["1024", "1777", "dd: error writing '/t/big': No space left on device"]
    assert (lines[3], lines[4].split()[1], lines[5]) == ("ls: /t: No such file or directory", "2048", "y")


# Where mounts lie


def test_nothing_of_a_mount_is_in_the_layer(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    """What the image lacks, what it has, links, files, places in other mounts; and parents keep their times and owners."""
    a_base(
        pybuild,
        tmp_path,
        Member("opt/", tarfile.DIRTYPE, mode=0o751, uid=3, gid=4, mtime=1_400_000_000),
        Member("opt/has/", tarfile.DIRTYPE, mtime=1_400_000_000),
        Member("opt/has/file", data=b"hidden\n", mtime=1_400_000_000),
        Member("opt/link", tarfile.SYMTYPE, link="/var/lib/far", mtime=1_400_000_000),
        name="odd:1",
    )
    mounts = [
        "target=/opt/has",
        "type=tmpfs,target=/opt/lacks/deep/er",
        "type=cache,target=/opt/link/cache",
        "type=tmpfs,target=/opt/link/cache/a/b",
        "source=src/file,target=/opt/one",
        "type=tmpfs,target=/opt/has/src/inner/more",
        "source=src/file,target=/dev/made/file",
        "type=secret,id=s,target=/etc/secret",
    ]
    (tmp_path / "s").write_text("secret\n")
    flags = " ".join(f"--mount={mount}" for mount in mounts)
    text = f"""FROM odd:1
COPY --from=base / /
RUN {flags} ls /opt/has/src /opt/link/ /opt/link/cache && cat /opt/one /dev/made/file /etc/secret && stat -c '%a %u:%g %Y' /opt
RUN {flags} touch /tmp/result && rmdir /opt/lacks/deep/er 2>&1 | cut -d: -f3
RUN cat /opt/has/file; ls /opt; stat -c %Y /opt; ls -d /var/lib /dev/made /etc/secret 2>&1 | sort
"""
    oci = tmp_path / "oci"
    output = ("-o", f"type=oci,tar=false,dest={oci}", "--secret", f"id=s,src={tmp_path}/s")
    lines = build(pybuild, context, busybox_base, text, *output)
    assert lines == [
        *("/opt/has/src:", "file", "inner", "", "/opt/link/:", "cache", "", "/opt/link/cache:", "a"),
        *("of the context", "of the context", "secret", "751 3:4 1400000000"),
        " Device or resource busy",
        *("hidden", "has", "link", "1400000000"),
        "ls: /dev/made: No such file or directory",
        "ls: /etc/secret: No such file or directory",
        "ls: /var/lib: No such file or directory",
    ]
    # The base, the COPY, and the one RUN that changed something.
    assert layers(oci)[2:] == [["tmp/result"]]


def test_a_folder_of_a_mount_point_that_is_written_to_stays(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = "FROM base\nRUN --mount=type=tmpfs,target=/new/mount --mount=type=tmpfs,target=/other/mount touch /new/file\n"
    found = ship(pybuild, context, text, "--build-context", f"base={busybox_base}")
    assert {path: entry for path, entry in found.items() if path.split("/")[0] in ("new", "other")} == {
        "new": a_dir(),
        "new/file": a_file(b""),
    }


def test_a_mount_over_the_containers_files_and_workdir(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = """FROM base
WORKDIR /w
RUN --mount=source=src/file,target=/etc/hosts --mount=source=src,target=. cat /etc/hosts; pwd; ls
RUN --mount=type=tmpfs,target=/etc ls -A /etc | wc -l
"""
    assert build(pybuild, context, busybox_base, text) == ["of the context", "/w", "file", "inner", "0"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/proc", "nothing can be mounted at '/proc': the sandbox has its own /proc"),
        ("/sys/fs/x", "nothing can be mounted at '/sys/fs/x': the sandbox has its own /sys"),
        ("/dev", "nothing can be mounted at '/dev': the sandbox has its own /dev"),
        ("/p/1", "nothing can be mounted at '/p/1', which is '/proc/1' in the image: the sandbox has its own /proc"),
        ("/r", "nothing can be mounted at '/r', which is '/' in the image"),
        ("/bin/sh/x", "the image's '/bin/busybox' is no folder, so nothing can be mounted below it"),
        (f"/{'n' * 256}", f"the target '/{'n' * 59}...' is longer than a path can be"),
        ("/name" * 820, f"the target '{'/name' * 12}...' is longer than a path can be"),
    ],
)
def test_targets_that_cannot_be(pybuild: Pybuild, busybox_base: Path, context: Path, target: str, message: str) -> None:
    text = f"FROM base\nRUN ln -s proc /p && ln -s . /r\nRUN --mount=type=tmpfs,target={target} true\n"
    code = 1 if "the image's" in message else 3
    assert f":3:5: error: {message}\n" in refused(pybuild, context, text, "--build-context", f"base={busybox_base}", code=code)
