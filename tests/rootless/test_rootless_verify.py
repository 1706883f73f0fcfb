"""`pybuild verify` by users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rootless.rootless_users import UserPybuild

DOCKERFILE = """FROM base
RUN mkdir /d && echo text > /d/f && chown -R 5:6 /d
USER 7
RUN id > /tmp/id; sh -c 'echo $$' > /tmp/pid; true
"""


@pytest.mark.parametrize("kind", ["new_user", "solo"])
def test_users_verify(kind: str, base: Path, context: Path, request: pytest.FixtureRequest) -> None:
    """Also as the first thing that is done with a store."""
    user: UserPybuild = request.getfixturevalue(kind)
    (context / "Dockerfile").write_text(DOCKERFILE)
    flags = ("verify", "-q", "--format=json", "--vary=pids,order,mtimes,aslr", "--build-context", f"base={base}")
    done = user(*flags, context)
    assert done.returncode == 4, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["status"] for step in steps] == ["same", "different"]
    assert [cause["name"] for cause in steps[1]["causes"]] == ["pids"]
