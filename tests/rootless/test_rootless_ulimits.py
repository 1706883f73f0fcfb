"""--ulimit without root: lower limits are given, higher ones than the user's own are refused, and none is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rootless.rootless_users import UserPybuild


@pytest.mark.parametrize("rung", ["userns", "single-uid"])
def test_ulimits_in_a_user_namespace(new_user: UserPybuild, base: Path, rung: str) -> None:
    context = new_user.account.home / "context"
    context.mkdir()
    context.chmod(0o755)
    (context / "Dockerfile").write_text("FROM base\nRUN echo began $(ulimit -n) $(ulimit -Hn)\n")
    flags = [f"--isolation={rung}", "--progress=plain", "--build-context", f"base={base}", str(context)]
    before = ("prlimit", "--nofile=300:700")
    done = new_user("--ulimit=nofile=100:200", *flags, before=before)
    assert done.returncode == 0, done.stderr
    assert "began 100 200\n" in done.stderr
    done = new_user("--ulimit=nofile=100:701", *flags, before=before)
    assert (done.returncode, done.stderr) == (
        6,
        "error: --ulimit nofile: the builder may not raise its hard limit of 700 to 701\n"
        "  hint: say --ulimit nofile=700 at most, or run the builder with CAP_SYS_RESOURCE, as root has it\n",
    )
    done = new_user("--ulimit=locks=5:5", *flags, before=before)
    if rung == "userns":
        assert done.returncode == 0, done.stderr
        return
    assert (done.returncode, done.stderr) == (
        6,
        "error: --ulimit locks: it cannot be set with --isolation=single-uid, which has a use of its own for it\n"
        "  hint: leave it out: Linux has not looked at it since 2.4.25\n",
    )
