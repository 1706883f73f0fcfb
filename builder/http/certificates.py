"""Which servers are trusted: those that the system's certificates vouch for."""

from __future__ import annotations

import os
import ssl

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep their certificates (Go's crypto/x509 looks there, too), for a Python that was built elsewhere."""


def untrusting() -> ssl.SSLContext:
    """A client's settings for servers whose certificate counts for nothing: who is in the way reads and changes all."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusted() -> ssl.SSLContext:
    """A client's settings, with the system's certificates."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        for bundle in _BUNDLES:
            if os.path.isfile(bundle):
                context.load_verify_locations(bundle)
                break
    return context
