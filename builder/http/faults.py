"""What goes wrong between a client and a server, told to a person."""

from __future__ import annotations

import zlib
from contextlib import contextmanager

from builder.errors import RegistryError
from builder.http.addresses import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OFFLINE = "check the network: a proxy is set by http_proxy and https_proxy"
_PROXY = "check what http_proxy, https_proxy and no_proxy say"
_TLS = "its certificate must be for this host and signed by an authority that this system trusts"


@contextmanager
def told(shown: str, *, connect: float, idle: float, tls_hint: str = _TLS) -> Iterator[None]:
    """What urllib3 raises inside, as a RegistryError. `shown` is the URL without credentials; the times are the timeouts."""
    from urllib3 import exceptions as errors

    from builder.http.names import Unanswered

    try:
        yield
    except Unanswered as error:
        said = f"the name '{host(shown)}' cannot be looked up: the name servers do not answer"
        raise RegistryError(f"{shown}: {said}", hint="check the network and /etc/resolv.conf, or try again later") from error
    except errors.NameResolutionError as error:
        raise RegistryError(f"{shown}: the name '{host(shown)}' is not known", hint=_OFFLINE) from error
    except errors.SSLError as error:
        said = reason(error)
        if "WRONG_VERSION" in said or "RECORD_LAYER" in said:
            said, tls_hint = "what the server answers is no TLS", "it may speak plain HTTP, or the port may be another one"
        if "ALERT" in said and "CERTIFICATE" in said:
            # What it says by it differs: that there is none, or that it is not known there.
            said = "the server wants a certificate of ours that it knows"
        raise RegistryError(f"{shown}: the secure connection failed: {said}", hint=tls_hint) from error
    # Before the timeouts, of which it is a kind there.
    except errors.NewConnectionError as error:
        raise RegistryError(f"{shown}: no connection: {reason(error)}", hint="check the host and the port") from error
    except (errors.ConnectTimeoutError, errors.ReadTimeoutError) as error:
        silent = connect if isinstance(error, errors.ConnectTimeoutError) else idle
        raise RegistryError(f"{shown}: the server did not answer for {silent:g} s", hint="try again later") from error
    except errors.ProxyError as error:
        raise RegistryError(f"{shown}: the proxy failed: {reason(error)}", hint=_PROXY) from error
    except (errors.HTTPError, EOFError, zlib.error) as error:
        raise RegistryError(f"{shown}: the answer broke off or is damaged: {reason(error)}", hint="try again") from error


def reason(error: BaseException) -> str:
    """The innermost cause, as the system says it: urllib3 wraps it several times."""
    from http.client import RemoteDisconnected  # urllib3 has it already

    seen = [error]
    while (inner := seen[-1].__cause__ or seen[-1].__context__) is not None and inner not in seen:
        seen.append(inner)
    for cause in reversed(seen):
        if isinstance(cause, RemoteDisconnected):
            return "the server closed the connection"
        said = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or getattr(cause, "reason", "")
        if isinstance(said, str) and said:
            return said[:200].lower() if said[:1].isupper() and said[1:2].islower() else said[:200]
    return "it ended early" if isinstance(error, EOFError) or "IncompleteRead" in str(error) else str(error)[:200]
