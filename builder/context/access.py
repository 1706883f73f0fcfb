"""What fetching may use of this machine. Pure; the command line fills it in, since it alone reads the environment."""

from __future__ import annotations

from builder.values import NamedTuple

Proxies = tuple[tuple[str, str], ...]
"""Names as `https_proxy`, in either case, and their values."""


class Access(NamedTuple):
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where git and ssh are looked for, as PATH has it."""
    proxies: Proxies = ()
    ssh_auth_sock: str = ""
    """The agent that git may ask over ssh; empty for none."""
    known_hosts: str = ""
    """The file with the keys of ssh hosts; empty for the system's own alone."""
