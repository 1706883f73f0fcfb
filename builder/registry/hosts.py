"""Which server a registry's name stands for. Pure."""

from __future__ import annotations

from ipaddress import ip_address

DOCKER_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
HUB_KEY = "https://index.docker.io/v1/"
"""What Docker's files and helpers call Docker Hub, since the days of its first API."""


def hub_name(domain: str) -> str:
    """The name in references; Docker Hub has several."""
    return DOCKER_HUB if domain in ("index.docker.io", _HUB_HOST) else domain


def server(domain: str) -> str:
    """`host[:port]` of the registry's API."""
    return _HUB_HOST if domain == DOCKER_HUB else domain


def is_loopback(domain: str) -> bool:
    """Whether this is the machine itself, which no TLS has to protect (Docker counts it as insecure, too)."""
    host = domain[: domain.rindex("]") + 1] if domain.startswith("[") else domain.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
