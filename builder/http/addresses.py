"""URLs in parts, and credentials as headers carry them. Pure."""

from __future__ import annotations


def split(url: str) -> tuple[str, str]:
    """The URL without user, password and fragment, and `user:password`, decoded. Raises ValueError."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    if not host.isascii():
        host = host.encode("idna").decode()
    plain = urlunsplit(parts._replace(netloc=host, fragment=""))
    return plain, f"{unquote(name)}:{unquote(password)}" if at else ""


def basic(credentials: str) -> str:
    """The header's value for `user:password` (RFC 7617, in UTF-8)."""
    import base64

    return "Basic " + base64.b64encode(credentials.encode("utf-8", "surrogateescape")).decode()


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: credentials for one are none for another. Raises ValueError for a port that is no number."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def host(url: str) -> str:
    return origin(url)[1]
