"""What fetching may use of this machine, and who may stop it. Pure: the command line fills it in, which alone reads the
environment."""

from __future__ import annotations

from builder.cancellation import NEVER
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cancellation import Cancellation
    from builder.http.proxies import Proxies


class Access(NamedTuple):
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where git and ssh are looked for, as PATH has it."""
    proxies: Proxies = ()
    ssh_auth_sock: str = ""
    """The agent that git may ask over ssh; empty for none."""
    known_hosts: str = ""
    """The file with the keys of ssh hosts; empty for the system's own alone."""
    stop: Cancellation = NEVER
    offline: bool = False
    """Nobody is asked: only what the store has counts."""
