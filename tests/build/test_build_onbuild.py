"""ONBUILD through the whole program: a base that this program built, its child, its grandchild."""

from __future__ import annotations

import json
from pathlib import Path

from tests.build.build_layout import Layout
from tests.build.build_shipped import refused, run_build, ship
from tests.conftest import Pybuild

BASE = """\
FROM busybox
ONBUILD COPY app /app/
ONBUILD ARG GREETING=hello
ONBUILD RUN <<-EOF
	#!/bin/sh -e
	echo "$GREETING from the trigger" > /greeting
EOF
ONBUILD COPY --from=assets /asset /
ONBUILD WORKDIR /app
"""
CHILD = """\
FROM scratch AS assets
COPY asset /
FROM scratch AS unneeded
COPY missing /
FROM base
RUN pwd > /cwd && cat file > /copy
"""


def steps(said: str) -> list[str]:
    """In the order of their numbers: two of them may begin at once."""
    return sorted(line for line in said.splitlines() if line.startswith("#") and "] " in line)


def test_child_and_grandchild(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "app").mkdir(parents=True)
    (context / "app" / "file").write_text("f")
    (context / "asset").write_text("a")
    run_build(pybuild, context, BASE, "-t", "base", "--build-context", f"busybox={busybox_base}")
    (image,) = json.loads(pybuild("inspect", "base").stdout)
    assert image["Config"]["OnBuild"] == [
        "COPY app /app/",
        "ARG GREETING=hello",
        'RUN <<-EOF\n\t#!/bin/sh -e\n\techo "$GREETING from the trigger" > /greeting\nEOF',
        "COPY --from=assets /asset /",
        "WORKDIR /app",
    ]
    # They fire once, in order, before the child's own; a stage that only a trigger names is built.
    shipped = ship(pybuild, context, CHILD, "-t", "child", "--build-arg", "GREETING=hi")
    found = {name: shipped[name].data for name in ("app/file", "asset", "greeting", "cwd", "copy")}
    assert found == {"app/file": b"f", "asset": b"a", "greeting": b"hi from the trigger\n", "cwd": b"/app\n", "copy": b"f"}
    assert "OnBuild" not in pybuild("inspect", "child").stdout
    assert steps(run_build(pybuild, context, CHILD)) == [
        "#1 [assets 1/2] FROM scratch",
        "#2 [assets 2/2] COPY asset /",
        "#3 [stage-2 1/6] FROM base",
        "#4 [stage-2 2/6] ONBUILD COPY app /app/",
        "#5 [stage-2 3/6] ONBUILD RUN <<-EOF (#!/bin/sh -e...)",
        "#6 [stage-2 4/6] ONBUILD COPY --from=assets /asset /",
        "#7 [stage-2 5/6] ONBUILD WORKDIR /app",
        "#8 [stage-2 6/6] RUN pwd > /cwd && cat file > /copy",
    ]
    # Not in the grandchild: it needs neither the files nor the stage.
    said = run_build(pybuild, context, "FROM child\nRUN true\n")
    assert steps(said) == ["#1 [stage-0 1/2] FROM child", "#2 [stage-0 2/2] RUN true"]


def test_what_fails_in_a_trigger_names_it(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    base = "FROM busybox\nONBUILD RUN <<EOF\nexit 3\nEOF\n"
    run_build(pybuild, context, base, "-t", "fails", "--build-context", f"busybox={busybox_base}")
    assert (
        "Dockerfile:2:6: error: the command failed with exit code 3, in the trigger 'ONBUILD RUN <<EOF'\n"
        "  2 | FROM fails\n    |      ^^^^^\n"
    ) in refused(pybuild, context, "# here\nFROM fails\n", code=1)
    # In the same Dockerfile too, and for files and images that are not there.
    for trigger, message in (
        ("COPY nothing /x", "COPY: 'nothing' is not in the build context"),
        (
            "COPY --from=nowhere /a /b",
            "there is no image 'nowhere:latest' in the store, and --pull=never forbids to fetch it",
        ),
        ("RUN --mount=target=/c,from=bsae x", "unknown stage 'bsae'"),
        ("RUN --mount=target=/c,source=/nothing x", "RUN --mount: '/nothing' is not in the build context"),
    ):
        dockerfile = f"FROM scratch AS base\nONBUILD {trigger}\nFROM base AS b\nFROM b\n"
        said = refused(pybuild, context, dockerfile, "--pull=never")
        assert f"Dockerfile:3:6: error: {message}, in the trigger 'ONBUILD {trigger}'\n  3 | FROM base AS b\n" in said, said


def test_a_base_of_others(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """From a layout, whose config somebody else wrote."""
    context, folder = tmp_path / "context", tmp_path / "layout"
    flags = ("--build-context", f"busybox={busybox_base}", "-o", f"type=oci,tar=false,dest={folder}")
    run_build(pybuild, context, "FROM busybox\nENV A=1\n", *flags)
    layout = Layout(folder)

    def ask(*triggers: str) -> None:
        layout.change_config(lambda config: config["config"].update(OnBuild=list(triggers)))

    ask("ENV B=$A", "run echo $B > /b")
    other = ("--build-context", f"other=oci-layout://{folder}")
    assert ship(pybuild, context, "FROM other\n", *other)["b"].data == b"1\n"
    for trigger, reason in (
        ("FROM scratch", "FROM is not allowed as an ONBUILD trigger"),
        ("MAINTAINER me", "MAINTAINER is not allowed as an ONBUILD trigger"),
    ):
        ask(trigger)
        said = refused(pybuild, context, "FROM other\n", *other)
        assert f"Dockerfile:1:6: error: {reason}, in the trigger 'ONBUILD {trigger}'" in said
