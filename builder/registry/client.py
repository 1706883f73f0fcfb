"""A client of registries: which server speaks for a name, by which scheme, and who we are to it."""

from __future__ import annotations

from _thread import allocate_lock

from builder.errors import BuildError, RegistryError, UsageError
from builder.http.addresses import origin
from builder.registry import authfiles
from builder.registry.auth import Auth, asked
from builder.registry.hosts import is_loopback, server
from builder.registry.http import Http, done
from builder.registry.repository import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from builder.oci.reference import Reference
    from builder.registry.access import Credentials, RegistryAccess


class Client:
    """Connections to registries, and who we are to them. For several threads. Close it."""

    def __init__(self, access: RegistryAccess) -> None:
        self._access = access
        self._http = Http(access)
        self._lock = allocate_lock()
        self._bases: dict[str, str] = {}
        self._auths: dict[tuple[str, Credentials], Auth] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, BuildError):
            self._http.mask(error)
        self.close()

    def close(self) -> None:
        self._http.close()

    def masked(self, error: BuildError) -> BuildError:
        """The same error, without credentials in what a registry may have put there."""
        self._http.mask(error)
        return error

    def repository(self, reference: Reference) -> Repository:
        """Raises RegistryError where the registry cannot be reached or a credential helper fails, UsageError for a damaged file
        with credentials."""
        domain, path = reference.domain, reference.path
        credentials = authfiles.find(self._access.auth_files, domain, path, self._access.path)
        base = self._base(domain)
        with self._lock:
            auth = self._auths.get((domain, credentials)) or self._auth(domain, credentials)
            self._auths[domain, credentials] = auth
        return Repository(self._http, auth, f"{base}/v2/", domain, path, self._access)

    def check(self, domain: str, credentials: Credentials) -> None:
        """Whether the registry takes these credentials. Raises RegistryError where it does not."""
        auth = self._auth(domain, credentials)
        url = f"{self._base(domain)}/v2/"
        response = asked(self._http, auth, "GET", url, (), url).response
        done(response)
        if response.status in (401, 403):
            raise auth.refused()
        if response.status != 200:
            raise self._http.error(f"{domain} answered {response.status}", hint="is it a registry?")

    def _auth(self, domain: str, credentials: Credentials) -> Auth:
        return Auth(self._http, credentials, domain, insecure=not self._access.tls_verify)

    def _base(self, domain: str) -> str:
        with self._lock:
            known = self._bases.get(domain)
        if known is None:
            _check_port(domain)
            known = f"{self._scheme(domain)}://{server(domain)}"
            with self._lock:
                self._bases[domain] = known
        return known

    def _scheme(self, domain: str) -> str:
        """https, but where plain HTTP is allowed and spoken."""
        if is_loopback(domain):
            # HTTP first: a TLS server says at once that it wants TLS, while a plain one may wait for the end of a line.
            return self._spoken("http", "https", domain)
        return "https" if self._access.tls_verify else self._spoken("https", "http", domain)

    def _spoken(self, first: str, second: str, domain: str) -> str:
        from urllib3 import exceptions as errors

        try:
            return first if self._speaks(first, domain) else second
        except RegistryError as error:
            refused = type(error.__cause__) is errors.NewConnectionError
            if not refused or ":" in domain.rpartition("]")[2]:
                raise
            # Without a port each scheme has its own. What is told is of the first where nobody listens at either.
            try:
                self._speaks(second, domain)
            except RegistryError:
                raise error from error.__cause__
            return second

    def _speaks(self, scheme: str, domain: str) -> bool:
        """Raises RegistryError where nobody listens."""
        from urllib3 import exceptions as errors

        try:
            response = self._http.request("GET", f"{scheme}://{server(domain)}/v2/", {}, once=True).response
        except RegistryError as error:
            if isinstance(error.__cause__, errors.SSLError | errors.ProtocolError):
                return False
            raise
        done(response)
        # Go's server says so in plain HTTP when it wants TLS.
        return response.status != 400


def _check_port(domain: str) -> None:
    """Raises UsageError for a port that cannot be: a reference takes any digits."""
    try:
        origin(f"https://{server(domain)}")
    except ValueError:
        raise UsageError(f"the registry's name '{domain}' has no valid port", hint="ports end at 65535") from None
