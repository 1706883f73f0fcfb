"""Secrets for RUN --mount=type=secret: read when a step needs them, kept in memory, and shown to nobody else."""

from __future__ import annotations

import threading

from builder.engine.provided import SECRET_LIMIT, SecretFile, SecretUnset
from builder.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.engine.provided import Provided
    from builder.plan.mounts import SecretMount, SshMount


class Secrets:
    """The secrets of a build, each read once: a pipe of the shell (`src=/dev/fd/63`) gives its content once. For several
    threads."""

    def __init__(self, provided: Provided) -> None:
        self._provided = provided
        self._lock = threading.Lock()
        self._read: dict[str, bytes] = {}

    def get(self, mount: SecretMount) -> bytes | None:
        """The content; None for one that was not given and is not required. Raises UsageError."""
        secret = self._provided.secrets.get(mount.id)
        if secret is None or isinstance(secret, SecretUnset):
            if not mount.required:
                return None
            unset = f"the variable '{secret.variable}' that --secret names is not set" if secret else None
            raise missing("secret", mount, self._provided.secrets, f"--secret id={mount.id},src=FILE", unset)
        if not isinstance(secret, SecretFile):
            return secret.data
        with self._lock:
            if mount.id not in self._read:
                self._read[mount.id] = _read_secret(mount.id, secret.path)
            return self._read[mount.id]


def _read_secret(id: str, path: str) -> bytes:
    data = b""
    try:
        with open(path, "rb", buffering=0) as file:
            while len(data) <= SECRET_LIMIT and (more := file.read(SECRET_LIMIT + 1 - len(data))):
                data += more
    except OSError as error:
        raise UsageError(
            f"the file '{path}' of the secret '{id}' cannot be read: {error.strerror}", hint="check --secret"
        ) from error
    if len(data) > SECRET_LIMIT:
        raise UsageError(f"the secret '{id}' is too large: {SECRET_LIMIT >> 10} KiB are allowed")
    return data


def missing(
    what: str, mount: SecretMount | SshMount, given: Mapping[str, object], example: str, hint: str | None = None
) -> UsageError:
    """The error for what a step requires and the command line does not give. `given` is what it does, by id."""
    return UsageError(
        f"the {what} '{mount.id}' is required and not given",
        mount.span,
        hint=hint or did_you_mean(mount.id, given) or f"as by {example}",
    )
