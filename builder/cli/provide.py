"""What --secret and --ssh name: looked at before the build begins, so that a misspelt path is told at once.

The content of a file is read by the step that needs it.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.cli.provided_spec import is_encrypted, parse_secret, parse_ssh
from builder.engine.provided import SECRET_LIMIT, AgentKeys, AgentSocket, Provided, SecretFile, SecretUnset, SecretValue
from builder.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.cli.provided_spec import SecretSpec, SshSpec
    from builder.engine.provided import Agent, Secret

_HEAD = 4096
"""Bytes of a key file that say whether it is encrypted."""


def provide(secrets: Sequence[str], agents: Sequence[str], environ: Mapping[str, str], *, agent: str, path: str) -> Provided:
    """Of the flags' values; `agent` is SSH_AUTH_SOCK, `path` PATH. Of a secret that is given twice the last counts, as with
    buildx. Raises UsageError."""
    found: dict[str, Secret] = {}
    for text in secrets:
        secret = parse_secret(text)
        found[secret.id] = _secret(secret, environ)
    known: dict[str, Agent] = {}
    for text in agents:
        ssh = parse_ssh(text)
        if ssh.id in known:
            raise UsageError(f"--ssh {ssh.id} is given twice", hint="several keys go into one, with commas between")
        known[ssh.id] = _agent(ssh, agent)
    provided = Provided(found, known)
    return provided._replace(path=path) if path else provided


def _secret(secret: SecretSpec, environ: Mapping[str, str]) -> Secret:
    env, file = secret.env, secret.file
    if not env and not file:
        # The variable of this name, else the file.
        env, file = (secret.id, "") if secret.id in environ else ("", secret.id)
    if env:
        value = environ.get(env)
        return SecretUnset(env) if value is None else SecretValue(os.fsencode(value))
    where = f"--secret id={secret.id}"
    info = _status(file, where, "give src=FILE or env=NAME" if not secret.file else None)
    if stat.S_ISDIR(info.st_mode):
        raise UsageError(f"'{file}' of {where} is a folder", hint="a secret is a file")
    if info.st_size > SECRET_LIMIT:
        raise UsageError(
            f"'{file}' of {where} has {info.st_size} bytes, and a secret {SECRET_LIMIT} at most", hint="mount a folder instead"
        )
    return SecretFile(file)


def _agent(ssh: SshSpec, agent: str) -> Agent:
    where = f"--ssh {ssh.id}"
    if not ssh.paths:
        if not agent:
            raise UsageError(
                f"{where} asks for your ssh agent, and SSH_AUTH_SOCK is not set",
                hint=f"start one (eval $(ssh-agent); ssh-add), or give a key: --ssh {ssh.id}=KEYFILE",
            )
        if not stat.S_ISSOCK(_status(agent, f"SSH_AUTH_SOCK, for {where},", "is the agent still running?").st_mode):
            raise UsageError(f"'{agent}' of SSH_AUTH_SOCK is no socket", hint="is the agent still running?")
        return AgentSocket(os.path.abspath(agent))
    sockets = [path for path in ssh.paths if stat.S_ISSOCK(_status(path, where, None).st_mode)]
    if not sockets:
        for path in ssh.paths:
            # What comes by a pipe can be read once.
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                _check_key(path, where)
        return AgentKeys(tuple(os.path.abspath(path) for path in ssh.paths))
    if len(ssh.paths) > 1:
        raise UsageError(f"{where} has several paths, and '{sockets[0]}' is a socket", hint="one socket, or key files alone")
    return AgentSocket(os.path.abspath(sockets[0]))


def _check_key(path: str, where: str) -> None:
    if os.path.isdir(path):
        raise UsageError(f"'{path}' of {where} is a folder", hint="name a private key, or the socket of an agent")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if b"PRIVATE KEY-----" not in head:
        public = path.removesuffix(".pub") if path.endswith(".pub") else ""
        raise UsageError(
            f"'{path}' of {where} is no private key",
            hint=f"did you mean '{public}'?" if public else "nor the socket of an agent",
        )
    if is_encrypted(head):
        raise UsageError(
            f"the key '{path}' of {where} has a passphrase, and a build cannot ask for it",
            hint=f"put it into an agent (ssh-add {path}), and give that: --ssh {where.removeprefix('--ssh ')}",
        )


def _status(path: str, where: str, hint: str | None) -> os.stat_result:
    try:
        info = os.stat(path)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except PermissionError as error:
        hint = "make it readable for yourself"
        raise UsageError(f"'{path}' of {where} cannot be read: {_reason(error)}", hint=hint) from None
    except OSError as error:
        raise UsageError(f"'{path}' of {where} cannot be read: {_reason(error)}", hint=hint or _near(path)) from None
    return info


def _reason(error: OSError) -> str:
    return (error.strerror or "unknown").lower()


def _near(path: str) -> str | None:
    if path.startswith("~"):
        return "the shell leaves '~' alone here: write $HOME"
    folder, name = os.path.split(path)
    try:
        return did_you_mean(name, sorted(os.listdir(folder or ".")))
    except OSError:  # No folder, or one that others may list: then nothing is near.
        return None
