"""What each instruction becomes: the steps with all that they see, the config, the history.

Config and history are those of BuildKit (moby/buildkit, frontend/dockerfile/dockerfile2llb/convert.go), but for the
`# buildkit` that it adds to the lines of steps.
"""

from __future__ import annotations

import pytest

from builder.dockerfile.checks.warning import Warn
from builder.dockerfile.flags import FLAGS
from builder.dockerfile.syntax import KEYWORDS
from builder.errors import DockerfileError, Span
from builder.oci.image import Healthcheck, ImageConfig
from builder.oci.platform import Platform
from builder.plan.modes import mode
from builder.plan.steps import (
    BaseImage,
    BaseStep,
    ContextOrigin,
    CopySource,
    CopyStep,
    Plan,
    RunStep,
    StageOrigin,
    WorkdirStep,
)
from builder.plan.unexecuted import refuse_unexecuted
from tests.plan.plan_lowered import AMD64, PATH, SETTINGS, lines, plan_of


def runs(plan: Plan) -> list[RunStep]:
    return [step for step in plan.steps if isinstance(step, RunStep)]


def copies(plan: Plan) -> list[CopyStep]:
    return [step for step in plan.steps if isinstance(step, CopyStep)]


def seen(text: str, *, build_args: dict[str, str] | None = None, base: ImageConfig | None = None) -> dict[str, str]:
    """The environment of the last RUN, without what every RUN has."""
    plan = plan_of(text, bases={"base": base or ImageConfig(AMD64)}, settings=SETTINGS._replace(build_args=build_args or {}))
    env = dict(runs(plan)[-1].env)
    return {name: value for name, value in env.items() if name not in ("PATH", "HOSTNAME", "SOURCE_DATE_EPOCH")}


# Steps


def test_a_plan_whole() -> None:
    plan = plan_of(
        "FROM base AS one\nWORKDIR /w\nCOPY a b/\nFROM base\nRUN true\nCOPY --from=one --chown=a:b --chmod=0750 /x y\n"
    )
    base = BaseImage("base", ImageConfig(AMD64))
    assert plan.steps == (
        BaseStep(0, "[one 1/3] FROM base", Span(1, 6, 1, 10), base),
        WorkdirStep(1, "[one 2/3] WORKDIR /w", Span(2, 1, 2, 11), 0, "/w", "", "one"),
        CopyStep(
            2,
            "[one 3/3] COPY a b/",
            Span(3, 1, 3, 10),
            1,
            "COPY",
            ContextOrigin(""),
            (CopySource("a", Span(3, 6, 3, 7)),),
            "/w/b/",
            Span(3, 8, 3, 10),
            "",
            Span(3, 1, 3, 10),
            None,
            False,
            stage="one",
        ),
        RunStep(
            3,
            "[stage-1 2/3] RUN true",
            Span(5, 1, 5, 9),
            0,
            ("/bin/sh", "-c", "true"),
            (("PATH", PATH), ("SOURCE_DATE_EPOCH", "315619200"), ("HOSTNAME", "pybuild")),
            "/",
            "",
            "pybuild",
            "default",
            (),
            64 << 20,
            (),
            stage="stage-1",
            platform=AMD64,
        ),
        CopyStep(
            4,
            "[stage-1 3/3] COPY --from=one --chown=a:b --chmod=0750 /x y",
            Span(6, 1, 6, 46),
            3,
            "COPY",
            StageOrigin(2),
            (CopySource("/x", Span(6, 42, 6, 44)),),
            "/y",
            Span(6, 45, 6, 46),
            "a:b",
            Span(6, 17, 6, 28),
            0o750,
            False,
            stage="stage-1",
        ),
    )
    assert (plan.target, plan.platform, plan.base, plan.skipped, plan.warnings) == (4, AMD64, base, (), ())
    assert [(line.created_by, line.step) for line in plan.history] == [
        ("RUN /bin/sh -c true", 3),
        ("COPY --chown=a:b --chmod=0750 /x y", 4),
    ]


def test_flags_of_copies() -> None:
    """What each does to the step and to the history line (moby/buildkit, dockerfile2llb/convert_copy.go)."""
    plan = plan_of(
        "FROM base\nWORKDIR /w\nARG P=*.md M=go-w\n"
        "COPY --exclude=$P --link --exclude= --parents --exclude='!keep *' --chown=1:2 a/./b c\n"
        "COPY --link --chmod=$M --chown=me a ./\n"
        'COPY --link=false --parents=FALSE a "$NOTHING"\n'
        "ADD --link=TRUE --unpack=false a .\n"
        "ADD --chmod= a b/\n"
    )
    first, second, third, fourth, fifth = copies(plan)
    assert (first.exclude, first.parents, first.link, first.chown) == (("*.md", "!keep *"), True, True, "1:2")
    # With --chmod, --link has no effect in BuildKit: names are looked up, links followed.
    assert (second.link, second.chmod, second.chown, second.dest) == (False, mode("go-w"), "me", "/w/")
    told = [warning.message for warning in plan.warnings if warning.code == "LinkIgnored"]
    assert told == ["COPY --link has no effect beside --chmod, as in BuildKit"]
    assert (third.exclude, third.parents, third.link, third.dest) == ((), False, False, "/w/")
    assert (fourth.link, fourth.unpack) == (True, False)
    assert (fifth.chmod, fifth.link, fifth.unpack) == (None, False, True)
    assert lines(plan)[2:] == [
        "COPY --parents --chown=1:2 a/./b c",
        "COPY --chown=me --chmod=go-w a ./",
        "COPY a ",
        "ADD a .",
        "ADD a b/",
    ]


def test_a_stage_on_a_stage_goes_on_where_that_one_ended() -> None:
    plan = plan_of("FROM base AS a\nENV X=1\nUSER u\nWORKDIR /w\nRUN one\nFROM a\nWORKDIR v\nRUN two\n")
    assert [step.name for step in plan.steps] == [
        "[a 1/3] FROM base",
        "[a 2/3] WORKDIR /w",
        "[a 3/3] RUN one",
        "[stage-1 1/2] WORKDIR v",
        "[stage-1 2/2] RUN two",
    ]
    assert lines(plan) == ["ENV X=1", "USER u", "WORKDIR /w", "RUN /bin/sh -c one", "WORKDIR /w/v", "RUN /bin/sh -c two"]
    last = runs(plan)[-1]
    assert (last.parent, last.cwd, last.user, dict(last.env)["X"]) == (3, "/w/v", "u", "1")


def test_one_base_is_one_step_whoever_names_it() -> None:
    plan = plan_of("FROM base AS a\nRUN x\nFROM base\nCOPY --from=base /a /b\nCOPY --from=a /c /d\n")
    assert [type(step).__name__ for step in plan.steps] == ["BaseStep", "RunStep", "CopyStep", "CopyStep"]
    assert [step.origin for step in copies(plan)] == [StageOrigin(0), StageOrigin(1)]
    assert plan_of("FROM base\nCOPY --from=other /a /b\n").steps[1].name == "[stage-0 2/2] FROM other"


def test_copies_from_contexts() -> None:
    plan = plan_of(
        "FROM base\nCOPY . /\nCOPY --from=Files /a b c/\n",
        settings=SETTINGS._replace(directories=("files",)),
    )
    assert [(step.origin, [source[0] for source in step.sources], step.dest) for step in copies(plan)] == [
        (ContextOrigin(""), ["."], "/"),
        (ContextOrigin("files"), ["/a", "b"], "/c/"),
    ]


def test_switches_of_copy_and_add() -> None:
    text = (
        "FROM base\nADD a /\nADD --unpack=false a /\nADD --unpack a /\nADD --unpack=TRUE --keep-git-dir=false a /\n"
        "COPY --link=false --parents=False a /\n"
    )
    assert [step.unpack for step in copies(plan_of(text))] == [True, False, True, True, False]


def test_settings_reach_run() -> None:
    settings = SETTINGS._replace(
        network="none",
        hosts=(("db", "10.0.0.1"),),
        shm_size=1 << 20,
        build_args={"BUILDKIT_SANDBOX_HOSTNAME": "builder"},
        epoch=7,
    )
    step = runs(plan_of("FROM base\nRUN x\n", settings=settings))[0]
    assert (step.network, step.hosts, step.shm_size, step.hostname) == ("none", (("db", "10.0.0.1"),), 1 << 20, "builder")
    assert dict(step.env) == {"PATH": PATH, "SOURCE_DATE_EPOCH": "7", "HOSTNAME": "builder"}
    assert plan_of("FROM base\nRUN x\n", settings=settings).warnings == ()


def test_network_and_security_of_run() -> None:
    text = "FROM base\nRUN --network=none a\nRUN --network=default b\nRUN --network=host c\nRUN --security=sandbox d\nRUN e\n"
    assert [step.network for step in runs(plan_of(text))] == ["none", "default", "host", "default", "default"]
    offline = SETTINGS._replace(network="none")
    assert [step.network for step in runs(plan_of(text.replace("=host", "=none"), settings=offline))] == ["none"] * 5
    with pytest.raises(DockerfileError) as caught:
        plan_of(text, settings=offline)
    assert caught.value.message == "RUN --network=host is not allowed in a build with --network=none"
    assert caught.value.span == Span(4, 5, 4, 19)


# Variables


def test_global_args_are_invisible_until_they_are_declared() -> None:
    text = "ARG A=1\nARG B=2\nFROM base\nARG A\nRUN x\n"
    assert seen(text) == {"A": "1"}
    assert seen(text, build_args={"A": "3", "B": "4"}) == {"A": "3"}
    assert lines(plan_of(text)) == ["ARG A=1", "RUN |1 A=1 /bin/sh -c x"]


def test_a_default_in_the_stage_beats_the_global_one() -> None:
    assert seen("ARG A=1\nFROM base\nARG A=2\nRUN x\n") == {"A": "2"}
    assert seen("ARG A=1\nFROM base\nARG A=2\nRUN x\n", build_args={"A": "3"}) == {"A": "3"}


def test_an_arg_without_a_value_is_not_set_and_shown_as_empty() -> None:
    text = "FROM base\nARG A B=$A-${A-unset}\nRUN x\n"
    assert seen(text) == {"B": "-unset"}
    assert lines(plan_of(text)) == ["ARG A B=-unset", "RUN |2 A= B=-unset /bin/sh -c x"]
    assert lines(plan_of("FROM base\nARG A=\nRUN x\n")) == ["ARG A=", "RUN |1 A= /bin/sh -c x"]


def test_a_later_arg_of_the_same_name() -> None:
    text = "FROM base\nARG A=1\nARG B=2\nARG A=3\nARG B\nRUN x\n"
    assert seen(text) == {"A": "3", "B": "2"}
    assert lines(plan_of(text))[-1] == "RUN |2 A=3 B=2 /bin/sh -c x"


def test_an_arg_sees_those_before_it_and_env_does_not() -> None:
    assert seen("FROM base\nARG A=1 B=$A\nARG C=$B$B\nRUN x\n") == {"A": "1", "B": "1", "C": "11"}
    assert seen("FROM base\nENV A=1 B=$A\nENV C=$A D=$B A=2\nENV E=$A\nRUN x\n") == {
        "A": "2",
        "B": "",
        "C": "1",
        "D": "",
        "E": "2",
    }


def test_env_beats_arg_whichever_comes_first() -> None:
    for text in ("ENV A=env\nARG A=arg", "ARG A=arg\nENV A=env"):
        plan = plan_of(f"FROM base\n{text}\nLABEL a=$A\nRUN x\n", settings=SETTINGS._replace(build_args={"A": "given"}))
        assert plan.config.labels == (("a", "env"),)
        assert dict(runs(plan)[0].env)["A"] == "env"
        assert lines(plan)[-1] == "RUN |1 A=env /bin/sh -c x"
    assert seen("FROM base\nARG A=arg\nRUN x\n", base=ImageConfig(AMD64, env=(("A", "base"),))) == {"A": "base"}


def test_args_end_with_their_stage_and_pass_to_stages_on_it() -> None:
    assert seen("FROM base AS a\nARG A=1\nFROM base\nRUN x\n") == {}
    assert seen("FROM base AS a\nARG A=1\nFROM a\nRUN x\n") == {"A": "1"}
    # Nor does what a child does reach back.
    plan = plan_of("FROM base AS a\nARG A=1\nFROM a AS b\nARG A=2\nENV E=b\nRUN x\nFROM a\nRUN y\nCOPY --from=b / /\n")
    assert lines(plan) == ["ARG A=1", "RUN |1 A=1 /bin/sh -c y", "COPY / /"]
    assert dict(plan.config.env) == {"PATH": PATH}


def test_an_arg_is_no_env_of_the_image() -> None:
    assert plan_of("FROM base\nARG A=1\nRUN x\n").config.env == (("PATH", PATH),)


def test_platform_args_exist_where_they_are_declared() -> None:
    assert seen("FROM base\nRUN x\n") == {}
    text = (
        "FROM base AS last\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETOSVERSION\n"
        "ARG BUILDPLATFORM BUILDARCH TARGETSTAGE\nRUN x\n"
    )
    assert seen(text) == {
        "TARGETPLATFORM": "linux/amd64",
        "TARGETOS": "linux",
        "TARGETARCH": "amd64",
        "TARGETVARIANT": "",
        "TARGETOSVERSION": "",
        "BUILDPLATFORM": "linux/amd64",
        "BUILDARCH": "amd64",
        "TARGETSTAGE": "last",
    }
    assert seen("FROM base\nARG TARGETARCH=x\nRUN x\n") == {"TARGETARCH": "x"}
    assert seen("FROM base\nARG TARGETARCH\nRUN x\n", build_args={"TARGETARCH": "s390x"}) == {"TARGETARCH": "s390x"}


def test_args_that_speak_to_the_builder_are_no_variables() -> None:
    text = "FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE=true BUILDKIT_X=1\nRUN x\nLABEL a=$BUILDKIT_SBOM_SCAN_STAGE\n"
    assert seen(text) == {"BUILDKIT_X": "1"}
    plan = plan_of(text)
    assert plan.config.labels == (("a", ""),)
    assert lines(plan)[1] == "RUN |2 BUILDKIT_SBOM_SCAN_STAGE=true BUILDKIT_X=1 /bin/sh -c x"


def test_source_date_epoch_is_the_constant_unless_it_is_declared() -> None:
    def epochs(text: str, **build_args: str) -> list[str | None]:
        plan = plan_of(f"FROM base\n{text}\nRUN x\n", settings=SETTINGS._replace(build_args=build_args))
        return [dict(step.env).get("SOURCE_DATE_EPOCH") for step in runs(plan)]

    assert epochs("RUN y") == ["315619200", "315619200"]
    assert epochs("RUN y", SOURCE_DATE_EPOCH="5") == ["315619200", "315619200"]
    assert epochs("RUN y\nARG SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH="5") == ["315619200", "5"]
    assert epochs("ARG SOURCE_DATE_EPOCH=6") == ["6"]
    # Declared, and nobody says a value: the Dockerfile has it as it asked for it.
    assert epochs("ARG SOURCE_DATE_EPOCH") == [None]
    assert epochs("ENV SOURCE_DATE_EPOCH=8", SOURCE_DATE_EPOCH="5") == ["8"]


def test_proxies_reach_run_in_both_cases_and_no_history() -> None:
    settings = SETTINGS._replace(build_args={"http_proxy": "http://a", "NO_PROXY": "b", "All_Proxy": "c", "ftp_proxy": ""})
    plan = plan_of("FROM base\nRUN x\nARG http_proxy\nRUN y\n", settings=settings)
    first, second = runs(plan)
    both = [("ALL_PROXY", "c"), ("HTTP_PROXY", "http://a"), ("NO_PROXY", "b"), ("all_proxy", "c")]
    assert first.proxy == (*both, ("http_proxy", "http://a"), ("no_proxy", "b"))
    assert "http_proxy" not in dict(first.env)
    # Declared, it is a variable like others.
    assert second.proxy == (*both, ("no_proxy", "b"))
    assert dict(second.env)["http_proxy"] == "http://a"
    # Of two spellings the one that is declared may be the one without a value.
    (only,) = (
        step
        for step in plan_of("FROM base\nARG NO_PROXY\nARG no_proxy\nRUN x\n", settings=settings).steps
        if isinstance(step, RunStep)
    )
    assert ("no_proxy", "b") in only.proxy and ("NO_PROXY", "b") not in only.proxy
    assert dict(only.env)["NO_PROXY"] == "b"
    assert lines(plan) == ["RUN /bin/sh -c x", "ARG http_proxy=http://a", "RUN |1 http_proxy=http://a /bin/sh -c y"]
    assert plan.warnings == ()


def test_unused_build_args_are_named_with_what_was_probably_meant() -> None:
    settings = SETTINGS._replace(
        build_args={
            "VERSON": "1",
            "OTHER": "2",
            "GLOBAL": "3",
            "SOURCE_DATE_EPOCH": "4",
            "TARGETARCH": "5",
            "BUILDKIT_SANDBOX_HOSTNAME": "h",
            "BUILDKIT_INLINE_CACHE": "1",
            "BUILDKIT_MULTI_PLATFORM": "1",
            "HTTPS_PROXY": "6",
            "UNNEEDED": "7",
        }
    )
    plan = plan_of("ARG GLOBAL\nFROM base AS unneeded\nARG UNNEEDED\nFROM base\nARG VERSION\n", settings=settings)
    assert [tuple(warn) for warn in plan.warnings] == [
        ("UnusedBuildArg", "--build-arg BUILDKIT_MULTI_PLATFORM has no effect here", None),
        ("UnusedBuildArg", "--build-arg OTHER is not declared by any ARG", None),
        ("UnusedBuildArg", "--build-arg VERSON is not declared by any ARG (did you mean 'VERSION'?)", None),
    ]


def test_the_escape_directive_holds_in_words() -> None:
    plan = plan_of("# escape=`\nFROM base\nENV A=`$x B=c:\\dir\\ C=a` b\n")
    assert plan.config.env[1:] == (("A", "$x"), ("B", "c:\\dir\\"), ("C", "a b"))


# Environment and labels


def test_quotes_and_legacy_forms_of_env_and_label() -> None:
    text = (
        "FROM base\n"
        'ENV A="a b" B=\'c $A\' C=d\\ e "F"=g\n'
        'ENV G  the   rest "of" it $B\n'
        "ENV A=new\n"
        'LABEL k=v "k 2"="v\\"2" k3=\n'
        "LABEL old form of 'it'\n"
        "LABEL k=again\n"
    )
    plan = plan_of(text)
    assert plan.config.env == (
        ("PATH", PATH),
        ("A", "new"),
        ("B", "c $A"),
        ("C", "d e"),
        ("F", "g"),
        ("G", "the   rest of it c $A"),
    )
    assert plan.config.labels == (("k", "again"), ("k 2", 'v"2'), ("k3", ""), ("old", "form of it"))
    assert lines(plan) == [
        "ENV A=a b B=c $A C=d e F=g",
        "ENV G=the   rest of it c $A",
        "ENV A=new",
        'LABEL k=v k 2=v"2 k3=',
        "LABEL old=form of it",
        "LABEL k=again",
    ]


def test_env_keeps_the_place_of_what_the_base_has() -> None:
    base = ImageConfig(AMD64, env=(("B", "1"), ("PATH", "/bin"), ("A", "2")), labels=(("z", "1"),))
    plan = plan_of("FROM base\nENV A=$B PATH=$PATH:/x C=$PATH\nLABEL a=2\n", bases={"base": base})
    assert plan.config.env == (("B", "1"), ("PATH", "/bin:/x"), ("A", "1"), ("C", "/bin"))
    assert plan.config.labels == (("a", "2"), ("z", "1"))
    # A damaged base may name a variable twice: it stays so.
    twice = ImageConfig(AMD64, env=(("A", "1"), ("PATH", "/bin"), ("A", "2")))
    plan = plan_of("FROM base\nENV B=$A\nUSER u\nENV C=$B\n", bases={"base": twice})
    assert plan.config.env == (("A", "1"), ("PATH", "/bin"), ("A", "2"), ("B", "2"), ("C", "2"))


def test_labels_of_the_command_line_come_last() -> None:
    plan = plan_of("FROM base\nLABEL a=1 b=2\n", settings=SETTINGS._replace(labels=(("b", "3"), ("c", "4"))))
    assert plan.config.labels == (("a", "1"), ("b", "3"), ("c", "4"))
    assert lines(plan) == ["LABEL a=1 b=2"]


# Commands


def test_entrypoint_resets_the_inherited_cmd_and_not_its_own() -> None:
    base = ImageConfig(AMD64, entrypoint=("old",), cmd=("base",))

    def commands(text: str) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        config = plan_of(f"FROM base AS a\n{text}", bases={"base": base}).config
        return config.entrypoint, config.cmd

    assert commands("") == (("old",), ("base",))
    assert commands('ENTRYPOINT ["e"]\n') == (("e",), None)
    assert commands('CMD ["c"]\nENTRYPOINT ["e"]\n') == (("e",), ("c",))
    assert commands('ENTRYPOINT ["e"]\nCMD ["c"]\n') == (("e",), ("c",))
    assert commands("CMD []\n") == (("old",), ())
    assert commands("ENTRYPOINT []\n") == ((), None)
    # For the child stage the CMD of its parent is inherited.
    assert commands('CMD ["c"]\nFROM a\nENTRYPOINT ["e"]\n') == (("e",), None)


def test_shell_changes_the_shell_form_of_run_cmd_and_entrypoint() -> None:
    text = (
        'FROM base\nRUN a\nSHELL ["/bin/bash", "-eo", "pipefail", "-c"]\nRUN b | c\nRUN ["d", "$e"]\nCMD f "g"\nENTRYPOINT h\n'
        "HEALTHCHECK CMD i\n"
    )
    plan = plan_of(text)
    shell = ("/bin/bash", "-eo", "pipefail", "-c")
    assert [step.argv for step in runs(plan)] == [("/bin/sh", "-c", "a"), (*shell, "b | c"), ("d", "$e")]
    assert (plan.config.shell, plan.config.cmd, plan.config.entrypoint) == (shell, (*shell, 'f "g"'), (*shell, "h"))
    assert plan.config.healthcheck == Healthcheck(("CMD-SHELL", "i"))
    assert lines(plan)[1:5] == [
        "SHELL [/bin/bash -eo pipefail -c]",
        "RUN /bin/bash -eo pipefail -c b | c",
        "RUN d $e",
        'CMD ["/bin/bash" "-eo" "pipefail" "-c" "f \\"g\\""]',
    ]
    inherited = plan_of("FROM base\nRUN a\nCMD b\n", bases={"base": ImageConfig(AMD64, shell=("/bin/ash", "-c"))})
    assert (runs(inherited)[0].argv, inherited.config.cmd) == (("/bin/ash", "-c", "a"), ("/bin/ash", "-c", "b"))


def test_commands_are_not_expanded() -> None:
    plan = plan_of('FROM base\nENV A=1\nRUN echo $A \\\n  # no part of it\n  "${A}"\nCMD ["$A"]\nENTRYPOINT $A\n')
    assert runs(plan)[0].argv[-1] == 'echo $A   "${A}"'
    assert (plan.config.cmd, plan.config.entrypoint) == (("$A",), ("/bin/sh", "-c", "$A"))


def test_healthcheck() -> None:
    text = (
        "FROM base\n"
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1.5h --start-interval=500ms --retries=4 "
        "CMD curl -f x || exit 1\n"
    )
    plan = plan_of(text)
    assert plan.config.healthcheck == Healthcheck(
        ("CMD-SHELL", "curl -f x || exit 1"), 90 * 10**9, 3 * 10**9, 5400 * 10**9, 500 * 10**6, 4
    )
    assert lines(plan) == [
        "HEALTHCHECK {Test:[CMD-SHELL curl -f x || exit 1] Interval:1m30s Timeout:3s StartPeriod:1h30m0s StartInterval:500ms "
        "Retries:4}"
    ]
    plan = plan_of('FROM base\nHEALTHCHECK --interval=0 --retries=+2 --timeout="" CMD ["a", "b c"]\n')
    assert plan.config.healthcheck == Healthcheck(("CMD", "a", "b c"), 0, 0, 0, 0, 2)
    assert lines(plan) == ["HEALTHCHECK {Test:[CMD a b c] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}"]


def test_healthcheck_none_takes_the_inherited_one_away() -> None:
    base = ImageConfig(AMD64, healthcheck=Healthcheck(("CMD", "x"), 5))
    plan = plan_of("FROM base\n", bases={"base": base})
    assert plan.config.healthcheck == Healthcheck(("CMD", "x"), 5)
    plan = plan_of("FROM base\nHEALTHCHECK --interval=3s none\n", bases={"base": base})
    assert plan.config.healthcheck == Healthcheck(("NONE",))
    assert lines(plan) == ["HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"]
    # BuildKit passes over the flag; here at least one is told.
    assert plan.warnings == (Warn("HealthcheckFlag", "--interval has no effect on HEALTHCHECK NONE", Span(2, 13, 2, 26)),)


# The rest of the config


def test_workdirs_are_chained_and_cleaned() -> None:
    plan = plan_of("FROM base\nENV D=sub\nWORKDIR a\nWORKDIR $D/../b/\nWORKDIR /c//./d\nWORKDIR ../../..\nRUN x\nCOPY f .\n")
    assert lines(plan)[1:5] == ["WORKDIR /a", "WORKDIR /a/b", "WORKDIR /c/d", "WORKDIR /"]
    assert [step.path for step in plan.steps if isinstance(step, WorkdirStep)] == ["/a", "/a/b", "/c/d"]
    assert [line.step for line in plan.history] == [None, 1, 2, 3, None, 4, 5]
    assert (plan.config.workdir, runs(plan)[0].cwd, copies(plan)[0].dest) == ("/", "/", "/")


def test_a_workdir_of_the_base_is_where_a_relative_one_begins() -> None:
    base = ImageConfig(AMD64, workdir="/base", user="u:g")
    plan = plan_of("FROM base\nRUN x\nWORKDIR y\nUSER 0\nWORKDIR z\nCOPY a b\n", bases={"base": base})
    assert runs(plan)[0].cwd == "/base"
    made = [(step.path, step.user) for step in plan.steps if isinstance(step, WorkdirStep)]
    assert made == [("/base/y", "u:g"), ("/base/y/z", "0")]
    assert copies(plan)[0].dest == "/base/y/z/b"


def test_user() -> None:
    plan = plan_of('FROM base\nARG U=me\nUSER "$U:staff"\nRUN x\nUSER 1000\nRUN y\n')
    assert [step.user for step in runs(plan)] == ["me:staff", "1000"]
    assert lines(plan)[1::2] == ["USER me:staff", "USER 1000"]
    assert plan.config.user == "1000"


def test_expose() -> None:
    text = 'FROM base\nARG P="53/udp 54/UDP" N\nEXPOSE 80 8000-8002 $P "$N" 80/tcp\nEXPOSE 80:81\n'
    plan = plan_of(text, bases={"base": ImageConfig(AMD64, exposed=frozenset({"9/tcp"}))})
    assert plan.config.exposed == {
        "9/tcp",
        "80/tcp",
        "8000/tcp",
        "8001/tcp",
        "8002/tcp",
        "53/udp",
        "54/udp",
        "81/tcp",
    }
    assert lines(plan)[1:] == ["EXPOSE [53/udp 54/udp 80/tcp 80/tcp 8000/tcp 8001/tcp 8002/tcp]", "EXPOSE [81/tcp]"]
    proto = "Defined protocol '54/UDP' in EXPOSE instruction should be lowercase"
    host = "EXPOSE instruction should not define an IP address or host-port mapping, found '80:81'"
    assert plan.warnings == (
        Warn("ExposeProtoCasing", proto, Span(3, 21, 3, 23)),
        Warn("ExposeInvalidFormat", host, Span(4, 8, 4, 13)),
    )


def test_volumes_stopsignal_and_maintainer() -> None:
    text = (
        'FROM base\nENV D=/data\nVOLUME $D /b\\ c "/data"\nVOLUME ["$D/x", "/y z"]\n'
        "STOPSIGNAL SIG${S:-QUIT}\nMAINTAINER Me $D <m@x>\n"
    )
    plan = plan_of(text, bases={"base": ImageConfig(AMD64, volumes=frozenset({"/base"}), stop_signal="9", author="them")})
    assert plan.config.volumes == {"/base", "/data", "/b", "c", "/data/x", "/y z"}
    assert (plan.config.stop_signal, plan.config.author) == ("SIGQUIT", "Me $D <m@x>")
    assert lines(plan)[1:] == [
        "VOLUME [/data /b c /data]",
        "VOLUME [/data/x /y z]",
        "STOPSIGNAL SIGQUIT",
        "MAINTAINER Me $D <m@x>",
    ]


def test_what_a_base_says_is_inherited_whole() -> None:
    base = ImageConfig(
        Platform("linux", "amd64", "v2"),
        "author",
        (("A", "1"), ("PATH", "/p")),
        "user",
        "/w",
        ("e",),
        ("c",),
        frozenset({"1/tcp"}),
        frozenset({"/v"}),
        (("l", "1"),),
        "9",
        Healthcheck(("CMD", "h")),
        ("s",),
        (),
        '{"config":{"New":[1]},"image":{"os.version":"x"}}',
    )
    plan = plan_of("FROM base\n", bases={"base": base})
    assert plan.config == base
    assert plan.base.config == base
    # What the target says beats it.
    arm = SETTINGS._replace(platform=Platform("linux", "amd64", "v3"))
    assert plan_of("FROM base\n", bases={"base": base}, settings=arm).config == base._replace(platform=arm.platform)


def test_path_is_set_where_the_base_has_none() -> None:
    assert plan_of("FROM scratch\n").config.env == (("PATH", PATH),)
    empty = ImageConfig(AMD64, env=(("PATH", ""), ("A", "1")))
    assert plan_of("FROM base\n", bases={"base": empty}).config.env == (("PATH", ""), ("A", "1"))


def test_a_dockerfile_of_many_variables_is_lowered_in_no_time() -> None:
    text = "FROM base\n" + "".join(f"ENV V{n}=${{V{n - 1}}}x\n" for n in range(1, 501))
    assert dict(plan_of(text).config.env)["V500"] == "x" * 500


# Nothing is ignored in silence

REFUSED = {
    "RUN": {"device": "a.b/c=d"},
}
"""Flags that are refused, with the value for which they are."""

EXECUTED = {
    "FROM": {"platform": "linux/amd64"},
    "RUN": {"mount": "type=tmpfs,target=/x", "network": "none", "security": "insecure"},
    "COPY": {"from": "0", "chown": "1", "chmod": "1", "link": "true", "parents": "true", "exclude": "x"},
    "ADD": {
        "chown": "1",
        "chmod": "u+x",
        "link": "true",
        "exclude": "x",
        "keep-git-dir": "true",
        "unpack": "false",
        "checksum": "abc",
    },
    "HEALTHCHECK": {"interval": "1s", "timeout": "1s", "start-period": "1s", "start-interval": "1s", "retries": "1"},
}
ARGUMENTS = {"FROM": "base", "RUN": "x", "COPY": "a b", "ADD": "git@a:b c", "HEALTHCHECK": "CMD x"}


def test_every_flag_is_executed_or_refused() -> None:
    for keyword, flags in FLAGS.items():
        assert set(flags) == set(EXECUTED.get(keyword, {})) | set(REFUSED.get(keyword, {}))
    for keyword, values in REFUSED.items():
        for name, value in values.items():
            with pytest.raises(DockerfileError, match=r"is not executed yet$"):
                plan_of(f"FROM base\nFROM base\n{keyword} --{name}={value} {ARGUMENTS[keyword]}\n")
    for keyword, values in EXECUTED.items():
        for name, value in values.items():
            assert plan_of(f"FROM base\nFROM base\n{keyword} --{name}={value} {ARGUMENTS[keyword]}\n").warnings == ()


def test_what_a_plan_may_hold_is_refused_before_a_step_runs() -> None:
    """Whichever it is, cached or not: nothing was built meanwhile."""
    for flag, message in (("security=insecure", "RUN --security=insecure is not allowed"),):
        plan = plan_of(f"FROM base\nRUN x\nRUN --{flag} x\n")
        with pytest.raises(DockerfileError) as caught:
            refuse_unexecuted(plan)
        assert (caught.value.message, caught.value.span and caught.value.span.line) == (message, 3)
        with pytest.raises(DockerfileError) as caught:
            refuse_unexecuted(plan_of(f"FROM base AS a\nONBUILD RUN --{flag} x\nFROM a\n"))
        assert caught.value.message == f"{message}, in the trigger 'ONBUILD RUN --{flag} x'"
        assert caught.value.span == Span(3, 6, 3, 7)
    refuse_unexecuted(plan_of("FROM base\nRUN --security=sandbox --network=none x\n"))
    refuse_unexecuted(plan_of("FROM base\nRUN --security=insecure x\n"), frozenset({"security.insecure"}))


def test_every_instruction_leaves_a_line_in_the_history() -> None:
    arguments = {
        **ARGUMENTS,
        "ARG": "A",
        "ENV": "A=1",
        "LABEL": "a=1",
        "MAINTAINER": "m",
        "WORKDIR": "/w",
        "USER": "u",
        "STOPSIGNAL": "9",
        "EXPOSE": "80",
        "VOLUME": "/v",
        "CMD": "x",
        "ENTRYPOINT": "x",
        "SHELL": '["/s"]',
    }
    for keyword in KEYWORDS:
        if keyword == "ONBUILD":
            # As BuildKit has it.
            assert lines(plan_of("FROM base\nONBUILD RUN x\n")) == []
        elif keyword != "FROM":
            (line,) = lines(plan_of(f"FROM base\n{keyword} {arguments[keyword]}\n"))
            assert line.startswith(f"{keyword} ")
