"""A client of registries: which server speaks for a name, by which scheme, and who we are to it."""

from __future__ import annotations

from _thread import allocate_lock
from functools import partial

from builder.errors import BuildError, RegistryError, UsageError
from builder.http.addresses import origin
from builder.registry import authfiles
from builder.registry.auth import Auth, asked
from builder.registry.hosts import hub_name, is_loopback, server
from builder.registry.http import Http, done, mask
from builder.registry.repository import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.oci.reference import Reference
    from builder.registry.access import Credentials, RegistryAccess


_ATTEMPTS = 2
"""Of each request to a mirror."""


class Client:
    """Connections to registries, and who we are to them. For several threads. Close it."""

    def __init__(self, access: RegistryAccess, secrets: set[str] | None = None) -> None:
        """`secrets` are what is masked in errors; credentials are added to them."""
        self._access = access
        self._secrets = secrets if secrets is not None else set()
        self._mirrors: Client | None = None
        self._lock = allocate_lock()
        self._https: dict[str, Http] = {}
        self._bases: dict[str, str] = {}
        self._auths: dict[tuple[str, Credentials], Auth] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, BuildError):
            self.masked(error)
        self.close()

    def close(self) -> None:
        if self._mirrors is not None:
            self._mirrors.close()
        for http in self._https.values():
            http.close()

    def masked(self, error: BuildError) -> BuildError:
        """The same error, without credentials in what a registry may have put there."""
        mask(error, self._secrets)
        return error

    def repository(self, reference: Reference) -> Repository:
        """Raises RegistryError where the registry cannot be reached or a credential helper fails, UsageError for a damaged file
        with credentials."""
        return self._repository(reference.domain, reference.path)

    def mirrors(self, reference: Reference) -> list[tuple[str, Callable[[], Repository]]]:
        """The mirrors of the image's registry, as they are called, and how to get at its repository there, which raises as
        `repository`. Raises UsageError for certificates that are no good."""
        if self._mirrors is None:
            limits = self._access.limits
            # Another one can serve: there is no need to be patient.
            limits = limits._replace(attempts=min(limits.attempts, _ATTEMPTS))
            self._mirrors = Client(self._access._replace(limits=limits), self._secrets)
        found: list[tuple[str, Callable[[], Repository]]] = []
        for mirror in self._http(reference.domain).host.mirrors:
            domain, _, folder = mirror.partition("/")
            path = f"{folder}/{reference.path}" if folder else reference.path
            found.append((mirror, partial(self._mirrors._repository, hub_name(domain), path)))
        return found

    def _repository(self, domain: str, path: str) -> Repository:
        credentials = self._credentials(domain, path)
        base = self._base(domain)
        with self._lock:
            auth = self._auths.get((domain, credentials))
        if auth is None:
            auth = self._auth(domain, credentials)
            with self._lock:
                auth = self._auths.setdefault((domain, credentials), auth)
        return Repository(self._http(domain), auth, f"{base}/v2/", domain, path, self._access)

    def _credentials(self, domain: str, path: str) -> Credentials:
        access = self._access
        return authfiles.find(access.auth_files, domain, path, access.path, access.warn)

    def check(self, domain: str, credentials: Credentials) -> None:
        """Whether the registry takes these credentials. Raises RegistryError where it does not."""
        auth = self._auth(domain, credentials)
        url = f"{self._base(domain)}/v2/"
        http = self._http(domain)
        response = asked(http, auth, "GET", url, (), url).response
        done(response)
        if response.status in (401, 403):
            raise auth.refused()
        if response.status != 200:
            raise http.error(f"{domain} answered {response.status}", hint="is it a registry?")

    def _auth(self, domain: str, credentials: Credentials) -> Auth:
        http = self._http(domain)
        return Auth(http, credentials, domain, insecure=http.host.insecure or http.host.http)

    def _http(self, domain: str) -> Http:
        with self._lock:
            known = self._https.get(domain)
            if known is None:
                known = self._https[domain] = Http(self._access, domain, self._secrets)
            return known

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
        host = self._http(domain).host
        if host.http:
            return "http"
        if is_loopback(domain):
            # HTTP first: a TLS server says at once that it wants TLS, while a plain one may wait for the end of a line.
            return self._spoken("http", "https", domain)
        return self._spoken("https", "http", domain) if host.insecure else "https"

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
            response = self._http(domain).request("GET", f"{scheme}://{server(domain)}/v2/", {}, once=True).response
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
