"""The small languages inside instructions: ports, durations, signals, paths. Pure.

Each raises DockerfileError without a span; the caller knows where.
"""

from __future__ import annotations

from builder.errors import DockerfileError, did_you_mean, nearest

_SIGNALS = {
    "ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2, "IO": 29,
    "IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3, "SEGV": 11, "STKFLT": 16, "STOP": 19,
    "SYS": 31, "TERM": 15, "TRAP": 5, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10, "USR2": 12, "VTALRM": 26,
    "WINCH": 28, "XCPU": 24, "XFSZ": 25, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip
_REAL_TIME = frozenset([f"RTMIN+{n}" for n in range(1, 16)] + [f"RTMAX-{n}" for n in range(1, 15)])
_PROTOCOLS = ("tcp", "udp", "sctp")


def ports(text: str) -> list[str]:
    """`80`, `80/udp`, `8000-8010/tcp` as `port/protocol` each (Docker's EXPOSE; sctp too).

    An address and a port of the host before it, as in `127.0.0.1:8080:80`, are checked and left out, as BuildKit does.
    """
    *host, container = text.split(":")
    span, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        near = did_you_mean(protocol, _PROTOCOLS) or "the protocols are tcp, udp and sctp"
        raise DockerfileError(f"'{text}' has an unknown protocol", hint=near)
    first, last = _port_range(span, text)
    if host:
        _check_host(host, last - first, text)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _port_range(span: str, text: str) -> tuple[int, int]:
    low, dash, high = span.partition("-")
    numbers = [low, high] if dash else [low]
    if not all(_is_number(number) and len(number) <= 5 and int(number) <= 65535 for number in numbers):
        raise DockerfileError(f"'{text}' is not a port", hint="write the container's port alone, as 80 or 8000-8010/udp")
    first, last = int(low), int(numbers[-1])
    if last < first:
        raise DockerfileError(f"'{text}' ends before it begins", hint=f"did you mean '{last}-{first}'?")
    return first, last


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _check_host(host: list[str], more: int, text: str) -> None:
    *address, port = host
    if port:
        first, last = _port_range(port, text)
        if more and last - first != more:
            raise DockerfileError(f"the port ranges of '{text}' differ in length", hint="write the container's ports alone")
    ip = ":".join(address)
    if ip and not _is_address(ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip):
        raise DockerfileError(f"'{ip}' in '{text}' is not an IP address", hint="write the container's port alone")


def _is_address(text: str) -> bool:
    import ipaddress  # for the rare line that has one

    try:
        return not getattr(ipaddress.ip_address(text), "scope_id", None)
    except ValueError:
        return False


def shown_duration(nanoseconds: int) -> str:
    """As Go prints a time.Duration: `0s`, `1.5ms`, `30s`, `1m30s`, `1h0m0s`."""
    for unit, size in (("ns", 10**3), ("µs", 10**6), ("ms", 10**9)):
        if 0 < nanoseconds < size:
            return _decimal(nanoseconds * 1000, size) + unit
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return shown + _decimal(rest, 10**9) + "s"


def _decimal(number: int, one: int) -> str:
    whole, part = divmod(number, one)
    return f"{whole}.{part:0{len(str(one)) - 1}}".rstrip("0").rstrip(".") if part else str(whole)


def signal(text: str) -> str:
    """A signal's number or name, unchanged; Docker takes both, with and without `SIG`."""
    if _is_number(text) and len(text) <= 3:
        if 0 < int(text) <= 64:
            return text
    else:
        name = text.upper().removeprefix("SIG")
        if name in _SIGNALS or name in _REAL_TIME:
            return text
    prefix = text[:3] if text.upper().startswith("SIG") else ""
    near = nearest(text[len(prefix) :][:20], _SIGNALS)
    hint = f"did you mean '{prefix}{near}'?" if near else "write a name as SIGTERM or a number from 1 to 64"
    raise DockerfileError(f"'{text}' is not a signal", hint=hint)


def join(base: str, path: str) -> str:
    """`path` seen from the absolute folder `base`, cleaned: no `.`, no `..` (which stop at the root), no double slash."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{base}/{path}").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def destination(workdir: str, path: str) -> str:
    """Where COPY goes: as `join`, and a folder keeps its trailing slash."""
    joined = join(workdir or "/", path)
    folder = path.endswith(("/", "/.", "/..")) or path in ("", ".", "..")
    return joined if not folder or joined == "/" else joined + "/"
