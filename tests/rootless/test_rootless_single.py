"""Builds of a user without subordinate ids: owners, identities and devices are emulated, and the bytes are root's."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Pybuild
from tests.rootless.rootless_users import UserPybuild
from tests.rootless.test_rootless_build import DOCKERFILE, built, fill
from tests.rootless.test_rootless_limits import SWITCHED


def bytes_of(metadata: dict[str, Any]) -> list[object]:
    digests = [metadata["containerimage.config.digest"], metadata["containerimage.digest"]]
    return [*digests, *((step["name"], step["diff_id"]) for step in metadata["pybuild.steps"])]


def test_all_that_a_dockerfile_can_say_gives_the_bytes_that_root_gets(
    solo: UserPybuild,
    pybuild: Pybuild,
    base: Path,
    context: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    # A program that ran as another user and wrote where it may not: the one thing that is not the same.
    fill(context, DOCKERFILE.replace("! touch /root/mine 2>/dev/null; ", ""))
    flags = ("--build-context", f"base={base}", "--secret", f"id=s,src={context}/secret")
    ours = built(solo, solo.account.home, context, *flags)
    roots = built(pybuild, tmp_path, context, *flags)
    assert bytes_of(ours) == bytes_of(roots)
    assert [{step["sandbox"] for step in each["pybuild.steps"]} for each in (ours, roots)] == [
        {None, "single-uid"},
        {None, "root"},
    ]
    # Never a root's result: what RUN gives has a key of its own, and what is copied has root's.
    for step, other in zip(ours["pybuild.steps"], roots["pybuild.steps"]):
        assert (step["key"] == other["key"]) == (" RUN " not in f" {step['name']}"), step["name"]
    log = (solo.account.home / "log").read_text()
    assert log.count("sandbox: single-uid, a user namespace with one id, where owners and users are emulated\n") == 1
    assert "uid=1000(app) gid=1000(app)" in log
    assert [line.partition("warning: ")[2] for line in log.splitlines() if "warning:" in line] == [
        SWITCHED.format("1000"),
        SWITCHED.format("4321"),
    ]
    done = solo("doctor", "--store")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing is damaged")
    # Cached, nothing is said.
    done = solo(*flags, "--progress=plain", context)
    assert done.returncode == 0 and " 0 ran" in done.stderr and "sandbox" not in done.stderr and "warning" not in done.stderr
    record_property("rung", "single-uid")
    record_property("rung", "root")


def test_the_hello_sample_is_the_same(solo: UserPybuild, pybuild: Pybuild, base: Path, tmp_path: Path) -> None:
    flags = ("--build-context", f"busybox={base}", "-t", "hello")
    sample = ROOT / "sample_projects" / "hello"
    ours, roots = built(solo, solo.account.home, sample, *flags), built(pybuild, tmp_path, sample, *flags)
    assert bytes_of(ours) == bytes_of(roots)
    assert solo("run", "hello").stdout == pybuild("run", "hello").stdout != ""


def test_what_is_asked_for_gets_roots_answers(
    solo: UserPybuild, pybuild: Pybuild, debian_base: Path, context: Path, tmp_path: Path
) -> None:
    """A probe that asks all that there is to ask, whose answers are in the image."""
    shutil.copy(Path(__file__).with_name("emulation_probe.py"), context)
    probe = (
        "FROM debian:12\nRUN useradd app && useradd -u 4242 other\n"
        "COPY emulation_probe.py /probe\nRUN mkdir /left && python3 -B /probe /left > /said\n"
        "RUN git --version >/dev/null 2>&1; find /left -newer /none 2>/dev/null; cp -a /left /copied && chown -R 9:9 /copied\n"
    )
    (context / "Dockerfile").write_text(probe)
    results = []
    for one, folder in ((solo, solo.account.home), (pybuild, tmp_path)):
        done = one("import", debian_base, "debian:12")
        assert done.returncode == 0, done.stderr
        results.append(built(one, folder, context))
    assert bytes_of(results[0]) == bytes_of(results[1])


@pytest.fixture
def image(solo: UserPybuild, base: Path, context: Path) -> str:
    (context / "Dockerfile").write_text(
        "FROM base\nRUN touch /five && chown 5:6 /five && mknod /null c 1 3 && chown 0:7 /null && chmod 640 /null\n"
        "USER 5\nCMD id\n"
    )
    done = solo("-t", "owned", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    return "owned"


def test_a_container_sees_what_the_image_has(solo: UserPybuild, image: str) -> None:
    done = solo("run", image)
    assert (done.returncode, done.stdout) == (0, "uid=5 gid=0(root) groups=0(root)\n")
    done = solo("run", image, "stat", "-c", "%a %u:%g %F", "/five", "/null", "/bin")
    assert done.stdout == "644 5:6 regular empty file\n640 0:7 character special file\n755 0:0 directory\n"


def test_another_rung_makes_folders_of_its_own(solo: UserPybuild, image: str, base: Path, context: Path) -> None:
    """Where the admin gives ids later, nothing that was emulated passes for what it says to the kernel."""
    done = solo("-t", "owned", "--build-context", f"base={base}", "--progress=plain", context)
    assert done.returncode == 0 and "\n#2 CACHED" in done.stderr
    folders = set(os.listdir(solo.store / "snapshots"))
    for file in ("/etc/subuid", "/etc/subgid"):
        _append(file, f"{solo.account.name}:2000000:65536\n")
    try:
        done = solo("run", image)
        assert done.returncode == 7 and "was made in another kind of sandbox" in done.stderr
        assert solo("run", "--isolation=single-uid", image).returncode == 0
        done = solo("-t", "owned", "--build-context", f"base={base}", "--progress=plain", context)
        assert done.returncode == 0 and "\n#2 CACHED" not in done.stderr and "sandbox: userns" in done.stderr
        done = solo("run", image, "stat", "-c", "%u:%g", "/five")
        assert done.stdout == "5:6\n"
    finally:
        for file in ("/etc/subuid", "/etc/subgid"):
            _remove(file, f"{solo.account.name}:")
    made = set(os.listdir(solo.store / "snapshots")) - folders
    assert len(made) == 2
    done = solo("run", image, "stat", "-c", "%u:%g", "/five")
    assert done.stdout == "5:6\n"


def _append(file: str, line: str) -> None:
    with open(file, "a") as opened:
        opened.write(line)


def _remove(file: str, start: str) -> None:
    lines = Path(file).read_text().splitlines(keepends=True)
    Path(file).write_text("".join(line for line in lines if not line.startswith(start)))


def test_no_image_and_no_command_brings_a_note_of_ours(
    solo: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    archive = context / "archive.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("noted")
        member.pax_headers = {
            "SCHILY.xattr.user.pybuild.owner": "1:2",
            "SCHILY.xattr.user.pybuild.device": "b 8:0",
            "SCHILY.xattr.user.other": "x",
        }
        tar.addfile(member, io.BytesIO(b""))
    (context / "Dockerfile").write_text("FROM base\nADD archive.tar /\nRUN ls -l /noted\n")
    flags = ("--build-context", f"base={base}", "--no-cache")
    for one, folder in ((solo, solo.account.home), (pybuild, tmp_path)):
        built(one, folder, context, *flags)
        log = (folder / "log").read_text()
        assert "-rw-r--r--    1 0        0                0" in log.replace("root ", "0    ")
        assert log.count("noted: extended attribute 'user.pybuild.") == 2


def test_shell_shows_what_a_failed_step_left(solo: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN mkdir /x && chown 5:6 /x / && false\n")
    done = solo("--build-context", f"base={base}", context)
    assert done.returncode == 1
    done = solo("shell", "-f", context / "Dockerfile", "2", "--", "stat", "-c", "%u:%g", "/", "/x", "/bin")
    assert done.stdout == "5:6\n5:6\n0:0\n", done.stderr


def test_many_at_once_and_a_failing_one(solo: UserPybuild, base: Path, context: Path) -> None:
    """Each command has a supervisor of its own; none is left, whatever becomes of the command."""
    stages = "".join(
        f"FROM base AS s{n}\nRUN for i in 1 2 3 4 5 6 7 8 9; do touch /f$i; chown {n}:$i /f$i; done; stat -c %u:%g /f9 > /out\n"
        for n in range(6)
    )
    copies = "".join(f"COPY --from=s{n} /out /out{n}\n" for n in range(6))
    (context / "Dockerfile").write_text(f"{stages}FROM base\n{copies}RUN cat /out?\n")
    done = solo("--build-context", f"base={base}", "--progress=plain", context)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ")[-1] for line in done.stderr.splitlines() if line.endswith(":9")] == [f"{n}:9" for n in range(6)]
    (context / "Dockerfile").write_text("FROM base\nRUN chown 4:5 /tmp; sleep 100 & exit 9\n")
    done = solo("--build-context", f"base={base}", context)
    assert done.returncode == 1 and "exit code 9" in done.stderr
    assert _servers_of(solo) == []


def test_a_killed_builder_leaves_no_supervisor(solo: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nUSER 3\nRUN echo begun; sleep 100\n")
    process = solo.start("--build-context", f"base={base}", "--progress=plain", context)
    with process:
        assert process.stderr is not None
        assert any(b" begun" in line for line in process.stderr if b"RUN" not in line)
        assert len(_servers_of(solo)) == 2
        process.kill()
        process.wait()
        process.stderr.close()

    deadline = time.monotonic() + 10
    while _servers_of(solo) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _servers_of(solo) == []


def _servers_of(user: UserPybuild) -> list[str]:
    """Fork servers, and supervisors, which are forked from them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user.account.uid and b"sandbox/main.py" in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue  # It ended meanwhile.
    return found


def _parent(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


def test_a_supervisor_that_is_killed_is_an_error(solo: UserPybuild, base: Path, context: Path) -> None:
    """For want of memory, say: what the command was told afterwards was wrong, and it may not even have noticed."""
    (context / "Dockerfile").write_text(
        "FROM base\nRUN echo begun; while mkdir /b 2>/dev/null; do rmdir /b; sleep 0.1; done; true\n"
    )
    process = solo.start("--build-context", f"base={base}", "--progress=plain", context)
    with process:
        assert process.stderr is not None
        assert any(b" begun" in line for line in process.stderr if b"RUN" not in line)
        servers = _servers_of(solo)
        # The one that the other forked.
        (supervisor,) = [pid for pid in servers if _parent(pid) in servers]
        os.kill(int(supervisor), signal.SIGKILL)
        rest = process.stderr.read().decode()
    assert process.returncode == 6 and "the supervisor of the sandbox failed: it was killed" in rest


def test_doctor_tells_the_rung_and_what_would_be_better(solo: UserPybuild) -> None:
    done = solo("doctor")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[1]) == (0, "RUN steps: yes, without root, in a user namespace with a single uid")
    assert "  single-uid:  works, taken: a user namespace with one id, where owners and users are emulated" in lines
    assert any(f"give {solo.account.name} ids: sudo usermod --add-subuids" in line for line in lines)


def test_programs_of_32_bits_are_refused_by_name(solo: UserPybuild, base: Path, context: Path) -> None:
    small = {"x86_64": "linux/386", "aarch64": "linux/arm"}[os.uname().machine]
    assert small not in solo("doctor").stdout
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    done = solo("--build-context", f"base={base}", f"--platform={small}", context)
    assert done.returncode == 6
    assert f"programs for {small} do not run with --isolation=single-uid: they are of 32 bits" in done.stderr


def test_root_may_ask_for_it(pybuild: Pybuild, base: Path, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN touch /a && chown 3:4 /a\n")
    digests = []
    for rung in ("root", "single-uid"):
        done = pybuild(f"--isolation={rung}", "-q", "--build-context", f"base={base}", context)
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout)
    assert digests[0] == digests[1]
    # What it cannot give it does not try to: files for others are its own, as a user's.
    done = pybuild("--isolation=single-uid", "--build-context", f"base={base}", "-o", tmp_path / "out", context)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/a").stat().st_uid == 0
    (context / "other").touch()
    os.chown(context / "other", 77, 77)
    assert pybuild("import", context, "folder", env={"PYBUILD_ISOLATION": "single-uid"}).returncode == 0
    assert pybuild("run", "--isolation=single-uid", "folder", "/x").returncode == 127
    (context / "Dockerfile").write_text("FROM folder\n")
    assert pybuild("--isolation=single-uid", "-o", f"type=tar,dest={tmp_path}/folder.tar", context).returncode == 0
    with tarfile.open(tmp_path / "folder.tar") as tar:
        assert tar.getmember("other").uid == 0


MAGIC = """FROM base
RUN mkdir -m 777 /w "/w/d (deleted)" && ln -s /proc/1/fd/1 /log && touch /w/sibling
USER 101
RUN echo one > /proc/1/fd/1 && echo two > /log && echo three | tee /proc/$$/fd/1 && cd /proc/1 && echo four > fd/1
RUN exec 7>/w/victim; rm /w/victim; echo lost > /proc/$$/fd/7; test -z "$(ls /w | grep victim)"
USER 0
RUN cd "/w/d (deleted)" && chown 9:9 ../sibling && touch ../other && chown 8:8 ../other
RUN mkdir /gone && cd /gone && rmdir /gone && mkdir "/gone (deleted)" && ! touch here 2>/dev/null; ls /gone*
"""


def test_a_magic_link_is_not_its_text(solo: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path) -> None:
    """/proc/1/fd/1 leads to what is open, whatever readlink(2) says; and a folder may be called what the kernel calls one that
    is gone."""
    (context / "Dockerfile").write_text(MAGIC)
    flags = ("--no-cache", "--build-context", f"base={base}", "--progress=plain", context)
    results = []
    for program in (solo, pybuild):
        done = program(*flags)
        assert done.returncode == 0, done.stderr
        said = [line.split(" ", 2)[2] for line in done.stderr.splitlines() if line.startswith("#3 0.")]
        assert said == ["one", "two", "three", "three", "four"]
        results.append(next(line for line in done.stderr.splitlines() if "image id" in line))
    assert results[0] == results[1]


OLDER = (
    sys.executable, "-c",
    f"import errno, os, sys; sys.path.insert(0, {str(ROOT / 'tests/sandbox')!r})\n"
    "from sandbox_bpf import Refusal, refuse\n"
    "new = os.uname().machine == 'x86_64'\n"
    "seccomp, ioctl = (317, 16) if new else (277, 29)\n"
    # SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19), SECCOMP_IOCTL_NOTIF_SET_FLAGS (6.6).
    "refuse(Refusal(seccomp, errno.EINVAL, 8 | 32), Refusal(ioctl, errno.EINVAL, 0x40082104))\n"
    "os.execvp(sys.argv[1], sys.argv[1:])",
)  # fmt: skip


def test_an_older_kernel_is_good_enough(solo: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM base\nRUN touch /a && chown 3:4 /a\nUSER 5\nRUN touch /tmp/b; stat -c %u:%g /a /tmp/b\n"
    )
    results = []
    for before in ((), OLDER):
        done = solo("-q", "--no-cache", "--build-context", f"base={base}", context, before=before)
        assert done.returncode == 0, done.stderr
        results.append(done.stdout)
    assert results[0] == results[1] != ""


def test_a_shared_cache_gives_root_no_emulated_result(
    solo: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    """What was copied is anybody's, what ran is not; a cache mount goes along with its owners."""
    (context / "file").write_text("x")
    (context / "Dockerfile").write_text(
        "FROM base\nCOPY file /\nRUN --mount=type=cache,target=/c,id=kept,uid=5 "
        "test -e /c/a || { touch /c/a; chown 3:4 /c/a; }; stat -c %u:%g /c /c/a\n"
        "RUN --mount=type=cache,target=/c,id=kept,uid=5 touch /c/b\n"
    )
    flags = ("--build-context", f"base={base}", "--progress=json")

    def events(done: subprocess.CompletedProcess[str]) -> tuple[list[str], str]:
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stderr.splitlines()]
        statuses = [each["status"] for each in found if each["type"] == "step.finished"]
        return statuses, "".join(each["text"] for each in found if each["type"] == "step.log")

    cache = solo.account.home / "cache"
    statuses, said = events(solo(*flags, "--no-cache", "--cache-to", f"type=local,dest={cache},mounts=kept", context))
    assert (statuses, said) == (["cached", "done", "done", "done"], "5:0\n3:4\n")
    # Another that emulates takes all; root takes what needs no sandbox, and the cache mount.
    taken = ("--cache-from", f"type=local,src={cache}")
    assert events(solo(*flags, *taken, "--root", solo.account.home / "another", context))[0] == ["cached"] * 4
    statuses, said = events(pybuild(*flags, *taken, context))
    assert (statuses, said) == (["cached", "cached", "done", "done"], "5:0\n3:4\n")
    # And the other way round.
    roots = tmp_path / "roots"
    assert events(pybuild(*flags, "--cache-to", f"type=local,dest={roots},mounts=kept", context))[0] == ["cached"] * 4
    subprocess.run(["cp", "-a", roots, context / "roots"], check=True)
    subprocess.run(["chmod", "-R", "a+rX", context / "roots"], check=True)
    (context / ".dockerignore").write_text("roots\n")
    taken = ("--cache-from", f"type=local,src={context}/roots")
    statuses, said = events(solo(*flags, *taken, "--root", solo.account.home / "third", context))
    assert (statuses, said) == (["cached", "cached", "done", "done"], "5:0\n3:4\n")
