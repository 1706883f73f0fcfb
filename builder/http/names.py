"""Connections on which nothing is waited for without a bound. Names: getaddrinfo(3) has no timeout, and asks dead servers for
minutes. The head of an answer: a timeout of a socket begins anew with each byte."""

from __future__ import annotations

import socket
import threading
from http.client import HTTPException

from urllib3 import exceptions as errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import urllib3
    from urllib3.response import HTTPResponse


def bound(manager: urllib3.PoolManager) -> None:
    """Let the connections of `manager` wait for a name no longer than for an address, and for the whole head of an answer no
    longer than for its first byte."""
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class Unanswered(errors.NameResolutionError):
    """The name servers did not answer in time: the name may well exist."""


def addresses(host: str, port: int, seconds: float) -> list[str]:
    """Numeric addresses, in the order in which to try them. Raises OSError (`socket.gaierror`), and TimeoutError."""
    found: list[str] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            for _, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                numeric = str(address[0])
                if len(address) == 4 and address[3] and "%" not in numeric:
                    numeric += f"%{address[3]}"
                found.append(numeric)
        except UnicodeError as error:
            failed.append(socket.gaierror(socket.EAI_NONAME, str(error)))
        except OSError as error:
            failed.append(error)

    # It cannot be ended; it ends with the process.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if failed:
        raise failed[0]
    return list(dict.fromkeys(found))


class _Bounded(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        seconds = self.timeout if isinstance(self.timeout, int | float) else 10.0
        try:
            found = addresses(name.rstrip("."), self.port, seconds)
        except TimeoutError:
            late = socket.gaierror(socket.EAI_AGAIN, f"no answer for {seconds:g} s")
            raise Unanswered(self.host, self, late) from None
        except socket.gaierror as error:
            kind = Unanswered if error.errno == socket.EAI_AGAIN else errors.NameResolutionError
            raise kind(self.host, self, error) from error
        failed: errors.HTTPError | None = None
        try:
            for address in found:
                # A number is not looked up again.
                self._dns_host = address
                try:
                    return super()._new_conn()
                except (errors.NewConnectionError, errors.ConnectTimeoutError) as error:
                    failed = error
        finally:
            self._dns_host = name
        raise failed or errors.NewConnectionError(self, "the name has no address")

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        seconds, sock = self.timeout, self.sock
        if not isinstance(seconds, int | float) or sock is None:
            return super().getresponse()
        late = threading.Event()

        def end() -> None:
            late.set()
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It is over already.

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except (HTTPException, OSError):
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        # A head that was cut off counts as one for the parser.
        if late.is_set():
            raise TimeoutError("the head of the answer does not end")
        return response


class _BoundedHttps(_Bounded, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedHttps
