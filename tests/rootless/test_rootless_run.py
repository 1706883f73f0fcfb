"""`pybuild run` by users, with folders of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rootless.rootless_users import UserPybuild

SCRIPT = "stat -c %u:%g /data/in; cat /data/in; echo new > /data/out; ! touch /new 2>/dev/null"


def prepared(user: UserPybuild, base: Path) -> tuple[str, ...]:
    """The flags of a run whose root is read-only, with a folder of the user at /data."""
    assert user("import", base, "base").returncode == 0
    user.sh("mkdir -p data; echo mine > data/in")
    return ("run", "--read-only", "-v", "./data:/data")


def owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def test_a_user_keeps_its_number_beside_root(user: UserPybuild, base: Path) -> None:
    """With subordinate ids: root is one of those, and the user's own files are its own when it runs as itself."""
    flags = prepared(user, base)
    uid, gid = user.account.uid, user.account.gid
    done = user(*flags, "-u", f"{uid}:{gid}", "base", "sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{uid}:{gid}\nmine\n", "")
    assert owner(user.account.home / "data/out") == (uid, gid)
    # Root may read and write them, too, and what it makes belongs to a subordinate id.
    done = user(*flags, "base", "sh", "-c", "cat /data/in; echo more > /data/root")
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")
    assert owner(user.account.home / "data/root")[0] >= 100_000
    refused = user("run", "-v", "./data:/data:ro", "base", "touch", "/data/in")
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr


def test_a_user_is_root_where_there_is_no_other(solo: UserPybuild, base: Path) -> None:
    done = solo(*prepared(solo, base), "base", "sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0:0\nmine\n", "")
    assert owner(solo.account.home / "data/out") == (solo.account.uid, solo.account.gid)


@pytest.mark.parametrize("home", ["/", "/none"])
def test_a_home_that_is_not_the_users_own_is_told_with_the_store(home: str, plain_user: UserPybuild, context: Path) -> None:
    """As of a uid without an account, in containers of CI."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    done = plain_user(context, env={"HOME": home, "PYBUILD_ROOT": "", "XDG_DATA_HOME": ""})
    store = f"{home.rstrip('/')}/.local/share/pybuild"
    assert (done.returncode, done.stderr) == (
        7,
        f"error: the store {store} cannot be made: Permission denied\n"
        "  hint: choose another folder with --root or PYBUILD_ROOT\n",
    )
