"""`pybuild check` and `build --check`: whole outputs, written by hand; a store left as it is; and what a build shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.check import Report
from builder.cli import check_formats
from builder.dockerfile.checks.warning import Warn
from builder.errors import DockerfileError, SourceFile, Span
from tests.conftest import ROOT, Pybuild

DOCKERFILE = """# syntax=docker/dockerfile:1
FROM base as build
ENV KIND=$KNOWN
COPY hidden/file /
FROM other
ENV X=$MAY_BE_SET
WORKDIR $MAY_BE_SET
COPY --from=build / /out
CMD run \\
    this
"""

TEXT = """Check complete, 3 warnings have been found!

WARNING: FromAsCasing - docs/checks/from-as-casing.md
'as' and 'FROM' keywords' casing do not match
Dockerfile:2
--------------------
   1 |     # syntax=docker/dockerfile:1
   2 | >>> FROM base as build
   3 |     ENV KIND=$KNOWN
   4 |     COPY hidden/file /
--------------------

WARNING: CopyIgnoredFile - docs/checks/copy-ignored-file.md
Attempting to Copy file "hidden/file" that is excluded by .dockerignore
Dockerfile:4
--------------------
   2 |     FROM base as build
   3 |     ENV KIND=$KNOWN
   4 | >>> COPY hidden/file /
   5 |     FROM other
   6 |     ENV X=$MAY_BE_SET
--------------------

WARNING: JSONArgsRecommended - docs/checks/json-args-recommended.md
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:9
--------------------
   8 |     COPY --from=build / /out
   9 | >>> CMD run \\
  10 | >>>     this
  11 |
--------------------
"""
NOTE = "note: the base 'other' is not on this machine: variables that it may set are not checked\n"


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that a write would change: names, modes, times, contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    (context / "hidden").mkdir(parents=True)
    (context / "hidden" / "file").write_text("x")
    (context / ".dockerignore").write_text("hidden\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    return context


def test_a_check_sees_the_store_and_leaves_it_alone(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nENV KNOWN=1\n")
    assert pybuild("-q", "-t", "base", "--build-context", f"busybox={busybox_base}", tmp_path).returncode == 0
    before = tree(pybuild.store)
    done = pybuild("check", ".", cwd=context)
    assert (done.returncode, done.stdout, done.stderr) == (3, TEXT, NOTE)
    # The same by a build's flags; a target needs its own stages alone, and the platform's ARGs are there.
    done = pybuild("build", "--check", "--target=build", "-f", "-", ".", cwd=context, stdin=DOCKERFILE.encode())
    assert done.stdout == TEXT.partition("\nWARNING: JSON")[0].replace("3 warnings", "2 warnings")
    assert (done.returncode, done.stderr) == (3, "")
    assert tree(pybuild.store) == before


def test_no_store_is_made(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nARG A\nCOPY Dockerfile /$A\n")
    done = pybuild("build", "--call=check", context)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Check complete, no warnings found.\n", "")
    assert not pybuild.store.exists()


def test_an_error_comes_after_the_warnings(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch AS A\nCOPY --from=B x y\nCPY x y\n")
    done = pybuild("check", "--format=json", ".", cwd=context)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout) == {
        "v": 1,
        "dockerfile": "Dockerfile",
        "warnings": [],
        "unseen_bases": [],
        "error": {
            "message": "unknown instruction 'CPY'",
            "file": "Dockerfile",
            "line": 3,
            "column": 1,
            "hint": "did you mean 'COPY'?",
            "exit_code": 3,
            "code": None,
            "tail": [],
            "cancelled": [],
        },
    }
    (context / "Dockerfile").write_text("FROM scratch AS A\nMAINTAINER m\nCOPY --from=0 x $NON\n")
    done = pybuild("check", "--build-arg", "NO=1", ".", cwd=context)
    assert done.returncode == 3
    # Without a place first; then from the top down, and what broke in the end.
    assert [line for line in done.stdout.splitlines() if line.startswith("WARNING")] == [
        "WARNING: StageNameCasing - docs/checks/stage-name-casing.md",
        "WARNING: MaintainerDeprecated - docs/checks/maintainer-deprecated.md",
    ]
    assert done.stderr == (
        "Dockerfile:3:6: error: COPY --from=0 copies from its own stage\n"
        "  3 | COPY --from=0 x $NON\n"
        "    |      ^^^^^^^^\n"
        "  hint: name another stage\n"
    )


@pytest.mark.parametrize("sample", ["hello", "web"])
def test_the_samples_give_no_alarm(pybuild: Pybuild, sample: str) -> None:
    done = pybuild("check", ROOT / "sample_projects" / sample)
    assert (done.returncode, done.stdout) == (0, "Check complete, no warnings found.\n")


# The formats

SOURCE = SourceFile("a,b:c/Dockerfile", "FROM x\r\nRUN \x1b[31m%\n" + "y" * 300 + "\n")


def test_github_commands_cannot_be_forged() -> None:
    warnings = (
        Warn("UndefinedVar", "100%\r\n::error::x: a, b", Span(2, 5, 2, 7)),
        Warn("CopyIgnoredFile", "two lines", Span(1, 2, 2, 4)),
        Warn("UnusedBuildArg", "no place"),
    )
    error = DockerfileError("broken", Span(3, 1, 3, 1), hint="mend, it", source=SourceFile("../other", ""))
    assert check_formats.github(Report(SOURCE, warnings, (), error), "") == (
        "::warning file=a%2Cb%3Ac/Dockerfile,line=2,endLine=2,col=5,endColumn=6,title=UndefinedVar"
        "::100%25%0D%0A::error::x: a, b\n"
        "::warning file=a%2Cb%3Ac/Dockerfile,line=1,endLine=2,col=2,title=CopyIgnoredFile::two lines\n"
        "::warning file=a%2Cb%3Ac/Dockerfile,title=UnusedBuildArg::no place\n"
        "::error file=../other,line=3,endLine=3,col=1,endColumn=1::broken%0Ahint: mend, it\n"
    )


def test_text_shows_nothing_that_acts_on_a_terminal() -> None:
    warnings = (Warn("UnusedBuildArg", "\x1b[2Jno\nplace"), Warn("JSONArgsRecommended", "m", Span(2, 1, 3, 5)))
    shown = check_formats.text(Report(SOURCE, warnings, (), None))
    assert shown == (
        "Check complete, 2 warnings have been found!\n"
        "\nWARNING: UnusedBuildArg\nno place\n"
        "\nWARNING: JSONArgsRecommended - docs/checks/json-args-recommended.md\nm\na,b:c/Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM x\n"
        "   2 | >>> RUN %\n"
        f"   3 | >>> {'y' * 197}...\n"
        "   4 |\n"
        "--------------------\n"
    )


def test_json_of_warnings() -> None:
    warnings = (Warn("UnusedBuildArg", "é"), Warn("JSONArgsRecommended", "m", Span(2, 1, 3, 5)))
    shown = json.loads(check_formats.as_json(Report(SOURCE, warnings, ("base",), None)))
    nowhere = {"line": None, "column": None, "end_line": None, "end_column": None}
    assert shown == {
        "v": 1,
        "dockerfile": "a,b:c/Dockerfile",
        "warnings": [
            {"rule": "UnusedBuildArg", "message": "é", "description": None, "page": None, **nowhere},
            {
                "rule": "JSONArgsRecommended",
                "message": "m",
                "description": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior"
                " related to OS signals",
                "page": "json-args-recommended",
                "line": 2,
                "column": 1,
                "end_line": 3,
                "end_column": 5,
            },
        ],
        "unseen_bases": ["base"],
        "error": None,
    }
    documented = (ROOT / "docs" / "check.md").read_text()
    for field in (*shown, *shown["warnings"][0]):
        assert f"| `{field}` |" in documented


# Builds


def test_a_build_tells_at_its_end_and_fails_where_it_is_asked_to(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch as a\nARG API_KEY\nCOPY $NONE/Dockerfile /x\n")
    told = (
        "Dockerfile:1:14: warning: 'as' and 'FROM' keywords' casing do not match (FromAsCasing)\n"
        "Dockerfile:2:5: warning: Do not use ARG or ENV instructions for sensitive data"
        ' (ARG "API_KEY") (SecretsUsedInArgOrEnv)\n'
        "Dockerfile:3:6: warning: Usage of undefined variable '$NONE' (UndefinedVar)\n"
    )
    for _ in range(2):  # the second one has its tree from the cache
        done = pybuild("--progress=plain", ".", cwd=context)
        assert done.returncode == 0 and f"\n{told}\nbuilt in " in done.stderr
    done = pybuild("-q", ".", cwd=context)
    assert (done.returncode, done.stderr) == (0, "")
    done = pybuild("--progress=json", ".", cwd=context)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    warnings = [event for event in events if event["type"] == "warning"]
    place = {"line": 3, "column": 6, "file": "Dockerfile"}
    assert warnings[2] == {
        "v": 1,
        "type": "warning",
        "at": warnings[2]["at"],
        "code": "UndefinedVar",
        "message": "Usage of undefined variable '$NONE'",
        **place,
    }
    done = pybuild("--progress=plain", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", ".", cwd=context)
    assert (done.returncode, done.stderr) == (
        3,
        f"{told}\nDockerfile:1:14: error: lint violation found for rules: FromAsCasing, SecretsUsedInArgOrEnv, UndefinedVar\n"
        "  1 | FROM scratch as a\n"
        "    |              ^^\n"
        "  hint: mend what the warnings say, or leave a rule out: # check=skip=NAME;error=true\n",
    )


def test_credentials_are_shown_by_no_command(pybuild: Pybuild, tmp_path: Path) -> None:
    """A check shows the lines around a warning, and a plan the addresses that it fetches from."""
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch as it\nADD https://me:canary@example.com/f?token=canary2 /f\nADD https://me:canary@example.com/x.git /g\n"
    )
    for command in (["check"], ["check", "--format=json"], ["build", "--print-plan"], ["build", "--call=outline"]):
        done = pybuild(*command, tmp_path)
        assert "canary" not in done.stdout + done.stderr
        assert "example.com" in done.stdout or "outline" in command[-1] or "json" in command[-1]


def test_a_printed_plan_is_checked_as_a_build_is(pybuild: Pybuild, tmp_path: Path) -> None:
    text = "FROM scratch as it\nCOPY Dockerfile /\n"
    for directive, code, told in (("", 0, True), ("# check=skip=all\n", 0, False), ("# check=error=true\n", 3, True)):
        (tmp_path / "Dockerfile").write_text(directive + text)
        done = pybuild("build", "--print-plan", tmp_path)
        assert (done.returncode, "casing do not match" in done.stderr) == (code, told), done.stderr
