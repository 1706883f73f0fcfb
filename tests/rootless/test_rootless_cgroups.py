"""Limits of users: in a cgroup that was given to them, and refused elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.cli_cgroups import home
from tests.rootless.rootless_users import UserPybuild

GREEDY = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
_GIVEN = {1: (), 2: ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")}
"""What is the user's besides the folder, in each version (cgroup-v2.rst, "Delegation")."""


@pytest.mark.parametrize("kind", ["user", "solo"])
def test_limits_of_users(kind: str, base: Path, request: pytest.FixtureRequest) -> None:
    user: UserPybuild = request.getfixturevalue(kind)
    assert user("import", base, "base").returncode == 0
    command = ("run", "--memory=16m", "base", "sh", "-c", GREEDY)
    refused = user(*command)
    assert refused.returncode == 125
    assert refused.stderr.startswith("error: --memory cannot be enforced: ")
    assert "\n  hint: leave the limit out, or start the builder in a cgroup that is its own" in refused.stderr
    place = home("memory")
    if place is None:
        return
    given = place.folder / f"tests-{kind}-{os.getpid()}"
    given.mkdir()
    try:
        for name in ("", *_GIVEN[place.version]):
            os.chown(given / name, user.account.uid, user.account.gid)
        inside = ("sh", "-c", f'echo $$ > "{given}/cgroup.procs"; exec "$@"', "sh")
        # The second builder finds the cgroup as the first one did.
        for _ in range(2):
            done = user(*command, before=inside)
            assert done.stderr.endswith(
                "warning: out of memory: the kernel killed 1 of its processes at the limit of memory, --memory=16m\n"
            ), done.stderr
            assert done.returncode == 137
            assert [path for path in given.iterdir() if path.is_dir()] == []
    finally:
        given.rmdir()
