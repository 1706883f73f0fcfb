"""Limits of users: in a cgroup that was given to them, and refused elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.cli_cgroups import home
from tests.rootless.rootless_users import UserPybuild

GREEDY = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"


@pytest.mark.parametrize("kind", ["user", "solo"])
def test_limits_of_users(kind: str, base: Path, request: pytest.FixtureRequest) -> None:
    user: UserPybuild = request.getfixturevalue(kind)
    assert user("import", base, "base").returncode == 0
    command = ("run", "--memory=16m", "base", "sh", "-c", GREEDY)
    place = home("memory")
    if place is None:
        # Nothing of version 1 is here, and of version 2 nothing was delegated.
        refused = user(*command)
        assert refused.returncode == 125
        assert refused.stderr.startswith("error: --memory cannot be enforced: ")
        return
    refused = user(*command)
    assert refused.returncode == 125
    assert refused.stderr.startswith("error: --memory cannot be enforced: ") and "Permission denied" in refused.stderr
    assert "\n  hint: leave the limit out, or start the builder in a cgroup that is its own" in refused.stderr
    given = place / f"tests-{kind}-{os.getpid()}"
    given.mkdir()
    try:
        os.chown(given, user.account.uid, user.account.gid)
        inside = ("sh", "-c", f'echo $$ > "{given}/cgroup.procs"; exec "$@"', "sh")
        done = user(*command, before=inside)
        assert done.stderr.endswith(
            "warning: out of memory: the kernel killed 1 of its processes at the limit of memory, --memory=16m\n"
        ), done.stderr
        assert done.returncode == 137
        assert [path for path in given.iterdir() if path.is_dir()] == []
    finally:
        given.rmdir()
