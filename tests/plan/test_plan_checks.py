"""The 22 rules against golden cases, whose expected lines were written by hand from BuildKit's tests and its reference; and
what must hold of every case, whatever it is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.dockerfile import codec
from builder.dockerfile.checks import pages
from builder.dockerfile.checks.options import Options, parse
from builder.dockerfile.checks.rules import RULES
from builder.dockerfile.checks.suggest import near
from builder.dockerfile.ignore import Matcher
from builder.errors import DockerfileError, Span, UsageError, render
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from tests.plan.plan_checks import FOLDER, checked, parsed, read

CASES = sorted(path.stem for path in FOLDER.glob("*.case"))
DOCS = Path(__file__).parents[2] / "docs" / "checks"


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    case = read(name)
    dockerfile = parsed(case.dockerfile)
    warnings, error = checked(
        dockerfile, build_args=case.build_args, leaves_nothing_of=case.ignore.leaves_nothing_of, bases=case.bases
    )
    assert warnings == case.warnings
    if error is None:
        assert not case.error
    else:
        assert case.error and error.message.startswith(case.error), error.message


@pytest.mark.parametrize("name", CASES)
def test_line_ends_and_a_cached_tree_make_no_difference(name: str) -> None:
    case = read(name)
    for dockerfile in (parsed(case.dockerfile.replace("\n", "\r\n")), parsed("\ufeff" + case.dockerfile)):
        cached = codec.load(codec.dump(dockerfile), dockerfile.source)
        for tree in (dockerfile, cached):
            warnings, _ = checked(
                tree, build_args=case.build_args, leaves_nothing_of=case.ignore.leaves_nothing_of, bases=case.bases
            )
            assert warnings == case.warnings


@pytest.mark.parametrize("name", [name for name in CASES if read(name).warnings])
def test_every_rule_can_be_left_out(name: str) -> None:
    case = read(name)
    given = case.build_args.get("BUILDKIT_DOCKERFILE_CHECK") or parsed(case.dockerfile).directives.check or ""
    options = parse(given)
    for rule in {warning.code for warning in case.warnings} & set(RULES):
        skip = [*options.skip, rule] if options.skip != ("all",) else ["all"]
        experimental = [name for name in options.experimental if name != rule and name != "all"]
        text = f"skip={','.join(skip)};experimental={','.join(experimental)}"
        warnings, _ = checked(
            parsed(case.dockerfile),
            build_args={**case.build_args, "BUILDKIT_DOCKERFILE_CHECK": text},
            leaves_nothing_of=case.ignore.leaves_nothing_of,
            bases=case.bases,
        )
        # The places of names in the directive are no matter here.
        expected = [warning for warning in case.warnings if warning.code not in (rule, "UnknownCheck")]
        assert [warning for warning in warnings if warning.code != "UnknownCheck"] == expected


def test_every_rule_has_cases_on_both_sides() -> None:
    told = {warning.code for name in CASES for warning in read(name).warnings}
    assert set(RULES) <= told
    assert all(read(name).source for name in CASES)
    assert len([name for name in CASES if not read(name).warnings]) >= 22


# The pages


def test_the_pages_are_what_the_rules_say() -> None:
    assert len(RULES) == 22
    on_disk = {path.name: path.read_text() for path in DOCS.iterdir()}
    assert on_disk == pages.pages(), "run `make docs`"


def examples(name: str) -> list[tuple[str, str]]:
    """What the page says of each of its Dockerfiles, and the Dockerfile."""
    page = pages.pages()[f"{RULES[name].page}.md"]
    return re.findall(r"\n([^\n]+):\n\n```dockerfile\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("name", RULES)
def test_the_examples_of_a_page_are_true(name: str) -> None:
    ignore = Matcher.parse("tests/\n", ".dockerignore")
    arm = ImageConfig(Platform("linux", "arm64"))
    found = examples(name)
    assert found and found[0][0].startswith("Warned of")
    for what, text in found:
        warnings, _ = checked(
            parsed(text),
            build_args={"BUILDKIT_DOCKERFILE_CHECK": "experimental=all", "TAG": "3.20"},
            leaves_nothing_of=ignore.leaves_nothing_of,
            bases={"tool-for-arm": arm},
        )
        codes = {warning.code for warning in warnings}
        assert (name in codes) == what.startswith("Warned of"), text
        if what.startswith("Warned of"):
            first = next(warning for warning in warnings if warning.code == name)
            assert first.message in pages.pages()[f"{RULES[name].page}.md"]


# Options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", Options()),
        ("skip=A", Options(("A",))),
        (" skip = A , B ; error = True ", Options(("A", "B"), (), True)),
        ("experimental=all;skip=all", Options(("all",), ("all",))),
        ("error=0", Options()),
        ("skip=A;skip=B", Options(("B",))),
    ],
)
def test_options(text: str, options: Options) -> None:
    assert parse(text) == options


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("all", "invalid check option 'all'", "as in # check=skip=JSONArgsRecommended;error=true"),
        ("skpi=A", "invalid check option 'skpi'", "did you mean 'skip'?"),
        ("error=yes", "the check option 'error' is true or false, not 'yes'", "write error=true"),
        ("skip=A;", "invalid check option ''", "as in # check=skip=JSONArgsRecommended;error=true"),
    ],
)
def test_options_that_are_none(text: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        checked(parsed(f"# syntax=docker/dockerfile:1\n# check={text}\nFROM scratch\n"))
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.span == Span(2, 1, 2, 9 + len(text)) and caught.value.source is not None
    with pytest.raises(UsageError) as usage:
        checked(parsed("FROM scratch\n"), build_args={"BUILDKIT_DOCKERFILE_CHECK": text})
    assert usage.value.message == f"{message}, in --build-arg BUILDKIT_DOCKERFILE_CHECK"


def test_a_failing_check_points_at_its_first_warning() -> None:
    warnings, error = checked(parsed("# check=error=true\nFROM scratch AS A\nCMD x\nCMD y\n"))
    assert error is not None and error.exit_code == 3
    rules = "StageNameCasing, JSONArgsRecommended, MultipleInstructionsDisallowed"
    assert (error.message, error.span) == (f"lint violation found for rules: {rules}", Span(2, 17, 2, 18))
    # Warnings of our own, and none at all, do not fail.
    warnings, error = checked(parsed("# check=error=true\nFROM scratch\n"), build_args={"NO": "1"})
    assert (len(warnings), error) == (1, None)


# Near names


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("PAHT", ["HOME", "PATH"], "PATH"),
        ("DIR_ASSET", ["DIR_BINARIES", "DIR_ASSETS"], "DIR_ASSETS"),
        ("foo", ["FOO"], ""),
        ("ab", ["abcd", "abc", "xab"], "abc"),
        ("a", ["a", "b"], ""),
        ("kitten", ["sitting"], ""),
        ("", ["ab", "abc"], "ab"),
    ],
)
def test_near(name: str, known: list[str], found: str) -> None:
    assert near(name, known) == found


def slow_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(slow_distance(a[1:], b) + 1, slow_distance(a, b[1:]) + 1, slow_distance(a[1:], b[1:]) + (a[0] != b[0]))


@settings(max_examples=100)
@given(st.text("ab", max_size=4), st.text("abc", min_size=1, max_size=4))
def test_near_is_fewer_than_three_edits(name: str, other: str) -> None:
    assert (near(name, [other]) == other) == (0 < slow_distance(name, other) < 3)


# Any Dockerfile

_LINES = st.sampled_from(
    [line for name in CASES for line in read(name).dockerfile.split("\n")]
    + ["", "\\", "#", "# check=skip=all", "  \\", "FROM", "AS x", "$", "${", "RUN <<EOF", "EOF", "\t", "ONBUILD COPY $x y"]
)


@settings(max_examples=200, deadline=None)
@example(["FROM --platform=linux/arm64 scratch"], "", 0)
@given(st.lists(_LINES, max_size=8), st.text("$\\\"'{}`# \n\tA=:/.", max_size=6), st.integers(0, 200))
def test_checks_never_raise_on_what_parses(lines: list[str], noise: str, at: int) -> None:
    """Beyond the errors that the Dockerfile itself is told."""
    text = "\n".join(["FROM scratch AS one", *lines])
    text = text[:at] + noise + text[at:]
    try:
        dockerfile = parsed(text)
        warnings, _ = checked(dockerfile, leaves_nothing_of=Matcher.parse("a\n*.txt\n!b\n", "x").leaves_nothing_of)
    except DockerfileError:
        return
    count = text.count("\n") + 1
    for warning in warnings:
        assert warning.span is None or 1 <= warning.span.line <= warning.span.end_line <= count
        render(DockerfileError(warning.message, warning.span, source=dockerfile.source))
