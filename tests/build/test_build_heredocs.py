"""Heredocs through the whole program: what commands find and write, what files come of them, and no trace of either."""

from __future__ import annotations

from pathlib import Path

from tests.build.build_shipped import Member, a_dir, a_file, pack, refused, run_build, ship
from tests.conftest import Pybuild

RUNS = r"""
FROM busybox AS build
COPY --from=extra keep /dest/
ARG name=world
RUN <<EOF
echo "i am" >> /dest/basic
whoami >> /dest/basic
EOF
RUN <<EOF
#!/bin/awk -f
BEGIN {
	print "hello" >> "/dest/awk"
}
EOF
RUN <<-EOF
	#!/bin/awk -f
	BEGIN {
		print "world" >> "/dest/awk"
	}
EOF
RUN cat <<EOF1 | tr '[:upper:]' '[:lower:]' > /dest/out1; \
	cat <<EOF2 | tr '[:lower:]' '[:upper:]' > /dest/out2
hello WORLD
EOF1
HELLO world
EOF2
RUN <<EOF 3<<IN1 4<<IN2 awk -f -
BEGIN {
	while ((getline line < "/proc/self/fd/3") > 0)
		print tolower(line) > "/dest/fd3"
	while ((getline line < "/proc/self/fd/4") > 0)
		print toupper(line) > "/dest/fd4"
}
EOF
hello WORLD
IN1
HELLO world
IN2
RUN <<EOF
echo "
	foo" > /dest/foo
EOF
RUN <<-EOF
echo "
	bar" > /dest/bar
EOF
RUN <<-EOF sh > /dest/bar3
echo "
	bar"
EOF
RUN <<'EOF'
greeting="Hello"
echo "${greeting} ${name}!" > /dest/r1
EOF
RUN cat <<EOF > /dest/by-shell && cat <<"EOF2" >> /dest/by-shell
$name \$name
EOF
$name
EOF2
# The end of a body is not what looks like an instruction.
RUN <<EOF
: > /dest/odd; # RUN false
# FROM nowhere
cat >> /dest/odd <<INNER
RUN \
  x
INNER
EOF
RUN ["/bin/sh", "-c", "echo \"$0\" > /dest/json", "<<EOF"]
SHELL ["/bin/awk"]
RUN <<EOF
BEGIN {
	print "foo" > "/dest/shell"
}
EOF
FROM scratch
COPY --from=build /dest /
"""


def with_folder(tmp_path: Path, busybox_base: Path) -> tuple[str, ...]:
    (tmp_path / "context").mkdir()
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "keep").write_text("")
    return ("--build-context", f"busybox={busybox_base}", "--build-context", f"extra={tmp_path / 'extra'}")


def test_commands(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """moby/buildkit, dockerfile_heredoc_test.go: what its tests of RUN build, and what that must give."""
    flags = with_folder(tmp_path, busybox_base)
    shipped = ship(pybuild, tmp_path / "context", RUNS, *flags)
    assert {name: entry.data.decode() for name, entry in shipped.items()} == {
        "keep": "",
        "basic": "i am\nroot\n",
        "awk": "hello\nworld\n",
        "out1": "hello world\n",
        "out2": "HELLO WORLD\n",
        "fd3": "hello world\n",
        "fd4": "HELLO WORLD\n",
        "foo": "\n\tfoo\n",
        "bar": "\nbar\n",
        "bar3": "\nbar\n",
        "r1": "Hello world!\n",
        "by-shell": "world $name\n$name\n",
        "odd": "RUN   x\n",
        "json": "<<EOF\n",
        "shell": "foo\n",
    }


def test_a_script_leaves_no_trace(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """It is read-only, executable by any user, and of /dev alone: the layer has no entry at all, or the command's own."""
    flags = with_folder(tmp_path, busybox_base)
    script = 'stat -c \'%a %u:%g\' "$0"\n! echo x 2>/dev/null >> "$0"\n'
    silent = f"FROM busybox\nUSER 1000\nRUN <<a.sh\n#!/bin/sh -e\n{script}a.sh\n"
    said = run_build(pybuild, tmp_path / "context", silent, *flags, "-t", "silent")
    assert "755 0:0" in said and "[stage-0 2/2] RUN <<a.sh (#!/bin/sh -e...)" in said
    assert "in 1 layer" in said, said
    # What it says is in the key: with the same text it is cached, with another one the same line is another step.
    assert "RUN <<a.sh (#!/bin/sh -e...)\n#2 CACHED" in run_build(pybuild, tmp_path / "context", silent, *flags)
    other = silent.replace("x 2>", "y 2>")
    assert "#2 DONE" in run_build(pybuild, tmp_path / "context", other, *flags)
    # An image may have a /dev/pipes of its own; it is not there while a command runs.
    own = "FROM busybox\nCOPY <<EOF /dev/pipes/EOF\nmine\nEOF\nRUN <<X\n#!/bin/sh\nls /dev/pipes > /seen\nX\n"
    shipped = ship(pybuild, tmp_path / "context", own, *flags)
    assert (shipped["seen"].data, shipped["dev/pipes/EOF"].data) == (b"X\n", b"mine\n")
    assert "dev/pipes/X" not in shipped


def test_files(pybuild: Pybuild, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "etc").mkdir(parents=True)
    (context / "etc" / "passwd").write_text("user:x:77:88::/:/bin/sh\n")
    (context / "a").write_text("a")
    pack(context / "packed.tar", Member("inside", data=b"i"))
    dockerfile = (
        "FROM scratch\nARG name=world\nCOPY etc /etc/\nWORKDIR /w\n"
        "COPY <<EOF single\nHello ${name}\nEOF\n"
        "COPY <<EOF <<'EOF2' double/\nfirst $name\nEOF\nsecond $name\nEOF2\n"
        "COPY --chmod=777 <<EOF /p/all\nx\nEOF\n"
        "COPY --chown=user <<EOF /p/owned\nx\nEOF\n"
        "COPY a <<-'b c' /mixed/\n\ty\n\tb c\n"
        "COPY nothing* <<EOF /alone\nz\nEOF\n"
        "ADD packed.tar <<packed2.tar /added/\nnot packed\npacked2.tar\n"
        "COPY <<EOF /w\nin a folder\nEOF\n"
    )
    shipped = ship(pybuild, context, dockerfile, "-t", "files")
    del shipped["etc"], shipped["etc/passwd"]
    assert shipped == {
        "added": a_dir(),
        "added/inside": a_file(b"i"),
        "added/packed2.tar": a_file(b"not packed\n"),
        "alone": a_file(b"z\n"),
        "mixed": a_dir(),
        "mixed/a": a_file(b"a"),
        "mixed/b c": a_file(b"y\n"),
        "p": a_dir(0o777),
        "p/all": a_file(b"x\n", 0o777),
        "p/owned": a_file(b"x\n", owner="77:88"),
        "w": a_dir(),
        "w/EOF": a_file(b"in a folder\n"),
        "w/double": a_dir(),
        "w/double/EOF": a_file(b"first world\n"),
        "w/double/EOF2": a_file(b"second $name\n"),
        "w/single": a_file(b"Hello world\n"),
    }
    history = pybuild("history", "files").stdout
    for line in ("COPY <<EOF <<EOF2 double/", "COPY a <<b c /mixed/", "ADD packed.tar <<packed2.tar /added/", "COPY <<EOF /w"):
        assert f" {line} " in history, history
    # Again it is all cached, and another value of a variable is another content.
    assert "steps     0 ran, 10 cached" in run_build(pybuild, context, dockerfile)
    said = run_build(pybuild, context, dockerfile, "--build-arg", "name=you")
    assert "COPY <<EOF single\n#4 DONE" in said


def test_a_failing_script_is_told_like_any_command(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    flags = with_folder(tmp_path, busybox_base)
    text = "FROM busybox\nRUN <<EOF\n#!/bin/sh\necho so; exit 7\nEOF\n"
    message = refused(pybuild, tmp_path / "context", text, *flags, code=1)
    assert "Dockerfile:2:1: error: the command failed with exit code 7\n  2 | RUN <<EOF\n    | ^^^^^^^^^\n" in message
    assert "  last output:\n    so" in message
    # CRLF is kept, as BuildKit keeps it: no interpreter has that name.
    message = refused(pybuild, tmp_path / "context", text.replace("\n", "\r\n"), *flags, code=1)
    assert "the command failed with exit code 127" in message
