"""Which user-mode network stack this machine has. Looks only; whether it works is seen when a command is started with it.

slirp4netns and pasta forward a network namespace's traffic by ordinary sockets of their own, so that no address, route, rule or
setting of the host is touched. Both give the namespace the address 10.0.2.100, the gateway 10.0.2.2 and the name server
10.0.2.3, which asks those of the host: slirp4netns has it so, pasta is told (`network`). slirp4netns comes first: it is ready
in 4 ms, pasta in 30, and pasta needs a route of the host's.
"""

from __future__ import annotations

import errno
import os

from builder.values import NamedTuple

NAME_SERVER = b"nameserver 10.0.2.3\n"
"""The stack's own, for /etc/resolv.conf: the same on every machine."""
NAMES = ("slirp4netns", "pasta")
_TUN = "/dev/net/tun"
_INSTALL = "apt-get install slirp4netns (Debian, Ubuntu), dnf install slirp4netns (Fedora)"


class Stack(NamedTuple):
    program: str
    """Its path; empty where commands can have none."""
    reason: str = ""
    """Why they cannot."""
    hint: str = ""


def find(path: str, without: tuple[str, ...] = ()) -> Stack:
    """`path` is where programs are looked for (PATH); `without` are programs that do not work here."""
    # Administrators' folders are on no user's PATH.
    folders = (*path.split(":"), "/usr/bin", "/usr/sbin") if path else ()
    places = (os.path.join(folder, name) for name in NAMES for folder in folders if folder.startswith("/"))
    program = next((each for each in places if each not in without and os.path.isfile(each) and os.access(each, os.X_OK)), "")
    if not program:
        return Stack("", "neither slirp4netns nor pasta is installed", _INSTALL)
    try:
        # Without a request to it, it does nothing.
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = f"let users open it: chmod 0666 {_TUN} (in a container, start it with --device {_TUN})"
        else:
            hint = f"load the kernel's module: modprobe tun (in a container, start it with --device {_TUN})"
        return Stack("", f"{_TUN} cannot be opened: {os.strerror(error.errno or errno.EIO)}", hint)
    return Stack(program)


def broken(stack: Stack, failure: int) -> Stack:
    """The same, once a command was started with it in vain; `failure` is the errno."""
    return Stack(
        "", f"{stack.program} does not start ({os.strerror(failure)})", f"try: {stack.program} --version; or {_INSTALL}"
    )
