"""Downloading a file over http and https.

As BuildKit's http source (moby/buildkit, `source/http/source.go`) where that can be seen: any 2xx is the file, `gzip` as
content encoding is undone (Go's http client asks for it), the time is Last-Modified, ten redirects are followed, between http
and https too. A server that answers a conditional request in full, but with the known ETag, is taken at its word: nothing is
read.

Promises: servers are verified by the system's certificates; credentials go to the host whose URL has them and nowhere else, and
into no message; a body that ends early is an error. It does **not** protect from a server that sends its headers byte by
byte, which holds the build until it is interrupted, nor does it keep a build from reaching hosts of the local network.
"""

from __future__ import annotations

import time
import zlib
from contextlib import closing, contextmanager

from builder.errors import RegistryError
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import urllib3

    from builder.context.access import Proxies

_CHUNK = 1 << 18
_TRANSIENT = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_WAIT = 10.0


class Limits(NamedTuple):
    """Times in seconds, sizes in bytes."""

    connect: float = 30
    idle: float = 60
    """The longest silence of a server."""
    total: float = 4 * 3600
    size: int = 64 << 30
    """Of the file, uncompressed."""
    redirects: int = 10
    attempts: int = 3
    backoff: float = 0.2
    """Before the second attempt; twice as long before each further one."""


class Validators(NamedTuple):
    """What a server said of a file's version; empty where it said nothing (RFC 9110, section 8.8)."""

    etag: str = ""
    modified: str = ""


class Fetched(NamedTuple):
    changed: bool
    """False: the file is the known one, and nothing was written."""
    name: str
    """From Content-Disposition; empty where that is missing or no file name."""
    validators: Validators
    mtime: int
    """Last-Modified in ns since 1970; 0 where the server does not say (as BuildKit has it)."""
    size: int
    """Bytes written."""


def name_in(url: str) -> str:
    """The file name that the URL's path ends in, decoded; empty where there is none that a file can have."""
    from urllib.parse import unquote, urlsplit

    return _usable(unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2])


def fetch(
    url: str,
    write: Callable[[bytes], object],
    *,
    known: Validators = Validators(),  # noqa: B008  a frozen value
    proxies: Proxies = (),
    progress: Callable[[int, int], object] = lambda _done, _size: None,
    limits: Limits = Limits(),  # noqa: B008  a frozen value
) -> Fetched:
    """Download `url`, piece by piece into `write`, unless it still is what `known` says.

    `progress` is told the bytes so far and the size, 0 where that is unknown. Raises RegistryError for whatever the network,
    the server and its answer do wrong; what `write` raises goes through.
    """
    deadline = time.monotonic() + limits.total
    with _Client(proxies, limits) as client, closing(client.get(url, _conditions(known))) as response:
        if response.status == 304 and known == Validators():
            raise RegistryError(f"{url}: the server answered 304 to a question that nobody asked", hint="try again later")
        etag, modified = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
        validators = Validators(etag or known.etag, modified or known.modified) if response.status == 304 else None
        validators = validators or Validators(etag, modified)
        name = _name_in_header(response.headers.get("Content-Disposition", ""))
        changed = response.status != 304 and not (etag and _weak(etag) == _weak(known.etag))
        size = _copy(response, write, progress, limits, deadline, redact(url)) if changed else 0
        return Fetched(changed, name, validators, _time(validators.modified), size)


class _Client:
    """Connections for one download."""

    def __init__(self, proxies: Proxies, limits: Limits) -> None:
        self._proxies = proxies
        self._limits = limits
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        for manager in self._managers.values():
            manager.clear()

    def get(self, url: str, conditions: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer whose body is the file, or 304; redirects are followed. Raises RegistryError."""
        from urllib.parse import urljoin

        first = shown = redact(url)
        try:
            address, credentials = _split(url)
        except ValueError as error:
            raise RegistryError(f"'{url}' is no URL: {error}") from error
        for _ in range(self._limits.redirects + 1):
            response = self._answer(address, shown, credentials, conditions)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not target:
                _check_status(response, shown)
                return response
            response.close()
            origin = _origin(address)
            try:
                address, given = _split(urljoin(address, target))
                scheme, host = _origin(address)[:2]
            except ValueError:
                scheme = host = ""
            shown = redact(address)
            if scheme not in ("http", "https") or not host:
                raise RegistryError(f"{first} redirects to '{shown[:200]}', which is no URL of a file")
            credentials = given or (credentials if _origin(address) == origin else "")
        raise RegistryError(f"{first} redirects more than {self._limits.redirects} times", hint="check the URL in a browser")

    def _answer(self, url: str, shown: str, credentials: str, conditions: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """One request, again where the server may be better in a moment."""
        from urllib3 import exceptions as errors

        from builder.context.proxies import proxy_for

        headers = {"User-Agent": "pybuild", "Accept": "*/*", "Accept-Encoding": "gzip", **conditions}
        if credentials:
            headers["Authorization"] = _basic(credentials)
        wait = self._limits.backoff
        for left in range(self._limits.attempts - 1, -1, -1):
            with _told(shown, self._limits):
                manager = self._manager(proxy_for(url, self._proxies), secure=url.startswith("https:"))
                try:
                    response = manager.request(
                        "GET", url, headers=headers, redirect=False, retries=False, preload_content=False, decode_content=False
                    )
                except (errors.NameResolutionError, errors.SSLError, errors.ReadTimeoutError, errors.LocationParseError):
                    raise
                except errors.HTTPError:
                    if not left:
                        raise
                    response = None
            if response is not None:
                if not left or response.status not in _TRANSIENT:
                    return response
                after = response.headers.get("Retry-After", "")
                wait = max(wait, min(float(after), _LONGEST_WAIT)) if after.isascii() and after.isdigit() else wait
                response.close()
            time.sleep(wait)
            wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _manager(self, proxy: str, *, secure: bool) -> urllib3.PoolManager:
        """The connections through a proxy, `secure` or not: the system's certificates take a while to load."""
        known = self._managers.get((proxy, secure))
        if known is None:
            known = self._managers[proxy, secure] = self._new_manager(proxy, secure=secure)
        return known

    def _new_manager(self, proxy: str, *, secure: bool) -> urllib3.PoolManager:
        import urllib3

        from builder.context.certificates import trusted

        timeout = urllib3.Timeout(connect=self._limits.connect, read=self._limits.idle)
        if not proxy:
            return urllib3.PoolManager(ssl_context=trusted() if secure else None, timeout=timeout)
        try:
            address, credentials = _split(proxy)
            scheme, host, _ = _origin(address)
        except ValueError:
            scheme = host = ""
        if scheme not in ("http", "https") or not host:
            raise RegistryError(f"the proxy '{proxy}' is of an unsupported kind", hint="http and https are supported")
        context = trusted() if secure or scheme == "https" else None
        headers = {"Proxy-Authorization": _basic(credentials)} if credentials else None
        return urllib3.ProxyManager(
            address, proxy_headers=headers, ssl_context=context, proxy_ssl_context=context, timeout=timeout
        )


def _conditions(known: Validators) -> dict[str, str]:
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.modified} if known.modified else {}


def _copy(
    response: urllib3.BaseHTTPResponse,
    write: Callable[[bytes], object],
    progress: Callable[[int, int], object],
    limits: Limits,
    deadline: float,
    shown: str,
) -> int:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
    decode = _gunzip(response.headers.get("Content-Encoding", ""))
    size = received = 0
    with _told(shown, limits):
        while True:
            chunk = response.read1(_CHUNK, decode_content=False)
            received += len(chunk)
            for piece in decode(chunk):
                size += len(piece)
                if size > limits.size:
                    raise RegistryError(f"{shown} is larger than the {limits.size >> 20} MiB that are allowed")
                write(piece)
            if not chunk:
                return size
            progress(received, total)
            if time.monotonic() > deadline:
                raise RegistryError(f"{shown} took longer than {limits.total:.0f} s", hint="the server is too slow: try again")


def _gunzip(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """A function from the pieces of a body, the last one empty, to those of its content. It raises EOFError and zlib.error."""
    if encoding.strip().lower() != "gzip":
        return lambda chunk: iter((chunk,) if chunk else ())
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decode(chunk: bytes) -> Iterator[bytes]:
        nonlocal member
        if not chunk and not member.eof:
            raise EOFError
        while chunk:
            if member.eof:
                member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            piece = member.decompress(chunk, _CHUNK)
            while piece:
                yield piece
                # It may hold more than it was allowed to give.
                piece = member.decompress(member.unconsumed_tail, _CHUNK)
            chunk = member.unused_data

    return decode


@contextmanager
def _told(shown: str, limits: Limits) -> Iterator[None]:
    """What urllib3 raises, told to a person. `shown` is the URL without credentials."""
    from urllib3 import exceptions as errors

    try:
        yield
    except errors.NameResolutionError as error:
        raise RegistryError(f"{shown}: the name '{_host(shown)}' is not known", hint=_OFFLINE) from error
    except errors.SSLError as error:
        raise RegistryError(f"{shown}: the secure connection failed: {_reason(error)}", hint=_TLS) from error
    # Before the timeouts, of which it is a kind there.
    except errors.NewConnectionError as error:
        raise RegistryError(f"{shown}: no connection: {_reason(error)}", hint="check the host and the port") from error
    except (errors.ConnectTimeoutError, errors.ReadTimeoutError) as error:
        silent = limits.connect if isinstance(error, errors.ConnectTimeoutError) else limits.idle
        raise RegistryError(f"{shown}: the server did not answer for {silent:g} s", hint="try again later") from error
    except errors.ProxyError as error:
        raise RegistryError(f"{shown}: the proxy failed: {_reason(error)}", hint=_PROXY) from error
    except (errors.HTTPError, EOFError, zlib.error) as error:
        raise RegistryError(f"{shown}: the answer broke off or is damaged: {_reason(error)}", hint="try again") from error


_OFFLINE = "check the network: a proxy is set by http_proxy and https_proxy"
_PROXY = "check what http_proxy, https_proxy and no_proxy say"
_TLS = "its certificate must be for this host and signed by an authority that this system trusts"


def _reason(error: BaseException) -> str:
    """The innermost cause, as the system says it: urllib3 wraps it several times."""
    seen = [error]
    while (inner := seen[-1].__cause__ or seen[-1].__context__) is not None and inner not in seen:
        seen.append(inner)
    for cause in reversed(seen):
        reason = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or getattr(cause, "reason", "")
        if isinstance(reason, str) and reason:
            return reason[:200].lower() if reason[:1].isupper() and reason[1:2].islower() else reason[:200]
    return "it ended early" if isinstance(error, EOFError) or "IncompleteRead" in str(error) else str(error)[:200]


def _check_status(response: urllib3.BaseHTTPResponse, shown: str) -> None:
    status = response.status
    if 200 <= status < 300 or status == 304:
        return
    response.close()
    hint = {
        401: "only the credentials that the URL has are sent; a RUN with a secret can fetch it, too",
        403: "only the credentials that the URL has are sent; a RUN with a secret can fetch it, too",
        404: "check the URL in a browser",
        407: "put user and password into the proxy's URL",
        410: "it was removed: look for its new place",
    }.get(status, "try again later" if status in _TRANSIENT else "check the URL in a browser")
    reason = f" {response.reason}" if response.reason else ""
    raise RegistryError(f"{shown}: the server answered {status}{reason[:60]}", hint=hint)


def _split(url: str) -> tuple[str, str]:
    """The URL without user, password and fragment, and `user:password`, decoded. Raises ValueError."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    if not host.isascii():
        host = host.encode("idna").decode()
    plain = urlunsplit(parts._replace(netloc=host, fragment=""))
    return plain, f"{unquote(name)}:{unquote(password)}" if at else ""


def _basic(credentials: str) -> str:
    """The header's value for `user:password` (RFC 7617, in UTF-8)."""
    import base64

    return "Basic " + base64.b64encode(credentials.encode("utf-8", "surrogateescape")).decode()


def _origin(url: str) -> tuple[str, str, int | None]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _host(url: str) -> str:
    return _origin(url)[1]


def _name_in_header(value: str) -> str:
    if not value:
        return ""
    from email.message import Message

    message = Message()
    message["Content-Disposition"] = value
    name = message.get_filename() or ""
    return "" if name.endswith("/") else _usable(name.rpartition("/")[2])


def _usable(name: str) -> str:
    return "" if name in ("", ".", "..") or any(char < " " or char == "\x7f" for char in name) else name


def _weak(etag: str) -> str:
    """For comparison: a server may answer a strong one by a weak one (RFC 9110, section 8.8.3.2)."""
    return etag.removeprefix("W/")


def _time(modified: str) -> int:
    if not modified:
        return 0
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(modified).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return 0
