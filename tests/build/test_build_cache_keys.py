"""What is in the key of a step and what is not, seen from outside: the program runs a step again, or takes it from the cache.

The bytes of keys are in tests/test_golden_keys.py, the keys of plans in tests/plan/test_plan_keys.py.
"""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
from pathlib import Path

from tests.build.build_cached import statuses, write
from tests.conftest import Pybuild

RUN = "RUN : it"
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service+ep, as linux/capability.h has it (VFS_CAP_REVISION_2)."""


class Builds:
    """Builds of one context on one store, by Dockerfiles that are compared with a first one."""

    def __init__(self, pybuild: Pybuild, base: Path, context: Path) -> None:
        self._pybuild = pybuild
        self._base = base
        self.context = context
        context.mkdir(exist_ok=True)

    def __call__(self, dockerfile: str, *flags: str) -> dict[str, str]:
        write(self.context, dockerfile)
        return statuses(self._pybuild, self.context, self._base, *flags)


def test_what_a_command_sees_is_in_its_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    first = f"FROM base\n{RUN}\n"
    assert build(first)[RUN] == "done"
    assert build(first)[RUN] == "cached"
    changes: dict[str, tuple[str, tuple[str, ...]]] = {
        "ENV": (f"FROM base\nENV A=1\n{RUN}\n", ()),
        "the value of an ENV": (f"FROM base\nENV A=2\n{RUN}\n", ()),
        "ARG": (f"FROM base\nARG B=1\n{RUN}\n", ()),
        "a build arg": (f"FROM base\nARG B=1\n{RUN}\n", ("--build-arg", "B=2")),
        "a global ARG that the stage takes": (f"ARG C=1\nFROM base\nARG C\n{RUN}\n", ()),
        "a declared proxy": (f"FROM base\nARG http_proxy\n{RUN}\n", ("--build-arg", "http_proxy=http://one.invalid")),
        "USER": (f"FROM base\nUSER 1000\n{RUN}\n", ()),
        "WORKDIR of a folder that is there": (f"FROM base\nWORKDIR /tmp\n{RUN}\n", ()),
        "SHELL": (f'FROM base\nSHELL ["/bin/ash", "-c"]\n{RUN}\n', ()),
        "the exec form": ('FROM base\nRUN ["/bin/true"]\n', ()),
        "RUN --network": (f"FROM base\nRUN --network=none {RUN[4:]}\n", ()),
        "--add-host": (first, ("--add-host", "db:10.0.0.1")),
        "its address": (first, ("--add-host", "db:10.0.0.2")),
        "--shm-size": (first, ("--shm-size", "1m")),
        "the host name": (first, ("--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other")),
        "SOURCE_DATE_EPOCH, declared": (f"FROM base\nARG SOURCE_DATE_EPOCH\n{RUN}\n", ("--source-date-epoch", "1000000000")),
        "a heredoc": ("FROM base\nRUN <<END\n: one\nEND\n", ()),
        "its text": ("FROM base\nRUN <<END\n: two\nEND\n", ()),
        "its program": ("FROM base\nRUN <<END\n#!/bin/ash\n: two\nEND\n", ()),
    }
    ran = {}
    for what, (text, flags) in changes.items():
        ran[what] = [status for name, status in build(text, *flags).items() if "RUN" in name]
    assert ran == {what: ["done"] for what in changes}
    # All of them are known now, and the first one still is.
    again = {what: [s for name, s in build(text, *flags).items() if "RUN" in name] for what, (text, flags) in changes.items()}
    assert again == {what: ["cached"] for what in changes}
    assert build(first)[RUN] == "cached"


def test_the_network_of_the_command_line_is_in_the_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    assert build(f"FROM base\n{RUN}\n")[RUN] == "done"
    assert build(f"FROM base\n{RUN}\n", "--network=host")[RUN] == "cached"
    assert build(f"FROM base\n{RUN}\n", "--network=none")[RUN] == "done"
    # A line that says so itself is the same step.
    assert build("FROM base\nRUN --network=none : it\n") == {"FROM base": "cached", "RUN --network=none : it": "cached"}


def test_what_a_command_does_not_see_is_in_no_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    (build.context / "unused").write_text("1")
    first = f"FROM base AS one\n{RUN}\n"
    assert build(first)[RUN] == "done"
    changes: dict[str, tuple[str, tuple[str, ...]]] = {
        "comments and lines": (f"# one\n\n\nFROM base AS one\n# two\n{RUN}\n", ()),
        "the stage's name": (f"FROM base AS other\n{RUN}\n", ()),
        "the stage's place": (f"FROM scratch AS none\nFROM base\n{RUN}\n", ()),
        "an ARG declared later": (first + "ARG A=1\n", ("--build-arg", "A=2")),
        "an ENV later": (first + "ENV A=1\n", ()),
        "an ARG of another stage": (f"FROM base AS two\nARG A=1\nFROM base\n{RUN}\n", ("--build-arg", "A=2")),
        "an ENV of another stage": (f"FROM base AS two\nENV A=1\nFROM base\n{RUN}\n", ()),
        "a build arg that nobody declares": (first, ("--build-arg", "A=1")),
        "an ARG without a value": (f"FROM base\nARG A\n{RUN}\n", ()),
        "a global ARG": (f"ARG A=1\n{first}", ("--build-arg", "A=2")),
        "proxies": (first, ("--build-arg", "http_proxy=http://one.invalid", "--build-arg", "NO_PROXY=x")),
        "config": (f"FROM base\nLABEL a=b\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nCMD x\nENTRYPOINT y\n{RUN}\n", ()),
        "flags that the command cannot observe": (first, ("--label", "a=b", "--jobs", "1", "-t", "name", "--target", "one")),
        "SOURCE_DATE_EPOCH, not declared": (first, ("--source-date-epoch", "1000000000")),
        "network by its default": ("FROM base\nRUN --network=default : it\n", ()),
        "the same shell": (f'FROM base\nSHELL ["/bin/sh", "-c"]\n{RUN}\n', ()),
        "the same command in JSON": ('FROM base\nRUN ["/bin/sh", "-c", ": it"]\n', ()),
    }
    found = {what: set(build(text, *flags).values()) for what, (text, flags) in changes.items()}
    assert found == {what: {"cached"} for what in changes}
    (build.context / "unused").write_text("2")
    assert build(first)[RUN] == "cached"


def test_what_is_copied_is_in_the_key_and_where_it_came_from_is_not(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    tree = build.context / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    (tree / "a").chmod(0o644)
    (tree / "ignored").write_text("1")
    (build.context / ".dockerignore").write_text("**/ignored\n")
    copy, run = "COPY tree /tree/", "RUN ls -R /tree"
    text = f"FROM base\n{copy}\n{run}\n"

    def again() -> list[str]:
        found = build(text)
        return [found[copy], found[run]]

    assert again() == ["done", "done"]
    os.utime(tree / "a", (1, 1))
    os.utime(tree, (1, 1))
    assert again() == ["cached", "cached"], "times"
    (tree / "ignored").write_text("2")
    assert again() == ["cached", "cached"], "ignored files"
    (tree / "a").unlink()
    (tree / "a").write_text("a")
    os.chown(tree / "a", 1234, 1234)
    assert again() == ["cached", "cached"], "owners of the host"
    os.setxattr(tree / "a", "user.k", b"v")
    assert again() == ["cached", "cached"], "attributes that a context does not bring, as with BuildKit"
    (tree / "a").chmod(0o755)
    assert again() == ["done", "done"], "modes"
    os.setxattr(tree / "a", "security.capability", CAPABILITY)
    assert again() == ["done", "done"], "capabilities"
    os.removexattr(tree / "a", "security.capability")
    (tree / "a").chmod(0o644)
    assert again() == ["cached", "cached"]
    (tree / "a").rename(tree / "b")
    assert again() == ["done", "done"], "names"
    (tree / "b").rename(tree / "a")
    (tree / "l").symlink_to("a")
    assert again() == ["done", "done"], "links"
    (tree / "l").unlink()
    (tree / "l").symlink_to("./a")
    assert again() == ["done", "done"], "targets of links"
    (tree / "l").unlink()
    # Another checkout, another keyword, and a stage that has the same.
    elsewhere = Builds(pybuild, busybox_base, tmp_path / "elsewhere")
    shutil.copytree(tree, elsewhere.context / "tree", ignore=shutil.ignore_patterns("ignored"))
    assert elsewhere(f"FROM base\n{copy}\n")[copy] == "cached"
    assert elsewhere("FROM base\nADD --unpack=false tree /tree/\n")["ADD --unpack=false tree /tree/"] == "cached"
    of_stage = "COPY --from=s /x/tree /tree/"
    assert elsewhere(f"FROM scratch AS s\nCOPY tree /x/tree\nFROM base\n{of_stage}\n")[of_stage] == "cached"


def test_flags_of_a_copy_are_in_its_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    (build.context / "a").write_text("a")
    lines = ["COPY a /x", "COPY --chown=1:1 a /x", "COPY --chmod=0600 a /x", "COPY --link a /x", "COPY a /y"]
    for line in lines:
        assert build(f"FROM base\n{line}\n")[line] == "done"
    for line in lines:
        assert build(f"FROM base\n{line}\n")[line] == "cached"
    # --link knows nothing of what lies below.
    assert build("FROM base\nRUN : > /made\nCOPY --link a /x\n")["COPY --link a /x"] == "cached"
    assert build("FROM base\nRUN : > /made\nCOPY a /x\n")["COPY a /x"] == "done"


def test_the_same_result_stops_the_rebuilding_through_a_copy_from_a_stage(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    text = "FROM base AS make\nRUN echo NUMBER > /log; echo same > /out\nFROM base\nCOPY --from=make /out /out\nRUN cat /out\n"
    build(text)
    again = build(text.replace("NUMBER", "2"))
    # The stage is another one; what is copied of it is not.
    assert again == {
        "FROM base": "cached",
        "RUN echo 2 > /log; echo same > /out": "done",
        "COPY --from=make /out /out": "cached",
        "RUN cat /out": "cached",
    }


def test_the_same_result_stops_the_rebuilding_through_workdir_and_add(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    (build.context / "file").write_text("content")

    def pack(mtime: int) -> None:
        with tarfile.open(build.context / "a.tar", "w") as archive:
            member = archive.gettarinfo(build.context / "file", "file")
            member.uid = member.gid = 0
            member.mtime = mtime
            with open(build.context / "file", "rb") as file:
                archive.addfile(member, file)

    pack(1)
    text = "FROM base\nADD a.tar /unpacked/\nWORKDIR /w\nRUN cat /unpacked/file > f\n"
    assert list(build(text).values()) == ["cached", "done", "done", "done"]
    pack(2)
    # Another archive with the same files: only unpacking it shows that.
    assert list(build(text).values()) == ["cached", "done", "cached", "cached"]
    # A folder that is there already changes nothing: what follows starts from the same file system.
    more = build("FROM base\nADD a.tar /unpacked/\nWORKDIR /tmp\nWORKDIR /w\nRUN cat /unpacked/file > f\n")
    assert list(more.values()) == ["cached", "cached", "done", "cached", "cached"]


def test_a_base_counts_by_its_content(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write(context, f"FROM base\n{RUN}\n")
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(busybox_base, one, symlinks=True)
    shutil.copytree(busybox_base, two, symlinks=True)
    os.utime(two / "etc" / "passwd", (5, 5))
    assert statuses(pybuild, context, one)[RUN] == "done"
    assert statuses(pybuild, context, two)[RUN] == "cached"
    (two / "etc" / "new").write_text("1")
    assert statuses(pybuild, context, two)[RUN] == "done"
    # The same base under another name, and as a stage.
    write(context, f"FROM base AS b\nFROM b\n{RUN}\n")
    assert statuses(pybuild, context, one)[RUN] == "cached"


ID = "RUN cat /proc/sys/kernel/random/uuid > /id"


def test_no_cache_filter_does_the_steps_of_its_stages_anew(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    steps = [ID, "RUN echo 2 > /two", "COPY --from=One /id /id", "COPY --from=1 /two /two"]
    text = "FROM base AS One\n{}\nFROM base\n{}\nFROM base AS three\n{}\n{}\n".format(*steps)

    def of(*flags: str) -> list[str]:
        found = build(text, *flags)
        return [found[step] for step in steps]

    assert of() == ["done"] * 4
    # Its result is another one, which those that use it see, and the last one counts from now on.
    assert of("--no-cache-filter", "one") == ["done", "cached", "done", "done"]
    assert of() == ["cached"] * 4
    # A stage without a name, several, and a step whose result is the same.
    assert of("--no-cache-filter=stage-1") == ["cached", "done", "cached", "cached"]
    assert of("--no-cache-filter=stage-1,THREE") == ["cached", "done", "done", "done"]
    assert of("--no-cache-filter=stage-1", "--no-cache-filter=one") == ["done", "done", "done", "done"]
    assert of() == ["cached"] * 4


def test_no_cache_filter_counts_what_an_onbuild_brings_to_the_stage(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    text = "FROM base AS parent\nRUN : parent\nONBUILD RUN : child\nFROM parent AS child\n"
    assert set(build(text).values()) == {"cached", "done"}
    assert build(text, "--no-cache-filter=child") == {
        "FROM base": "cached",
        "RUN : parent": "cached",
        "ONBUILD RUN : child": "done",
    }


def test_no_cache_filter_warns_of_a_stage_that_is_not_there(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    write(build.context, f"FROM base AS unused\nFROM base AS build\n{RUN}\n")
    flags = ("--progress=plain", "--build-context", f"base={busybox_base}")
    done = pybuild(*flags, "--no-cache-filter=biuld,unused", build.context)
    assert done.returncode == 0
    warning = "--no-cache-filter names a stage 'biuld' that the Dockerfile does not have (did you mean 'build'?) (UnknownStage)"
    assert [line for line in done.stderr.splitlines() if "warning" in line] == [f"warning: {warning}"]


def test_what_is_mounted_and_not_what_a_secret_or_a_cache_holds(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    build = Builds(pybuild, busybox_base, tmp_path / "context")
    secret = tmp_path / "secret"
    secret.write_text("one")
    given = ("--secret", f"id=s,src={secret}", "--secret", f"id=t,src={secret}")

    def of(mount: str) -> str:
        line = f"RUN --mount={mount} cat /run/secrets/* || echo x >> /c/file || true"
        return build(f"FROM base\n{line}\n", *given)[line]

    mounts = [
        *("type=secret,id=s", "type=secret,id=t", "type=secret,id=s,target=/key", "type=secret,id=s,env=S"),
        *("type=cache,target=/c", "type=cache,target=/d", "type=cache,id=other,target=/c"),
        *("type=tmpfs,target=/c", "type=tmpfs,target=/c,size=1m"),
    ]
    assert {mount: of(mount) for mount in mounts} == dict.fromkeys(mounts, "done")
    secret.write_text("two")
    assert {mount: of(mount) for mount in mounts} == dict.fromkeys(mounts, "cached")
