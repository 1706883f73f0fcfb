"""`registries.toml`: what it says, and what is told of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cli.environment import read_environment
from builder.cli.flags import parse
from builder.cli.registries import registry_access
from builder.cli.registries_file import read_registries
from builder.errors import UsageError, render
from builder.registry.access import Host

WHOLE = """\
[registry."docker.io"]
mirrors = ["mirror.example:5000", "cache.example/hub"]

[registry."mirror.example:5000"]
http = true

[registry."own.example"]
insecure = true
ca = ["own.crt", "/etc/other.crt"]
[[registry."own.example".keypair]]
cert = "me.cert"
key = "me.key"
"""


def read(folder: Path, text: str) -> dict[str, Host]:
    file = folder / "registries.toml"
    file.write_text(text)
    return read_registries((str(folder / "none.toml"), str(file)))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    return render(caught.value, color=False).replace(f"{folder}/", "")


def test_all_that_can_be_said(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == {
        "docker.io": Host(("mirror.example:5000", "cache.example/hub")),
        "mirror.example:5000": Host(http=True),
        "own.example": Host(
            insecure=True,
            ca=(f"{tmp_path}/own.crt", "/etc/other.crt"),
            keypairs=((f"{tmp_path}/me.cert", f"{tmp_path}/me.key"),),
        ),
    }
    assert read(tmp_path, "") == {}
    # One text is a list of one, one table too.
    short = '[registry."a.example"]\nca = "/a"\nkeypair = {cert = "/c", key = "/k"}\n'
    assert read(tmp_path, short) == {"a.example": Host(ca=("/a",), keypairs=(("/c", "/k"),))}
    assert list(read(tmp_path, '[registry."index.docker.io"]\n')) == ["docker.io"]


def test_a_later_file_replaces_what_an_earlier_says(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text('[registry."a.example"]\nhttp = true\n[registry."b.example"]\nhttp = true\n')
    second.write_text('[registry."a.example"]\ninsecure = true\n')
    assert read_registries((str(first), str(second))) == {"a.example": Host(insecure=True), "b.example": Host(http=True)}


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("[registries]\n", 1, "unknown key 'registries'", "did you mean 'registry'?"),
        ('a = 1\n', 1, "unknown key 'a'", "there are registry"),
        ("registry = 1\n", 1, "'registry' is no table", 'write [registry."registry.example"]'),
        ('[registry]\n"a.example" = 1\n', 2, "'a.example' is no table", 'write [registry."a.example"]'),
        ('\n\n[registry."https://a"]\n', 3, "'https://a' is not a registry's name", "without scheme and path"),
        ('[registry."debian"]\n', 1, "'debian' is not a registry's name", "it looks like registry.example"),
        ('[registry."a.example"]\n# why\nmirror = ["b.example"]\n', 3, "unknown key 'mirror'", "did you mean 'mirrors'?"),
        ('[registry."a.example"]\nhttp = 1\n', 2, "'http' is neither true nor false", ""),
        ('[registry."a.example"]\nca = [\n  "/a",\n  7,\n]\n', 2, "'ca' is no list of texts", 'ca = ["...", "..."]'),
        ('[registry."a.example"]\nmirrors = ["http://b"]\n', 2, "'http://b' is not a mirror's address", "without scheme"),
        ('[registry."a.example"]\nmirrors = ["b.example/A"]\n', 2, "'b.example/A' is not a mirror's address", ""),
        ('[registry."a.example"]\nhttp = true\nca = "/a"\n', 3, "'http' and 'ca' exclude each other", "plain HTTP"),
        ('[registry."a.example"]\nkeypair = "x"\n', 2, "'keypair' is no table", '[[registry."a.example".keypair]]'),
        ('[[registry."a.example".keypair]]\ncert = "/c"\n', 1, "a keypair needs 'key', the name of a file", ""),
        (
            '[[registry."a.example".keypair]]\ncert="/c"\nkey="/k"\n[[registry."a.example".keypair]]\ncert=""\nkey="/k"\n',
            5, "a keypair needs 'cert', the name of a file", "",
        ),
        ('[[registry."a.example".keypair]]\ncert="/c"\nkey="/k"\npass="x"\n', 4, "unknown key 'pass'", "there are cert, key"),
        ('[registry."a.example"]\nhttp = yes\n', 2, "this is no TOML: invalid value", ""),
        ('[registry."a.example"\n', 1, "this is no TOML: ", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str, hint: str) -> None:
    said = refused(tmp_path, text)
    assert said.startswith(f"registries.toml:{line}:1: error: {message}"), said
    assert hint in said
    # The line is shown.
    assert f"  {line} | {text.splitlines()[line - 1]}\n" in said


@given(st.text(max_size=80) | st.lists(st.sampled_from(WHOLE.split("\n")), max_size=12).map("\n".join))
def test_any_text_is_settings_or_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    file = folder / "registries.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_registries((str(file),))
    except UsageError as error:
        assert error.span is not None and 1 <= error.span.line <= text.count("\n") + 1


def test_where_settings_and_certificates_lie(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config/pybuild").mkdir(parents=True)
    (home / ".config/pybuild/registries.toml").write_text('[registry."a.example"]\ninsecure = true\n')
    (tmp_path / "xdg/pybuild").mkdir(parents=True)
    (tmp_path / "xdg/pybuild/registries.toml").write_text('[registry."b.example"]\nhttp = true\n')

    def access(*flags: str, **environ: str) -> dict[str, Host]:
        found = registry_access(parse(["pull", *flags, "x"]), read_environment({"HOME": str(home), **environ}))
        assert found.cert_folders[1:] == ("/etc/containers/certs.d", "/etc/docker/certs.d")
        assert found.cert_folders[0] == f"{environ.get('XDG_CONFIG_HOME', f'{home}/.config')}/containers/certs.d"
        return dict(found.hosts)

    assert access() == {"a.example": Host(insecure=True)}
    assert access(XDG_CONFIG_HOME=str(tmp_path / "xdg")) == {"b.example": Host(http=True)}
    # The command line counts more.
    assert access("--tls-verify=true") == {"a.example": Host()}
