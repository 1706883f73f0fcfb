"""In which instructions variables, quotes and escapes mean something: those of the Dockerfile reference, "Environment
replacement", and of moby/buildkit, frontend/dockerfile/instructions/commands.go (what has an Expand, and of what)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builder.errors import DockerfileError
from builder.plan.steps import CopySource, CopyStep, Plan, RunStep, WorkdirStep
from tests.plan.plan_lowered import SETTINGS, plan_of

FORMS = [
    ("$V", "1"),
    ("${V}2", "12"),
    ('"$V"', "1"),
    ("'$V'", "$V"),
    ("\\$V", "$V"),
    ("a\\ b", "a b"),
    ("${N:-$V}", "1"),
    ("$N;", ";"),
]
"""Words, and what becomes of them where they are expanded."""


def last(plan: Plan) -> Any:
    return plan.steps[-1]


def copied(plan: Plan) -> CopyStep:
    step = last(plan)
    assert isinstance(step, CopyStep)
    return step


def path(plan: Plan) -> str:
    return path_of(copied(plan))


def path_of(step: CopyStep) -> str:
    source = step.sources[0]
    assert isinstance(source, CopySource)
    return source.path


EXPANDED: dict[str, tuple[str, Callable[[Plan], str]]] = {
    "ARG default": ("ARG A={}\nLABEL x=$A", lambda plan: dict(plan.config.labels)["x"]),
    "ENV value": ("ENV A={}", lambda plan: dict(plan.config.env)["A"]),
    "ENV name": ("ENV {}=x", lambda plan: plan.config.env[-1][0]),
    "ENV, legacy": ("ENV A {}", lambda plan: dict(plan.config.env)["A"]),
    "LABEL value": ("LABEL A={}", lambda plan: dict(plan.config.labels)["A"]),
    "LABEL name": ("LABEL {}=x", lambda plan: plan.config.labels[-1][0]),
    "LABEL, legacy": ("LABEL A {}", lambda plan: dict(plan.config.labels)["A"]),
    "WORKDIR": ("WORKDIR /{}", lambda plan: last(plan).path[1:]),
    "USER": ("USER {}", lambda plan: plan.config.user),
    "VOLUME": ("VOLUME /{}", lambda plan: min(plan.config.volumes)[1:]),
    "COPY source": ("COPY {} /d", lambda plan: path(plan)),
    "COPY destination": ("COPY s /{}", lambda plan: copied(plan).dest[1:]),
    "COPY --chown": ("COPY --chown='{}' s /d", lambda plan: copied(plan).chown),
    "ADD source": ("ADD {} /d", lambda plan: path(plan)),
    "ADD destination": ("ADD s /{}", lambda plan: copied(plan).dest[1:]),
}

SPACE_SPLITS = {"VOLUME", "COPY source", "COPY destination", "ADD source", "ADD destination"}
"""Where white space ends a word before quotes and escapes are looked at."""


@pytest.mark.parametrize("where", EXPANDED)
@pytest.mark.parametrize(("word", "expected"), FORMS)
def test_expanded(where: str, word: str, expected: str) -> None:
    template, found = EXPANDED[where]
    if where == "COPY --chown" and word[0] in "'\\a":
        # A flag's own quotes and escapes are taken out first.
        return
    if " " in word and where in SPACE_SPLITS:
        return
    assert found(plan_of(f"FROM base\nARG V=1\n{template.format(word)}\n")) == expected


@pytest.mark.parametrize(
    ("instruction", "found", "expected"),
    [
        ('COPY ["$V", "/${V}"]', lambda plan: (path(plan), copied(plan).dest), ("1", "/1")),
        ('ADD ["a\\\\$V", "/d"]', lambda plan: path(plan), "a$V"),
        ('VOLUME ["/$V", "/\'$V\'"]', lambda plan: plan.config.volumes, {"/1", "/$V"}),
        ("COPY --chmod=0$V s /d", lambda plan: copied(plan).chmod, 1),
        ("EXPOSE $V 2$V/udp", lambda plan: plan.config.exposed, {"1/tcp", "21/udp"}),
        ('ARG P="80 90"\nEXPOSE $P "$V"', lambda plan: plan.config.exposed, {"80/tcp", "90/tcp", "1/tcp"}),
        ("STOPSIGNAL $V", lambda plan: plan.config.stop_signal, "1"),
        # And where nothing is: a shell will, or nobody.
        ("RUN echo $V \"${V}\" \\$V 'a'", lambda plan: last(plan).argv[-1], "echo $V \"${V}\" \\$V 'a'"),
        ('RUN ["$V"]', lambda plan: last(plan).argv, ("$V",)),
        ("CMD echo $V", lambda plan: plan.config.cmd, ("/bin/sh", "-c", "echo $V")),
        ('CMD ["$V"]', lambda plan: plan.config.cmd, ("$V",)),
        ("ENTRYPOINT $V", lambda plan: plan.config.entrypoint, ("/bin/sh", "-c", "$V")),
        ('ENTRYPOINT ["$V"]', lambda plan: plan.config.entrypoint, ("$V",)),
        ("HEALTHCHECK CMD curl $V '$V'", lambda plan: plan.config.healthcheck.test, ("CMD-SHELL", "curl $V '$V'")),
        ('HEALTHCHECK CMD ["$V"]', lambda plan: plan.config.healthcheck.test, ("CMD", "$V")),
        ('SHELL ["/$V", "-c"]', lambda plan: plan.config.shell, ("/$V", "-c")),
        ("MAINTAINER $V 'x'", lambda plan: plan.config.author, "$V 'x'"),
    ],
)
def test_other_forms(instruction: str, found: Callable[[Plan], object], expected: object) -> None:
    assert found(plan_of(f"FROM base\nARG V=1\n{instruction}\n")) == expected


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("ARG V=1\nFROM base:$V\n", "base:1"),
        ("ARG V=1\nFROM ${N:-base}\n", "base"),
        ("ARG V=1\nFROM 'base'\n", "base"),
        ('ARG V=1\nFROM "base:$V"\n', "base:1"),
        ("FROM base:$V\n", "base:"),
    ],
)
def test_from(text: str, base: str) -> None:
    assert plan_of(text).base.name == base


def test_from_platform() -> None:
    assert plan_of("FROM --platform=$BUILDPLATFORM base\n").steps[0].name == "[stage-0 1/1] FROM base"
    assert plan_of("ARG P=linux\nFROM --platform=${P}/amd64 base\n").steps[0].name == "[stage-0 1/1] FROM base"


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("COPY --from=$V a b", "--from takes no variables"),
        ("HEALTHCHECK --retries=$V CMD x", "the flag '--retries' is a number, 0 or more, not '$V'"),
        ("HEALTHCHECK --interval=$V CMD x", "the flag '--interval' is a duration, not '$V'"),
        ("RUN --network=$V x", "the flag '--network' is one of default, none, host, not '$V'"),
        ("COPY --link=$V a b", "the flag '--link' is true or false, not '$V'"),
    ],
)
def test_flags_that_take_no_variables(instruction: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan_of(f"FROM base\nARG V=1\n{instruction}\n")
    assert caught.value.message == message


def test_an_instruction_sees_the_environment_as_it_was_before_it() -> None:
    plan = plan_of("FROM base\nENV a=0\nENV a=1 b=$a c=${a}$b\nENV d=$a\n")
    assert dict(plan.config.env)["b"] == "0"
    assert (dict(plan.config.env)["c"], dict(plan.config.env)["d"]) == ("0", "1")
    assert dict(plan_of("FROM base\nENV a=1\nLABEL a=2 b=$a\n").config.labels) == {"a": "2", "b": "1"}
    # The names of one ARG are declared one after another.
    assert dict(plan_of("FROM base\nARG a=1 b=$a\nLABEL l=$b\n").config.labels) == {"l": "1"}


def test_the_other_escape_character_holds_in_all() -> None:
    plan = plan_of("# escape=`\nFROM base\nARG V=1\nENV a=`$V b=\\$V\nWORKDIR /`$V\nCOPY c`:\\$V /d\nRUN x\n")
    env = dict(plan.config.env)
    assert (env["a"], env["b"]) == ("$V", "\\1")
    work, copy, run = plan.steps[1:]
    assert isinstance(work, WorkdirStep) and isinstance(copy, CopyStep) and isinstance(run, RunStep)
    assert (work.path, path_of(copy), run.cwd) == ("/$V", "c:\\1", "/$V")


def test_build_args_are_values_and_no_words() -> None:
    settings = SETTINGS._replace(build_args={"V": "$X'\"\\"})
    assert dict(plan_of("FROM base\nARG V\nLABEL l=$V\n", settings=settings).config.labels) == {"l": "$X'\"\\"}
