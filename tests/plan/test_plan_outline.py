"""Targets and outlines, as BuildKit's frontend gives them (moby/buildkit, frontend/dockerfile/dockerfile2llb/outline.go)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from builder.dockerfile.comments import Comments
from builder.dockerfile.syntax import parse
from builder.errors import DockerfileError, SourceFile, Span
from builder.plan.outline import Outline, Provision, outline, targets
from tests.plan.plan_lowered import stages_of


def outline_of(text: str, target: str = "", build_args: Mapping[str, str] | None = None) -> Outline:
    args = build_args or {}
    return outline(parse(SourceFile("Dockerfile", text)), stages_of(text, target, build_args=args), args)


def values(text: str, target: str = "", build_args: Mapping[str, str] | None = None) -> dict[str, str]:
    return {arg.name: arg.value for arg in outline_of(text, target, build_args).args}


@pytest.mark.parametrize(
    ("text", "name", "described"),
    [
        ("# a one\nARG a", "a", "one"),
        ("#a one\nARG a", "a", "one"),
        ("  #  a one  \nARG a", "a", "one"),
        # The first line that begins with the name counts, wherever it stands among the comments.
        ("# a one\n# b two\n# a three\nARG a", "a", "one"),
        ("# b two\n# a one\nARG a b", "a", "one"),
        # An empty line ends a comment's part; so does an instruction.
        ("# a one\n\nARG a", "a", ""),
        ("# a one\n\n# b two\nARG a", "a", ""),
        ("# a one\nARG b\nARG a", "a", ""),
        ("# the a\nARG a", "a", ""),
        ("# ab one\nARG a", "a", ""),
        ("# a\nARG a", "a", ""),
        ("# A one\nARG a", "a", ""),
        ("ARG a", "a", ""),
        ("#  x\nFROM b", "", ""),
    ],
)
def test_descriptions(text: str, name: str, described: str) -> None:
    assert Comments(SourceFile("Dockerfile", text)).description(name, text.count("\n") + 1) == described


def test_targets_are_all_stages() -> None:
    text = "ARG B\n# one is first\nFROM --platform=$BUILDPLATFORM ${B} AS One\nFROM one\n# two x\nFROM scratch \\\n AS two\n"
    found = targets(parse(SourceFile("Dockerfile", text)))
    assert [each[:5] for each in found] == [
        ("one", False, "is first", "${B}", "$BUILDPLATFORM"),
        ("", False, "", "one", ""),
        ("two", True, "x", "scratch", ""),
    ]
    assert found[2].span == Span(6, 1, 7, 8)


def test_an_arg_that_nobody_uses_is_left_out() -> None:
    assert values("ARG A=1\nARG B=2\nFROM scratch\nARG B\n") == {"B": "2"}
    assert values("FROM scratch AS a\nARG A=1\nFROM scratch\nARG B=2\n") == {"B": "2"}


def test_what_a_default_reads_is_used_too() -> None:
    text = "ARG A=1\nARG B=$A\nARG C=${B:-x}\nARG D\nFROM base:$C\n"
    assert values(text) == {"A": "1", "B": "1", "C": "1"}
    # A default that a build arg replaces reads nothing.
    assert values(text, build_args={"C": "7"}) == {"C": "7"}


def test_from_uses_what_stands_in_its_platform() -> None:
    assert values("ARG P=linux/amd64\nFROM --platform=$P base\n") == {"P": "linux/amd64"}


def test_args_of_stages_that_the_target_needs() -> None:
    text = (
        "FROM base AS a\nARG A=1\nFROM base AS b\nARG B=2\nFROM a AS c\nCOPY --from=b /x /y\nARG C=3\nFROM base AS d\nARG D=4\n"
    )
    assert values(text, "c") == {"A": "1", "B": "2", "C": "3"}
    assert values(text) == {"D": "4"}


def test_the_target_says_what_an_arg_is() -> None:
    text = "FROM scratch AS a\n# A below\nARG A=1\nFROM a\n# A here\nARG A=2\n"
    (arg,) = outline_of(text).args
    assert (arg.value, arg.description, arg.span.line) == ("2", "here", 6)


def test_an_arg_declared_again_is_the_global_one() -> None:
    (arg,) = outline_of("# A is it\nARG A=1\nFROM scratch\n# A is not\nARG A\n").args
    assert (arg.value, arg.description, arg.span.line) == ("1", "is it", 2)
    (arg,) = outline_of("ARG A=1\nFROM scratch\nARG A\n", build_args={"A": "2"}).args
    assert (arg.value, arg.span.line) == ("2", 3)


def test_platform_args_are_no_parameters() -> None:
    assert values("FROM --platform=$TARGETPLATFORM base\nARG TARGETARCH\nARG X=$TARGETARCH\n") == {"X": "amd64"}


def test_values_see_env_and_args_before_them() -> None:
    text = "FROM scratch\nENV E=1\nARG A=$E B=$A-$E C=${NONE:-c}\nENV E=2 A=3\nARG D=$A$E P=$PATH\n"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert values(text) == {"A": "1", "B": "1-1", "C": "c", "D": "32", "P": path}


def test_values_that_depend_on_a_base_stay_as_written() -> None:
    text = "FROM base AS a\nENV E=$HOME F=2\nFROM a\nARG A=x-$E B=$F C=$A'' D\nARG G=$D\n"
    assert values(text) == {"A": "x-$E", "B": "2", "C": "$A''", "D": "", "G": "$D"}


def test_what_runs_mount() -> None:
    text = (
        "FROM scratch AS a\n"
        "RUN --mount=type=secret,id=one --mount=type=secret,target=/run/two,required true\n"
        "RUN --mount=type=ssh,id=git,required=true --mount=type=bind,target=/x true\n"
        "FROM a\nARG N=c\n"
        "RUN --mount='type=cache,\"id=x,y\",target=/c' --mount=type=cache,dst=/d --mount=type=cache,id=$N,target=/e true\n"
        "RUN --mount=type=secret,src=one,required=true true\n"
    )
    told = outline_of(text)
    line = {number: Span(number, 1, number, len(each) + 1) for number, each in enumerate(text.split("\n"), 1)}
    assert told.secrets == (Provision("two", True, line[2]), Provision("one", True, line[7]))
    assert told.ssh == (Provision("git", True, line[3]),)
    assert [cache.name for cache in told.caches] == ["x,y", "/d", "c"]


def test_a_word_that_cannot_be_expanded_points_at_its_place() -> None:
    with pytest.raises(DockerfileError) as caught:
        outline_of("FROM base\nARG A=${B\n")
    assert (caught.value.message, caught.value.span) == ("'${' is not closed", Span(2, 7, 2, 10))
