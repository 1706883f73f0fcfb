"""Which stages there are, how they depend on each other, and which of them a target needs."""

from __future__ import annotations

import time

import pytest

from builder.errors import DockerfileError, SourceFile, Span, UsageError, render
from builder.oci.platform import Platform
from builder.plan.stages import External, StageReference
from tests.plan.plan_lowered import plan_of, stages_of


def bases(text: str, target: str = "", **more: tuple[str, ...]) -> list[str]:
    """The names that must be resolved."""
    return [external.name for external in stages_of(text, target, **more).externals()]  # type: ignore[arg-type]  # names alone


def needed(text: str, target: str = "") -> tuple[int, ...]:
    return stages_of(text, target).needed


def test_the_last_stage_is_the_target_and_stages_come_after_what_they_need() -> None:
    text = "FROM one AS a\nFROM two AS b\nCOPY --from=a /x /x\nFROM three\nCOPY --from=b /y /y\nCOPY --from=0 /x /x\n"
    stages = stages_of(text)
    assert (stages.target, stages.needed) == (2, (0, 1, 2))
    assert [(stage.name, stage.label, stage.base) for stage in stages.all] == [
        ("a", "a", External("one", Span(1, 6, 1, 9), "FROM")),
        ("b", "b", External("two", Span(2, 6, 2, 9), "FROM")),
        ("", "stage-2", External("three", Span(4, 6, 4, 11), "FROM")),
    ]
    assert [stage.copies for stage in stages.all] == [
        (),
        ((0, StageReference(0)),),
        ((0, StageReference(1)), (1, StageReference(0))),
    ]


def test_stages_that_nobody_needs_are_not_resolved() -> None:
    text = "FROM broken:latest@sha256:0 AS a\nFROM good AS b\nCOPY --from=missing / /\nFROM b AS c\nFROM other AS d\n"
    assert bases(text, "c") == ["good", "missing"]
    assert bases(text, "d") == ["other"]
    assert plan_of(text, "d").skipped == ("a", "b", "c")


def test_a_platform_counts_for_needed_stages_only() -> None:
    text = "FROM --platform=$NOTHING one AS a\nFROM --platform=$BUILDPLATFORM two AS b\n"
    assert bases(text) == ["two"]
    with pytest.raises(DockerfileError, match=r"^'' is not a platform$") as caught:
        stages_of(text, "a")
    assert caught.value.span == Span(1, 6, 1, 25)


def test_one_name_may_be_wanted_for_several_platforms() -> None:
    text = "FROM --platform=linux/arm64 one AS a\nFROM a AS b\nFROM one\nCOPY --from=b / /\nCOPY --from=one / /x\n"
    stages = stages_of(text)
    assert [(each.key, each.platform) for each in stages.externals()] == [
        ("one for linux/arm64", Platform("linux", "arm64")),
        ("one", None),
    ]
    # What is built on a stage is for its platform, whatever a flag says, as in BuildKit.
    assert [stage.platform for stage in stages.all] == [Platform("linux", "arm64")] * 2 + [None]


@pytest.mark.parametrize(
    ("target", "number"), [("", 2), ("first", 0), ("FIRST", 0), ("Second", 1), ("0", 0), ("1", 1), ("2", 2), ("02", 2)]
)
def test_target(target: str, number: int) -> None:
    assert stages_of("FROM a AS First\nFROM b AS second\nFROM c\n", target).target == number


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("secnd", "did you mean 'second'?"),
        ("3", "the stages are: First, second"),
        ("9" * 5000, "the stages are: First, second"),
        ("-1", "the stages are: First, second"),
        ("stage-2", "the stages are: First, second"),
    ],
)
def test_an_unknown_target_is_named(target: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        stages_of("FROM a AS First\nFROM b AS second\nFROM c\n", target)
    assert (caught.value.message, caught.value.hint) == (f"unknown stage '{target}' in --target", hint)
    with pytest.raises(UsageError) as caught:
        stages_of("FROM a\nFROM b\n", "c")
    assert caught.value.hint == "the stages have no names, only numbers up to 1"


def test_names_ignore_case_and_the_last_of_two_counts() -> None:
    text = "FROM one AS Build\nFROM two AS BUILD\nFROM build AS build\nCOPY --from=0 /x /x\nFROM bUILD\n"
    stages = stages_of(text)
    assert [stage.base for stage in stages.all[2:]] == [StageReference(1), StageReference(2)]
    assert stages.needed == (1, 0, 2, 3)


def test_reserved_names_hide_what_they_are_called_after() -> None:
    text = "FROM one AS scratch\nFROM two AS Context\nFROM two AS context\nFROM scratch\n"
    stages = stages_of(text)
    assert stages.all[3].base == StageReference(0)


def test_a_from_sees_earlier_stages_alone_and_copy_sees_all() -> None:
    text = "FROM later AS a\nCOPY --from=later /x /x\nFROM scratch AS later\n"
    stages = stages_of(text, "a")
    assert stages.all[0].base == External("later", Span(1, 6, 1, 11), "FROM")
    assert stages.all[0].copies == ((0, StageReference(1)),)
    assert stages.needed == (1, 0)
    # A stage may have the name of the image that it begins with.
    assert bases("FROM alpine AS alpine\nFROM alpine\n") == ["alpine"]


def test_a_number_is_a_stage_and_another_name_is_an_image() -> None:
    stages = stages_of("FROM a\nCOPY --from=1 / /\nCOPY --from=alpine:3 / /\nCOPY --from=00001 / /\nFROM b\n", "0")
    assert stages.all[0].copies == (
        (0, StageReference(1)),
        (1, External("alpine:3", Span(3, 6, 3, 21), "--from")),
        (2, StageReference(1)),
    )


def test_named_contexts_hide_images_and_stages() -> None:
    text = "FROM alpine AS base\nFROM base AS build\nCOPY --from=files /x /x\nFROM build\nCOPY --from=BASE /y /y\n"
    # Without: the image alone, and a `--from` of an image.
    assert bases(text) == ["alpine", "files"]
    # An image is known by any spelling of its name.
    stages = stages_of(text, contexts=("docker.io/library/alpine:latest",))
    assert stages.all[0].base == External("alpine", Span(1, 6, 1, 12), "FROM")
    # A folder is copied from as it is: no stage, nothing to resolve.
    assert bases(text, directories=("files",)) == ["alpine"]
    assert bases(text, contexts=("files",)) == ["alpine", "files"]
    # A stage's name: whoever names it gets the context, and its instructions and base are not needed.
    assert bases(text, directories=("base", "files")) == ["base"]
    assert bases(text, contexts=("build",)) == ["alpine", "build"]


def test_a_target_that_a_named_context_hides_is_that_context() -> None:
    text = "FROM missing AS base\nRUN false\nFROM other\nCOPY --from=0 / /\n"
    stages = stages_of(text, "base", contexts=("Base",))
    assert (stages.all[0].instructions, [external.name for external in stages.externals()]) == ((), ["base"])
    # The number of a hidden stage leads to the same place as its name.
    assert bases(text, contexts=("base",)) == ["base", "other"]


@pytest.mark.parametrize("name", ["scratch", "context", "Scratch"])
def test_reserved_names_are_no_contexts(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        stages_of("FROM scratch\n", directories=(name,))
    assert caught.value.message == f"a build context cannot have the name '{name}'"


def test_variables_in_from() -> None:
    text = 'ARG OS=debian TAG\nARG NAME="${OS}:${TAG:-12}" OS=alpine\nFROM ${NAME} AS a\nFROM $OS\n'
    assert bases(text, "a") == ["debian:12"]
    assert bases(text) == ["alpine"]
    assert stages_of(text, build_args={"TAG": "11", "OS": "busybox"}).all[0].base == External(
        "busybox:11", Span(3, 6, 3, 13), "FROM"
    )


def test_global_scope_has_platform_args_that_a_build_arg_may_say_otherwise() -> None:
    text = "ARG BASE=x-$TARGETARCH-$BUILDOS-$TARGETSTAGE\nFROM $BASE AS Final\n"
    assert bases(text) == ["x-amd64-linux-final"]
    assert stages_of(text, "0").all[0].base == External("x-amd64-linux-0", Span(2, 6, 2, 11), "FROM")
    assert bases("ARG BASE=x-$TARGETSTAGE\nFROM $BASE\n") == ["x-default"]
    assert stages_of(text, build_args={"TARGETARCH": "arm64"}).all[0].base == External(
        "x-arm64-linux-final", Span(2, 6, 2, 11), "FROM"
    )


def test_args_of_a_stage_do_not_reach_from() -> None:
    with pytest.raises(DockerfileError) as caught:
        stages_of("FROM a\nARG NAME=x\nFROM $NAME\n")
    assert (caught.value.message, caught.value.span) == ("the base name '$NAME' expands to nothing", Span(3, 6, 3, 11))


CYCLE = "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nRUN true\nCOPY --chown=1 --from=c / /\nFROM a AS c\n"


@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_cycles_are_errors(target: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        stages_of(CYCLE, target)
    assert caught.value.message.startswith("stages need each other: ")
    assert sorted(caught.value.message.removeprefix("stages need each other: ").split(" -> ")[1:]) == ["a", "b", "c"]
    assert caught.value.hint == "break the circle of FROM and --from"


def test_a_cycle_is_an_error_also_where_nobody_needs_it_and_points_at_the_reference() -> None:
    text = "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nCOPY --chown=1 \\\n  --from=a / /\nFROM x\n"
    with pytest.raises(DockerfileError) as caught:
        stages_of(text)
    error = caught.value
    error.at(SourceFile("Dockerfile", text))
    assert render(error) == (
        "Dockerfile:5:3: error: stages need each other: a -> b -> a\n"
        "  5 |   --from=a / /\n"
        "    |   ^^^^^^^^\n"
        "  hint: break the circle of FROM and --from"
    )


def test_a_diamond_is_no_cycle() -> None:
    text = "FROM x AS a\nFROM a AS b\nFROM a AS c\nFROM b\nCOPY --from=c / /\nCOPY --from=a / /\n"
    assert needed(text) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("copy", "message", "column", "end"),
    [
        ("COPY --from=a / /", "COPY --from=a copies from its own stage", 6, 14),
        ("COPY --from=0 / /", "COPY --from=0 copies from its own stage", 6, 14),
        ("COPY --from=1 / /", "there is no stage 1", 6, 14),
        ("COPY --from= / /", "--from has no value", 6, 13),
        ("COPY --from=$A / /", "--from takes no variables", 6, 15),
        (f"COPY --from={'9' * 5000} / /", f"there is no stage {'9' * 40}", 6, 5013),
    ],
)
def test_from_that_leads_nowhere(copy: str, message: str, column: int, end: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        stages_of(f"FROM x AS a\n{copy}\n")
    assert (caught.value.message, caught.value.span) == (message, Span(2, column, 2, end))


def test_thousands_of_stages() -> None:
    count = 3000
    text = "FROM scratch AS s0\n" + "".join(
        f"FROM s{n - 1} AS s{n}\nCOPY --from=s{n // 2} /a /b\nENV A{n % 7}={n}\n" for n in range(1, count)
    )
    begun = time.monotonic()
    plan = plan_of(text, contexts=("other",))
    assert (len(plan.steps), len(plan.history), plan.skipped) == (count, 2 * (count - 1), ())
    # Far from what a square of their number would take.
    assert time.monotonic() - begun < 20
    loop = text.replace("FROM scratch AS s0", f"FROM scratch AS s0\nCOPY --from=s{count - 1} / /")
    with pytest.raises(DockerfileError, match="stages need each other"):
        stages_of(loop)
