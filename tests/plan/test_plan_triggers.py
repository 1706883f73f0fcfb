"""ONBUILD: what triggers do in the child, where they fire and where not (reference, "ONBUILD"; moby/buildkit,
dockerfile2llb/convert.go: resolveStages, initOnBuildTriggers)."""

from __future__ import annotations

import pytest

from builder.errors import DockerfileError, Span
from builder.oci.image import ImageConfig
from builder.plan.steps import BaseStep, CopyStep, Plan, RunStep, StageOrigin
from tests.plan.plan_lowered import AMD64, lines, plan_of, stages_of


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def base(*triggers: str) -> dict[str, ImageConfig]:
    return {"base": ImageConfig(AMD64, onbuild=triggers)}


def test_triggers_are_recorded_as_text() -> None:
    text = "FROM base\nOnBuild  run  a \\\n  b\nONBUILD COPY --from=x <<-E /d\n\tt\n\tE\nENV A=1\n"
    plan = plan_of(text, bases=base())
    assert plan.config.onbuild == ("run  a   b", "COPY --from=x <<-E /d\n\tt\nE")
    assert (lines(plan), len(plan.steps)) == (["ENV A=1"], 1)


def test_they_come_first_and_once() -> None:
    text = "FROM base AS one\nRUN two\nFROM one AS two\nRUN three\n"
    plan = plan_of(text, bases=base("ARG A=1", "RUN one", "WORKDIR /w"))
    assert names(plan) == [
        "[one 1/4] FROM base",
        "[one 2/4] ONBUILD RUN one",
        "[one 3/4] ONBUILD WORKDIR /w",
        "[one 4/4] RUN two",
        "[two 1/1] RUN three",
    ]
    assert lines(plan) == [
        "ARG A=1",
        "RUN |1 A=1 /bin/sh -c one",
        "WORKDIR /w",
        "RUN |1 A=1 /bin/sh -c two",
        "RUN |1 A=1 /bin/sh -c three",
    ]
    assert plan.config.onbuild == ()
    assert plan.triggers == ((1, "RUN one"), (2, "WORKDIR /w"))
    assert [step.span for step in plan.steps[1:4]] == [Span(1, 6, 1, 10), Span(1, 6, 1, 10), Span(2, 1, 2, 8)]


def test_a_stage_of_the_same_dockerfile_has_children_too() -> None:
    text = "FROM base AS a\nONBUILD RUN x\nONBUILD ENV B=1\nFROM a AS b\nRUN y\nFROM b AS c\nFROM a\nCOPY --from=b / /b\n"
    plan = plan_of(text, bases=base())
    assert names(plan) == [
        "[a 1/1] FROM base",
        "[b 1/2] ONBUILD RUN x",
        "[b 2/2] RUN y",
        "[stage-3 1/2] ONBUILD RUN x",
        "[stage-3 2/2] COPY --from=b / /b",
    ]
    assert (plan.config.onbuild, dict(plan.config.env)["B"]) == ((), "1")
    assert plan_of(text, "c", bases=base()).config.onbuild == ()
    assert plan_of(text, "a", bases=base()).config.onbuild == ("RUN x", "ENV B=1")
    # The child sees what the stage below had set, and a trigger sees nothing that its child declares later.
    plan = plan_of("FROM base AS a\nARG A=1\nUSER u\nONBUILD RUN x $B\nFROM a\nARG B=2\n", bases=base())
    run = plan.steps[-1]
    assert isinstance(run, RunStep)
    assert (run.user, dict(run.env)["A"], "B" in dict(run.env)) == ("u", "1", False)


def test_a_trigger_brings_stages_and_images() -> None:
    text = "FROM one AS a\nRUN a\nFROM two AS unneeded\nFROM base\n"
    onbuild = {
        "base": ("COPY --from=A /x /x", "COPY --from=img / /", "RUN --mount=from=more,target=/m x"),
        "more": ("RUN never",),
    }
    stages = stages_of(text, onbuild=onbuild)
    assert stages.needed == (0, 2)
    assert [(external.name, external.trigger) for external in stages.externals()] == [
        ("one", ""),
        ("base", ""),
        ("img", "COPY --from=img / /"),
        ("more", "RUN --mount=from=more,target=/m x"),
    ]
    # Before the base is resolved, nobody knows.
    assert [external.name for external in stages_of(text).externals()] == ["base"]
    plan = plan_of(text, bases={name: ImageConfig(AMD64, onbuild=texts) for name, texts in onbuild.items()})
    assert [step.origin for step in plan.steps if isinstance(step, CopyStep)] == [StageOrigin(1), StageOrigin(4)]
    assert [step.base.name for step in plan.steps if isinstance(step, BaseStep)] == ["one", "base", "img", "more"]


def test_what_a_trigger_brings_may_have_triggers() -> None:
    text = "FROM base AS a\nFROM a AS b\nONBUILD COPY --from=c /c /c\nFROM late AS c\nFROM b\n"
    onbuild = {"base": ("RUN x",), "late": ("COPY --from=d / /",)}
    stages = stages_of(text, onbuild=onbuild)
    assert [external.name for external in stages.externals()] == ["base", "late", "d"]
    assert [len(stage.triggers) for stage in stages.all] == [1, 0, 1, 1]


def test_only_a_base_fires() -> None:
    """Not an image that is copied from, nor a stage that a named context stands for."""
    onbuild = base("RUN x")
    assert names(plan_of("FROM scratch\nCOPY --from=base / /\n", bases=onbuild)) == [
        "[stage-0 2/2] FROM base" if step == 1 else name
        for step, name in enumerate(["[stage-0 1/2] FROM scratch", "", "[stage-0 2/2] COPY --from=base / /"])
    ]
    for target, label in (("base", "base"), ("", "stage-1")):
        plan = plan_of("FROM other AS base\nFROM base\n", target, bases=onbuild, contexts=("base",))
        assert (names(plan), plan.config.onbuild) == ([f"[{label} 1/1] FROM base"], ())
    # A context that stands for the image of a FROM is its base.
    assert len(plan_of("FROM base\n", bases=onbuild, contexts=("base",)).steps) == 2


def test_triggers_configure() -> None:
    plan = plan_of(
        "FROM base\n",
        bases=base('CMD ["c"]', "ENTRYPOINT e", "LABEL a=b", "EXPOSE 80", "USER u", "HEALTHCHECK NONE", 'SHELL ["s"]'),
    )
    config = plan.config
    assert (config.cmd, config.entrypoint, config.labels, config.user) == (
        ("c",),
        ("/bin/sh", "-c", "e"),
        (("a", "b"),),
        "u",
    )
    assert len(plan.steps) == 1


@pytest.mark.parametrize(
    ("trigger", "message", "hint"),
    [
        ("ONBUILD RUN x", "ONBUILD can not trigger another ONBUILD", "write the instruction itself after the first ONBUILD"),
        ("FROM x", "FROM is not allowed as an ONBUILD trigger", "the child's own Dockerfile says this"),
        ("MAINTAINER x", "MAINTAINER is not allowed as an ONBUILD trigger", "the child's own Dockerfile says this"),
        ("RUN a\nRUN b", "an ONBUILD trigger is exactly one instruction", "the base image is damaged: build it again"),
        ("", "an ONBUILD trigger is exactly one instruction", "the base image is damaged: build it again"),
        ("RUUN a", "unknown instruction 'RUUN'", "did you mean 'RUN'?"),
        (
            "COPY --from=$x / /",
            "--from takes no variables",
            "declare a stage for it: FROM ${NAME} AS source, then --from=source",
        ),
        ("COPY --from=7 / /", "there is no stage 7", "the last stage is 0"),
        ("STOPSIGNAL SIGFOO", "'SIGFOO' is not a signal", "write a name as SIGTERM or a number from 1 to 64"),
        ("RUN --mount=typ=x y", "unknown key 'typ' of --mount", "did you mean 'type'?"),
        ("COPY <<X /x\n\n${B:?no}\nX", "B: no", "give 'B' a value"),
    ],
)
def test_what_is_wrong_in_a_foreign_base_is_told_at_its_from(trigger: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan_of("ARG B=base\nFROM $B AS x\n", bases=base("ENV A=1", trigger))
    first = trigger.partition("\n")[0]
    assert caught.value.message == f"{message}, in the trigger 'ONBUILD {first}'"
    assert (caught.value.span, caught.value.hint, caught.value.source) == (Span(2, 6, 2, 8), hint, None)


def test_hostile_triggers() -> None:
    for texts, message in (
        (["CMD x"] * 1001, "the base has 1001 ONBUILD triggers"),
        (["RUN \0"], "this is not a text file: there is a NUL character, in the trigger 'ONBUILD RUN \0'"),
        (["RUN " + "x" * 3_000_000], "the Dockerfile is larger than 2 MiB, in the trigger 'ONBUILD RUN " + "x" * 73 + "...'"),
        (["# x\n"], "an ONBUILD trigger is exactly one instruction, in the trigger 'ONBUILD # x'"),
    ):
        with pytest.raises(DockerfileError) as caught:
            plan_of("FROM base\n", bases=base(*texts))
        assert (caught.value.message, caught.value.span) == (message, Span(1, 6, 1, 10))
    assert len(plan_of("FROM base\n", bases=base(*["CMD x"] * 1000)).history) == 1000


def test_the_childs_escape_character_counts() -> None:
    """BuildKit's expansion has the child's, and the trigger is cut into words by the default."""
    plan = plan_of("# escape=`\nFROM base\n", bases=base("ENV A=`$B C=\\$B"))
    assert dict(plan.config.env)["A"] == "$B"
