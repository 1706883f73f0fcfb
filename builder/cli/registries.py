"""What registries are reached with: files of credentials, settings and certificates by the environment, proxies, and whether
TLS is verified."""

from __future__ import annotations

import os

from builder.cli.registries_file import read_registries
from builder.errors import UsageError
from builder.registry.access import RegistryAccess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed


_SYSTEM_FILE = "/etc/pybuild/registries.toml"
_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def registry_access(parsed: Parsed, environment: Environment) -> RegistryAccess:
    """Raises UsageError for a file of settings that is wrong."""
    config = _config(environment)
    hosts = read_registries((_SYSTEM_FILE, f"{config}/pybuild/registries.toml") if config else (_SYSTEM_FILE,))
    verify = parsed.text("tls-verify")
    if verify == "true":
        # What is said here counts more than what is written there.
        hosts = {name: host._replace(http=False, insecure=False) for name, host in hosts.items()}
    folder = parsed.text("cert-dir")
    if folder is not None and not os.path.isdir(folder):
        raise UsageError(f"the folder '{folder}' of --cert-dir is not there", hint="it has *.crt, *.cert and *.key")
    authfile = parsed.text("authfile")
    if authfile is not None and parsed.command != "login" and not os.path.exists(authfile):
        raise UsageError(f"the file '{authfile}' of --authfile is not there", hint="pybuild login writes one")
    access = RegistryAccess(
        auth_files=(authfile,) if authfile else auth_files(environment),
        proxies=environment.proxies,
        tls_verify=verify != "false",
        hosts=hosts,
        cert_folders=(*((f"{config}/containers/certs.d",) if config else ()), *_CERTIFICATES),
        cert_folder=folder or "",
    )
    return access._replace(path=environment.path) if environment.path else access


def _config(environment: Environment) -> str:
    return environment.xdg_config_home or (f"{environment.home}/.config" if environment.home else "")


def auth_files(environment: Environment) -> tuple[str, ...]:
    """Where credentials are looked for: the file that REGISTRY_AUTH_FILE names and no other, else Docker's where DOCKER_CONFIG
    says, containers' of this session, containers' of the user, and Docker's own place (containers-auth.json(5))."""
    if environment.registry_auth_file:
        return (environment.registry_auth_file,)
    files = [f"{environment.docker_config}/config.json"] if environment.docker_config else []
    if environment.xdg_runtime_dir:
        files.append(f"{environment.xdg_runtime_dir}/containers/auth.json")
    if config := _config(environment):
        files.append(f"{config}/containers/auth.json")
    if environment.home and not environment.docker_config:
        files.append(f"{environment.home}/.docker/config.json")
    return tuple(files)


def login_file(environment: Environment) -> str:
    """Where a login is kept: as with Docker, unless REGISTRY_AUTH_FILE says otherwise. Raises UsageError."""
    if environment.registry_auth_file:
        return environment.registry_auth_file
    if environment.docker_config:
        return f"{environment.docker_config}/config.json"
    if not environment.home:
        raise UsageError("no place for credentials: HOME is not set", hint="name a file by REGISTRY_AUTH_FILE")
    return f"{environment.home}/.docker/config.json"
