"""Flags of instructions: which there are, and `--name="va lue"` to a value (moby/buildkit, instructions/bflag.go and
parser/split_command.go)."""

from __future__ import annotations

import re

from builder.dockerfile.ast import Flag
from builder.dockerfile.durations import nanoseconds
from builder.errors import DockerfileError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from builder.errors import Span

if TYPE_CHECKING:
    Kind = Literal["value", "values", "switch"]
    """`values` may stand several times; `switch` needs no value and takes `true` or `false`."""

FLAGS: dict[str, dict[str, Kind]] = {
    "FROM": {"platform": "value"},
    "RUN": {"mount": "values", "network": "value", "security": "value", "device": "values"},
    "COPY": {
        "from": "value",
        "chown": "value",
        "chmod": "value",
        "link": "switch",
        "parents": "switch",
        "exclude": "values",
    },
    "ADD": {
        "chown": "value",
        "chmod": "value",
        "link": "switch",
        "checksum": "value",
        "keep-git-dir": "switch",
        "exclude": "values",
        "unpack": "switch",
    },
    "HEALTHCHECK": {
        "interval": "value",
        "timeout": "value",
        "start-period": "value",
        "start-interval": "value",
        "retries": "value",
    },
}
"""What the grammar's terminals `FROM_FLAG`, `RUN_FLAG` and so on name, with their kinds."""

_CHOICES = {"network": ("default", "none", "host"), "security": ("sandbox", "insecure")}
_MILLISECOND = 1_000_000
_PIECES = {
    escape: re.compile(rf"""{e}(.)|"((?:[^"{e}]|{e}.)*)(?:"|{e}?\Z)|'((?:[^'{e}]|{e}.)*)(?:'|{e}?\Z)|([^'"{e}]+)""", re.DOTALL)
    for escape, e in (("\\", r"\\"), ("`", "`"))
}
_NEEDS_QUOTES = re.compile(r"""[^\w@%+=:,./$*?{}\[\]#!~^&|;()<>-]""", re.ASCII)


def read(word: str, keyword: str, span: Span, *, known: bool, escape: str) -> Flag:
    """The flag that `word` is. `known`: the grammar took it for one of the instruction's own. Raises DockerfileError."""
    name, equals, value = unquote(word, escape)[2:].partition("=")
    if not known:
        raise _unknown(name, keyword, span)
    flag = Flag(name, value if equals else None, span)
    _check(flag, FLAGS[keyword][name])
    return flag


def refuse_repeated(flags: Iterable[Flag], keyword: str) -> None:
    """Raises DockerfileError for a flag that stands twice and takes one value."""
    seen: set[str] = set()
    for flag in flags:
        if flag.name in seen and FLAGS[keyword][flag.name] != "values":
            raise DockerfileError(f"the flag '--{flag.name}' stands here twice", flag.span, hint="leave one of them")
        seen.add(flag.name)


def is_on(flags: Iterable[Flag], name: str) -> bool:
    """Whether the switch `name` is among the flags and not `false`."""
    return any(flag.name == name and (flag.value or "true").lower() == "true" for flag in flags)


def write(flag: Flag, escape: str) -> str:
    """The flag as a word, with quotes where its value needs them."""
    if flag.value is None:
        return f"--{flag.name}"
    if not _NEEDS_QUOTES.search(flag.value):
        return f"--{flag.name}={flag.value}"
    escaped = flag.value.replace(escape, escape * 2).replace('"', escape + '"')
    return f'--{flag.name}="{escaped}"'


def unquote(word: str, escape: str) -> str:
    """A flag's word without quotes; the escape character works in both kinds of quotes, and is dropped at the end."""
    if not ("'" in word or '"' in word or escape in word):
        return word
    out: list[str] = []
    for escaped, double, single, plain in _PIECES[escape].findall(word):
        quoted = double or single
        out.append(escaped or plain or (re.sub(re.escape(escape) + "(.)", r"\1", quoted, flags=re.DOTALL) if quoted else ""))
    return "".join(out)


def _check(flag: Flag, kind: Kind) -> None:
    name, value = flag.name, flag.value
    if kind == "switch":
        if value is not None and value.lower() not in ("true", "false"):
            raise _wrong(flag, f"the flag '--{name}' is true or false", f"write --{name} or --{name}=false")
    elif value is None:
        raise DockerfileError(
            f"the flag '--{name}' needs a value", flag.span, hint=f"write --{name}=VALUE, without spaces around ="
        )
    elif name in _CHOICES and value not in _CHOICES[name]:
        raise _wrong(
            flag, f"the flag '--{name}' is one of {', '.join(_CHOICES[name])}", did_you_mean(value[:40], _CHOICES[name])
        )
    elif name == "retries" and value and not re.fullmatch("[+]?[0-9]{1,9}", value):
        raise _wrong(flag, "the flag '--retries' is a number, 0 or more", "as in --retries=3")
    elif FLAGS["HEALTHCHECK"].get(name) and name != "retries" and value:
        _check_duration(flag, value)


def _check_duration(flag: Flag, value: str) -> None:
    duration = nanoseconds(value)
    if duration is None:
        raise _wrong(flag, f"the flag '--{flag.name}' is a duration", "a duration looks like 30s, 1m30s or 500ms")
    if duration and duration < _MILLISECOND:
        raise _wrong(flag, f"the flag '--{flag.name}' is 1ms or more", "leave it out for the default")


def _wrong(flag: Flag, what: str, hint: str | None) -> DockerfileError:
    return DockerfileError(f"{what}, not '{(flag.value or '')[:40]}'", flag.span, hint=hint or None)


def _unknown(name: str, keyword: str, span: Span) -> DockerfileError:
    known = FLAGS.get(keyword)
    shown = f"--{name[:40]}"
    if known is None:
        escape_hatch = f"to pass it on as an argument, write: {keyword} -- {shown}"
        return DockerfileError(f"unknown flag '{shown}': {keyword} has no flags", span, hint=escape_hatch)
    hint = did_you_mean(shown, [f"--{flag}" for flag in known])
    return DockerfileError(
        f"unknown flag '{shown}' for {keyword}",
        span,
        hint=hint or f"{keyword} has the flags {', '.join('--' + flag for flag in known)}",
    )
