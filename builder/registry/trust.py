"""How a server is to be trusted, and what it may learn of us: settings by host, and Docker's folders of certificates
(docs.docker.com, "Verify repository client with certificates"; containers-certs.d(5))."""

from __future__ import annotations

import os
import ssl

from builder.errors import UsageError
from builder.http.addresses import origin
from builder.http.certificates import trusted, untrusting
from builder.registry.access import Host
from builder.registry.hosts import server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.registry.access import RegistryAccess

_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """`host[:port]`, as in references."""
    scheme, host, port = origin(url)
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, _PORTS.get(scheme)) else f"{shown}:{port}"


class Trust:
    """What is known of a registry's server and of the hosts that it leads to. Raises UsageError for a folder of certificates
    that is no good."""

    def __init__(self, access: RegistryAccess, domain: str) -> None:
        self._access = access
        self._server = server(domain)
        self.own = self._known(domain, self._server)

    def of(self, url: str) -> Host:
        """What counts for a request. Where a registry leads (its token server, its storage) what it vouches for itself
        by counts as well, unless more is known of that host; our certificate is for the registry alone."""
        host = host_of(url)
        if host == self._server:
            return self.own
        known = self._known(host)
        return known if any(known) else self.own._replace(keypairs=())

    def _known(self, *names: str) -> Host:
        access = self._access
        found = next((access.hosts[name] for name in names if name in access.hosts), Host())
        folder = access.cert_folder
        if not folder:
            places = (os.path.join(place, name) for place in access.cert_folders for name in names)
            folder = next((place for place in places if os.path.isdir(place)), "")
        if folder:
            ca, keypairs = _in_folder(folder)
            found = found._replace(ca=(*found.ca, *ca), keypairs=(*found.keypairs, *keypairs))
        return found if access.tls_verify else found._replace(insecure=True)


def context(host: Host) -> ssl.SSLContext:
    """A client's settings. Raises UsageError for a file that holds no certificate or key."""
    made = untrusting() if host.insecure else trusted()
    for file in host.ca:
        try:
            made.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise _bad(file, "certificates", error) from error
    for certificate, key in host.keypairs:
        try:
            # A key with a password would be asked for on the terminal, under everything that is shown there.
            made.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise _bad(f"{certificate}' with '{key}", "a certificate and its key", error) from error
    return made


def _no_password() -> str:
    raise ValueError("the key has a password")


def _bad(file: str, what: str, error: Exception) -> UsageError:
    if isinstance(error, ssl.SSLError):
        said = (error.reason or "").replace("_", " ").lower() or "none is in it"
    else:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return UsageError(f"'{file}' cannot be used as {what}: {said}", hint="they are PEM files")


def _in_folder(folder: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Certificates of authorities (`*.crt`), and ours (`*.cert`) with their keys (`*.key`)."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UsageError(
            f"the certificates in '{folder}' cannot be read: {error.strerror}",
            hint="it is a folder with *.crt, *.cert and *.key",
        ) from error
    for name in names:
        stem, dot, kind = name.rpartition(".")
        other = {"cert": "key", "key": "cert"}.get(kind)
        if dot and other and f"{stem}.{other}" not in names:
            raise UsageError(
                f"'{os.path.join(folder, name)}' has no '{stem}.{other}' beside it",
                hint="a certificate of yours is NAME.cert and its key NAME.key; authorities are NAME.crt",
            )
    paths = [os.path.join(folder, name) for name in names]
    return (
        tuple(path for path in paths if path.endswith(".crt")),
        tuple((path, f"{path.removesuffix('.cert')}.key") for path in paths if path.endswith(".cert")),
    )
