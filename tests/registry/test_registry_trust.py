"""Registries with certificates of their own, and those that want ours: by settings, Docker's folders and `--cert-dir`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.registry.registry_images import layout, skopeo
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """It wants to see a certificate of its clients."""
    with RegistryServer(tmp_path_factory.mktemp("tls"), tls=True, known_only=True) as server:
        certificates(server, server.folder / "certs", ours=True)
        folder = layout(tmp_path_factory.mktemp("image") / "layout", [{"file": b"x"}])
        skopeo("copy", "-q", "--dest-cert-dir", server.folder / "certs", f"oci:{folder}:latest", f"docker://{server.host}/a:1")
        yield server


def certificates(server: RegistryServer, folder: Path, *, ours: bool) -> None:
    folder.mkdir(parents=True)
    shutil.copy(server.certificate, folder / "ca.crt")
    if ours:
        shutil.copy(server.certificate, folder / "client.cert")
        shutil.copy(server.certificate, folder / "client.key")


def settings(pybuild: Pybuild, text: str) -> Path:
    folder = pybuild.store.parent / "home/.config/pybuild"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registries.toml").write_text(text)
    return folder / "registries.toml"


def test_settings(pybuild: Pybuild, tls: RegistryServer, tmp_path: Path) -> None:
    name = f"{tls.host}/a:1"
    said = refused(pybuild, "pull", name)
    assert "the secure connection failed: self-signed certificate" in said and "--cert-dir DIR" in said
    table = f'[registry."{tls.host}"]\nca = "{tls.certificate}"\n'
    settings(pybuild, table)
    # It is trusted now, and does not trust us.
    assert "the server wants a certificate of ours that it knows\n" in refused(pybuild, "pull", name)
    file = settings(pybuild, f'{table}keypair = {{cert = "me.pem", key = "me.pem"}}\n')
    missing = f"error: '{file.parent}/me.pem' with '{file.parent}/me.pem' cannot be used as a certificate and its key: "
    assert refused(pybuild, "pull", name, code=2).startswith(f"{missing}No such file or directory")
    (file.parent / "me.pem").write_text("nothing")
    assert refused(pybuild, "pull", name, code=2).startswith(missing)
    shutil.copy(tls.certificate, file.parent / "me.pem")
    done(pybuild, "pull", name)
    done(pybuild, "--pull", "-t", f"{tls.host}/b:1", "--push", context(tmp_path / "context", f"FROM {name}\n"))


def test_an_insecure_host(pybuild: Pybuild, tls: RegistryServer) -> None:
    name = f"{tls.host}/a:1"
    keypair = f'keypair = {{cert = "{tls.certificate}", key = "{tls.certificate}"}}\n'
    settings(pybuild, f'[registry."{tls.host}"]\ninsecure = true\n{keypair}')
    done(pybuild, "pull", name)
    assert "self-signed certificate" in refused(pybuild, "pull", "--tls-verify", name)


def test_folders_of_certificates(pybuild: Pybuild, tls: RegistryServer, tmp_path: Path) -> None:
    name = f"{tls.host}/a:1"
    place = tmp_path / "home/.config/containers/certs.d"
    certificates(tls, place / tls.host, ours=True)
    done(pybuild, "pull", name)
    (place / tls.host / "client.key").unlink()
    assert refused(pybuild, "pull", name, code=2) == (
        f"error: '{place}/{tls.host}/client.cert' has no 'client.key' beside it\n"
        "  hint: a certificate of yours is NAME.cert and its key NAME.key; authorities are NAME.crt\n"
    )
    done(pybuild, "pull", "--cert-dir", tls.folder / "certs", name)
    assert "is not there" in refused(pybuild, "pull", f"--cert-dir={tmp_path}/none", name, code=2)
    # In the place of the folders, not beside them.
    (tmp_path / "empty").mkdir()
    assert "self-signed certificate" in refused(pybuild, "pull", f"--cert-dir={tmp_path}/empty", name)


def test_other_commands(pybuild: Pybuild, tls: RegistryServer, tmp_path: Path) -> None:
    where = f"--cert-dir={tls.folder}/certs"
    name = f"{tls.host}/a:1"
    done(pybuild, "pull", where, name)
    done(pybuild, "push", where, name, f"{tls.host}/c:1")
    done(pybuild, where, "--pull", context(tmp_path / "context", f"FROM {name}\n"))


def test_the_systems_certificates_as_openssl_is_told(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "server", tls=True) as server:
        folder = layout(tmp_path / "layout", [{"file": b"x"}])
        skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{folder}:latest", f"docker://{server.host}/a:1")
        done(pybuild, "pull", f"{server.host}/a:1", env={"SSL_CERT_FILE": str(server.certificate)})


def test_a_login_to_a_registry_with_a_certificate_of_its_own(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "server", "htpasswd", tls=True) as server:
        certificates(server, tmp_path / "certs", ours=False)
        login = ("login", "-u", USER, "--password-stdin", server.host)
        assert pybuild(*login, stdin=PASSWORD.encode()).returncode == 5
        finished = pybuild("login", f"--cert-dir={tmp_path}/certs", *login[1:], stdin=PASSWORD.encode())
        assert finished.returncode == 0, finished.stderr
