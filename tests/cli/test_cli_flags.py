"""The command line: parsing by the table, help, hints, values of flags, the environment."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cli.context_spec import (
    ContextSpec,
    parse_build_context,
    parse_context,
    parse_hosts,
    parse_platform,
    parse_platforms,
)
from builder.cli.environment import build_args, read_environment
from builder.cli.flag import Command, Flag
from builder.cli.flags import Parsed, byte_size, near_command, parse
from builder.cli.help import WIDTH, help_text, version
from builder.cli.output_spec import OutputSpec, parse_output, split_csv
from builder.cli.table import COMMANDS
from builder.errors import UsageError, render
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.plan.giturl import GitRemote

# SPEC section 3, word by word.
SPEC_BUILD_FLAGS = """-f -t --build-arg --build-context --target --platform --no-cache --no-cache-filter --pull --secret --ssh
--label --annotation --add-host --network --shm-size --ulimit --memory --cpus --cgroup-parent --allow --jobs --cache-from
--cache-to --iidfile --metadata-file --progress -q --check --call --push --load -o --output --timestamp
--source-date-epoch --compression --squash --root --provenance --sbom --attest --rm --builder"""
SPEC_COMMANDS = """build images index inspect history tag rmi import save load pull push login logout run verify diff check
why shell du prune doctor lock"""
BUILT = (
    *("build", "check", "diff", "doctor", "du", "images", "index", "inspect", "history", "import", "load", "lock"),
    *("login", "logout", "prune", "pull", "push", "rmi", "run", "save", "shell", "tag", "verify", "why"),
)


def refused(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert caught.value.exit_code == 2
    return render(caught.value)


def given_values(parsed: Parsed) -> dict[str, tuple[str, ...]]:
    return {name: values for name, values in parsed.values.items() if values}


# The table


def test_the_table_has_every_flag_and_command_of_the_spec() -> None:
    build = {text for flag in COMMANDS["build"].flags for text in (f"--{flag.name}", f"-{flag.short}")}
    assert set(SPEC_BUILD_FLAGS.split()) <= build
    assert set(COMMANDS) == set(SPEC_COMMANDS.split())
    assert set(COMMANDS) == set(BUILT)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.name)
def test_names_are_unique(command: Command) -> None:
    names = [flag.name for flag in command.flags]
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(set(names)) == len(names) and len(set(shorts)) == len(shorts)


# Parsing


@pytest.mark.parametrize(
    ("argv", "values", "positionals"),
    [
        (["."], {}, (".",)),
        (["build", "."], {}, (".",)),
        (["-f", "Dockerfile", "."], {"file": ("Dockerfile",)}, (".",)),
        ([".", "-f", "Dockerfile"], {"file": ("Dockerfile",)}, (".",)),
        (["build", "--file=a=b", "."], {"file": ("a=b",)}, (".",)),
        (["--tag", "a", "-tb", "-t=c", "-t", "d", "."], {"tag": ("a", "b", "c", "d")}, (".",)),
        (["-qf", "Dockerfile", "."], {"quiet": ("true",), "file": ("Dockerfile",)}, (".",)),
        (["-qfDockerfile", "."], {"quiet": ("true",), "file": ("Dockerfile",)}, (".",)),
        (["-qDf-", "."], {"quiet": ("true",), "debug": ("true",), "file": ("-",)}, (".",)),
        (["-f", "-", "."], {"file": ("-",)}, (".",)),
        (["-o", "-", "."], {"output": ("-",)}, (".",)),
        (["--target", "-x", "."], {"target": ("-x",)}, (".",)),
        (["--target=", "."], {"target": ("",)}, (".",)),
        (["--no-cache", "."], {"no-cache": ("true",)}, (".",)),
        (["--no-cache=false", "."], {"no-cache": ("false",)}, (".",)),
        (["--no-cache=0", "--no-cache=T", "."], {"no-cache": ("false", "true")}, (".",)),
        (["-q=F", "."], {"quiet": ("false",)}, (".",)),
        (["-"], {}, ("-",)),
        (["--", "-x"], {}, ("-x",)),
        (["-t", "a", "--", "."], {"tag": ("a",)}, (".",)),
        (["--root", "/r", "build", "."], {"root": ("/r",)}, (".",)),
        (["--root=/r", "-D", "build", "."], {"root": ("/r",), "debug": ("true",)}, (".",)),
        (["--root", "images", "."], {"root": ("images",)}, (".",)),
        (["./images"], {}, ("./images",)),
        (["--shm-size", "64m", "."], {"shm-size": ("67108864",)}, (".",)),
        (
            ["--allow=network.host", "--allow", "security.insecure", "."],
            {"allow": ("network.host", "security.insecure")},
            (".",),
        ),
        (["--jobs", "4", "--source-date-epoch=0", "."], {"jobs": ("4",), "source-date-epoch": ("0",)}, (".",)),
    ],
)
def test_build(argv: list[str], values: dict[str, tuple[str, ...]], positionals: tuple[str, ...]) -> None:
    parsed = parse(argv)
    assert (parsed.command, given_values(parsed), parsed.positionals, parsed.notes) == ("build", values, positionals, ())


def test_reading_values() -> None:
    parsed = parse(
        ["-f", "a", "-f", "b", "--no-cache", "--no-cache=false", "--debug", "--jobs=3", "--shm-size=1k"]
        + ["--build-arg", "A=1", "--build-arg", "B", "--build-arg", "A=2=3", "--label", "x=", "-t", "n", "-t", "m", "."]
    )
    assert parsed.text("file") == "b"
    assert parsed.text("target") is None
    assert (parsed.flag("no-cache"), parsed.flag("debug"), parsed.flag("quiet")) == (False, True, False)
    assert (parsed.number("jobs"), parsed.number("shm-size"), parsed.number("source-date-epoch")) == (3, 1024, None)
    assert parsed.pairs("build-arg") == {"A": "2=3", "B": None}
    assert parsed.pairs("label") == {"x": ""}
    assert parsed.texts("tag") == ("n", "m")
    with pytest.raises(KeyError):
        parsed.flag("no-such-flag")


@pytest.mark.parametrize(
    ("argv", "command", "positionals"),
    [
        ([], "help", ()),
        (["--help"], "help", ()),
        (["-h"], "help", ()),
        (["help"], "help", ()),
        (["--root", "x", "--help"], "help", ()),
        (["help", "run"], "help", ("run",)),
        (["build", "--help"], "help", ("build",)),
        (["--help", "build"], "help", ("build",)),
        (["-t", "x", "--help"], "help", ("build",)),
        (["verify", "--help"], "help", ("verify",)),
        (["run", "-h"], "help", ("run",)),
        (["--version"], "version", ()),
        (["version"], "version", ()),
        (["images"], "images", ()),
        (["-D", "images", "-q"], "images", ()),
        (["tag", "a", "b"], "tag", ("a", "b")),
        (["rmi", "a", "b", "c"], "rmi", ("a", "b", "c")),
        (["import", "x.tar", "name"], "import", ("x.tar", "name")),
        (["run", "image", "ls", "-l", "--", "--help"], "run", ("image", "ls", "-l", "--", "--help")),
        (["run", "--rm", "--network=none", "image", "-q"], "run", ("image", "-q")),
    ],
)
def test_commands(argv: list[str], command: str, positionals: tuple[str, ...]) -> None:
    parsed = parse(argv)
    assert (parsed.command, parsed.positionals) == (command, positionals)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--taget", "x", "."], "error: unknown flag '--taget' of 'build'\n  hint: did you mean '--target'?"),
        (["--xyzzy", "."], "error: unknown flag '--xyzzy' of 'build'\n  hint: 'pybuild build --help' lists the flags"),
        (["-x", "."], "error: unknown flag '-x' of 'build'\n  hint: 'pybuild build --help' lists the flags"),
        (["-qx", "."], "error: unknown flag '-x' in '-qx' of 'build'\n  hint: 'pybuild build --help' lists the flags"),
        (["images", "--quite"], "error: unknown flag '--quite' of 'images'\n  hint: did you mean '--quiet'?"),
        ([".", "--tag"], "error: the flag '--tag' needs a value"),
        ([".", "-qt"], "error: the flag '-t' needs a value"),
        (["--root"], "error: the flag '--root' needs a value"),
        (["--no-cache=maybe", "."], "error: 'maybe' is not a value of '--no-cache'\n  hint: true or false"),
        (["--no-cache=", "."], "error: '' is not a value of '--no-cache'\n  hint: true or false"),
        (["--jobs", "-1", "."], "error: '-1' is not a value of '--jobs'\n  hint: a whole number, 0 or more"),
        (
            ["--jobs", "9" * 5000, "."],
            "error: '" + "9" * 5000 + "' is not a value of '--jobs'\n  hint: a whole number, 0 or more",
        ),
        (["--shm-size", "big", "."], "error: 'big' is not a size\n  hint: a size looks like 1024, 64m or 1.5g"),
        (["--progress", "plan", "."], "error: 'plan' is not a value of '--progress'\n  hint: did you mean 'plain'?"),
        (
            ["--network", "bridge", "."],
            "error: 'bridge' is not a value of '--network'\n  hint: one of default, host, none",
        ),
        (
            ["--allow=security.insecur", "."],
            "error: 'security.insecur' is not a value of '--allow'\n  hint: did you mean 'security.insecure'?",
        ),
        (
            ["--allow", "device", "."],
            "error: 'device' is not a value of '--allow'\n  hint: one of network.host, security.insecure",
        ),
        (["--build-arg", "=x", "."], "error: '=x' is not a value of '--build-arg'\n  hint: it looks like NAME[=VALUE]"),
        (["-q"], "error: the context is missing\n  hint: usage: pybuild build [flags] CONTEXT, as in 'pybuild .'"),
        ([".", "x"], "error: 'build' does not take the argument 'x'\n  hint: usage: pybuild build [flags] CONTEXT"),
        (["tag", "a"], "error: 'tag' needs more arguments\n  hint: usage: pybuild tag IMAGE NAME[:TAG]"),
        (
            ["images", "a", "b"],
            "error: 'images' does not take the argument 'b'\n  hint: usage: pybuild images [flags] [NAME[:TAG]]",
        ),
        (["run"], "error: 'run' needs more arguments\n  hint: usage: pybuild run [flags] IMAGE [COMMAND...]"),
        (["--squash", "."], "error: the flag '--squash' is not built yet (put all new layers into one)\n  hint: leave it out"),
        (
            ["--provenance=mode=max", "."],
            "error: the flag '--provenance' is not built yet (add a provenance attestation); it accepts 'false'\n"
            "  hint: leave it out",
        ),
        (["run", "-id", "a"], "error: the flag '-d' is not built yet (run in the background)\n  hint: leave it out"),
    ],
)
def test_refusals(argv: list[str], message: str) -> None:
    assert refused(*argv) == message


@pytest.mark.parametrize("flag", [f for f in COMMANDS["build"].flags if f.status == "unbuilt"], ids=lambda f: f.name)
def test_flags_that_are_not_built_say_so(flag: Flag) -> None:
    name = flag.name
    value = {"memory": "1g", "pull": "always"}.get(name, "true" if flag.kind == "bool" else "x")
    assert f"the flag '--{name}' is not built yet" in refused(f"--{name}={value}", ".")


@pytest.mark.parametrize(
    ("word", "note"),
    [
        ("--rm", "'--rm' means nothing to pybuild and was ignored"),
        ("--builder=x", "'--builder' means nothing to pybuild and was ignored"),
        ("--provenance=false", "'--provenance=false' asks for nothing and was ignored"),
        ("--sbom=false", "'--sbom=false' asks for nothing and was ignored"),
        ("--attest=false", "'--attest=false' asks for nothing and was ignored"),
        ("--attest=type=sbom,disabled=true", "'--attest=type=sbom,disabled=true' asks for nothing and was ignored"),
    ],
)
def test_what_means_nothing_is_noted(word: str, note: str) -> None:
    assert parse([word, "."]).notes == (note,)


WORDS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["build", "run", "images", ".", "-", "--", "-qf", "-t", "--tag=x", "--no-cache=false", "--help", "--root"]),
    st.builds(
        lambda flag, value: f"--{flag.name}{value}",
        st.sampled_from([flag for command in COMMANDS.values() for flag in command.flags]),
        st.sampled_from(["", "=", "=x", "=true", "=1g", "=a=b"]),
    ),
)


@settings(max_examples=200)
@given(st.lists(WORDS, max_size=6))
def test_any_command_line_is_parsed_or_refused(argv: list[str]) -> None:
    try:
        parsed = parse(argv)
    except UsageError as error:
        assert render(error)
        return
    assert parsed.command in (*BUILT, "help", "version")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["-t", "--tag"]), st.text(min_size=1)), max_size=4), st.integers(0, 3))
def test_all_ways_to_write_a_value_agree(pairs: list[tuple[str, str]], way: int) -> None:
    words: list[str] = []
    for flag, value in pairs:
        joined = way % 2 and (flag == "--tag" or not value.startswith("="))
        words += [f"{flag}={value}" if flag == "--tag" else f"{flag}{value}"] if joined else [flag, value]
    assert parse([*words, "."] if way < 2 else [".", *words]).texts("tag") == tuple(value for _, value in pairs)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("5b", 5),
        ("64k", 65536),
        ("64KB", 65536),
        ("2MiB", 2 << 20),
        ("1.5g", 3 << 29),
        ("1 g", 1 << 30),
        (".5k", 512),
    ],
)
def test_byte_size(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.2.3", "1e3", "5ib", "٣", "nan", "inf", ".", "9" * 400 + ".5", "0x10"])
def test_not_a_byte_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        byte_size(text)


def test_a_mistyped_command() -> None:
    assert near_command("imags") == "did you mean 'images'?"
    assert near_command("./imags") is None
    assert near_command("src") is None


# Help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_at_most_80_columns_wide(command: str) -> None:
    assert max(map(len, help_text(command).splitlines())) <= WIDTH == 80


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.name)
def test_help_has_every_flag(command: Command) -> None:
    words = help_text(command.name).replace(",", " ").split()
    for flag in command.flags:
        assert f"--{flag.name}" in words
        assert not flag.short or flag.status != "works" or f"-{flag.short}" in words


def test_help_of_a_small_command() -> None:
    assert (
        help_text("import")
        == """\
Usage: pybuild import [flags] SOURCE [NAME[:TAG]]

Make an image of a root file system: a tar archive or a directory.

Flags:
      --platform OS/ARCH      the platform of the files (default: this
                              machine's)

Flags of every command:
      --root DIR              the store (default: $PYBUILD_ROOT, else the user's
                              own)
  -D, --debug                 say more: what was decided and what was ignored
  -h, --help                  show this help

Not built yet:
  --change, --message"""
    )


def test_help_names_every_command() -> None:
    words = help_text().replace(",", " ").split()
    assert set(COMMANDS) <= set(words)
    with pytest.raises(UsageError, match="unknown command 'biuld'") as caught:
        help_text("biuld")
    assert caught.value.hint == "did you mean 'build'?"


def test_version() -> None:
    assert version() == "pybuild 0.1.0"


# Outputs


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("out", OutputSpec("local", "out", {})),
        ("./a=b", OutputSpec("local", "./a=b", {})),
        ("-", OutputSpec("tar", "-", {})),
        ("type=oci,dest=x.tar", OutputSpec("oci", "x.tar", {})),
        ('type=oci,dest=x.tar,"name=a,b"', OutputSpec("oci", "x.tar", {"name": "a,b"})),
        ('"dest=a""b",type=tar', OutputSpec("tar", 'a"b', {})),
        ("type=oci,dest=dir,tar=false", OutputSpec("oci", "dir", {"tar": "false"})),
        ("type=oci", OutputSpec("oci", "-", {})),
        ("type=docker", OutputSpec("docker", "", {})),
        ("type=local,dest=a=b", OutputSpec("local", "a=b", {})),
        ("TYPE=image, Name=x", OutputSpec("image", "", {"name": "x"})),
        (
            "type=oci,dest=x,compression=zstd,compression-level=3,force-compression=1,oci-mediatypes=TRUE,rewrite-timestamp=0",
            OutputSpec(
                "oci",
                "x",
                {
                    "compression": "zstd",
                    "compression-level": "3",
                    "force-compression": "true",
                    "oci-mediatypes": "true",
                    "rewrite-timestamp": "false",
                },
            ),
        ),
        ("type=oci,dest=x,annotation.org.x=y=z", OutputSpec("oci", "x", {"annotation.org.x": "y=z"})),
        # What asks for nothing here.
        ("type=image,unpack=true,store=1,name-canonical=true,buildinfo=false", OutputSpec("image", "", {})),
        ("type=local,dest=x,platform-split=false", OutputSpec("local", "x", {})),
        ("type=cacheonly", OutputSpec("cacheonly", "", {})),
    ],
)
def test_outputs(text: str, spec: OutputSpec) -> None:
    assert parse_output(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "error: an output is empty\n  hint: give a directory, or type=oci,dest=image.tar"),
        ("dest=x", "error: the output 'dest=x' has no type\n  hint: add type=oci|docker|local|tar|image|registry|cacheonly"),
        (
            "dest=x,name=y",
            "error: the output 'dest=x,name=y' has no type\n  hint: add type=oci|docker|local|tar|image|registry|cacheonly",
        ),
        ("type=ocl,dest=x", "error: unknown output type 'ocl'\n  hint: did you mean 'oci'?"),
        ("type=zip", "error: unknown output type 'zip'\n  hint: one of oci, docker, local, tar, image, registry, cacheonly"),
        ("type=cacheonly,name=x", "error: unknown key 'name' of the output type 'cacheonly'\n  hint: it takes none"),
        ("type=oci,dset=x", "error: unknown key 'dset' of the output type 'oci'\n  hint: did you mean 'dest'?"),
        ("type=local,dest=x,name=y", "error: unknown key 'name' of the output type 'local'\n  hint: type=local takes dest"),
        (
            "type=image,push-by-digest=true",
            "error: the key 'push-by-digest' of the output type 'image' is not built yet\n  hint: leave it out",
        ),
        (
            "type=oci,dest=x,annotation-index.a=b",
            "error: the key 'annotation-index.a' of the output type 'oci' is not built yet\n  hint: leave it out",
        ),
        (
            "type=local,dest=x,annotation.a=b",
            "error: unknown key 'annotation.a' of the output type 'local'\n  hint: type=local takes dest",
        ),
        ("type=oci,dest=x,tar=maybe", "error: 'maybe' is not a value of 'tar'\n  hint: true or false"),
        ("type=oci,compression=gzp", "error: unknown compression 'gzp'\n  hint: did you mean 'gzip'?"),
        ("type=oci,compression=estargz", "error: the compression 'estargz' is not built yet"),
        ("type=oci,compression-level=high", "error: 'high' is not a value of 'compression-level'\n  hint: a whole number"),
        ("type=local", "error: the output 'type=local' is a directory and needs one\n  hint: add dest=DIR"),
        (
            "type=oci,tar=false,dest=-",
            "error: the output 'type=oci,tar=false,dest=-' is a directory and needs one\n  hint: add dest=DIR",
        ),
        ("type=oci,dest=x,dest=y", "error: the output 'type=oci,dest=x,dest=y' names 'dest' twice"),
        ("type=oci,x.tar", "error: 'x.tar' in the output 'type=oci,x.tar' is not KEY=VALUE"),
        ('type=oci,"name=a', "error: a quote in 'type=oci,\"name=a' is not closed"),
        (
            'type=oci,name="a"',
            'error: a quote in the middle of a field in \'type=oci,name="a"\'\n  hint: quote the whole field: "key=a,b"',
        ),
        ('"type=oci"x', 'error: text after a closing quote in \'"type=oci"x\'\n  hint: quote the whole field: "key=a,b"'),
    ],
)
def test_outputs_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    assert render(caught.value) == message


@settings(max_examples=200)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_csv_round_trip(fields: list[str]) -> None:
    quoted = ['"' + field.replace('"', '""') + '"' for field in fields]
    assert split_csv(",".join(quoted)) == fields


@settings(max_examples=200)
@given(st.text(alphabet='"=,-abtypeocidest.\\ \n', max_size=25))
def test_any_output_is_parsed_or_refused(text: str) -> None:
    try:
        spec = parse_output(text)
    except UsageError:
        return
    assert spec.type in ("oci", "docker", "local", "tar", "image")


# Contexts, hosts, platforms

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("base=../base", ContextSpec("base", "directory", "../base")),
        ("example/vertx3:3.3.1=dir=1", ContextSpec("example/vertx3:3.3.1", "directory", "dir=1")),
        ("b=oci-layout:///a/b", ContextSpec("b", "oci-layout", "/a/b")),
        ("b=oci-layout://a/b:tag", ContextSpec("b", "oci-layout", "a/b", "tag")),
        ("b=oci-layout://a:1/b", ContextSpec("b", "oci-layout", "a:1/b")),
        (f"b=oci-layout://a@sha256:{HEX}", ContextSpec("b", "oci-layout", "a", "", Digest("sha256", HEX))),
        (f"b=oci-layout:///x/a:t@sha256:{HEX}", ContextSpec("b", "oci-layout", "/x/a", "t", Digest("sha256", HEX))),
        ("b=oci-layout:///x@y/a", ContextSpec("b", "oci-layout", "/x@y/a")),
        ("b=docker-image://alpine:3", ContextSpec("b", "docker-image", "alpine:3")),
        ("b=docker-image://scratch", ContextSpec("b", "docker-image", "scratch")),
        ("b=https://x/y.tar?a=b", ContextSpec("b", "url", "https://x/y.tar?a=b")),
        ("b=git@h:x/y", ContextSpec("b", "git", "git@h:x/y", git=GitRemote("git@h:x/y"))),
        ("b=./git@h:x/y", ContextSpec("b", "directory", "./git@h:x/y")),
        (
            "b=https://x/y.git#v1:d",
            ContextSpec("b", "git", "https://x/y.git#v1:d", git=GitRemote("https://x/y.git", "v1", "d")),
        ),
    ],
)
def test_build_contexts(text: str, spec: ContextSpec) -> None:
    assert parse_build_context(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base", "'base' is not a build context"),
        ("=x", "'=x' is not a build context"),
        ("b=", "'b=' is not a build context"),
        ("b=oci-layout://", "has no path"),
        ("b=oci-layout://a@sha256:12", "'sha256:12' is not a digest"),
        ("b=docker-image://Alpine", "the build context 'b=docker-image://Alpine': "),
        ("b=https://x/y.git#a..b", "'a..b' is no name of a branch or tag, and no commit"),
        ("b=https://x/y.git?depth=1", "unexpected query 'depth' in the URL of a git repository"),
        ("b=https:///x.tar", "it names no host"),
        ("b=target:x", "the build context 'b=target:x' names a target of a bake file, and there is none"),
        ("b=ftp://x/y.tar", "the build context 'b=ftp://x/y.tar': there are no contexts by ftp://"),
    ],
)
def test_build_contexts_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_build_context(text)
    assert message in caught.value.message


def git_context(text: str, url: str, ref: str = "", subdir: str = "") -> ContextSpec:
    return ContextSpec("", "git", text, git=GitRemote(url, ref, subdir))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("a/b", ContextSpec("", "directory", "a/b")),
        ("-", ContextSpec("", "stdin", "-")),
        ("http://h/x.tar.gz", ContextSpec("", "url", "http://h/x.tar.gz")),
        ("https://h/Dockerfile?x", ContextSpec("", "url", "https://h/Dockerfile?x")),
        ("ssh://git@h:22/y", git_context("ssh://git@h:22/y", "ssh://git@h:22/y")),
        ("git@h:x/y.git#main", git_context("git@h:x/y.git#main", "git@h:x/y.git", "main")),
        ("git://h/x#:sub/dir", git_context("git://h/x#:sub/dir", "git://h/x", "", "sub/dir")),
        (
            "https://h/y.git?branch=b&subdir=s",
            git_context("https://h/y.git?branch=b&subdir=s", "https://h/y.git", "refs/heads/b", "s"),
        ),
        ("github.com/o/r", git_context("https://github.com/o/r.git", "https://github.com/o/r.git")),
        ("github.com/o/r#main", git_context("https://github.com/o/r.git#main", "https://github.com/o/r.git", "main")),
        ("github.com/o/r.git#:d", git_context("https://github.com/o/r.git#:d", "https://github.com/o/r.git", "", "d")),
        ("example.com/o/r.git", ContextSpec("", "directory", "example.com/o/r.git")),
    ],
)
def test_contexts(text: str, spec: ContextSpec) -> None:
    assert parse_context(text) == spec


def test_a_folder_comes_before_an_address() -> None:
    for text in ("github.com/o/r", "a@b:c", "https://h/x.git"):
        assert parse_context(text, is_folder=True) == ContextSpec("", "directory", text)
    assert parse_context("-", is_folder=True).kind == "stdin"


def test_contexts_refused() -> None:
    for text, message in [
        ("", "the context is empty"),
        ("https://h/x.tar#d", "the context 'https://h/x.tar#d': only a git repository has branches and folders after a '#'"),
        ("file:///x", "the context 'file:///x': there are no contexts by file://"),
        ("docker-image://alpine", "the context 'docker-image://alpine': there are no contexts by docker-image://"),
        ("https://h/x.git#../a:b", "the context 'https://h/x.git#../a:b': '../a' is no name of a branch or tag, and no commit"),
        (
            "https://u:p@h/x.git#a b",
            "the context 'https://xxxxx:xxxxx@h/x.git#a b': 'a b' is no name of a branch or tag, and no commit",
        ),
    ]:
        with pytest.raises(UsageError) as caught:
            parse_context(text)
        assert caught.value.message == message


@given(
    st.text(max_size=40)
    | st.from_regex(r"(https?|git|ssh|github\.com|oci-layout|docker-image|x)(://|/|@h:)[a-z./#?:=@&-]{0,30}")
)
def test_any_text_is_a_context_or_a_usage_error(text: str) -> None:
    """And nothing that is fetched is ever taken for a path, nor the reverse."""
    for parse_, given_text in ((parse_context, text), (parse_build_context, f"name={text}")):
        try:
            spec = parse_(given_text)
        except UsageError:
            continue
        assert (spec.kind == "git") == (spec.git is not None)
        if spec.kind == "directory":
            assert spec.path == text
        elif spec.kind == "url":
            assert spec.path.startswith(("http://", "https://"))


def test_hosts() -> None:
    assert parse_hosts(["a:1.2.3.4", "b=::1", "c:[2001:db8::1],d:10.0.0.1", "a:5.6.7.8", "e:fe80::1"]) == (
        ("a", "1.2.3.4"),
        ("b", "::1"),
        ("c", "2001:db8::1"),
        ("d", "10.0.0.1"),
        ("a", "5.6.7.8"),
        ("e", "fe80::1"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is not a host"),
        ("a:", "'a:' is not a host"),
        (":1.2.3.4", "':1.2.3.4' is not a host"),
        ("a b:1.2.3.4", "'a b:1.2.3.4' is not a host"),
        ("a#:1.2.3.4", "'a#:1.2.3.4' is not a host"),
        ("a:1.2.3", "'1.2.3' in 'a:1.2.3' is not an IP address"),
        ("a:1.2.3.4\0", "'1.2.3.4\0' in 'a:1.2.3.4\0' is not an IP address"),
        ("a:1.2.3.4\nevil", "'1.2.3.4\nevil' in 'a:1.2.3.4\nevil' is not an IP address"),
        ("a:host-gateway", "'a:host-gateway': commands have no way to the host"),
    ],
)
def test_hosts_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hosts([text])
    assert caught.value.message == message


def test_platforms() -> None:
    assert parse_platform([], "x86_64") == Platform("linux", "amd64")
    assert parse_platform(["linux/amd64", "amd64"], "x86_64") == Platform("linux", "amd64")
    assert parse_platform(["linux/arm64/v8"], "aarch64") == Platform("linux", "arm64")
    several = parse_platforms(["local,linux/arm64", "arm", "linux/arm64/v8"], "x86_64")
    assert [str(each) for each in several] == ["linux/amd64", "linux/arm64", "linux/arm/v7"]
    for texts, message in [
        (["linux/amd64,linux/arm64"], "only one platform can be named here"),
        (["a/b/c/d"], "'a/b/c/d' is not a platform"),
        ([""], "'' is not a platform"),
    ]:
        with pytest.raises(UsageError) as caught:
            parse_platform(texts, "x86_64")
        assert caught.value.message == message


# The environment


def test_an_empty_environment() -> None:
    environment = read_environment({})
    assert environment.source_date_epoch is None
    assert environment.progress == "auto"
    assert environment.proxies == ()
    assert environment.color(is_tty=True) and not environment.color(is_tty=False)
    assert environment.store_root(None, 0) == "/var/lib/pybuild"
    with pytest.raises(UsageError, match="HOME is not set"):
        environment.store_root(None, 1000)


def test_a_full_environment() -> None:
    environment = read_environment(
        {
            "SOURCE_DATE_EPOCH": "1700000000",
            "DOCKER_CONFIG": "/d",
            "REGISTRY_AUTH_FILE": "/a",
            "DOCKER_DEFAULT_PLATFORM": "linux/amd64",
            "BUILDKIT_PROGRESS": "plain",
            "SSH_AUTH_SOCK": "/s",
            "TMPDIR": "/t",
            "HOME": "/h",
            "XDG_DATA_HOME": "/xd",
            "XDG_CACHE_HOME": "relative",
            "http_proxy": "http://p",
            "HTTPS_PROXY": "http://q",
            "NO_PROXY": "",
            "PYBUILD_ROOT": "/r",
            "DOCKER_HOST": "unix:///e",
            "DOCKER_CONTEXT": "c",
            "PATH": "/b",
            "PYBUILD_ISOLATION": "userns",
        }
    )
    assert environment._asdict() == {
        "source_date_epoch": 1700000000,
        "docker_config": "/d",
        "registry_auth_file": "/a",
        "default_platform": "linux/amd64",
        "progress": "plain",
        "no_color": False,
        "force_color": False,
        "dumb_terminal": False,
        "ssh_auth_sock": "/s",
        "tmpdir": "/t",
        "home": "/h",
        "xdg_data_home": "/xd",
        "xdg_config_home": "",
        "xdg_cache_home": "",
        "xdg_runtime_dir": "",
        "proxies": (("http_proxy", "http://p"), ("HTTPS_PROXY", "http://q")),
        "root": "/r",
        "docker_host": "unix:///e",
        "docker_context": "c",
        "path": "/b",
        "isolation": "userns",
        "workspace": "",
        "sandbox": ("root", "", "", "/b", False),
    }
    assert environment.store_root("/f", 0) == "/f"
    assert environment.store_root(None, 0) == "/r"
    assert environment._replace(root="").store_root(None, 1000) == "/xd/pybuild"
    assert environment._replace(root="", xdg_data_home="").store_root(None, 1000) == "/h/.local/share/pybuild"
    assert environment.progress_mode(None, quiet=False) == "plain"
    assert environment.progress_mode("tty", quiet=False) == "tty"
    assert environment.progress_mode("tty", quiet=True) == "quiet"
    with pytest.raises(UsageError, match="--root is empty"):
        environment.store_root("", 0)


@pytest.mark.parametrize(
    ("variables", "tty", "pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colors(variables: dict[str, str], tty: bool, pipe: bool) -> None:
    environment = read_environment(variables)
    assert (environment.color(is_tty=True), environment.color(is_tty=False)) == (tty, pipe)
    assert environment.progress_mode(None, quiet=False) == ("plain" if "TERM" in variables else "auto")


@pytest.mark.parametrize(
    ("variables", "message", "hint"),
    [
        ({"SOURCE_DATE_EPOCH": "today"}, "SOURCE_DATE_EPOCH is 'today', not a number of seconds", "unset it, or: date +%s"),
        ({"SOURCE_DATE_EPOCH": "-1"}, "SOURCE_DATE_EPOCH is '-1', not a number of seconds", "unset it, or: date +%s"),
        ({"BUILDKIT_PROGRESS": "plan"}, "'plan' is not a value of BUILDKIT_PROGRESS", "did you mean 'plain'?"),
    ],
)
def test_environments_refused(variables: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_environment(variables)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_build_args_from_the_environment() -> None:
    assert build_args({"A": "1", "B": None, "C": None}, {"A": "x", "B": "2"}) == {"A": "1", "B": "2"}


# What others rely on


def test_parsing_imports_next_to_nothing() -> None:
    script = """
import sys, builder.errors
before = set(sys.modules)
from builder.cli.flags import parse
from builder.cli.environment import read_environment
import os
parse(["-t", "a", "-f", "Dockerfile", "."])
read_environment(os.environ)
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"], capture_output=True, text=True
    )
    assert done.stderr == ""
    own = [
        "builder.cli",
        "builder.cli.environment",
        "builder.cli.flag",
        "builder.cli.flags",
        "builder.cli.limit_flags",
        "builder.cli.table",
        "builder.cli.unlike_docker",
    ]
    assert done.stdout.split() == [*own, "builder.sandbox", "builder.sandbox.rungs"]


def test_a_value_that_needs_an_equals_sign() -> None:
    """As in `lock --upgrade debian .`, where the flag may also stand alone."""
    with pytest.raises(UsageError) as caught:
        parse(["lock", "--upgrade", "debian", "."])
    assert caught.value.hint == "--upgrade takes a value with an equals sign: --upgrade=debian"
