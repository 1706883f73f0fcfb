"""The small languages inside instructions: ports, durations, signals, modes, paths. Pure.

Each raises DockerfileError without a span; the caller knows where.
"""

from __future__ import annotations

import re

from builder.errors import DockerfileError

_SIGNALS = {
    "ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2, "IO": 29,
    "IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3, "SEGV": 11, "STKFLT": 16, "STOP": 19,
    "SYS": 31, "TERM": 15, "TRAP": 5, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10, "USR2": 12, "VTALRM": 26,
    "WINCH": 28, "XCPU": 24, "XFSZ": 25, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip


def ports(text: str) -> list[str]:
    """`80`, `80/udp`, `8000-8010/tcp` as `port/protocol` each (Docker's EXPOSE; sctp too)."""
    span, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise DockerfileError(f"'{text}' has an unknown protocol", hint="the protocols are tcp, udp and sctp")
    low, dash, high = span.partition("-")
    numbers = [low, high] if dash else [low]
    if not all(re.fullmatch("[0-9]{1,5}", number) and int(number) <= 65535 for number in numbers):
        hint = "write the container's port alone, as 80 or 8000-8010/udp" if ":" in text else "a port is a number up to 65535"
        raise DockerfileError(f"'{text}' is not a port", hint=hint)
    first, last = int(low), int(numbers[-1])
    if last < first:
        raise DockerfileError(f"'{text}' ends before it begins", hint=f"did you mean '{last}-{first}'?")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def duration(text: str) -> int:
    """Go's duration (`1m30s`, `500ms`, `0`) in nanoseconds."""
    units = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    if text == "0":
        return 0
    pieces = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise DockerfileError(f"'{text}' is not a duration", hint="write it as 30s, 1m30s or 500ms")
    total = sum(round(float(number) * units[unit]) for number, unit in pieces)
    if 0 < total < 10**6:
        raise DockerfileError(f"'{text}' is shorter than 1ms", hint="1ms is the shortest duration of a health check")
    return total


def signal(text: str) -> str:
    """A signal's number or name, unchanged; Docker takes both, with and without `SIG`."""
    if re.fullmatch("[0-9]{1,3}", text):
        if 0 < int(text) <= 64:
            return text
    else:
        name = text.upper().removeprefix("SIG")
        if name in _SIGNALS or re.fullmatch(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])", name):
            return text
    raise DockerfileError(f"'{text}' is not a signal", hint="write a name as SIGTERM or a number from 1 to 64")


def mode(text: str) -> int:
    """`--chmod` in octal, 0 to 7777."""
    if re.fullmatch("[0-7]{1,12}", text) and int(text, 8) <= 0o7777:
        return int(text, 8)
    if re.fullmatch("[0-9]+", text):
        raise DockerfileError(f"'{text}' is not a mode", hint="a mode has octal digits, 0 to 7777, as 0755")
    raise DockerfileError(
        f"the symbolic mode '{text}' is not supported yet", hint="write the mode in octal, as 0755; symbolic modes come later"
    )


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
