"""What a person sees of an error: `render`, and the near name that a hint suggests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import (
    BuildError,
    DockerfileError,
    Interrupted,
    RegistryError,
    SandboxError,
    SourceFile,
    Span,
    StepError,
    StoreError,
    UsageError,
    did_you_mean,
    nearest,
    render,
)

DOCKERFILE = SourceFile("app/Dockerfile", "FROM busybox AS build\r\nRUN make\nCOPY --from=biuld /x /y\n\tRUN\t$A\n")


def test_the_message_the_line_the_caret_and_the_hint() -> None:
    error = DockerfileError("unknown stage 'biuld'", Span(3, 13, 3, 18), hint="did you mean 'build'?", source=DOCKERFILE)
    assert render(error) == (
        "app/Dockerfile:3:13: error: unknown stage 'biuld'\n"
        "  3 | COPY --from=biuld /x /y\n"
        "    |             ^^^^^\n"
        "  hint: did you mean 'build'?"
    )


def test_a_message_alone() -> None:
    assert render(UsageError("there is no context")) == "error: there is no context"


def test_a_file_without_a_place_in_it() -> None:
    error = UsageError("the Dockerfile is empty", source=DOCKERFILE, hint="write a FROM")
    assert render(error) == "app/Dockerfile: error: the Dockerfile is empty\n  hint: write a FROM"


def test_the_line_end_of_windows_is_not_shown() -> None:
    error = DockerfileError("no", Span(1, 15, 1, 22), source=DOCKERFILE)
    assert render(error).splitlines()[1:] == ["  1 | FROM busybox AS build", "    |               ^^^^^^^"]


def test_tabs_keep_the_caret_in_its_column() -> None:
    error = DockerfileError("no", Span(4, 6, 4, 8), source=DOCKERFILE)
    assert render(error).splitlines()[1:] == ["  4 | \tRUN\t$A", "    | \t   \t^^"]


def test_of_a_span_over_several_lines_all_are_shown_and_the_first_is_marked() -> None:
    error = DockerfileError("no", Span(2, 5, 3, 5), source=DOCKERFILE)
    assert render(error).splitlines()[1:] == ["  2 | RUN make", "    |     ^^^^", "  3 | COPY --from=biuld /x /y"]


def test_of_a_span_over_many_lines_the_first_eight_are_shown() -> None:
    source = SourceFile("D", "\n".join(f"line {number} \\" for number in range(1, 30)))
    error = DockerfileError("no", Span(7, 1, 17, 5), source=source)
    shown = render(error).splitlines()[1:]
    assert shown[:3] == ["   7 | line 7 \\", "     | ^^^^^^^^", "   8 | line 8 \\"]
    assert shown[-2:] == ["  14 | line 14 \\", "     | ... and 3 more"]
    assert len(shown) == 10
    error = DockerfileError("no", Span(7, 1, 14, 5), source=source)
    assert render(error).splitlines()[-1] == "  14 | line 14 \\"


def test_an_empty_line_of_a_span_has_no_space_at_its_end() -> None:
    error = DockerfileError("no", Span(1, 1, 3, 2), source=SourceFile("D", "RUN a \\\n\nb"))
    assert render(error).splitlines()[1:] == ["  1 | RUN a \\", "    | ^^^^^^^", "  2 |", "  3 | b"]


def test_a_place_behind_the_end_of_the_line_has_one_caret() -> None:
    error = DockerfileError("no", Span(2, 9, 2, 9), source=DOCKERFILE)
    assert render(error).splitlines()[1:] == ["  2 | RUN make", "    |         ^"]


def test_line_numbers_of_several_digits() -> None:
    error = DockerfileError("no", Span(12, 1, 12, 4), source=SourceFile("D", "\n" * 11 + "RUN"))
    assert render(error).splitlines()[1:] == ["  12 | RUN", "     | ^^^"]


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    source = SourceFile("D", "a" * 1_000_000 + "b" + "c" * 1_000_000)
    error = DockerfileError("no", Span(1, 1_000_001, 1, 1_000_002), source=source)
    assert render(error).splitlines()[1:] == [f"  1 | {'a' * 60}b{'c' * 59}", f"    | {' ' * 60}^"]


def test_a_failed_command_shows_its_last_lines() -> None:
    error = StepError("the command failed with code 2", Span(2, 1, 2, 9), source=DOCKERFILE, code=2, tail=("cc x.c", "no x.c"))
    assert render(error) == (
        "app/Dockerfile:2:1: error: the command failed with code 2\n"
        "  2 | RUN make\n"
        "    | ^^^^^^^^\n"
        "  last output:\n"
        "    cc x.c\n"
        "    no x.c"
    )


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    source = SourceFile("\x1b[2JD", "a\x1b]0;\x07b\x9b\u202e c")
    error = StepError("bad '\x1b[31m'", Span(1, 11, 1, 12), source=source, hint="not \x08", tail=("\x1b[2J\udcff",))
    assert render(error) == (
        "\\x1b[2JD:1:11: error: bad '\\x1b[31m'\n"
        "  1 | a\\x1b]0;\\x07b\\x9b\\u202e c\n"
        # The caret counts what is shown.
        "    |                         ^\n"
        "  last output:\n"
        "    \\x1b[2J\\udcff\n"
        "  hint: not \\x08"
    )


def test_colours_change_nothing_but_colour() -> None:
    error = DockerfileError("no", Span(3, 13, 3, 18), hint="yes", source=DOCKERFILE)
    colored = render(error, color=True)
    assert "\x1b[" in colored
    assert re.sub("\x1b\\[[0-9]+m", "", colored) == render(error)
    assert all(line.count("\x1b[0m") >= 1 for line in colored.splitlines() if "\x1b[" in line)


_TEXT = st.text(st.sampled_from("a\tb\n\r\x1b\x9b한\u202e\udcff") | st.characters(categories=None), max_size=30)
_NUMBER = st.integers(1, 40)


@settings(max_examples=200)
@given(_TEXT, _TEXT, _TEXT, st.builds(Span, _NUMBER, _NUMBER, _NUMBER, _NUMBER), st.booleans())
def test_any_error_is_printable(name: str, text: str, message: str, span: Span, color: bool) -> None:
    shown = render(DockerfileError(message, span, hint=message, source=SourceFile(name, text)), color=color)
    plain = re.sub("\x1b\\[[0-9]+m", "", shown) if color else shown
    assert all(char.isprintable() or char in "\n\t" for char in plain)
    shown.encode()


def test_an_error_learns_its_place_once() -> None:
    error = DockerfileError("no", Span(1, 1, 1, 2))
    other = SourceFile("other", "x")
    assert error.at(DOCKERFILE, Span(2, 1, 2, 2)) is error
    assert (error.source, error.span) == (DOCKERFILE, Span(1, 1, 1, 2))
    error.at(other, Span(9, 9, 9, 9))
    assert (error.source, error.span) == (DOCKERFILE, Span(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BuildError("x"), 1),
        (StepError("x", code=77), 1),
        (UsageError("x"), 2),
        (DockerfileError("x"), 3),
        (RegistryError("x"), 5),
        (SandboxError("x"), 6),
        (StoreError("x"), 7),
        (Interrupted(2), 130),
        (Interrupted(15), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BuildError) else str(value),
)
def test_exit_codes(error: BuildError, code: int) -> None:
    """SPEC section 3."""
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "FROM busybox AS build"), (2, "RUN make"), (5, ""), (6, ""), (0, ""), (-1, "")],
)
def test_lines_of_a_source(number: int, expected: str) -> None:
    assert DOCKERFILE.line(number) == expected


STAGES = ["build", "base", "test", "runtime"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("biuld", "build"),
        ("buld", "build"),
        ("builds", "build"),
        ("BUILD", "build"),
        ("bse", "base"),
        ("rntme", None),
        ("runtimes", "runtime"),
        ("rutnime", "runtime"),
        ("tst", "test"),
        ("deploy", None),
        ("x", None),
        ("", None),
        ("build-everything-in-one-go", None),
    ],
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, STAGES) == expected
    assert did_you_mean(name, STAGES) == (f"did you mean '{expected}'?" if expected else None)


def test_the_nearest_of_several_wins_and_the_first_of_equals() -> None:
    assert nearest("teste", ["tests", "teste2", "tester"]) == "tests"
    assert nearest("copyy", ["coppy", "copy"]) == "coppy"
    assert nearest("copyy", ["copy", "coppy"]) == "copy"
    assert nearest("copy", []) is None


def test_very_different_lengths_are_never_near() -> None:
    assert nearest("a" * 300, ["a" * 309]) is None
    assert nearest("a" * 300, ["a" * 308]) == "a" * 308
