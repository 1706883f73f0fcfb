"""Files with credentials: Docker's `config.json` (docs.docker.com, "docker login") and containers' `auth.json`
(containers-auth.json(5)), which are one format, and the helpers that they name (github.com/docker/docker-credential-helpers).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess

from builder.errors import RegistryError, UsageError
from builder.registry.access import Credentials
from builder.registry.hosts import DOCKER_HUB, HUB_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LIMIT = 4 << 20
# A helper may ask its user for the key of a keychain.
_HELPER_SECONDS = 60.0
_TOKEN_USER = "<token>"
"""The user name by which a helper says that its secret is an identity token."""
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


class NoHelper(RegistryError):
    """A credential helper that a file names is not installed."""


def find(
    files: tuple[str, ...], domain: str, repository: str, path: str, warn: Callable[[str], object] | None = None
) -> Credentials:
    """What the first file says that knows the registry `domain`, or in `auth.json` a namespace that holds `repository`; empty
    where none does. `path` is where helpers are looked for. With `warn`, which is told, one that is not installed knows
    nothing: `config.json` may be another machine's, and what is public needs none. Raises UsageError for a damaged file,
    RegistryError for a helper that fails."""
    for name in files:
        found = _in_file(name, domain, repository, path, warn)
        if found is not None:
            return found
    return Credentials()


def store(file: str, domain: str, credentials: Credentials, path: str) -> str:
    """Keep what a login gave: with the helper that `file` names, else in it. What has it now, for a person to read."""
    config = read(file)
    helper = _helper(config, domain)
    if helper:
        user = _TOKEN_USER if credentials.identity_token else credentials.username
        secret = credentials.identity_token or credentials.password
        said = {"ServerURL": _key(domain), "Username": user, "Secret": secret}
        _run(helper, "store", json.dumps(said).encode(), path)
        # As Docker has it: the registry is known, and the rest is the helper's.
        _entries(config, file)[_key(domain)] = {}
        _write(file, config)
        return f"the credential helper '{helper}'"
    entry = {"auth": base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()}
    if credentials.identity_token:
        entry = {"auth": base64.b64encode(f"{credentials.username}:".encode()).decode()}
        entry["identitytoken"] = credentials.identity_token
    _forget(config, file, domain)
    _entries(config, file)[_key(domain)] = entry
    _write(file, config)
    return f"'{file}'"


def erase(file: str, domain: str, path: str) -> bool:
    """Forget a registry's credentials; False where `file` and its helper have none."""
    config = read(file)
    helper = _helper(config, domain)
    held = False
    if helper:
        held = _from_helper(helper, domain, path) is not None
        if held:
            _run(helper, "erase", _key(domain).encode(), path)
    if _forget(config, file, domain):
        _write(file, config)
        held = True
    return held


def read(file: str) -> dict[str, Any]:
    """The file's object; an empty one where there is no file. Raises UsageError."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"the credentials in '{file}' cannot be read: {error.strerror}") from error
    try:
        raw = json.loads(data) if data.strip() else {}
        if len(data) > _LIMIT or not isinstance(raw, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise UsageError(f"'{file}' holds no JSON object", hint="mend it, or move it away and log in again") from None
    return raw


def _in_file(file: str, domain: str, repository: str, path: str, warn: Callable[[str], object] | None) -> Credentials | None:
    config = read(file)
    helper = _helper(config, domain)
    if helper:
        try:
            found = _from_helper(helper, domain, path)
        except NoHelper as error:
            if warn is None:
                raise
            warn(f"{error.message}, and '{file}' names it: {domain} is asked without its credentials")
            found = None
        if found is not None:
            return found
    entries = {_plain(key): entry for key, entry in _entries(config, file).items()}
    for name in _names(domain, repository):
        entry = entries.get(name)
        if entry:
            return _entry(entry, file)
    return None


def _helper(config: dict[str, Any], domain: str) -> str:
    helpers = config.get("credHelpers")
    for key, helper in helpers.items() if isinstance(helpers, dict) else ():
        if _plain(key) in _names(domain, ""):
            return helper if isinstance(helper, str) else ""
    default = config.get("credsStore")
    return default if isinstance(default, str) else ""


def _entries(config: dict[str, Any], file: str) -> dict[str, Any]:
    entries = config.setdefault("auths", {})
    if not isinstance(entries, dict):
        raise UsageError(f"'auths' in '{file}' is no object", hint="mend it, or move it away and log in again")
    return entries


def _forget(config: dict[str, Any], file: str, domain: str) -> bool:
    entries = _entries(config, file)
    known = [key for key in entries if _plain(key) in _names(domain, "")]
    for key in known:
        del entries[key]
    return bool(known)


def _names(domain: str, repository: str) -> list[str]:
    """What an entry may be called, the closest first: namespaces are `auth.json`'s."""
    parts = repository.split("/") if repository else []
    names = ["/".join((domain, *parts[:count])) for count in range(len(parts), 0, -1)]
    return [*names, *(_HUB_NAMES if domain == DOCKER_HUB else (domain,))]


def _plain(key: str) -> str:
    """Older files have URLs, with the path of an API."""
    address = key.removeprefix("https://").removeprefix("http://")
    if address == key and not key.endswith(("/v1/", "/v2/", "/v1", "/v2")):
        return key.rstrip("/")
    return address.partition("/")[0]


def _key(domain: str) -> str:
    return HUB_KEY if domain == DOCKER_HUB else domain


def _entry(entry: object, file: str) -> Credentials | None:
    damaged = UsageError(f"an entry of 'auths' in '{file}' is damaged", hint="log in again: pybuild login")
    if not isinstance(entry, dict):
        raise damaged
    auth, username, password, identity, token = (
        _text(entry, key) for key in ("auth", "username", "password", "identitytoken", "registrytoken")
    )
    if auth:
        try:
            username, colon, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except ValueError:
            raise damaged from None
        if not colon:
            raise damaged
    found = Credentials(username, password, identity, token)
    if not _can_be_sent(found):
        raise damaged
    return found if any(found) else None


def _can_be_sent(credentials: Credentials) -> bool:
    """JSON may hold half a character, and a token is a header as it stands."""
    token = credentials.registry_token
    try:
        "".join(credentials).encode()
    except UnicodeEncodeError:
        return False
    return token.isascii() and token.isprintable()


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _from_helper(helper: str, domain: str, path: str) -> Credentials | None:
    out = _run(helper, "get", _key(domain).encode(), path, missing="credentials not found")
    if out is None:
        return None
    try:
        raw = json.loads(out)
        user, secret = raw["Username"], raw["Secret"]
        if not (isinstance(user, str) and isinstance(secret, str) and _can_be_sent(Credentials(user, secret))):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RegistryError(f"the credential helper '{helper}' gave no credentials in its format", hint=_HELPED) from None
    if not secret:
        return None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


_HELPED = "mend it, or take it out of the file with the credentials"


def _run(helper: str, verb: str, stdin: bytes, path: str, *, missing: str | None = None) -> bytes | None:
    """What the helper wrote; None where it says that it has none, by the words in `missing`."""
    import shutil

    program = f"docker-credential-{helper}"
    found = shutil.which(program, path=path) if "/" not in helper else None
    if found is None:
        raise NoHelper(f"the credential helper '{program}' is not on the PATH", hint=_HELPED)
    try:
        done = subprocess.run([found, verb], input=stdin, capture_output=True, timeout=_HELPER_SECONDS)
    except subprocess.TimeoutExpired:
        raise RegistryError(
            f"the credential helper '{program}' took longer than {_HELPER_SECONDS:.0f} s", hint=_HELPED
        ) from None
    except OSError as error:
        raise RegistryError(f"the credential helper '{program}' cannot be run: {error.strerror}", hint=_HELPED) from error
    if done.returncode == 0:
        return done.stdout
    # It complains on stdout, as its protocol has it.
    said = (done.stdout.strip() or done.stderr.strip()).decode("utf-8", "replace").partition("\n")[0][:200]
    if missing is not None and missing in said:
        return None
    raise RegistryError(f"the credential helper '{program}' failed: {said or f'exit code {done.returncode}'}", hint=_HELPED)


def _write(file: str, config: dict[str, Any]) -> None:
    """Whole or not at all, for its owner's eyes alone; a link stays one."""
    if config.get("auths") == {}:
        del config["auths"]
    target = os.path.realpath(file)
    folder = os.path.dirname(target)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as opened:
                json.dump(config, opened, indent=4)
                opened.write("\n")
            os.rename(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"'{file}' cannot be written: {error.strerror}") from error
