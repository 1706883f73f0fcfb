"""Requests to registries: retried where that may help, redirected, bounded in time, with no credential in any message."""

from __future__ import annotations

import random
import time
from _thread import allocate_lock
from contextlib import contextmanager

from builder.errors import RegistryError
from builder.http.addresses import origin, split
from builder.http.connections import Connections
from builder.http.faults import told
from builder.redact import MASK, redact
from builder.registry.trust import Trust, context
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

    import urllib3
    from urllib3 import exceptions as errors

    from builder.errors import BuildError
    from builder.registry.access import Host, RegistryAccess

TRANSIENT = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
# Longer than an interrupt may take to be seen.
_NAP = 0.2
_LONG = 3.0
"""Seconds of a wait that is told."""
_LONGEST_READ = 300.0
"""Seconds that a small answer may take, which may come byte by byte."""
# Each is to be taken within the timeout of a connection: not more than slow lines manage.
_CHUNK = 1 << 16
TOGETHER = 4
"""Connections to a registry at once."""
_TLS_HINT = (
    "certificates for it: --cert-dir DIR with *.crt (authorities), *.cert and *.key (ours), or a folder of certs.d;"
    " --tls-verify=false trusts whoever answers"
)


class Body(NamedTuple):
    """What a request carries, opened anew for each attempt. `size` in bytes."""

    open: Callable[[], IO[bytes]]
    size: int
    told: Callable[[int], object] = lambda _: None
    """How many bytes of it an attempt has sent."""


class Answer(NamedTuple):
    response: urllib3.BaseHTTPResponse
    """Its body is not read yet."""
    url: str
    """Where it came from in the end."""


class Broken(RegistryError):
    """An answer broke off; to ask again may help."""


class Http:
    """Requests to one registry, and to where it leads. For several threads. `secrets` are masked in all that is raised."""

    def __init__(self, access: RegistryAccess, domain: str, secrets: set[str]) -> None:
        """Raises UsageError for certificates that are no good."""
        self._access = access
        self._limits = access.limits
        self._trust = Trust(access, domain)
        if self.host.ca or self.host.keypairs:
            # What is wrong with them is not the registry's fault, and known before it is asked.
            context(self.host)
        self._lock = allocate_lock()
        self._connections: dict[Host, Connections] = {}
        self._told_until = 0.0
        self.secrets = secrets

    @property
    def host(self) -> Host:
        """What is known of the registry's server."""
        return self._trust.own

    def close(self) -> None:
        for connections in self._connections.values():
            connections.close()

    def request(
        self, method: str, url: str, headers: Mapping[str, str], *, body: Body | None = None, once: bool = False
    ) -> Answer:
        """The answer, whatever its status. Redirects are followed; Authorization goes to no other host.

        `once`: it is not tried again. Raises RegistryError where no answer comes.
        """
        from urllib.parse import urljoin

        sent = {"User-Agent": "pybuild", "Accept-Encoding": "identity", **headers}
        first = shown(url)
        for _ in range(self._limits.redirects + 1):
            response = self._answer(method, url, sent, body, once=once)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not target:
                return Answer(response, url)
            done(response)
            before = origin(url)
            try:
                url, _ = split(urljoin(url, target))
                after = origin(url)
            except ValueError:
                after = ("", "", None)
            if after[0] not in ("http", "https") or not after[1]:
                raise self.error(f"{first} redirects to '{shown(url)[:200]}', which is no URL")
            if after[0] == "http" != before[0]:
                raise self.error(f"{first} redirects from https to http, to {after[1]}", hint="the registry is set up wrongly")
            if after != before:
                sent.pop("Authorization", None)
            if response.status == 303:
                method, body = "GET", None
        raise self.error(f"{first} redirects more than {self._limits.redirects} times", hint="the registry is set up wrongly")

    def error(self, message: str, *, hint: str | None = None) -> RegistryError:
        """An error whose texts have no credential in them, whoever put it there."""
        return RegistryError(self._masked(message), hint=self._masked(hint) if hint else None)

    def read(self, response: urllib3.BaseHTTPResponse, limit: int, url: str) -> bytes:
        """The body, at most `limit` bytes. Raises RegistryError for a longer one, and Broken."""
        parts, size = [], 0
        until = time.monotonic() + _LONGEST_READ
        try:
            with self.told(url):
                while chunk := response.read1(1 << 16, decode_content=False):
                    size += len(chunk)
                    if time.monotonic() > until:
                        raise self.error(f"{redact(url)}: the answer does not end", hint="try again later")
                    if size > limit:
                        raise self.error(f"{shown(url)}: the answer is larger than {limit >> 20} MiB")
                    parts.append(chunk)
        except RegistryError as error:
            if error.__cause__ is None:
                raise
            raise Broken(error.message, hint=error.hint) from error.__cause__
        finally:
            done(response)
        return b"".join(parts)

    @contextmanager
    def told(self, url: str, method: str = "GET") -> Iterator[None]:
        """What the network does wrong inside is a RegistryError without credentials."""
        try:
            with told(shown(url), connect=self._limits.connect, idle=self._patience(method), tls_hint=_TLS_HINT):
                yield
        except RegistryError as error:
            raise self.error(error.message, hint=error.hint) from error.__cause__

    def nap(self, seconds: float) -> None:
        """Wait, unless the work is cancelled."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._access.stop.check()
            time.sleep(min(left, _NAP))
        self._access.stop.check()

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after so many attempts, from 1; by chance, lest all clients come back at once."""
        return self._limits.backoff * (1 << (attempt - 1)) * random.uniform(1, 2)

    def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, *, once: bool
    ) -> urllib3.BaseHTTPResponse:
        from urllib3 import exceptions as errors

        attempts = 1 if once else self._limits.attempts
        for attempt in range(1, attempts + 1):
            self._access.stop.check()
            with self.told(url, method):
                try:
                    response = self._sent(method, url, headers, body)
                except (errors.NameResolutionError, errors.SSLError, errors.LocationParseError):
                    raise
                except errors.HTTPError as error:
                    if attempt == attempts or not _may_be_better(error, attempt):
                        raise
                    response = None
            wait = self.backoff(attempt)
            if response is not None:
                if attempt == attempts or response.status not in TRANSIENT:
                    return response
                wait = max(wait, min(_retry_after(response), self._limits.longest_wait))
                done(response)
                self._tell(url, response.status, wait)
            self.nap(wait)
        raise AssertionError("the last attempt returns or raises")

    def _tell(self, url: str, status: int, wait: float) -> None:
        """Say why nothing goes on, once for all that wait at the same time."""
        if wait < _LONG or self._access.notice is None:
            return
        now = time.monotonic()
        with self._lock:
            first, self._told_until = now >= self._told_until, max(self._told_until, now + wait)
        if first:
            host = origin(url)[1]
            self._access.notice(self._masked(f"{host} answered {status}: it is asked again in {wait:.0f} s"))

    def _manager(self, url: str) -> urllib3.PoolManager:
        host = self._trust.of(url)
        with self._lock:
            known = self._connections.get(host)
            if known is None:
                if host.insecure:
                    import urllib3

                    # The user asked for it, and need not be told at each request.
                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                limits = self._limits
                known = self._connections[host] = Connections(
                    self._access.proxies,
                    connect=limits.connect,
                    idle=limits.idle,
                    context=lambda: context(host),
                    together=TOGETHER,
                )
        return known.manager(url)

    def _sent(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> urllib3.BaseHTTPResponse:
        import urllib3

        manager = self._manager(url)
        if body is None:
            sent = {**headers, "Content-Length": "0"} if method in ("POST", "PUT") else headers
            return manager.request(
                method, url, headers=sent, redirect=False, retries=False, preload_content=False, decode_content=False
            )
        with body.open() as file:
            return manager.request(
                method,
                url,
                headers={**headers, "Content-Length": str(body.size)},
                body=_pieces(file, body.told, self._access.stop.check),
                timeout=urllib3.Timeout(connect=self._limits.connect, read=self._patience(method)),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )

    def _patience(self, method: str) -> float:
        """Seconds of silence that are borne; what was put somewhere is verified there."""
        return self._limits.verify if method == "PUT" else self._limits.idle

    def _masked(self, text: str) -> str:
        return _masked(text, self.secrets)


def shown(url: str) -> str:
    """For messages: what follows a `?` is sessions and signatures, by which whoever reads them may do the same."""
    return redact(url).partition("?")[0]


def mask(error: BuildError, secrets: set[str]) -> None:
    """Take the credentials out of an error that was made of what a registry said."""
    error.message = _masked(error.message, secrets)
    error.hint = _masked(error.hint, secrets) if error.hint else None


def _masked(text: str, secrets: set[str]) -> str:
    from urllib.parse import quote

    # The longest first: one may be a piece of another. In a URL they look otherwise.
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret), quote(secret, safe="")):
            text = text.replace(form, MASK)
    return text


def _may_be_better(error: errors.HTTPError, attempt: int) -> bool:
    """Whether to ask again after `attempt` attempts, of which the last had no answer."""
    from urllib3 import exceptions as errors

    cause = error.original_error if isinstance(error, errors.ProxyError) else error
    if isinstance(cause, errors.NewConnectionError):
        # Where nobody listens somebody may in a moment, but hardly later.
        return attempt == 1
    # Silence was waited for long enough; a firewall that lets packets vanish will go on.
    return not isinstance(cause, errors.TimeoutError)


def _pieces(file: IO[bytes], told: Callable[[int], object], check: Callable[[], object]) -> Iterator[bytes]:
    while data := file.read(_CHUNK):
        check()
        yield data
        told(file.tell())


def done(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back: for the next request when the body was read, or is nearly so, else it is closed."""
    from urllib3 import exceptions as errors

    length = response.headers.get("Content-Length", "")
    try:
        if length.isascii() and length.isdigit() and len(length) < 6:
            response.drain_conn()
    except errors.HTTPError:
        pass  # Nobody wants the rest.
    response.close()


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds, by a number or a date (RFC 9110, section 10.2.3); 0 where it says nothing."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0
