"""Files with credentials, as Docker, podman and skopeo write them, and the helpers that they name."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from builder.errors import RegistryError, UsageError
from builder.registry.access import Credentials
from builder.registry.authfiles import erase, find, store

AUTH = base64.b64encode(b"jane:pass:word").decode()
JANE = Credentials("jane", "pass:word")
HELPER = """\
#!/bin/sh
# Keeps what it is given in a file beside it, and says with what it was called.
here=$(dirname "$0")
echo "$1" >> "$here/calls"
case $1 in
store) cat > "$here/kept" ;;
get) read -r server
    [ "$server" = broken.example ] && { echo "the keychain is locked"; exit 1; }
    [ "$server" = odd.example ] && { echo "what?"; exit 0; }
    [ -e "$here/kept" ] && exec cat "$here/kept"
    echo "credentials not found in native keychain"; exit 1 ;;
erase) rm "$here/kept" ;;
esac
"""


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """The folder of `docker-credential-tests`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker-credential-tests"
    program.write_text(HELPER)
    program.chmod(0o755)
    return folder


def written(folder: Path, content: object, name: str = "config.json") -> str:
    file = folder / name
    file.write_text(json.dumps(content))
    return str(file)


def looked_up(file: str, domain: str, repository: str = "a/b", path: str = "") -> Credentials:
    return find((file,), domain, repository, path)


@pytest.mark.parametrize(
    "key",
    ["registry.example:5000", "https://registry.example:5000", "http://registry.example:5000/v1/", "registry.example:5000/v2/",
     "registry.example:5000/a/b", "registry.example:5000/a"],
)  # fmt: skip
def test_keys_of_a_registry(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, {"auths": {"other.example": {"auth": AUTH[::-1]}, key: {"auth": AUTH}}})
    assert looked_up(file, "registry.example:5000") == JANE
    assert looked_up(file, "registry.example") == Credentials()


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io"])
def test_keys_of_docker_hub(tmp_path: Path, key: str) -> None:
    assert looked_up(written(tmp_path, {"auths": {key: {"auth": AUTH}}}), "docker.io", "library/alpine") == JANE


def test_the_closest_namespace_counts(tmp_path: Path) -> None:
    entries = {
        name: {"username": name, "password": "x"} for name in ("r.example", "r.example/a", "r.example/a/b", "r.example/ab")
    }
    file = written(tmp_path, {"auths": entries})
    found = {path: looked_up(file, "r.example", path).username for path in ("a/b", "a/b/c", "a/c", "ab", "abc")}
    assert found == {
        "a/b": "r.example/a/b", "a/b/c": "r.example/a/b", "a/c": "r.example/a", "ab": "r.example/ab", "abc": "r.example",
    }  # fmt: skip


def test_the_first_file_that_knows_counts(tmp_path: Path) -> None:
    first = written(tmp_path, {"auths": {"r.example": {}}}, "first")
    second = written(tmp_path, {"auths": {"r.example": {"auth": AUTH}}}, "second")
    assert find((str(tmp_path / "none"), first, second), "r.example", "a", "") == JANE


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"identitytoken": "token"}, Credentials(identity_token="token")),
        ({"auth": base64.b64encode(b"jane:").decode(), "identitytoken": "t"}, Credentials("jane", identity_token="t")),
        ({"registrytoken": "token"}, Credentials(registry_token="token")),
        ({"username": "u", "password": "p"}, Credentials("u", "p")),
        ({"auth": base64.b64encode(b"a:b\0\0").decode()}, Credentials("a", "b")),
        ({}, Credentials()),
        ({"auth": 7}, Credentials()),
    ],
)
def test_kinds_of_entries(tmp_path: Path, entry: object, expected: Credentials) -> None:
    assert looked_up(written(tmp_path, {"auths": {"r.example": entry}}), "r.example") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no JSON object"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "holds no JSON object"),
        ('{"auths": []}', "'auths' in .* is no object"),
        ('{"auths": {"r.example": 7}}', "an entry of 'auths' in .* is damaged"),
        ('{"auths": {"r.example": {"auth": "!!"}}}', "an entry of 'auths' in .* is damaged"),
        ('{"auths": {"r.example": {"auth": "amFuZQ=="}}}', "an entry of 'auths' in .* is damaged"),
        # What no header and no text can carry: its error had the credential in it.
        (r'{"auths": {"r.example": {"registrytoken": "a\nb"}}}', "an entry of 'auths' in .* is damaged"),
        (r'{"auths": {"r.example": {"registrytoken": "\u20ac"}}}', "an entry of 'auths' in .* is damaged"),
        (r'{"auths": {"r.example": {"username": "a", "password": "\ud800"}}}', "an entry of 'auths' in .* is damaged"),
        (r'{"auths": {"r.example": {"identitytoken": "\ud800"}}}', "an entry of 'auths' in .* is damaged"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        looked_up(str(file), "r.example")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("\n")
    assert looked_up(str(tmp_path / "config.json"), "r.example") == Credentials()


# Helpers


@pytest.mark.parametrize("setting", [{"credsStore": "tests"}, {"credHelpers": {"r.example": "tests"}, "credsStore": "none"}])
def test_a_helper_keeps_credentials(tmp_path: Path, helper: Path, setting: dict[str, object]) -> None:
    file = written(tmp_path, {**setting, "other": 1})
    assert looked_up(file, "r.example", path=str(helper)) == Credentials()
    assert store(file, "r.example", JANE, str(helper)) == "the credential helper 'tests'"
    assert json.loads((helper / "kept").read_text()) == {"ServerURL": "r.example", "Username": "jane", "Secret": "pass:word"}
    assert json.loads(Path(file).read_text()) == {**setting, "other": 1, "auths": {"r.example": {}}}
    assert looked_up(file, "r.example", path=str(helper)) == JANE
    assert erase(file, "r.example", str(helper)) and not erase(file, "r.example", str(helper))
    assert json.loads(Path(file).read_text()) == {**setting, "other": 1}
    assert (helper / "calls").read_text().split() == ["get", "store", "get", "get", "erase", "get"]


def test_a_helper_is_asked_by_docker_hubs_name(tmp_path: Path, helper: Path) -> None:
    file = written(tmp_path, {"credHelpers": {"docker.io": "tests"}})
    store(file, "docker.io", Credentials(identity_token="token"), str(helper))
    assert json.loads((helper / "kept").read_text()) == {
        "ServerURL": "https://index.docker.io/v1/", "Username": "<token>", "Secret": "token",
    }  # fmt: skip
    assert looked_up(file, "docker.io", path=str(helper)) == Credentials(identity_token="token")


@pytest.mark.parametrize(
    ("domain", "name", "message"),
    [
        ("broken.example", "tests", "the credential helper 'docker-credential-tests' failed: the keychain is locked"),
        ("odd.example", "tests", "the credential helper 'tests' gave no credentials in its format"),
        ("r.example", "nowhere", "the credential helper 'docker-credential-nowhere' is not on the PATH"),
        ("r.example", "../bin/docker-credential-tests", "is not on the PATH"),
    ],
)
def test_helpers_that_fail(tmp_path: Path, helper: Path, domain: str, name: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        looked_up(written(tmp_path, {"credsStore": name}), domain, path=str(helper))


# Writing


def test_what_a_file_has_besides_stays(tmp_path: Path) -> None:
    other = {"auth": AUTH}
    file = written(tmp_path, {"auths": {"other.example": other, "https://r.example/v1/": {"auth": "old"}}, "proxies": {"a": 1}})
    os.chmod(file, 0o644)
    assert store(file, "r.example", JANE, "") == f"'{file}'"
    content = json.loads(Path(file).read_text())
    assert content == {"auths": {"other.example": other, "r.example": {"auth": AUTH}}, "proxies": {"a": 1}}
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert erase(file, "r.example", "")
    assert json.loads(Path(file).read_text()) == {"auths": {"other.example": other}, "proxies": {"a": 1}}


def test_a_new_file_in_a_new_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "config.json"
    store(str(file), "docker.io", JANE, "")
    assert json.loads(file.read_text()) == {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert os.listdir(file.parent) == ["config.json"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    store(str(tmp_path / "link"), "r.example", JANE, "")
    assert (tmp_path / "link").is_symlink() and AUTH in (tmp_path / "real").read_text()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written: "):
        store(str(tmp_path / "file" / "config.json"), "r.example", JANE, "")
