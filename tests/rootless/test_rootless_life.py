"""What a user's builds leave: files of other owners that only the namespace can remove, and no process, however they end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.rootless.rootless_users import PYBUILD, UserPybuild, new_account, until

_FIRST = 100_000_000 + random.SystemRandom().randrange(800_000_000)
TOKENS = tuple(str(_FIRST + number) for number in range(3))


def owners(folder: Path) -> set[int]:
    return {os.lstat(os.path.join(at, name)).st_uid for at, names, files in os.walk(folder) for name in (*names, *files)}


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_look_into_and_empty_a_store_of_many_owners(new_user: UserPybuild, base: Path, context: Path) -> None:
    user = new_user
    (context / "Dockerfile").write_text(
        "FROM base\nRUN mkdir -m 700 /closed; echo in > /closed/f; chmod 600 /closed/f; chown -R 77:78 /closed; id > /id\n"
        "RUN --mount=type=cache,target=/c,uid=55,mode=0700 echo kept > /c/f; chmod 0 /c/f\nUSER 77\nCMD cat /closed/f\n"
    )
    flags = ("-t", "mine", "--build-context", f"base={base}")
    ok(user(*flags, context))
    assert len(owners(user.store)) > 2 and os.stat(user.store).st_uid == user.account.uid
    assert ok(user("run", "mine")) == "in\n"
    assert ok(user("run", "mine", "id", "-u")) == "77\n"
    assert ok(user("shell", "2", "--", "stat", "-c", "%u %a", "/closed/f")) == "77 600\n"
    assert "cache-mount" in ok(user("du"))
    assert ok(user("doctor", "--store")).endswith("nothing is damaged\n")
    layout = user.account.home / "layout"
    ok(user(*flags, "-o", f"type=local,dest={layout}", context))
    # What is taken out of the store belongs to the user, as with Docker.
    assert owners(layout) == {user.account.uid}
    ok(user("rmi", "mine"))
    ok(user("prune", "--all", "--cache-mounts"))
    assert owners(user.store) == {user.account.uid}
    assert [path for name in ("snapshots", "tmp", "mounts") for path in (user.store / name).iterdir()] == []


def test_a_failed_step_is_looked_into(user: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN echo left > /f; chown 9:9 /f; chmod 600 /f; exit 3\n")
    assert user("--build-context", f"base={base}", context).returncode == 1
    assert ok(user("shell", "2:failed", "--", "sh", "-c", "stat -c %u /f; cat /f")) == "9\nleft\n"


STUBBORN = f"""FROM base
RUN chown 5:5 /tmp; touch /f; chown 6:6 /f; trap '' INT TERM HUP; sleep {TOKENS[0]} & (setsid sleep {TOKENS[1]} &) ; \\
 echo begun; sleep {TOKENS[2]}
"""


def catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return True
    masks = [line.split()[1] for line in status if line.startswith("SigCgt")]
    return not masks or bool(int(masks[0], 16) >> (number - 1) & 1)


def sleeping() -> list[str]:
    return [token for token in TOKENS if subprocess.run(["pgrep", "-f", f"^sleep {token}$"], capture_output=True).stdout]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_running(number: signal.Signals, user: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text(STUBBORN)
    with user.start("--no-cache", "--progress=plain", "--build-context", f"base={base}", context) as process:
        try:
            until(lambda: sleeping() == list(TOKENS), "the command does not begin")
        finally:
            process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -9)
    until(lambda: sleeping() == [], "something still sleeps")
    # What a killed one left has other owners; the next command removes it all the same.
    ok(user("images"))
    assert list((user.store / "tmp").iterdir()) == []


def test_ctrl_c_while_the_namespace_comes_to_life(new_user: UserPybuild, base: Path, context: Path) -> None:
    """Whenever it comes, in a first build that tries the ladder too: there is no traceback, and no helper is left."""
    user = new_user
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    flags = ("--build-context", f"base={base}", "--progress=plain", context)
    codes = set()
    for step in range(16):
        process = user.start(*flags)
        until(lambda pid=process.pid: catches(pid, signal.SIGTERM), "the program takes no signals")  # type: ignore[misc]
        time.sleep(step % 8 * 0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert b"Traceback" not in said, said.decode()
        codes.add(process.returncode)
    # A build that was done by then is done.
    assert codes <= {130, 0}
    # newuidmap comes to its own end.
    mine = ["pgrep", "-U", str(user.account.uid)]
    until(lambda: not subprocess.run(mine, capture_output=True).stdout, "something is left")
    ok(user("images"))
    assert list((user.store / "tmp").iterdir()) == []


def test_others_stores_are_refused(user: UserPybuild, pybuild: Pybuild, machine: object, base: Path, context: Path) -> None:
    ok(user("images", "-q"))
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    flags = ("--build-context", f"base={base}", context)
    ok(user(*flags))
    done = pybuild("--root", user.store, *flags)
    assert done.returncode == 7 and f"belongs to user {user.account.uid}, not to user 0" in done.stderr
    ok(pybuild(*flags))
    # A user may not even see root's; where the folder is open, the files are not.
    roots = context / "store"
    shutil.copytree(pybuild.store, roots, symlinks=True)
    roots.chmod(0o755)
    done = user("--root", roots, *flags)
    assert done.returncode == 7 and f"belongs to user 0, not to user {user.account.uid}" in done.stderr


def test_a_store_with_files_of_lost_ids(new_user: UserPybuild, base: Path, context: Path) -> None:
    """The administrator gave the user other ids: what the store holds belongs to nobody."""
    user = new_user
    (context / "Dockerfile").write_text("FROM base\nRUN true > /f\n")
    flags = ("--build-context", f"base={base}", context)
    ok(user(*flags))
    name = user.account.name
    (line,) = [line for line in Path("/etc/subuid").read_text().splitlines() if line.startswith(f"{name}:")]
    first = int(line.split(":")[1])
    for change in (f"--del-subuids {first}-{first + 65535}", "--add-subuids 700000000-700065535"):
        subprocess.run(["usermod", *change.split(), name], check=True)
    done = user(*flags)
    assert done.returncode == 7
    assert "belong to other subordinate ids than you have now (/etc/subuid, /etc/subgid)" in done.stderr
    for change in ("--del-subuids 700000000-700065535", f"--add-subuids {first}-{first + 65535}"):
        subprocess.run(["usermod", *change.split(), name], check=True)
    ok(user(*flags))


def test_two_users_at_once(machine: object, user: UserPybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN id -u > /id\n")
    with new_account(user.machine.room) as account:
        other = UserPybuild(user.machine, account)
        flags = ("-q", "--build-context", f"base={base}", context)
        assert ok(user(*flags)) == ok(other(*flags))
        assert not owners(user.store).intersection(owners(other.store))


def test_programs_that_the_builder_starts_are_the_plain_user(
    user: UserPybuild, context: Path, record_property: Callable[[str, object], None]
) -> None:
    """A credential helper, which asks who it is and may do nothing that the user may not."""
    home = user.account.home
    script = (
        '#!/bin/sh\nid -u > $HOME/who; grep CapEff /proc/self/status >> $HOME/who; echo \'{"Username":"u","Secret":"s"}\'\n'
    )
    helper = home / "bin/docker-credential-own"
    helper.parent.mkdir()
    helper.write_text(script)
    helper.chmod(0o755)
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"credsStore": "own"}))
    # Nobody listens there; whom the helper was asked for does not matter.
    user("pull", "127.0.0.1:1/a", env={"PATH": f"{helper.parent}:{os.environ['PATH']}"})
    if (home / "who").exists():
        assert (home / "who").read_text().split() == [str(user.account.uid), "CapEff:", "0000000000000000"]
    else:
        pytest.fail("the helper was not asked")


def test_an_agent_of_the_user_and_a_terminal(user: UserPybuild, base: Path, context: Path) -> None:
    """The agent's socket in the sandbox belongs to whom the mount says; the terminal to the image's user."""
    (context / "Dockerfile").write_text(
        "FROM base\nRUN --mount=type=ssh,uid=1000,mode=0600 stat -c '%F %a %u' $SSH_AUTH_SOCK > /agent\n"
        "USER 1000\nCMD cat /agent\n"
    )
    flags = f"--build-context base={base} -t agent --ssh default"
    done = user.sh(f"eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; {PYBUILD} -q {flags} {context}")
    assert done.returncode == 0, done.stderr
    assert ok(user("run", "agent")) == "socket 600 1000\n"
    done = user.sh(f"script -qec '{PYBUILD} run -t agent sh -c \"tty; id -u\"' /dev/null")
    # What `script` was given to read, the end of an empty file, is shown first.
    assert done.stdout.replace("\r", "").removeprefix("^@").splitlines() == ["/dev/pts/0", "1000"]


def test_archives_are_roots_bytes(
    new_user: UserPybuild, user: UserPybuild, pybuild: Pybuild, base: Path, context: Path
) -> None:
    """What one saves another loads: files of many owners, in a folder that only the namespace may read."""
    (context / "Dockerfile").write_text(
        "FROM base\nRUN mkdir -m 700 /c; echo in > /c/f; chmod 600 /c/f; chown -R 77:78 /c\nCMD cat /c/f\n"
    )
    flags = ("-t", "saved", "--build-context", f"base={base}", context)
    ok(new_user(*flags))
    ok(pybuild(*flags))
    ok(new_user("save", "saved", "-o", context.parent / new_user.account.name / "saved.tar"))
    ok(pybuild("save", "saved", "-o", context / "saved.tar"))
    saved = new_user.account.home / "saved.tar"
    assert saved.read_bytes() == (context / "saved.tar").read_bytes()
    (context / "saved.tar").chmod(0o644)
    ok(user("load", "-i", context / "saved.tar"))
    assert ok(user("run", "saved")) == "in\n"
