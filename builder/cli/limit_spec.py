"""What is limited, as the command line says it: one value for builds and for `pybuild run`."""

from __future__ import annotations

import os

from builder.cli.flags import byte_size
from builder.errors import UsageError, did_you_mean
from builder.sandbox.hierarchies import PERIOD, CgroupLimits
from builder.sandbox.resources import NUMBERS, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.flags import Parsed
    from builder.sandbox.resources import Ulimit

_FORM = "it looks like --ulimit NAME=SOFT[:HARD], as nofile=1024:4096; -1 or unlimited for no limit"
_LEAST_MEMORY = 6 << 20
_LEAST_TIME = 1000
"""Microseconds."""
_MOST = (1 << 63) - 1
"""What Docker takes; the kernel's own largest number means no limit."""


def parse_limits(parsed: Parsed) -> Limits:
    """Raises UsageError."""
    return Limits(parse_ulimits(parsed.texts("ulimit")), parse_cgroup(parsed))


def parse_cgroup(parsed: Parsed) -> CgroupLimits:
    """The limits that a cgroup enforces, within Docker's bounds. Raises UsageError."""
    memory = parsed.number("memory") or 0
    if 0 < memory < _LEAST_MEMORY:
        raise UsageError(
            f"--memory={parsed.text('memory')} is too little for any command", hint="the least is 6m, as with Docker"
        )
    quota, period = _processors(parsed)
    shares = _count(parsed, "cpu-shares", 2, 262_144) or 0
    return CgroupLimits(
        memory=memory,
        memory_swap=_with_swap(parsed.text("memory-swap") or "", memory),
        cpu_period=period,
        cpu_quota=quota,
        cpu_shares=shares,
        cpuset_cpus=_numbers(parsed, "cpuset-cpus"),
        cpuset_mems=_numbers(parsed, "cpuset-mems"),
        pids=max(_count(parsed, "pids-limit", -1, 1 << 22) or 0, 0),
        parent=_parent(parsed.text("cgroup-parent") or ""),
    )


def _with_swap(text: str, memory: int) -> int:
    if text in ("", "0"):
        return 0
    both = -1 if text == "-1" else byte_size(text)
    if not memory:
        raise UsageError("--memory-swap is memory and swap together", hint="say --memory, too")
    if 0 <= both < memory:
        raise UsageError(
            f"--memory-swap={text} is less than --memory",
            hint="it is memory and swap together; the same as --memory for no swap",
        )
    return both


def _processors(parsed: Parsed) -> tuple[int, int]:
    """Quota and period in microseconds, 0 for none."""
    quota = max(_count(parsed, "cpu-quota", -1, _MOST) or 0, 0)
    period = _count(parsed, "cpu-period", 0, 1_000_000) or 0
    cpus = parsed.text("cpus")
    if cpus is not None:
        if quota or period:
            raise UsageError("--cpus and --cpu-quota or --cpu-period exclude each other", hint="--cpus=1.5 is enough")
        whole, _, part = cpus.partition(".")
        if not (cpus.isascii() and (whole + part).isdigit() and len(cpus) <= 12):
            raise UsageError(f"'{cpus}' is not a value of '--cpus'", hint="it is a number of processors, as 2 or 0.5")
        quota = int(float(cpus) * PERIOD)
        if 0 < quota < _LEAST_TIME:
            raise UsageError(f"--cpus={cpus} is too little for any command", hint="the least is 0.01, as with Docker")
        if float(cpus) > (there := os.cpu_count() or 1):
            raise UsageError(
                f"--cpus={cpus} limits nothing: this machine has {there} processors", hint=f"0.01 to {there}, as with Docker"
            )
        return quota, 0
    if 0 < quota < _LEAST_TIME or 0 < period < _LEAST_TIME:
        flag = "quota" if 0 < quota < _LEAST_TIME else "period"
        raise UsageError(f"--cpu-{flag} is less than the kernel takes", hint="it is microseconds, 1000 at least")
    if period and not quota:
        raise UsageError("--cpu-period limits nothing by itself", hint="say --cpu-quota, too, or --cpus alone")
    return quota, period


def _count(parsed: Parsed, flag: str, least: int, most: int) -> int | None:
    text = parsed.text(flag)
    if text is None:
        return None
    digits = text.removeprefix("-") if least < 0 else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and (text == "0" or least <= int(text) <= most)):
        raise UsageError(f"'{text}' is not a value of '--{flag}'", hint=f"it is a number from {least} to {most}")
    return int(text)


def _numbers(parsed: Parsed, flag: str) -> str:
    """A list as the kernel reads it (cpuset(7)): which of them there are it says itself."""
    text = parsed.text(flag) or ""
    ranges = [part.split("-") for part in text.split(",")] if text else []
    if len(text) > 4096 or not all(len(ends) <= 2 and all(end.isascii() and end.isdigit() for end in ends) for ends in ranges):
        raise UsageError(f"'{text[:80]}' is not a value of '--{flag}'", hint="it is a list of numbers and ranges, as 0-3,5")
    return text


def _parent(text: str) -> str:
    parts = [part for part in text.split("/") if part]
    if ".." in parts or "." in parts or "\0" in text:
        raise UsageError(
            f"'{text}' is not a value of '--cgroup-parent'", hint="it is a path from the root of the cgroups, as /builds"
        )
    name = parts[-1] if parts else ""
    if len(parts) == 1 and name.endswith(".slice") and "-" in name:
        # systemd.slice(5): a-b.slice lies in a.slice.
        words = name.removesuffix(".slice").split("-")
        parts = ["-".join(words[: number + 1]) + ".slice" for number in range(len(words))]
    return "/".join(parts)


def parse_ulimits(texts: tuple[str, ...]) -> tuple[Ulimit, ...]:
    """``--ulimit`` values, each name once and in order: as with Docker the last of a name wins. Raises UsageError."""
    found = {name: (name, soft, hard) for name, soft, hard in map(_ulimit, texts)}
    return tuple(found[name] for name in sorted(found))


def _ulimit(text: str) -> Ulimit:
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise UsageError(f"'{text}' is not a value of '--ulimit'", hint=_FORM)
    if name not in NUMBERS:
        hint = did_you_mean(name, NUMBERS) or "one of " + ", ".join(NUMBERS)
        raise UsageError(f"there is no ulimit '{name}'", hint=hint)
    first, colon, second = value.partition(":")
    soft = _number(first, text)
    hard = _number(second, text) if colon else soft
    if hard >= 0 and not 0 <= soft <= hard:
        raise UsageError(
            f"the soft limit of '--ulimit {text}' is above the hard one", hint="the first number is at most the second"
        )
    return name, soft, hard


def _number(text: str, shown: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _MOST):
        raise UsageError(f"'{shown}' is not a value of '--ulimit'", hint=_FORM)
    return int(text)
