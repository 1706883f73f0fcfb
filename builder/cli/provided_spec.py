"""Values of ``--secret`` and ``--ssh``, written as for `docker buildx build`. Pure; `provide` looks at what they name."""

from __future__ import annotations

from builder.cli.output_spec import split_csv
from builder.errors import UsageError, did_you_mean
from builder.values import NamedTuple

_SECRET_KEYS = ("id", "src", "source", "env", "type")
_SECRET_HINT = "it looks like --secret id=ID,src=FILE or --secret id=ID,env=NAME"


class SecretSpec(NamedTuple):
    """A file or a variable; both are empty where only the id was given."""

    id: str
    file: str
    env: str


class SshSpec(NamedTuple):
    """`paths` are sockets or key files; none for the agent of SSH_AUTH_SOCK."""

    id: str
    paths: tuple[str, ...]


def parse_secret(text: str) -> SecretSpec:
    """``id=ID[,src=FILE|,env=NAME][,type=file|env]``. Raises UsageError."""
    values: dict[str, str] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"'{field}' in the secret '{text}' is not KEY=VALUE", hint=_SECRET_HINT)
        if key not in _SECRET_KEYS:
            hint = did_you_mean(key, _SECRET_KEYS) or "the keys are id, src, env and type"
            raise UsageError(f"unknown key '{key}' in the secret '{text}'", hint=hint)
        values["src" if key == "source" else key] = value
    kind = values.get("type", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"'{kind}' is no type of secret", hint="file or env")
    if not values.get("id"):
        raise UsageError(f"the secret '{text}' has no id", hint=_SECRET_HINT)
    file, env = values.get("src", ""), values.get("env", "")
    if kind == "env" and not env:
        # As buildx: `src` may say which variable.
        file, env = "", file
    if file and env:
        raise UsageError(f"the secret '{text}' has both src and env", hint="leave one of them")
    if kind == "file" and env:
        raise UsageError(f"the secret '{text}' is of type file and names a variable", hint="leave env out, or say type=env")
    return SecretSpec(values["id"], file, env)


def parse_ssh(text: str) -> SshSpec:
    """``default``, ``ID``, ``ID=SOCKET`` or ``ID=KEY[,KEY]``. Raises UsageError."""
    id, equals, value = text.partition("=")
    paths = tuple(value.split(",")) if equals else ()
    if (equals and not all(paths)) or not (id or equals):
        raise UsageError(f"'{text}' is no ssh agent", hint="it looks like --ssh default, --ssh ID=SOCKET or --ssh ID=KEYFILE")
    return SshSpec(id or "default", paths)


def is_encrypted(key: bytes) -> bool:
    """Whether a file with a private key needs a passphrase: PEM says so in words, OpenSSH's own format by the name of a cipher
    (PROTOCOL.key in its sources)."""
    if b"ENCRYPTED" in key.partition(b"\n\n")[0][:1000]:
        return True
    head, begin, rest = key.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    if not begin or head.strip():
        return False
    import binascii

    # The magic word of 15 bytes, then the cipher's name with its length: 48 characters hold both.
    try:
        data = binascii.a2b_base64(b"".join(rest.split())[:48])
    except binascii.Error:
        return False
    length = int.from_bytes(data[15:19], "big")
    return data.startswith(b"openssh-key-v1\0") and data[19 : 19 + length] != b"none"
