"""The collection of garbage after builds: when, what, and the file `gc` that says otherwise."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from builder.cli.garbage import read_policy, seconds
from builder.errors import UsageError
from builder.store.collect import Rule, choose
from builder.store.inventory import Thing
from builder.store.policy import DAY, GIB, Policy, is_due, rules
from builder.store.usage import Sized
from tests.cli.test_cli_space import backdate, build, types
from tests.conftest import Pybuild

MIB = 1 << 20


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM base\nARG N\nRUN echo $N > /n; head -c 300000 /dev/zero > /zero\n")
    return folder


def numbered(pybuild: Pybuild, base: Path, context: Path, number: int, *flags: str) -> str:
    return build(pybuild, base, context, "--build-arg", f"N={number}", "-t", "app", *flags)


def make_due(store: Path) -> None:
    with closing(sqlite3.connect(store / "db.sqlite", isolation_level=None)) as db:
        assert db.execute("UPDATE meta SET value = value - 4000 WHERE name = 'collected'").rowcount == 1


def forget(pybuild: Pybuild) -> None:
    assert pybuild("rmi", "app").returncode == 0


def test_what_nobody_used_for_long_goes_after_a_build(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    numbered(pybuild, busybox_base, context, 1)
    forget(pybuild)
    (context / "Fails").write_text("FROM base\nRUN head -c 100000 /dev/zero > /x; false\n")
    backdate(pybuild.store, 59)
    make_due(pybuild.store)
    numbered(pybuild, busybox_base, context, 2)
    assert types(pybuild)["build-cache"] > 300_000
    backdate(pybuild.store, 61)
    # Not due, and then not after a build that made nothing.
    numbered(pybuild, busybox_base, context, 3)
    make_due(pybuild.store)
    numbered(pybuild, busybox_base, context, 3)
    assert types(pybuild)["build-cache"] > 300_000
    # A build that fails has made something, too.
    done = pybuild("-q", "-f", "Fails", "--build-context", f"base={busybox_base}", ".", cwd=context)
    assert done.returncode == 1 and "StoreUpkeep" not in done.stderr
    assert types(pybuild).get("build-cache", 0) < 300_000
    assert pybuild("run", "app", "cat", "/n").stdout == "3\n"
    assert pybuild("doctor", "--store").returncode == 0


def test_the_cache_is_kept_small(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    numbered(pybuild, busybox_base, context, 1)
    forget(pybuild)
    (pybuild.store / "gc").write_text("# a small disk\nmax-used-space = 400k\nreserved-space=0 # nothing\n\n")
    make_due(pybuild.store)
    numbered(pybuild, busybox_base, context, 2)
    assert 300_000 < types(pybuild)["build-cache"] < 400 << 10
    (pybuild.store / "gc").write_text("max-used-space = 100k\nreserved-space = 400k")
    make_due(pybuild.store)
    numbered(pybuild, busybox_base, context, 3)
    assert types(pybuild)["build-cache"] < 100 << 10, "what stays at least is no more than what stays at most"
    forget(pybuild)
    (pybuild.store / "gc").write_text("off\nmax-used-space = 0")
    make_due(pybuild.store)
    numbered(pybuild, busybox_base, context, 4)
    assert types(pybuild)["build-cache"] > 300_000
    (pybuild.store / "gc").write_text("max-used-space = 0")
    done = pybuild("--debug", "--build-arg", "N=5", "-t", "app", "--build-context", f"base={busybox_base}", ".", cwd=context)
    assert "collected garbage in " in done.stderr, done.stderr
    assert types(pybuild).get("build-cache", 0) == 0
    assert pybuild("run", "app", "cat", "/n").stdout == "5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-used-spac = 1g", "did you mean 'max-used-space'?"),
        ("max-used-space", "did you mean"),
        ("unused-for = soon", "'soon' is not a duration"),
        ("\nmin-free-space = much", "line 2: 'much' is not a size"),
    ],
)
def test_a_file_that_means_nothing_is_told_and_the_build_is_good(
    pybuild: Pybuild, busybox_base: Path, context: Path, text: str, message: str
) -> None:
    pybuild.store.mkdir(0o700)
    (pybuild.store / "gc").write_text(text)
    done = pybuild("--build-context", f"base={busybox_base}", "-t", "app", ".", cwd=context)
    assert done.returncode == 0 and "the store was not tidied up" in done.stderr
    assert message.partition("did you mean")[0] in done.stderr
    assert pybuild("run", "app", "cat", "/n").stdout == "\n"


def test_a_folder_in_its_place_is_told_and_the_build_is_good(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    numbered(pybuild, busybox_base, context, 1)
    (pybuild.store / "gc").mkdir()
    done = pybuild("--build-context", f"base={busybox_base}", "--build-arg", "N=2", ".", cwd=context)
    assert done.returncode == 0
    assert f"{pybuild.store}/gc cannot be read: Is a directory" in done.stderr


def test_the_file_in_full(tmp_path: Path) -> None:
    assert read_policy(str(tmp_path)) == Policy()
    (tmp_path / "gc").write_text(
        "max-used-space=20gb\nmin-free-space = 5g\nreserved-space=0\nunused-for=30d\nfailed-steps-for = 1h30m\n"
    )
    assert read_policy(str(tmp_path)) == Policy(False, 20 * GIB, 5 * GIB, 0, 30 * DAY, 5400)


@pytest.mark.parametrize(("text", "expected"), [("24h", 86400), ("90m", 5400), ("30d", 30 * DAY), ("1d12h", 129600), ("0", 0)])
def test_durations(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "d", "1", "-1h", "-1d", "1x", "1d2", "½d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text)


def sized(id: str, size: int, used: int, kind: str = "build-cache", **fields: object) -> Sized:
    return Sized(Thing(kind, id, "", used=used)._replace(**fields), size)  # type: ignore[arg-type]  # a Literal, and any fields


def test_what_is_chosen() -> None:
    things = [
        sized("new", 10, 90),
        sized("old", 20, 10),
        sized("needed", 40, 0, "image", images=("app",)),
        sized("used", 80, 0, in_use=True),
        sized("middle", 160, 50, "compressed"),
        sized("mount", 320, 0, "cache-mount"),
        sized("empty", 0, 0),
    ]

    def ids(rule: Rule, free: int = 0) -> list[str]:
        return [one.thing.id for one in choose(things, rule, 100, free)]

    total = 20 + 10 + 80 + 160 + 320
    assert ids(Rule()) == ["old", "middle", "new"]
    assert ids(Rule(unused_for=50)) == ["empty", "old", "middle"]
    assert ids(Rule(ids=("mid", "mou"))) == ["middle"]
    assert ids(Rule(keep=total)) == []
    assert ids(Rule(keep=total - 1)) == ["old"]
    assert ids(Rule(keep=total - 21)) == ["old", "middle"]
    assert ids(Rule(reserve=total - 20)) == ["old"]
    assert ids(Rule(keep=0, reserve=total - 1)) == ["old"]
    assert ids(Rule(free=100), free=100) == []
    assert ids(Rule(free=100), free=79) == ["old", "middle"]
    assert ids(Rule(free=100, reserve=total), free=0) == []
    assert ids(Rule(frozenset(("cache-mount",)))) == ["mount"]


def test_when_it_is_due(tmp_path: Path) -> None:
    policy = Policy(min_free_space=0)
    assert is_due(policy, str(tmp_path), 0, 10**9)
    assert not is_due(policy, str(tmp_path), 1000, 1000 + 3599)
    assert is_due(policy, str(tmp_path), 1000, 1000 + 3600)
    assert is_due(policy, str(tmp_path), 1000, 900), "the clock went back"
    full = Policy(min_free_space=1 << 62)
    assert not is_due(full, str(tmp_path), 1000, 1059) and is_due(full, str(tmp_path), 1000, 1060)
    assert not is_due(full._replace(off=True), str(tmp_path), 0, 10**9)


def test_the_defaults_follow_the_disk(tmp_path: Path) -> None:
    *_, last = rules(Policy(), str(tmp_path))
    assert last.keep and last.free and last.reserve <= last.keep
    assert rules(Policy(max_used_space=5, min_free_space=7), str(tmp_path))[-1][3:6] == (5, 7, 5)
