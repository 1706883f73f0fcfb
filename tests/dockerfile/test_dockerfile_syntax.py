"""Every instruction and flag to its value in the tree (SPEC section 2). Expected values follow the Dockerfile reference and
BuildKit's parser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from builder.dockerfile import ast, durations, flags, grammar, printer, syntax
from builder.errors import DockerfileError, SourceFile, Span

_AT = Span(0, 0, 0, 0)


def _word(text: str) -> ast.Word:
    return ast.Word(text, _AT)


def _flag(name: str, value: str | None) -> ast.Flag:
    return ast.Flag(name, value, _AT)


def _parse(text: str) -> ast.Dockerfile:
    return syntax.parse(SourceFile("Dockerfile", text))


def _one(text: str, head: str = "") -> ast.Instruction:
    """The instruction `text`, parsed after a FROM, without its places."""
    return printer.strip_spans(_parse(f"{head}FROM scratch\n{text}\n")).instructions[1]


def _pairs(*pairs: tuple[str, str]) -> tuple[tuple[ast.Word, ast.Word], ...]:
    return tuple((_word(key), _word(value)) for key, value in pairs)


@pytest.mark.parametrize(
    ("text", "platform", "image", "alias"),
    [
        ("FROM alpine", None, "alpine", None),
        ("from alpine as Build", None, "alpine", "Build"),
        ("FROM --platform=$BUILDPLATFORM alpine:3@sha256:00 AS b-1.x_y", "$BUILDPLATFORM", "alpine:3@sha256:00", "b-1.x_y"),
        ("FROM --platform='linux/arm64' ${BASE:-x}", "linux/arm64", "${BASE:-x}", None),
        ("FROM as As as", None, "as", "as"),
        ("FROM\talpine", None, "alpine", None),
        ('FROM "alpine"', None, '"alpine"', None),
    ],
)
def test_from(text: str, platform: str | None, image: str, alias: str | None) -> None:
    expected = ast.From(_AT, "", _word(platform) if platform else None, _word(image), _word(alias) if alias else None)
    assert printer.strip_spans(_parse(text)).instructions == (expected,)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("ARG a", [("a", None)]),
        ("ARG a=", [("a", "")]),
        ("ARG a=b c d=\"e f\" g='h i'j", [("a", "b"), ("c", None), ("d", '"e f"'), ("g", "'h i'j")]),
        ("ARG a=b=c", [("a", "b=c")]),
        ("ARG a=b\\ c", [("a", "b\\ c")]),
        ('ARG a="b\\" c" d', [("a", '"b\\" c"'), ("d", None)]),
        ("ARG a='b\\' c", [("a", "'b\\'"), ("c", None)]),
        ('ARG a="b c', [("a", '"b c')]),
        ("ARG a\u00a0b", [("a", None), ("b", None)]),
    ],
)
def test_arg(text: str, items: list[tuple[str, str | None]]) -> None:
    expected = tuple((name, None if value is None else _word(value), _AT) for name, value in items)
    assert _one(text) == ast.Arg(_AT, "", expected)


@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
@pytest.mark.parametrize(
    ("rest", "pairs", "legacy"),
    [
        ("a=b", [("a", "b")], False),
        ("a=b c='d e' f=\"g $h\"", [("a", "b"), ("c", "'d e'"), ("f", '"g $h"')], False),
        ('"a b"=c', [('"a b"', "c")], False),
        ("a=", [("a", "")], False),
        ("a b", [("a", "b")], True),
        ("a  b  c=d ", [("a", "b  c=d")], True),
        ("a\t=b", [("a", "=b")], True),
        ("a 'b c' d", [("a", "'b c' d")], True),
        ("a=b\\ c d=e", [("a", "b\\ c"), ("d", "e")], False),
    ],
)
def test_env_and_label(keyword: str, rest: str, pairs: list[tuple[str, str]], legacy: bool) -> None:
    kind = ast.Env if keyword == "ENV" else ast.Label
    assert _one(f"{keyword} {rest}") == kind(_AT, "", _pairs(*pairs), legacy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MAINTAINER A B <a@b>", ast.Maintainer(_AT, "", "A B <a@b>")),
        ("WORKDIR /a b/$c", ast.Workdir(_AT, "", _word("/a b/$c"))),
        ('USER "a":b', ast.User(_AT, "", _word('"a":b'))),
        ("STOPSIGNAL  SIGTERM", ast.Stopsignal(_AT, "", _word("SIGTERM"))),
        ("EXPOSE 80/tcp $PORT\t8000-9000/udp", ast.Expose(_AT, "", (_word("80/tcp"), _word("$PORT"), _word("8000-9000/udp")))),
        ('EXPOSE "80 81"', ast.Expose(_AT, "", (_word('"80'), _word('81"')))),
        ("VOLUME /a /b", ast.Volume(_AT, "", (_word("/a"), _word("/b")), False)),
        ('VOLUME ["/a b", "/c"]', ast.Volume(_AT, "", (_word("/a b"), _word("/c")), True)),
        ("VOLUME ['/a', /b]", ast.Volume(_AT, "", (_word("['/a',"), _word("/b]")), False)),
        ('SHELL ["/bin/bash", "-c"]', ast.Shell(_AT, "", ("/bin/bash", "-c"))),
    ],
)
def test_words_and_texts(text: str, expected: ast.Instruction) -> None:
    assert _one(text) == expected


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
@pytest.mark.parametrize(
    ("rest", "command"),
    [
        ("make && make install", ast.ShellForm("make && make install")),
        ("a \\\n  # c\n  b", ast.ShellForm("a   b")),
        ('["a", "b c"]', ast.ExecForm(("a", "b c"))),
        (' [ "a",\t"\\u00e9\\n\\ud800" ] ', ast.ExecForm(("a", "\u00e9\n\ufffd"))),
        ('["a", \\\n "b"]', ast.ExecForm(("a", "b"))),
        # Invalid JSON is shell form.
        ("['a']", ast.ShellForm("['a']")),
        ('["a"', ast.ShellForm('["a"')),
        ('["a"] b', ast.ShellForm('["a"] b')),
        ('["a",]', ast.ShellForm('["a",]')),
        ("[NaN]", ast.ShellForm("[NaN]")),
        ("[ -d /x ] && y", ast.ShellForm("[ -d /x ] && y")),
        ('{"a": 1}', ast.ShellForm('{"a": 1}')),
        ('"a"', ast.ShellForm('"a"')),
        ("-- --version", ast.ShellForm("--version")),
        ("-x --y", ast.ShellForm("-x --y")),
        ("", ast.ShellForm("")),
    ],
)
def test_commands(keyword: str, rest: str, command: ast.Command) -> None:
    instruction = _one(f"{keyword} {rest}")
    assert isinstance(instruction, ast.Run | ast.Cmd | ast.Entrypoint)
    assert instruction.command == command


@pytest.mark.parametrize("keyword", ["CMD", "ENTRYPOINT"])
def test_an_empty_array_resets_a_command(keyword: str) -> None:
    instruction = _one(f"{keyword} []")
    assert isinstance(instruction, ast.Cmd | ast.Entrypoint)
    assert instruction.command == ast.ExecForm(())


@pytest.mark.parametrize(
    "text", ["[1]", '["a", null]', '[["a"]]', '[{"a": "b"}]', "[" * 5000 + "]" * 5000, "[" + "9" * 9999 + "]"]
)
@pytest.mark.parametrize(
    "keyword", ["RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "COPY", "ADD", "HEALTHCHECK CMD", "ONBUILD RUN"]
)
def test_json_of_other_things_than_strings(keyword: str, text: str) -> None:
    with pytest.raises(DockerfileError, match="holds strings only"):
        _one(f"{keyword} {text}")


def test_run_flags() -> None:
    run = _one(
        "RUN --mount=type=cache,target=/a --mount=type=bind,source='b c',target=/d --network=none \\\n"
        ' --security="insecure" --device=vendor/x=y make --flag'
    )
    expected = (
        _flag("mount", "type=cache,target=/a"),
        _flag("mount", "type=bind,source=b c,target=/d"),
        _flag("network", "none"),
        _flag("security", "insecure"),
        _flag("device", "vendor/x=y"),
    )
    assert run == ast.Run(_AT, "", expected, ast.ShellForm("make --flag"), ())


def test_copy_flags() -> None:
    copy = _one("COPY --from=b --chown=1:2 --chmod=u+x --link --parents=false --exclude=*.a --exclude=b a b c/")
    expected = (
        _flag("from", "b"),
        _flag("chown", "1:2"),
        _flag("chmod", "u+x"),
        _flag("link", None),
        _flag("parents", "false"),
        _flag("exclude", "*.a"),
        _flag("exclude", "b"),
    )
    assert copy == ast.Copy(_AT, "", "COPY", expected, (_word("a"), _word("b")), _word("c/"), (), False)


def test_add_flags() -> None:
    add = _one("add --checksum=sha256:0 --keep-git-dir=TRUE --unpack --link --chown=a --chmod=1 --exclude=x https://x/y /z")
    assert isinstance(add, ast.Copy)
    assert (add.keyword, add.dest) == ("ADD", _word("/z"))
    assert [flag.name for flag in add.flags] == ["checksum", "keep-git-dir", "unpack", "link", "chown", "chmod", "exclude"]


def test_healthcheck() -> None:
    used = "--interval=1m30s --timeout=0.5s --start-period=0 --start-interval=10ms --retries=3"
    check = _one(f'healthcheck {used} cmd ["curl", "-f"]')
    assert isinstance(check, ast.Healthcheck)
    assert check.command == ast.ExecForm(("curl", "-f"))
    assert [(flag.name, flag.value) for flag in check.flags] == [
        ("interval", "1m30s"),
        ("timeout", "0.5s"),
        ("start-period", "0"),
        ("start-interval", "10ms"),
        ("retries", "3"),
    ]
    assert _one("HEALTHCHECK CMD curl --fail x") == ast.Healthcheck(_AT, "", (), ast.ShellForm("curl --fail x"))
    assert _one("HEALTHCHECK none") == ast.Healthcheck(_AT, "", (), None)


def test_switches() -> None:
    copy = _one("COPY --link --parents=TRUE a b")
    add = _one("ADD --link=false --unpack=true a b")
    assert isinstance(copy, ast.Copy) and isinstance(add, ast.Copy)
    assert [flags.is_on(copy.flags, name) for name in ("link", "parents", "unpack")] == [True, True, False]
    assert [flags.is_on(add.flags, name) for name in ("link", "unpack", "keep-git-dir")] == [False, True, False]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--chown=a\\ b", "a b"),
        ('--chown="a b"c', "a bc"),
        ("--chown='a\\'b'", "a'b"),
        ('--chown="', ""),
        ("--chown=", ""),
        ('--chown="a', "a"),
        ("--chown=$A:${B:-c}", "$A:${B:-c}"),
    ],
)
def test_quotes_in_flags(word: str, value: str) -> None:
    copy = _one(f"COPY {word} a b" if not word.endswith(('="', '"a')) else f'COPY {word}" a b')
    assert isinstance(copy, ast.Copy)
    assert copy.flags == (_flag("chown", value),)


def test_copy_with_heredocs() -> None:
    copy = _one("COPY a <<X.txt <<-'Y z' /d/\n$x\nX.txt\n\t\ty\n\tY z")
    first = ast.Heredoc("X.txt", "$x\n", True, False, _AT)
    second = ast.Heredoc("Y z", "\t\ty\n", False, True, _AT)
    assert copy == ast.Copy(_AT, "", "COPY", (), (_word("a"),), _word("/d/"), (first, second), False)
    assert second.content == "y\n"


def test_run_with_a_heredoc() -> None:
    run = _one("RUN --network=none <<EOF python3\nprint('x')\nEOF")
    body = ast.Heredoc("EOF", "print('x')\n", True, False, _AT)
    assert run == ast.Run(_AT, "", (_flag("network", "none"),), ast.ShellForm("<<EOF python3"), (body,))


def test_copy_in_json_form_keeps_the_strings() -> None:
    dockerfile = _parse('FROM a\nCOPY --link ["a b", \\\n "c\\u0041", "/d"]\n')
    copy = dockerfile.instructions[1]
    assert isinstance(copy, ast.Copy)
    assert copy.json
    assert copy.sources == (ast.Word("a b", Span(2, 14, 2, 19)), ast.Word("cA", Span(3, 2, 3, 11)))
    assert copy.dest == ast.Word("/d", Span(3, 13, 3, 17))


def test_onbuild() -> None:
    assert _one("ONBUILD  copy --link a b") == ast.Onbuild(_AT, "", "COPY", "copy --link a b")
    onbuild = _one("onbuild RUN <<A <<-B\na\nA\n\tb\n\tB")
    assert onbuild == ast.Onbuild(_AT, "", "RUN", "RUN <<A <<-B\na\nA\n\tb\nB")
    assert isinstance(onbuild, ast.Onbuild)
    run = syntax.parse_trigger(SourceFile("trigger", onbuild.trigger))
    assert isinstance(run, ast.Run)
    assert [heredoc.content for heredoc in run.heredocs] == ["a\n", "b\n"]


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("ONBUILD RUN x", "can not trigger another"),
        ("FROM x", "FROM is not allowed"),
        ("RUN a\nRUN b", "exactly one instruction"),
        ("", "exactly one instruction"),
        ("RNU a", "unknown instruction 'RNU'"),
        ("RUN <<EOF\n", "has no end"),
    ],
)
def test_wrong_triggers(trigger: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        syntax.parse_trigger(SourceFile("trigger", trigger))
    assert caught.value.source is not None


def test_the_other_escape_character() -> None:
    head = "# escape=`\n"
    assert _one("ENV a=b` c d=C:\\e", head) == ast.Env(_AT, "", _pairs(("a", "b` c"), ("d", "C:\\e")), False)
    copy = _one('COPY --chown="`"x" C:\\a\\ `\n b', head)
    assert isinstance(copy, ast.Copy)
    assert copy.flags == (_flag("chown", '"x'),)
    assert (copy.sources, copy.dest) == ((_word("C:\\a\\"),), _word("b"))


def test_places_of_everything() -> None:
    base, arg, copy, onbuild, check = _parse(
        "FROM --platform=p \\\n  i AS n\nARG a=b c\nCOPY --from=n \\\n # c\n  x <<E y\nE\n"
        "ONBUILD RUN z\nHEALTHCHECK \\\n NONE\n"
    ).instructions
    assert isinstance(base, ast.From) and isinstance(arg, ast.Arg) and isinstance(copy, ast.Copy)
    assert base.span == Span(1, 1, 2, 9)
    assert base.platform == ast.Word("p", Span(1, 6, 1, 18))
    assert base.image.span == Span(2, 3, 2, 4)
    assert base.alias == ast.Word("n", Span(2, 8, 2, 9))
    assert base.text == "FROM --platform=p   i AS n"
    assert arg.items == (("a", ast.Word("b", Span(3, 7, 3, 8)), Span(3, 5, 3, 8)), ("c", None, Span(3, 9, 3, 10)))
    assert copy.span == Span(4, 1, 6, 10)
    assert copy.flags[0].span == Span(4, 6, 4, 14)
    assert copy.sources[0].span == Span(6, 3, 6, 4)
    assert (copy.heredocs[0].span, copy.heredocs[0].line) == (Span(6, 5, 6, 8), 7)
    assert copy.dest.span == Span(6, 9, 6, 10)
    assert onbuild.span == Span(8, 1, 8, 14)
    assert (check.span, check.text) == (Span(9, 1, 10, 6), "HEALTHCHECK  NONE")


@pytest.mark.parametrize("keyword", syntax.KEYWORDS)
def test_keywords_ignore_case_and_need_a_separator(keyword: str) -> None:
    with pytest.raises(DockerfileError, match="unknown instruction"):
        _one(f"{keyword}\u00a0x")
    with pytest.raises(DockerfileError, match="unknown instruction"):
        _one(f"{keyword}=x")


def test_letters_that_become_ascii_in_upper_case_are_no_keywords() -> None:
    with pytest.raises(DockerfileError, match="unknown instruction"):
        _one("u\u017fer x")


@pytest.mark.parametrize("keyword", [key for key in syntax.KEYWORDS if key not in flags.FLAGS])
def test_instructions_without_flags(keyword: str) -> None:
    with pytest.raises(DockerfileError, match=f"unknown flag '--x': {keyword} has no flags"):
        _one(f"{keyword} --x=1 RUN a")


def _names_in_grammar(terminal: str) -> set[str]:
    with open(grammar.path(), encoding="utf-8") as file:
        (line,) = re.findall(rf"^{terminal}\.\d+:(.*)$", file.read(), re.MULTILINE)
    return set(re.findall(r'"--([a-z-]+)"', line))


@pytest.mark.parametrize("keyword", flags.FLAGS)
def test_the_grammar_and_the_table_name_the_same_flags(keyword: str) -> None:
    assert _names_in_grammar(f"{keyword}_FLAG") == set(flags.FLAGS[keyword])


@pytest.mark.parametrize(("keyword", "flag"), [(keyword, flag) for keyword, known in flags.FLAGS.items() for flag in known])
def test_a_flag_must_not_be_repeated_unless_it_is_a_list(keyword: str, flag: str) -> None:
    kind = flags.FLAGS[keyword][flag]
    value = {"network": "none", "security": "sandbox"}.get(flag, "true" if kind == "switch" else "1s")
    value = "1" if flag == "retries" else value
    text = f"{keyword} --{flag}={value} --{flag}={value} " + {"FROM": "a", "HEALTHCHECK": "CMD x"}.get(keyword, "a b")
    if kind == "values":
        assert _one(text)
        return
    with pytest.raises(DockerfileError, match="stands here twice"):
        _one(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        (".5ms", 500_000),
        ("1.s", 10**9),
        ("1us1\u00b5s1\u03bcs1ns", 3001),
        ("-1s", -(10**9)),
        ("+1s", 10**9),
        ("300000h", 300000 * 3600 * 10**9 if 300000 * 3600 * 10**9 < 2**63 else None),
        ("3000000h", None),
        ("", None),
        ("1", None),
        ("s", None),
        (".s", None),
        ("1 s", None),
        ("1d", None),
        ("\u0661s", None),
        ("9" * 5000 + "s", None),
    ],
)
def test_durations(text: str, value: int | None) -> None:
    assert durations.nanoseconds(text) == value


def _python(code: str, path: str) -> str:
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_no_parse_imports_lark() -> None:
    code = (
        "import sys\n"
        "from builder.dockerfile import codec, printer, source, syntax\n"
        "from builder.errors import SourceFile\n"
        "syntax.parse(SourceFile('D', 'FROM a'))\n"
        "print('lark' in sys.modules)\n"
    )
    assert _python(code, ROOT) == "False\n"


def test_the_grammar_is_found_inside_an_installed_package(tmp_path: object) -> None:
    site = os.path.join(str(tmp_path), "site")
    for folder in ("dockerfile", "grammar"):
        os.makedirs(os.path.join(site, "builder", folder))
    for name in ("__init__.py", "canonical.py", "errors.py", "hashing.py", "values.py"):
        shutil.copy(os.path.join(ROOT, "builder", name), os.path.join(site, "builder", name))
    folder = os.path.join(ROOT, "builder", "dockerfile")
    for name in os.listdir(folder):
        if name.endswith(".py"):
            shutil.copy(os.path.join(folder, name), os.path.join(site, "builder", "dockerfile", name))
    shutil.copy(os.path.join(ROOT, "grammar", "dockerfile.lark"), os.path.join(site, "builder", "grammar"))
    code = (
        "from builder.dockerfile import grammar, syntax\n"
        "from builder.errors import SourceFile\n"
        "print(grammar.path(), len(syntax.parse(SourceFile('D', 'FROM a')).instructions))\n"
    )
    assert _python(code, site) == f"{site}/builder/grammar/dockerfile.lark 1\n"
