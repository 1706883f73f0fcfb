"""Which proxy a URL is fetched through, by the variables that say so. Pure.

As Go's `httpproxy` package has it, which BuildKit uses: `<scheme>_proxy` in either case, `no_proxy` with names, suffixes,
addresses, networks and `*`, and never a proxy for this machine itself. `all_proxy` counts where the scheme has none (curl).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

Proxies = tuple[tuple[str, str], ...]
"""Names as `https_proxy`, in either case, and their values."""

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, proxies: Proxies) -> str:
    """The URL of the proxy, empty for a direct connection."""
    if not proxies:
        return ""
    values = {name.lower(): value for name, value in reversed(proxies)}
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    proxy = values.get(f"{parts.scheme}_proxy") or values.get("all_proxy") or ""
    if not proxy or _is_direct(host, parts.port or _PORTS.get(parts.scheme, 0), values.get("no_proxy", "")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_direct(host: str, port: int, no_proxy: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(rule.strip().lower(), host.lower(), address, port) for rule in no_proxy.split(",") if rule.strip())


def _matches(rule: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        rule = name
    rule = rule.strip("[]")
    if address is not None:
        return _address(rule) == address
    rule = rule.removeprefix("*")
    return host.endswith(rule) if rule.startswith(".") else host == rule or host.endswith(f".{rule}")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
