"""The plain and the quiet reader: whole outputs of scripted builds, written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, SourceFile, Span, StepError
from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    BuildWarning,
    Debug,
    Event,
    ExportFinished,
    Notice,
    PlanReady,
    SandboxChosen,
    StepExplained,
    StepFinished,
    StepLog,
    StepStarted,
    Transfer,
)
from builder.report.plain import Plain
from builder.report.quiet import Quiet

DOCKERFILE = SourceFile("Dockerfile", "FROM base\nRUN make\nRUN false\n")
ID = "sha256:" + "a" * 64
MANIFEST = "sha256:" + "b" * 64


def shown(*script: tuple[float, Event], color: bool = False, explain: bool = False) -> str:
    out: list[str] = []
    reader = Plain(out.append, color=color, explain=explain)
    for now, event in script:
        reader.handle(event, now)
    reader.close(script[-1][0] if script else 0.0)
    return "".join(out)


def test_a_build() -> None:
    assert (
        shown(
            (0.0, BuildStarted("Dockerfile", ".", "")),
            (0.0, PlanReady(3)),
            (0.1, StepFinished(1, "[build 1/3] FROM base", 1, "cached", 0.0, ID, 10)),
            (1.0, StepStarted(2, "[build 2/3] RUN make", 2)),
            (1.123, StepLog(2, b"cc -c a.c\ncc -c")),
            (1.5, StepLog(2, b" b.c\r\n10%\r20%\r")),
            (1.75, StepLog(2, b"\x1b[32mok\x1b[0m")),
            (2.0, BuildWarning("UnusedArg", "the build arg 'X' is not used", 0)),
            (2.0, StepFinished(2, "[build 2/3] RUN make", 2, "done", 1.0, ID, 10)),
            (2.0, BuildWarning("JSONArgsRecommended", "JSON arguments recommended for CMD", 3)),
            (2.0, StepFinished(3, '[build 3/3] CMD ["x"]', 3, "done", 0.0, "", 0)),
            (2.5, ExportFinished("type=oci,dest=out.tar", MANIFEST, 1_234_567, 0.5)),
            (2.5, ExportFinished("type=local,dest=out", "", 500, 0.1)),
            (
                2.6,
                BuildFinished(ID, ("docker.io/library/a:latest", "docker.io/library/b:1"), 20, 2, 2, 1, ("test", "docs"), 2.6),
            ),
        )
        == f"""\
#1 [build 1/3] FROM base
#1 CACHED

#2 [build 2/3] RUN make
#2 0.123 cc -c a.c
#2 0.500 cc -c b.c
#2 1.000 ok
#2 DONE 1.0s

#3 [build 3/3] CMD ["x"]
#3 DONE 0.0s

warning: the build arg 'X' is not used (UnusedArg)
Dockerfile:3: warning: JSON arguments recommended for CMD (JSONArgsRecommended)

built docker.io/library/a:latest, docker.io/library/b:1 in 2.6s
  image id  {ID}
  size      20 B in 2 layers
  steps     2 ran, 1 cached
  skipped   test, docs
  wrote     type=oci,dest=out.tar {MANIFEST}, 1.2 MB in 0.5s
  wrote     type=local,dest=out, 500 B in 0.1s
"""
    )


def test_a_failure_with_another_step_beside_it() -> None:
    error = StepError("the command failed with exit code 2", Span(3, 1, 3, 10), source=DOCKERFILE, code=2, tail=("no such",))
    assert (
        shown(
            (0.0, StepStarted(2, "[a 1/1] RUN make", 2)),
            (0.0, StepStarted(3, "[b 1/1] RUN false", 3)),
            (0.1, StepLog(2, b"half")),
            (0.2, StepLog(3, b"no such\n")),
            (0.3, StepLog(2, b" line\n")),
            (0.4, StepFinished(3, "[b 1/1] RUN false", 3, "failed", 0.4, "", 0)),
            (0.5, StepLog(2, b"bye")),
            (0.5, StepFinished(2, "[a 1/1] RUN make", 2, "cancelled", 0.5, "", 0)),
            (0.6, BuildFailed(error, 0.6)),
        )
        == """\
#2 [a 1/1] RUN make

#3 [b 1/1] RUN false
#3 0.200 no such
#2 0.300 half line
#3 ERROR 0.4s
#2 0.500 bye
#2 CANCELED

Dockerfile:3:1: error: the command failed with exit code 2
  3 | RUN false
    | ^^^^^^^^^
  last output:
    no such
"""
    )


def test_an_error_before_the_first_step_stands_alone() -> None:
    failed = BuildFailed(BuildError("no Dockerfile", hint="make one"), 0.0)
    assert shown((0.0, failed)) == "error: no Dockerfile\n  hint: make one\n"


def test_a_failure_still_tells_warnings_and_outputs() -> None:
    assert (
        shown(
            (0.0, BuildWarning("W", "careful")),
            (0.0, ExportFinished("out", "", 0, 0.0)),
            (0.0, BuildFailed(BuildError("no space"), 0.0)),
        )
        == "warning: careful (W)\n\n  wrote     out, 0 B in 0.0s\nerror: no space\n"
    )


def test_an_image_without_a_name() -> None:
    assert shown((0.0, BuildFinished(ID, (), 0, 1, 0, 0, (), 65.0))) == (
        f"built in 1m05s\n  image id  {ID}\n  size      0 B in 1 layer\n  steps     0 ran, 0 cached\n"
    )


def test_what_comes_after_the_end_is_shown_too() -> None:
    text = shown((0.0, BuildFinished(ID, (), 0, 0, 0, 0, (), 0.0)), (0.0, ExportFinished("out", MANIFEST, 5, 1.0)))
    assert text.endswith(f"  wrote     out {MANIFEST}, 5 B in 1.0s\n")


def test_a_stream_that_breaks_off_loses_nothing() -> None:
    assert shown((0.0, StepStarted(1, "s", 1)), (0.5, StepLog(1, b"half")), (1.0, BuildWarning("W", "w"))) == (
        "#1 s\n#1 1.000 half\nwarning: w (W)\n"
    )


def test_debug_lines_and_notices() -> None:
    assert shown((0.0, Notice("fetching\x1b[2J"))) == "fetching\n"
    assert shown((0.0, SandboxChosen("userns", "its ids\x1b[2J"))) == "sandbox: userns, its ids\n"
    assert shown((0.0, Debug("'--rm' was ignored\x1b[2J"))) == "debug: '--rm' was ignored\n"


def test_names_of_a_hostile_dockerfile_are_neutralised() -> None:
    name = "RUN a\x1b[2J\n#9 DONE"
    assert shown((0.0, StepFinished(1, name, 1, "cached", 0.0, "", 0))) == "#1 RUN a #9 DONE\n#1 CACHED\n"


def test_colors() -> None:
    text = shown((0.0, StepStarted(1, "s", 1)), (0.0, StepLog(1, b"\x1b[31mred\n\x1b[Hhome\n")), color=True)
    assert text == "#1 s\n#1 0.000 \x1b[31mred\x1b[0m\n#1 0.000 home\n"


LINE = re.compile(r"#(\d) (?:\d+\.\d{3}(?: (.*))?|DONE 0\.0s|step \d)")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 3), st.text(alphabet="ab\n", max_size=5))))
def test_lines_of_steps_are_never_mixed(chunks: Sequence[tuple[int, str]]) -> None:
    script: list[tuple[float, Event]] = [(0.0, StepStarted(step, f"step {step}", 1)) for step in (1, 2, 3)]
    script += [(0.0, StepLog(step, text.encode())) for step, text in chunks]
    script += [(0.0, StepFinished(step, f"step {step}", 1, "done", 0.0, "", 0)) for step in (1, 2, 3)]
    seen: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for line in filter(None, shown(*script).splitlines()):
        match = LINE.fullmatch(line)
        assert match, line
        if " 0.000" in line:
            seen[int(match[1])].append(match[2] or "")
    for step in (1, 2, 3):
        assert seen[step] == "".join(text for number, text in chunks if number == step).splitlines()


EXPLAINED: list[tuple[float, Event]] = [
    (0.0, StepStarted(2, "RUN make", 2)),
    (0.5, StepLog(2, b"half")),
    (1.0, StepExplained(2, "RUN make", 2, (("arg", "ARG A: a -> b", 0), ("command", "command: \x1b[2Jx -> y", 0)))),
    (1.0, StepFinished(2, "RUN make", 2, "done", 1.0, "", 0)),
    (1.0, StepExplained(3, "RUN more", 3, (("never-built", "never built", 0),))),
    (1.0, StepFinished(3, "RUN more", 3, "failed", 1.0, "", 0)),
]


def test_reasons_stand_below_their_step_when_they_are_asked_for() -> None:
    assert (
        shown(*EXPLAINED, explain=True)
        == """\
#2 RUN make
#2 1.000 half
#2 WHY ARG A: a -> b
#2 WHY command: x -> y
#2 DONE 1.0s

#3 RUN more
#3 WHY never built
#3 ERROR 1.0s
"""
    )
    assert "WHY" not in shown(*EXPLAINED)


def test_quiet_shows_errors_alone() -> None:
    out: list[str] = []
    reader = Quiet(out.append)
    reader.handle(BuildStarted("Dockerfile", ".", ""), 0.0)
    reader.handle(StepStarted(1, "s", 1), 0.0)
    reader.handle(StepLog(1, b"text\n"), 0.0)
    reader.handle(BuildWarning("W", "w"), 0.0)
    assert out == []
    reader.handle(BuildFailed(StepError("it failed", tail=("text",)), 0.0), 0.0)
    reader.close(0.0)
    assert "".join(out) == "error: it failed\n  last output:\n    text\n"


def test_transfers_show_where_they_begin_and_end() -> None:
    script = [(float(at), Transfer("pulling a\x1b[2J", at * 1_000_000, 2_000_000)) for at in range(3)]
    assert shown(*script, (3.0, Transfer("pushing b", 0, 0))) == (
        "pulling a: 2.0 MB\npulling a: DONE 2.0s\npushing b: all is there\n"
    )
