"""Machines that lack something: what `pybuild doctor` says to change, and what is built all the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.sandbox import troubles
from tests.build.build_layout import Layout
from tests.conftest import Pybuild
from tests.rootless.rootless_users import Machine, UserPybuild, new_account, refusing, until, with_etc

# Each is what stands before the user's command, as root.
_NO_NEWUIDMAP = ("unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null /usr/bin/newuidmap; exec "$@"', "sh")
_NOT_SETUID = ("unshare", "--mount", "sh", "-ec", 'mount --bind /usr /usr; mount -o remount,bind,nosuid /usr; exec "$@"', "sh")
_NO_NEW_PRIVS = ("setpriv", "--no-new-privs")
_HIDDEN_PROC = ("unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null /proc/version; exec "$@"', "sh")
_NO_NAMESPACES = (
    sys.executable, "-c",
    "import ctypes, os, sys\n"
    "r, w = os.pipe(); pid = os.getpid()\n"
    "if not os.fork():\n"
    "    os.read(r, 1)\n"
    "    for name in ('uid_map', 'gid_map'): open(f'/proc/{pid}/{name}', 'w').write('0 0 4294967295')\n"
    "    os._exit(0)\n"
    "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
    "os.write(w, b'x'); os.wait(); open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
    "os.execvp(sys.argv[1], sys.argv[1:])",
)  # fmt: skip


_X86 = os.uname().machine == "x86_64"
_UNSHARE = refusing(272 if _X86 else 97)
# As AppArmor on Ubuntu: the namespace comes to life, and what is done with its powers is refused.
_CHOWN = refusing(*((92, 93, 94, 260) if _X86 else (54, 55)))
_CHOWN_BY_NAME = refusing(*((92, 94, 260) if _X86 else (54,)))
_MOUNT = refusing(165 if _X86 else 40, 428, 429, 430, 431, 432)


def asked(user: UserPybuild, before: tuple[str, ...] = ()) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The exit code, what is said of the whole, and of the rung `userns`."""
    done = user("doctor", "--format=json", before=before)
    assert done.stderr == ""
    sandbox = json.loads(done.stdout)["sandbox"]
    (rung,) = [rung for rung in sandbox["rungs"] if rung["rung"] == "userns"]
    return done.returncode, sandbox, rung


def test_a_user_with_all_that_is_needed(user: UserPybuild) -> None:
    code, sandbox, rung = asked(user)
    assert (code, sandbox["usable"], sandbox["rung"], sandbox["reason"]) == (0, True, "userns", None)
    assert rung["usable"] and rung["reason"].startswith("a user namespace with the ids 0 to 6553")
    text = user("doctor").stdout.splitlines()
    assert text[1] == "RUN steps: yes, without root, in a user namespace"
    assert "  root:        no: the builder is not root" in text
    assert "  userns:      works, taken: a user namespace with the ids 0 to 65536" in text or "to 65535" in rung["reason"]
    # It only asks: nothing is made, or left.
    assert not user.store.exists() and list(user.account.home.glob(".*doctor*")) == []


TROUBLES = {
    "no newuidmap": (_NO_NEWUIDMAP, "newuidmap and newgidmap are not installed", "apt-get install uidmap"),
    "newuidmap without rights": (_NOT_SETUID, "newuidmap: write to uid_map failed", ""),
    "no_new_privs": (_NO_NEW_PRIVS, "newuidmap: write to uid_map failed", "no_new_privs, where newuidmap has no rights"),
    "no namespaces": (
        _NO_NAMESPACES,
        "there may be no more user namespaces (user.max_user_namespaces is 0)",
        "sudo sysctl -w user.max_user_namespaces=",
    ),
    "a seccomp filter": (_UNSHARE, "user namespaces are refused, by a seccomp filter", ""),
    "a namespace without powers": (_CHOWN, "the user namespace has no powers (chown)", ""),
    "a file system without owners": (_CHOWN_BY_NAME, "the store's file system gives files to no other user", "with --root"),
    "no mounts": (_MOUNT, "the user namespace has no powers (mounts /)", ""),
    "a hidden /proc": (_HIDDEN_PROC, "/proc cannot be mounted (Operation not permitted)", "systempaths=unconfined"),
}


NEEDS_NO_IDS = ("no newuidmap", "newuidmap without rights", "no_new_privs")
"""A namespace with the user's own id comes to life all the same."""


def test_a_store_where_no_overlay_can_be(user: UserPybuild, base: Path, context: Path) -> None:
    """As a container's own root is one."""
    home = user.account.home
    user.sh("mkdir -p lower upper work on")
    overlay = f"mount -t overlay -o lowerdir={home}/lower,upperdir={home}/upper,workdir={home}/work overlay {home}/on"
    before = ("unshare", "--mount", "sh", "-ec", f'{overlay}; exec "$@"', "sh")
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--root", home / "on/store", "--build-context", f"base={base}", context)
    done = user(*flags, before=before)
    assert done.returncode == 6
    assert "userns: the store's file system cannot carry an overlay (" in done.stderr and "with --root; NFS and" in done.stderr
    # Elsewhere it can.
    assert user(*flags[2:], before=before).returncode == 0


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_missing_is_named_with_what_to_change(name: str, user: UserPybuild) -> None:
    before, reason, hint = TROUBLES[name]
    code, sandbox, rung = asked(user, before)
    assert not rung["usable"]
    assert reason in rung["reason"] and hint in rung["hint"], rung
    if name in NEEDS_NO_IDS:
        assert (code, sandbox["usable"], sandbox["rung"]) == (0, True, "single-uid")
        return
    assert (code, sandbox["usable"]) == (6, False)
    assert rung["reason"] in sandbox["reason"] and rung["hint"] in sandbox["hint"]
    done = user("doctor", before=before)
    assert done.stdout.splitlines()[1].startswith("RUN steps: no: no sandbox can be made here (root: the builder is not root; ")


def test_a_user_without_subordinate_ids(
    plain_user: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    """Told how to get some; and an image without RUN needs none, whatever its base has."""
    user = plain_user
    name = user.account.name
    code, _, rung = asked(user)
    assert (code, rung["reason"]) == (0, f"/etc/subuid has no line for {name}")
    command = rung["hint"].removeprefix(f"give {name} ids: ")
    assert command.startswith("sudo usermod --add-subuids ")

    # A base that others made: with owners, devices, a file that is written through a link, and a hard link to a lower file.
    (context / "Dockerfile").write_text(
        "FROM base\nRUN mkdir /real; ln -s real /soft; echo a > /real/a; chown 5:6 /real/a\nRUN touch /next\n"
    )
    flags = ("--build-context", f"base={base}", "-o", f"type=oci,tar=false,dest={context}/layout", context)
    assert pybuild(*flags).returncode == 0
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        member = tarfile.TarInfo("soft/b")
        member.uid, member.gid, member.size = 1234, 5678, 14
        tar.addfile(member, io.BytesIO(b"through a link"))
        member = tarfile.TarInfo("linked")
        member.type, member.linkname = tarfile.LNKTYPE, "real/a"
        tar.addfile(member)
        member = tarfile.TarInfo("device")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(member)
    layer = (tmp_path / "layer.tar").read_bytes()
    Layout(context / "layout").replace_layer(layer, diff_id=f"sha256:{hashlib.sha256(layer).hexdigest()}")
    subprocess.run(["chmod", "-R", "a+rX", context], check=True)
    (context / "Dockerfile").write_text(
        "FROM other\nCOPY --from=other --chown=9:9 /real /copied\nWORKDIR /w/x\nADD Dockerfile .\n"
    )
    named = ("-t", "n", "--build-context", f"other=oci-layout://{context}/layout", "--progress=plain")

    def digests(one: Callable[..., subprocess.CompletedProcess[str]], folder: Path) -> list[str]:
        done = one(*named, "--metadata-file", folder / "m", "-o", f"type=oci,dest={folder}/image.tar", context)
        assert done.returncode == 0, done.stderr
        metadata = json.loads((folder / "m").read_text())
        return [metadata["containerimage.config.digest"], metadata["containerimage.digest"]]

    nowhere = partial(user, before=_NO_NAMESPACES)
    assert digests(nowhere, user.account.home) == digests(pybuild, tmp_path)
    assert user("doctor", "--store").stdout.endswith("nothing is damaged\n")

    # A RUN says what to change.
    (context / "Run").write_text("FROM other\nCOPY Run /\nRUN true\n")
    done = nowhere(*named, "-f", context / "Run", context)
    assert done.returncode == 6
    assert (
        f"Run:3:1: error: no sandbox can be made here (root: the builder is not root; userns: {rung['reason']};"
        " single-uid: there may be no more user namespaces" in done.stderr
    )
    # Which ids are free changes while other tests make users.
    told = f"give {name} ids: sudo usermod --add-subuids "
    assert told in done.stderr
    done = nowhere("run", "n", "true")
    assert done.returncode == 6 and told in done.stderr
    done = user(*named, "--isolation=userns", context)
    assert done.returncode == 6 and "--isolation=userns does not work here: /etc/subuid has no line" in done.stderr

    # Done as told, what is in the store already is of use: the folders are made from the tars.
    subprocess.run(command.removeprefix("sudo ").split(), check=True)
    (context / "Run").write_text("FROM other\nRUN cat /real/b; stat -c %u:%g /real/a /real/b /linked\n")
    done = user(*named, "-f", context / "Run", context)
    assert done.returncode == 0, done.stderr
    logged = [line.split(" ", 2)[2] for line in done.stderr.splitlines() if line.startswith("#2 0.")]
    assert logged == ["through a link5:6", "1234:5678", "0:0"]


def test_the_ladder_is_tried_once(frozen: UserPybuild, base: Path, context: Path) -> None:
    """What was found out is kept until something changes that it depends on."""
    user = frozen
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--build-context", f"base={base}", context)
    assert user(*flags).returncode == 0
    kept = user.store / "rungs"
    before = (kept.stat().st_ino, kept.read_text())
    assert user(*flags).returncode == 0 and user("images").returncode == 0
    assert (kept.stat().st_ino, kept.read_text()) == before
    # Another place says otherwise, and the first one is right again afterwards.
    done = user("--no-cache", *flags, before=_UNSHARE)
    assert done.returncode == 6 and "user namespaces are refused" in done.stderr
    assert user("--no-cache", *flags).returncode == 0
    # A damaged file is as good as none.
    for damage in ("", "pybuild-rungs-1\n", before[1][: len(before[1]) // 2], "\0" * 100):
        kept.write_text(damage)
        os.chown(kept, user.account.uid, user.account.gid)
        assert user("images").returncode == 0
        kept.unlink()


def test_a_doctor_where_there_is_no_sandbox(plain_user: UserPybuild) -> None:
    done = plain_user("doctor", before=_UNSHARE)
    assert (done.returncode, done.stderr) == (6, "")
    assert "RUN steps: no: no sandbox can be made here (root: the builder is not root; userns: " in done.stdout
    assert "user namespaces are refused" in done.stdout


def test_a_wrong_memory_is_told_and_forgotten(frozen: UserPybuild, base: Path, context: Path) -> None:
    user = frozen
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--build-context", f"base={base}", context)
    assert user(*flags).returncode == 0
    kept = user.store / "rungs"
    kept.write_text(kept.read_text().replace("/newuidmap", "/newuidmap.gone"))
    done = user(*flags)
    assert done.returncode == 6 and "the user namespace gets no ids: " in done.stderr and "newuidmap.gone" in done.stderr
    assert user(*flags).returncode == 0


def test_a_tool_that_is_installed_later(frozen: UserPybuild, base: Path, context: Path) -> None:
    """As the hint asks for: no reboot is needed for it to count."""
    hidden = ("unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null /usr/bin/newuidmap; exec "$@"', "sh")
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--no-cache", "--build-context", f"base={base}", context)
    done = frozen(*flags, before=hidden)
    assert done.returncode == 0 and "sandbox: single-uid" in done.stderr, done.stderr
    done = frozen(*flags)
    assert done.returncode == 0 and "sandbox: userns" in done.stderr, done.stderr


def test_what_may_pass_is_tried_again_in_a_while(frozen: UserPybuild, base: Path, context: Path) -> None:
    """A directory service that gives no answer, a machine that is full: not for ever, and not at each command."""
    assert frozen("import", base, "base").returncode == 0
    kept = frozen.store / "rungs"
    head, _, rest = kept.read_text().partition("rung\troot")
    kept.write_text(f"{head}passing\nrung\troot{rest}".replace("userns\tyes", "userns\tno"))
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    done = frozen("--no-cache", context)
    assert done.returncode == 0 and "sandbox: single-uid" in done.stderr, done.stderr
    os.utime(kept, (0, 0))
    done = frozen("--no-cache", context)
    assert done.returncode == 0 and "sandbox: userns" in done.stderr, done.stderr
    assert "passing" not in kept.read_text()


def test_few_subordinate_ids(machine: Machine, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path) -> None:
    """The emulation, which has all, is taken. What a user namespace without them gives is no result of root's."""
    (context / "Dockerfile").write_text("FROM base\nRUN touch /n; chown 65534 /n || echo without\n")
    flags = ("--build-context", f"base={base}", context)
    expected = pybuild("-q", *flags).stdout
    with new_account(machine.room, subordinate=1000) as account:
        user = UserPybuild(machine, account)
        done = user("--no-cache", *flags)
        assert done.returncode == 0 and "sandbox: single-uid" in done.stderr, done.stderr
        assert expected.strip() in done.stderr
        cache = account.home / "cache"
        done = user("--isolation=userns", "--root", account.home / "other", f"--cache-to=type=local,dest={cache}", *flags)
        assert done.returncode == 0 and "without" in done.stderr
        done = pybuild(f"--cache-from=type=local,src={cache}", "--root", tmp_path / "third", *flags)
        assert done.returncode == 0 and expected.strip() in done.stderr and " 1 ran" in done.stderr, done.stderr


WANTED = """FROM base
RUN touch /a /b && chown 65536:65536 /a && chown -h 70000 /b 2>/dev/null || true
RUN chown 5 /a; setuidgid 1000660000:5 true 2>/dev/null; exec true
RUN chown 5:6 /b; chown 4294967295 /b 2>/dev/null; chown 5:4294967294 /b 2>/dev/null; true
RUN touch /fine && chown 65534:65534 /fine && chown -h 1:-1 /fine || chown 1 /fine
"""


def test_ids_that_there_are_none_of(user: UserPybuild, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path) -> None:
    """A command that goes on without gives another result than root's: it is told, and kept apart from it."""
    (context / "Dockerfile").write_text(WANTED)
    flags = ("--build-context", f"base={base}", context)
    expected = pybuild("-q", *flags).stdout.strip()
    cache = user.account.home / "cache"
    done = user("--no-cache", "--progress=json", f"--cache-to=type=local,dest={cache}", *flags)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    warned = {event["line"]: event["message"] for event in events if event["type"] == "warning"}
    assert sorted(warned) == [2, 4], warned
    assert "a program wanted ids that this user namespace lacks, and was refused them (70000)" in warned[2]
    assert "(4294967294)" in warned[4]
    assert expected not in done.stderr
    done = pybuild(f"--cache-from=type=local,src={cache}", "--root", tmp_path / "third", *flags)
    assert done.returncode == 0 and expected in done.stderr and " 4 ran" in done.stderr, done.stderr
    # Its own cache has it, under a key of its own.
    done = user(*flags)
    assert done.returncode == 0 and " 0 ran" in done.stderr, done.stderr


def test_more_ids_for_a_user_who_has_a_store(machine: Machine, base: Path, context: Path) -> None:
    """Those that it had are the same ones: nothing of the store belongs to others."""
    (context / "Dockerfile").write_text("FROM base\nRUN touch /n; chown 5:6 /n\n")
    flags = ("--build-context", f"base={base}", "-t", "one", context)
    with new_account(machine.room, subordinate=2000) as account:
        user = UserPybuild(machine, account)
        assert user("--isolation=userns", *flags).returncode == 0
        for file in (Path("/etc/subuid"), Path("/etc/subgid")):
            until(partial(_with_more, file, account.name), f"{file} does not get its lock")
        assert user("images").returncode == 0
        done = user("--isolation=userns", "--progress=plain", *flags)
        assert done.returncode == 0, done.stderr
        done = user("run", "one", "stat", "-c", "%u:%g", "/n")
        assert (done.returncode, done.stdout) == (0, "5:6\n"), done.stderr


def _with_more(file: Path, name: str) -> bool:
    """Give the user a second range, as usermod does, under the lock of the account tools."""
    kind = "uids" if file.name == "subuid" else "gids"
    first = 3_000_000_000
    return (
        subprocess.run(["usermod", f"--add-sub{kind}", f"{first}-{first + 65535}", name], capture_output=True).returncode == 0
    )


GOLDENS: dict[str, tuple[tuple[str, int, str], troubles.Machine, str]] = {
    "apparmor": (
        ("powers", 1, "CAP_SYS_ADMIN"),
        troubles.Machine((("kernel.apparmor_restrict_unprivileged_userns", 1),), program="/usr/bin/python3.12"),
        "AppArmor lets a user namespace come to life without its powers\n"
        "write this to /etc/apparmor.d/pybuild and load it with sudo apparmor_parser -r /etc/apparmor.d/pybuild: "
        "abi <abi/4.0>, include <tunables/global> profile pybuild /usr/bin/python3.12 flags=(unconfined) { userns, } "
        "-- or, for all programs: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "debian's sysctl": (
        ("user namespace", 1, ""),
        troubles.Machine((("kernel.unprivileged_userns_clone", 0),)),
        "this kernel lets only root make user namespaces (kernel.unprivileged_userns_clone is 0)\n"
        "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1, and in /etc/sysctl.d for the next boot",
    ),
    "a container": (
        ("user namespace", 1, ""),
        troubles.Machine(container=True, filtered=True),
        "user namespaces are refused, by a seccomp filter, as a container has one, it seems\n"
        "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined, or --privileged",
    ),
    "newgrp": (
        ("ids", 0, "newuidmap: Target process 5 is owned by a different user: gid:100 pw_gid:1001"),
        troubles.Machine(),
        "newuidmap: Target process 5 is owned by a different user: gid:100 pw_gid:1001\n"
        "your group is not that of your account, as after newgrp: start the builder from a new login",
    ),
    "nfs": (
        ("overlay", 22, ""),
        troubles.Machine(),
        "the store's file system cannot carry an overlay (Invalid argument)\n"
        "put the store on ext4, xfs, btrfs or a tmpfs of Linux 6.6 with --root; NFS and a container's own root have none",
    ),
    "no CONFIG_USER_NS": (
        ("user namespace", 22, ""),
        troubles.Machine(),
        "the kernel makes no user namespace: Invalid argument\nthe kernel needs CONFIG_USER_NS",
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_what_a_failure_means(name: str) -> None:
    failure, machine, expected = GOLDENS[name]
    assert "\n".join(troubles.explain(*failure, machine)) == expected


@pytest.mark.parametrize(("line", "rung"), [("root:300000:65536\n", "userns"), ("", "single-uid")])
def test_root_in_a_container_without_its_powers(
    line: str, rung: str, pybuild: Pybuild, base: Path, context: Path, tmp_path: Path
) -> None:
    """Root without CAP_SYS_ADMIN is no better than a user: it takes what a user would, with the same result as ever."""
    (context / "Dockerfile").write_text("FROM base\nRUN id; touch /f; chown 5:6 /f\n")
    before = with_etc(tmp_path / "etc")
    for name in ("subuid", "subgid"):
        (tmp_path / "etc" / name).write_text(line)
    powerless = [*before, "setpriv", "--bounding-set=-sys_admin,-sys_resource", "--inh-caps=-all", *pybuild.command]

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*powerless, "--debug", "--progress=plain", "--build-context", f"base={base}", *map(str, args), str(context)]
        return subprocess.run(command, env=pybuild.environment(), capture_output=True, text=True, timeout=60)

    done = run("--iidfile", context / "id")
    assert done.returncode == 0 and f"\nsandbox: {rung}, " in done.stderr
    # The newer calls of the kernel are there for it, too.
    assert "mount-api" not in done.stderr
    done = run("--isolation=root")
    assert done.returncode == 6
    assert "--isolation=root does not work here: the builder is root without CAP_SYS_ADMIN" in done.stderr
    other = Pybuild(context / "other", context)
    assert other("-q", "--build-context", f"base={base}", context).stdout.strip() == (context / "id").read_text()
