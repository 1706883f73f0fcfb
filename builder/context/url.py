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
from contextlib import closing

from builder.errors import RegistryError
from builder.http.addresses import basic, origin, split
from builder.http.connections import Connections
from builder.http.faults import told
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import urllib3

    from builder.http.proxies import Proxies

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
        self._limits = limits
        self._connections = Connections(proxies, connect=limits.connect, idle=limits.idle)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    def get(self, url: str, conditions: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer whose body is the file, or 304; redirects are followed. Raises RegistryError."""
        from urllib.parse import urljoin

        first = shown = redact(url)
        try:
            address, credentials = split(url)
        except ValueError as error:
            raise RegistryError(f"'{url}' is no URL: {error}") from error
        for _ in range(self._limits.redirects + 1):
            response = self._answer(address, shown, credentials, conditions)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not target:
                _check_status(response, shown)
                return response
            response.close()
            before = origin(address)
            try:
                address, given = split(urljoin(address, target))
                scheme, host = origin(address)[:2]
            except ValueError:
                scheme = host = ""
            shown = redact(address)
            if scheme not in ("http", "https") or not host:
                raise RegistryError(f"{first} redirects to '{shown[:200]}', which is no URL of a file")
            credentials = given or (credentials if origin(address) == before else "")
        raise RegistryError(f"{first} redirects more than {self._limits.redirects} times", hint="check the URL in a browser")

    def _answer(self, url: str, shown: str, credentials: str, conditions: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """One request, again where the server may be better in a moment."""
        from urllib3 import exceptions as errors

        headers = {"User-Agent": "pybuild", "Accept": "*/*", "Accept-Encoding": "gzip", **conditions}
        if credentials:
            headers["Authorization"] = basic(credentials)
        wait = self._limits.backoff
        for left in range(self._limits.attempts - 1, -1, -1):
            with told(shown, connect=self._limits.connect, idle=self._limits.idle):
                try:
                    response = self._connections.manager(url).request(
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
    with told(shown, connect=limits.connect, idle=limits.idle):
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
