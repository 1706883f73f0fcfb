"""`login` and `logout`, with real registries, and skopeo reading what was written."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.registry.registry_images import layout, skopeo
from tests.registry.registry_runs import refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer

WRONG = "wrong-word"


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_a_login_counts_for_all_and_until_it_ends(pybuild: Pybuild, secured: RegistryServer, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".docker" / "config.json"
    login = ("login", "-u", USER, "--password-stdin", secured.host)
    done = pybuild(*login, stdin=f"{PASSWORD}\n".encode())
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"logged in to {secured.host}; the password is in '{file}'\n"
    folder = layout(tmp_path / "layout", [{"a": b"a"}])
    skopeo(
        "copy", "-q", "--dest-tls-verify=false", "--dest-authfile", file, f"oci:{folder}:latest", f"docker://{secured.host}/a:1"
    )
    assert pybuild("pull", f"{secured.host}/a:1").returncode == 0
    out = pybuild("logout", secured.host)
    assert (out.returncode, out.stderr) == (0, f"logged out of {secured.host}\n")
    assert json.loads(file.read_text()) == {}
    refused(pybuild, "pull", f"{secured.host}/a:1")
    assert pybuild("logout", secured.host).stderr == f"there was no login to {secured.host} in '{file}'\n"


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_wrong_credentials_are_not_kept(pybuild: Pybuild, secured: RegistryServer, tmp_path: Path) -> None:
    said = refused(pybuild, "login", "-u", USER, "-p", WRONG, f"https://{secured.host}/v2/")
    assert said == (
        f"error: {secured.host} refuses the credentials\n"
        "  hint: check user and password; some registries want a token in its place\n"
    )
    assert WRONG not in said and not (tmp_path / "home" / ".docker").exists()


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_where_a_login_is_kept(pybuild: Pybuild, secured: RegistryServer, tmp_path: Path) -> None:
    login = ("login", f"--username={USER}", f"--password={PASSWORD}", secured.host)
    for name, value, file in (
        ("REGISTRY_AUTH_FILE", tmp_path / "auth.json", tmp_path / "auth.json"),
        ("DOCKER_CONFIG", tmp_path / "docker", tmp_path / "docker" / "config.json"),
    ):
        assert pybuild(*login, env={name: str(value)}).returncode == 0
        assert secured.host in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "auth.json").write_text("{")
    said = refused(pybuild, *login, code=2, env={"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
    assert "holds no JSON object" in said


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_a_file_of_credentials_by_its_flag(pybuild: Pybuild, secured: RegistryServer, tmp_path: Path) -> None:
    """As with buildah, skopeo and podman; before what the environment says."""
    file = tmp_path / "team.json"
    elsewhere = {"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}
    login = ("login", f"--authfile={file}", f"--username={USER}", f"--password={PASSWORD}", secured.host)
    assert pybuild(*login, env=elsewhere).returncode == 0
    folder = layout(tmp_path / "layout", [{"a": b"a"}])
    skopeo(
        "copy", "-q", "--dest-tls-verify=false", "--dest-authfile", file, f"oci:{folder}:latest", f"docker://{secured.host}/a:1"
    )
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {secured.host}/a:1\n")
    refused(pybuild, "-q", "--pull-always", context)
    done = pybuild("-q", "--pull-always", f"--authfile={file}", context, env=elsewhere)
    assert done.returncode == 0, done.stderr
    assert pybuild("-q", "--pull-never", context).stdout == done.stdout
    said = refused(pybuild, "pull", f"--authfile={tmp_path}/nothing", f"{secured.host}/a:1", code=2)
    assert said == f"error: the file '{tmp_path}/nothing' of --authfile is not there\n  hint: pybuild login writes one\n"
    assert pybuild("logout", f"--authfile={file}", secured.host).returncode == 0
    assert json.loads(file.read_text()) == {}


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_a_terminal_is_asked(pybuild: Pybuild, secured: RegistryServer) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*pybuild.command, "login", secured.host],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=pybuild.environment(),
        start_new_session=True,
    ) as process:
        os.close(slave)
        seen = b""
        for question, answer in ((b"user at", USER), (b"password: ", PASSWORD), (b"logged in", "")):
            deadline = time.monotonic() + 30
            while question not in seen and time.monotonic() < deadline:
                seen += os.read(master, 1000)
            assert question in seen
            if answer:
                os.write(master, f"{answer}\n".encode())
        process.wait(timeout=30)
    os.close(master)
    assert process.returncode == 0 and PASSWORD.encode() not in seen


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a/b",), "error: 'a/b' is not a registry's name\n  hint: it looks like registry.example or registry.example:5000\n"),
        (("nothing",), "error: 'nothing' is not a registry's name\n"),
        (
            ("r.example", "-u", "a", "-p", "b", "--password-stdin"),
            "error: --password and --password-stdin exclude each other\n",
        ),
        (("r.example", "--password-stdin"), "error: --password-stdin needs --username\n"),
        (("r.example", "-u", "a"), "error: there is no terminal to ask for the password on\n"),
        (("r.example", "-u", "a", "--password-stdin"), "error: user and password must not be empty\n"),
        (("r.example", "-u", "a:b", "-p", "c"), "error: a user's name has no ':'\n"),
    ],
)
def test_what_cannot_be(pybuild: Pybuild, args: tuple[str, ...], message: str) -> None:
    assert refused(pybuild, "login", *args, code=2).startswith(message)
