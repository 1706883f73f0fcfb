"""Early cutoff: keys are made of results, so a step that gives the same result stops the rebuilding there (SPEC section 1)."""

from __future__ import annotations

from pathlib import Path

from tests.build.build_cached import statuses, write
from tests.conftest import Pybuild

LATER = "RUN wc -c < /a > /b\nRUN cat /b > /c\nRUN cat /c > /d\n"


def test_a_run_changed_in_its_text_alone_runs_alone(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write(context, f"FROM base\nRUN echo one > /a\n{LATER}")
    assert set(statuses(pybuild, context, busybox_base).values()) == {"done", "cached"}
    write(context, f"FROM base\nRUN echo  one  > /a\n{LATER}")
    assert statuses(pybuild, context, busybox_base) == {
        "FROM base": "cached",
        "RUN echo one > /a": "done",
        "RUN wc -c < /a > /b": "cached",
        "RUN cat /b > /c": "cached",
        "RUN cat /c > /d": "cached",
    }


def test_a_run_changed_by_one_byte_of_output_runs_all_that_follow(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write(context, f"FROM base\nRUN echo one > /a\n{LATER}")
    statuses(pybuild, context, busybox_base)
    write(context, f"FROM base\nRUN echo onf > /a\n{LATER}")
    assert list(statuses(pybuild, context, busybox_base).values()) == ["cached", "done", "done", "done", "done"]


def test_a_run_that_changes_nothing_runs_again_when_its_base_changes(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    text = "FROM base\nCOPY file /file\nRUN cat /file\nRUN true\n"
    write(context, text)
    (context / "file").write_text("one")
    statuses(pybuild, context, busybox_base)
    assert list(statuses(pybuild, context, busybox_base).values()) == ["cached"] * 4
    (context / "file").write_text("two")
    assert list(statuses(pybuild, context, busybox_base).values()) == ["cached", "done", "done", "done"]
    # Back to a file system that was seen before: nothing runs.
    (context / "file").write_text("one")
    assert list(statuses(pybuild, context, busybox_base).values()) == ["cached"] * 4


def test_two_dockerfiles_share_their_work(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, "FROM base AS first\nENV A=1\nRUN echo x > /x\n")
    write(two, "# another file\nFROM base\nLABEL b=2\nENV A=1\nRUN echo x > /x\nRUN echo y > /y\n")
    statuses(pybuild, one, busybox_base)
    assert statuses(pybuild, two, busybox_base) == {
        "FROM base": "cached",
        "RUN echo x > /x": "cached",
        "RUN echo y > /y": "done",
    }


def test_no_cache_runs_every_step_and_its_results_count_afterwards(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    write(context, "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN cat /id\n")
    statuses(pybuild, context, busybox_base)
    first = pybuild("-q", "--build-context", f"base={busybox_base}", context).stdout
    assert list(statuses(pybuild, context, busybox_base, "--no-cache").values()) == ["cached", "done", "done"]
    second = pybuild("-q", "--build-context", f"base={busybox_base}", context).stdout
    assert second != first
    assert list(statuses(pybuild, context, busybox_base).values()) == ["cached"] * 3


def test_an_arg_counts_only_where_a_step_can_see_it(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write(context, "FROM base\nRUN echo before > /before\nARG SHA\nRUN echo after > /after\n")
    statuses(pybuild, context, busybox_base, "--build-arg", "SHA=1")
    again = statuses(pybuild, context, busybox_base, "--build-arg", "SHA=2")
    assert again["RUN echo before > /before"] == "cached"
    assert again["RUN echo after > /after"] == "done"


def test_proxies_are_seen_by_a_command_and_by_no_key_and_no_history(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    write(context, 'FROM base\nRUN test -n "$http_proxy" && echo ok > /ok\n')
    statuses(pybuild, context, busybox_base, "--build-arg", "http_proxy=http://one.invalid:1", "-t", "proxied")
    again = statuses(pybuild, context, busybox_base, "--build-arg", "http_proxy=http://two.invalid:2")
    assert set(again.values()) == {"cached"}
    shown = pybuild("inspect", "proxied").stdout + pybuild("history", "--no-trunc", "proxied").stdout
    assert ".invalid" not in shown
