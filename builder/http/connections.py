"""Connections to servers, direct or through a proxy, kept for the next request. For several threads."""

from __future__ import annotations

from _thread import allocate_lock

from builder.errors import RegistryError
from builder.http.addresses import basic, origin, split
from builder.http.certificates import trusted
from builder.http.proxies import proxy_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import urllib3

    from builder.http.proxies import Proxies


class Connections:
    """`connect` and `idle` are seconds: for a connection, and of silence. `context` makes what TLS servers are verified by;
    `together` is how many connections to one host are kept."""

    def __init__(
        self,
        proxies: Proxies,
        *,
        connect: float,
        idle: float,
        context: Callable[[], ssl.SSLContext] = trusted,
        together: int = 1,
    ) -> None:
        self._proxies = proxies
        self._times = connect, idle
        self._context = context
        self._together = together
        self._lock = allocate_lock()
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()

    def manager(self, url: str) -> urllib3.PoolManager:
        """What requests for `url` go through. Raises RegistryError for a proxy that is none."""
        proxy, secure = proxy_for(url, self._proxies), url.startswith("https:")
        # By kind: certificates take a while to load.
        with self._lock:
            known = self._managers.get((proxy, secure))
            if known is None:
                known = self._managers[proxy, secure] = self._new_manager(proxy, secure=secure)
            return known

    def _new_manager(self, proxy: str, *, secure: bool) -> urllib3.PoolManager:
        from builder.http.names import bound

        manager = self._made(proxy, secure=secure)
        bound(manager)
        return manager

    def _made(self, proxy: str, *, secure: bool) -> urllib3.PoolManager:
        import urllib3

        timeout = urllib3.Timeout(connect=self._times[0], read=self._times[1])
        if not proxy:
            context = self._context() if secure else None
            return urllib3.PoolManager(ssl_context=context, timeout=timeout, maxsize=self._together)
        try:
            address, credentials = split(proxy)
            scheme, host, _ = origin(address)
        except ValueError:
            scheme = host = ""
        if scheme not in ("http", "https") or not host:
            raise RegistryError(f"the proxy '{proxy}' is of an unsupported kind", hint="http and https are supported")
        context = self._context() if secure else None
        headers = {"Proxy-Authorization": basic(credentials)} if credentials else None
        return urllib3.ProxyManager(
            address,
            proxy_headers=headers,
            ssl_context=context,
            proxy_ssl_context=trusted() if secure or scheme == "https" else None,
            timeout=timeout,
            maxsize=self._together,
        )
