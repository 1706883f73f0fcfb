"""What a client of registries may use, as a value: the command line fills it in, which alone reads the environment. Pure."""

from __future__ import annotations

from builder.cancellation import NEVER
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.cancellation import Cancellation
    from builder.http.proxies import Proxies


class Limits(NamedTuple):
    """Times in seconds."""

    connect: float = 10
    """For each address of a server, of which some have eight."""
    idle: float = 60
    """The longest silence of a server."""
    verify: float = 300
    """And after the last byte of an upload, which a server may have to verify and to take elsewhere."""
    silences: int = 2
    """So many of them without a byte between end a download; and five times as many in all."""
    redirects: int = 10
    attempts: int = 5
    """Of one request; and so many times in a row may a download break off without a byte."""
    backoff: float = 0.25
    """Before the second attempt, with up to as much again by chance; twice as long before each further one."""
    longest_wait: float = 30
    """Whatever Retry-After says."""


class Host(NamedTuple):
    """What is known of one server, named by `host[:port]`, or of a registry."""

    mirrors: tuple[str, ...] = ()
    """`host[:port][/path]` of what is asked before it, by those who pull."""
    http: bool = False
    """It speaks plain HTTP alone."""
    insecure: bool = False
    """Any certificate will do, and plain HTTP too where there is no TLS."""
    ca: tuple[str, ...] = ()
    """Files with certificates that vouch for it, beside the system's."""
    keypairs: tuple[tuple[str, str], ...] = ()
    """Files with a certificate of ours, and its key, which it may ask for."""


class RegistryAccess(NamedTuple):
    auth_files: tuple[str, ...] = ()
    """Files with credentials, Docker's `config.json` or containers' `auth.json`; the first that knows a registry counts."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where credential helpers are looked for, as PATH has it."""
    proxies: Proxies = ()
    tls_verify: bool = True
    """False: any certificate will do, and plain HTTP too where there is no TLS."""
    hosts: Mapping[str, Host] = {}
    """By `host[:port]`, as in references."""
    cert_folders: tuple[str, ...] = ()
    """Each may have a folder `host[:port]` with `*.crt`, `*.cert` and `*.key`; the first that has one counts."""
    cert_folder: str = ""
    """The folder for all servers, in the place of those."""
    limits: Limits = Limits()
    stop: Cancellation = NEVER
    warn: Callable[[str], object] | None = None
    """Told of what one can do without: with it a credential helper that is not installed is nobody's error."""
    notice: Callable[[str], object] | None = None
    """Told of what takes a while."""


class Credentials(NamedTuple):
    """What a registry is told about the user; all empty for nobody."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token, in place of a password."""
    registry_token: str = ""
    """A bearer token, sent as it is."""
