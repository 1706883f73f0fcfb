"""RUN --security=insecure: refused unless the user grants it, and then it has all that the builder can give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.escape.escape_ground import RUNGS, Ground, grounds

_SYS_ADMIN = 21
ALLOW = "--allow=security.insecure"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ground]]:
    with grounds(tmp_path_factory.mktemp("insecure")) as found:
        yield found


@pytest.mark.parametrize("rung", RUNGS)
def test_the_grant_counts(rung: str, places: dict[str, Ground]) -> None:
    ground = places[rung]
    script = "mkdir -p /m && mount -t tmpfs x /m && touch /m/in && ls /m && hostname other && grep CapEff /proc/self/status"
    context = ground.context(
        f"FROM base\nRUN --security=insecure {script}\nRUN mount -t tmpfs x /m 2>/dev/null || echo closed\n"
    )
    for flags in ((), ("--allow=network.host",)):
        done = ground.build(context, *flags)
        assert (done.code, "RUN --security=insecure is not allowed" in done.said) == (3, True), done.said
        assert "--allow security.insecure grants them" in done.said
    done = ground.build(context, ALLOW)
    assert done.code == 0, done.said
    said = [line.split()[-1] for line in done.lines if line.startswith("CapEff")]
    # What the builder has itself, or its user namespace gives; the step after it is closed again.
    assert len(said) == 1 and int(said[0], 16) >> _SYS_ADMIN & 1
    assert "in" in done.lines and "closed" in done.lines
    # Its mounts were its own.
    assert str(ground.store) not in Path("/proc/self/mountinfo").read_text()
    assert ground.field.untouched()


def test_a_step_is_another_one_with_it(places: dict[str, Ground]) -> None:
    program = places["root"].program
    context = places["root"].context("FROM base\nRUN --security=insecure echo same > /f\n")
    flags = ("--isolation=root", "--progress=plain", "--build-context", f"base={places['root'].field.base}")
    assert "#2 CACHED" not in program(*flags, ALLOW, context).stderr
    assert "#2 CACHED" in program(*flags, ALLOW, context).stderr
    # Not even from the cache without the grant.
    assert program(*flags, context).returncode == 3
    (context / "Dockerfile").write_text("FROM base\nRUN echo same > /f\n")
    assert "#2 CACHED" not in program(*flags, context).stderr
