"""What a client of registries may use, as a value: the command line fills it in, which alone reads the environment. Pure."""

from __future__ import annotations

from builder.cancellation import NEVER
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cancellation import Cancellation
    from builder.http.proxies import Proxies


class Limits(NamedTuple):
    """Times in seconds."""

    connect: float = 10
    """For each address of a server, of which some have eight."""
    idle: float = 60
    """The longest silence of a server."""
    redirects: int = 10
    attempts: int = 5
    """Of one request; and so many times in a row may a download break off without a byte."""
    backoff: float = 0.25
    """Before the second attempt, with up to as much again by chance; twice as long before each further one."""
    longest_wait: float = 30
    """Whatever Retry-After says."""


class RegistryAccess(NamedTuple):
    auth_files: tuple[str, ...] = ()
    """Files with credentials, Docker's `config.json` or containers' `auth.json`; the first that knows a registry counts."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where credential helpers are looked for, as PATH has it."""
    proxies: Proxies = ()
    tls_verify: bool = True
    """False: any certificate will do, and plain HTTP too where there is no TLS."""
    limits: Limits = Limits()
    stop: Cancellation = NEVER


class Credentials(NamedTuple):
    """What a registry is told about the user; all empty for nobody."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token, in place of a password."""
    registry_token: str = ""
    """A bearer token, sent as it is."""
