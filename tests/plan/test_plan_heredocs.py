"""What heredocs become in the plan: commands, scripts, files, and their lines of history (moby/buildkit,
dockerfile2llb/convert.go dispatchRun, convert_copy.go; reference, "Here-Documents")."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.oci.image import ImageConfig
from builder.plan.steps import CopySource, CopyStep, InlineSource, Plan, RunStep, Script
from tests.plan.plan_lowered import AMD64, lines, plan_of


def run_of(text: str, before: str = "") -> RunStep:
    step = plan_of(f"FROM base\n{before}{text}").steps[-1]
    assert isinstance(step, RunStep)
    return step


SH = ("/bin/sh", "-c")


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        # Alone on its line it is what the shell runs; nothing is expanded, quoted or not.
        ("RUN <<EOF\necho $A\n\techo b\nEOF\n", (*SH, "echo $A\n\techo b\n"), None),
        ("RUN <<'EOF'\necho $A\nEOF\n", (*SH, "echo $A\n"), None),
        ("RUN <<-EOF\n\techo a\n\t\t echo b\n\tEOF\n", (*SH, "echo a\n echo b\n"), None),
        ("RUN 3<<EOF\nx\nEOF\n", (*SH, "x\n"), None),
        ("RUN <<EOF\nEOF\n", (*SH, ""), None),
        ("RUN --network=none \\\n << EOF\nx\nEOF\n", (*SH, "x\n"), None),
        # A shebang: its own interpreter, by way of the shell.
        ("RUN <<EOF\n#!/bin/awk -f\nBEGIN\nEOF\n", (*SH, "/dev/pipes/EOF"), Script("EOF", b"#!/bin/awk -f\nBEGIN\n")),
        ("RUN <<-'A.py'\n\t#!/p\n\té\nA.py\n", (*SH, "/dev/pipes/A.py"), Script("A.py", "#!/p\né\n".encode())),
        ("RUN <<EOF\n #!/bin/awk -f\nEOF\n", (*SH, " #!/bin/awk -f\n"), None),
        # With anything else on the line, the shell reads them itself, tabs and all.
        ("RUN <<EOF python3\n#!x\nEOF\n", (*SH, "<<EOF python3\n#!x\nEOF"), None),
        ('RUN cat <<A && cat <<-"B"\na\nA\n\tb\n\tB\n', (*SH, 'cat <<A && cat <<-"B"\na\nA\n\tb\nB'), None),
        # What looks like something else, and CRLF.
        ("RUN <<EOF\n# no comment\nFROM x \\\nEOF\n", (*SH, "# no comment\nFROM x \\\n"), None),
        ("RUN <<EOF\r\na\r\nEOF\r\n", (*SH, "a\r\n"), None),
        # The JSON form has none: its strings are quoted.
        ('RUN ["cat", "<<EOF"]\n', ("cat", "<<EOF"), None),
    ],
)
def test_run(text: str, argv: tuple[str, ...], script: Script | None) -> None:
    step = run_of(text, "ENV A=1\n")
    assert (step.argv, step.script) == (argv, script)


def test_the_shell_and_the_args_of_the_stage() -> None:
    plan = plan_of('FROM base\nARG A=1\nSHELL ["/bin/awk"]\nRUN <<EOF\nBEGIN\nEOF\nRUN <<X\n#!/a\nX\n')
    assert [step.argv for step in plan.steps if isinstance(step, RunStep)] == [
        ("/bin/awk", "BEGIN\n"),
        ("/bin/awk", "/dev/pipes/X"),
    ]
    assert lines(plan)[2:] == ["RUN |1 A=1 /bin/awk BEGIN\n", "RUN |1 A=1 /bin/awk /dev/pipes/X"]


def test_names_show_what_a_script_begins_with() -> None:
    plan = plan_of(
        "FROM base\nRUN <<EOF\n\n  one  \ntwo\nEOF\nRUN <<EOF\none\nEOF\nRUN <<EOF sh\none\nEOF\nRUN <<EOF\nEOF\n"
        "COPY <<EOF /x\none\nEOF\n"
    )
    assert [step.name.partition("] ")[2] for step in plan.steps[1:]] == [
        "RUN <<EOF (one ...)",
        "RUN <<EOF (one)",
        "RUN <<EOF sh",
        "RUN <<EOF ()",
        "COPY <<EOF /x",
    ]


def copy_of(text: str) -> tuple[CopyStep, Plan]:
    plan = plan_of(f"FROM base\nARG name=world\n{text}")
    step = plan.steps[-1]
    assert isinstance(step, CopyStep)
    return step, plan


def sources(text: str) -> list[str | tuple[str, bytes]]:
    step, _ = copy_of(text)
    found: list[str | tuple[str, bytes]] = []
    for source in step.sources:
        assert isinstance(source, CopySource | InlineSource)
        found.append(source.path if isinstance(source, CopySource) else (source.name, source.data))
    return found


@pytest.mark.parametrize("keyword", ["COPY", "ADD"])
def test_files(keyword: str) -> None:
    """moby/buildkit, dockerfile_heredoc_test.go, testHeredocVarSubstitution and testCopyHeredocSpecialSymbols."""
    for mark, body, expected in (
        ("<<EOF", "Hello ${name}!", "Hello world!"),
        ("<<'EOF'", "Hello ${name}!", "Hello ${name}!"),
        ('<<"EOF"', "Hello ${name}!", "Hello ${name}!"),
        ("<<EOF", "Hello '${name}' \"$name\"!", "Hello 'world' \"world\"!"),
        ("<<EOF", '"quotes in file"', '"quotes in file"'),
        ("<<EOF", "\\", ""),
        ("<<EOF", "\\\\", "\\"),
        ("<<EOF", "\\$", "$"),
        ('<<"EOF"', "\\", "\\"),
        ('<<"EOF"', "\\\\", "\\\\"),
        ('<<"EOF"', "\\$", "\\$"),
        ("<<EOF", "\tfoo", "\tfoo"),
        ("<<-EOF", "\t\tfoo\t", "foo\t"),
        ("<<-'EOF'", "\t$name", "$name"),
        ("<<EOF", "# RUN x\r", "# RUN x\r"),
        ("<<EOF", "${unset:-$name} $unset.", "world ."),
    ):
        assert sources(f"{keyword} {mark} /x\n{body}\nEOF\n") == [("EOF", f"{expected}\n".encode())], (mark, body)


def test_several_after_the_other_sources() -> None:
    text = "COPY --chown=1 <<a s1 <<-'b' s$name /d/\n$name\na\n\t$name\n\tb\n"
    assert sources(text) == ["s1", "sworld", ("a", b"world\n"), ("b", b"$name\n")]
    assert lines(copy_of(text)[1])[1:] == ["COPY --chown=1 s1 sworld <<a <<b /d/"]


def test_the_escape_character_does_not_reach_into_bodies() -> None:
    plan = plan_of("# escape=`\nFROM base\nENV A=1\nCOPY <<EOF `\n  /x\n`$A \\$A `\nEOF\n")
    step = plan.steps[-1]
    assert isinstance(step, CopyStep)
    (source,) = step.sources
    assert isinstance(source, InlineSource)
    assert (source.data, step.dest) == (b"`1 $A `\n", "/x")


def test_of_a_trigger() -> None:
    base = ImageConfig(AMD64, env=(("A", "1"),), onbuild=("RUN <<-X\n\t#!/a\nX", "COPY <<Y <<'Z' /d/\n$A\nY\n$A\nZ"))
    plan = plan_of("FROM base\n", bases={"base": base})
    run, copy = plan.steps[1:]
    assert isinstance(run, RunStep) and isinstance(copy, CopyStep)
    assert run.script == Script("X", b"#!/a\n")
    assert [source.data for source in copy.sources if isinstance(source, InlineSource)] == [b"1\n", b"$A\n"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=8), max_size=6),
    st.sampled_from(["EOF", "a-b", "x.y"]),
)
def test_a_quoted_body_is_the_file_as_it_stands(body: list[str], name: str) -> None:
    kept = [line for line in body if line.rstrip("\r") != name]
    text = "".join(f"{line}\n" for line in kept)
    assert sources(f"COPY <<'{name}' /x\n{text}{name}\n") == [(name, text.encode())]
    script = run_of(f"RUN <<'{name}'\n#!/x\n{text}{name}\n").script
    assert script == Script(name, f"#!/x\n{text}".encode())
