"""`RUN --mount=key=value,...` to a mount: one line of CSV, in which a value may hold variables. Pure.

The keys, their order and what goes with which type are those of moby/buildkit, instructions/commands_runmount.go; the
defaults are those of dockerfile2llb/convert_runmount.go, convert_secrets.go and convert_ssh.go. `type` counts from where it
stands: `required` and `size` belong to some types only and must come after it.
"""

from __future__ import annotations

from builder.dockerfile.ast import Word
from builder.errors import DockerfileError, Span, did_you_mean
from builder.plan import fields
from builder.plan.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from builder.plan.origins import ContextOrigin
from builder.plan.state import flag_word
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.dockerfile.ast import Flag
    from builder.plan.mounts import Mount, Sharing
    from builder.plan.origins import Origin

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_KEYS = ("type", "from", "source", "target", "id", "sharing", "mode", "uid", "gid", "size", "env", *_SWITCHES)
_NO_EFFECT = {
    "bind": ("id", "env"),
    "cache": ("env",),
    "tmpfs": ("id", "env", "from", "source", "readwrite"),
    "secret": ("readonly", "readwrite"),
    "ssh": ("env", "from", "readonly", "readwrite"),
}
"""Keys that BuildKit reads and that say nothing about a mount of this type."""

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_QUOTED = r'"((?:[^"]|"")*)"'
_CSV_HINT = 'quote the whole field, as in "target=/a,b", and write a quote in it twice'
_SIZE = r"(?ai)([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(?:([kmgtp])i?)?b?"


class Field(NamedTuple):
    """`key=value`, or a bare `key`, of the line."""

    key: str
    """In lower case, aliases replaced."""
    shown: str
    """The key as it was written."""
    value: Word | None
    span: Span
    """Of the key."""


class Place(NamedTuple):
    """Where a mount is wanted: the WORKDIR, how many ssh mounts stand before it, and what its `from` leads to."""

    workdir: str
    ssh: int
    origin: Origin | None


def split(flag: Flag) -> list[Field]:
    """The fields of a `--mount`. Raises DockerfileError with the place of what is not CSV."""
    word = flag_word(flag)
    return [_field(word, start, end, text) for start, end, text in _csv(word)]


def source_name(flag: Flag) -> Word | None:
    """The stage, image or context that a mount names by `from`, None without. Raises DockerfileError for variables in it."""
    if "from" not in (flag.value or "").lower():
        return None
    found = None
    for field in split(flag):
        if field.key == "from" and field.value is not None:
            if "$" in field.value.text[:-1]:
                raise DockerfileError(
                    "from= takes no variables",
                    field.value.span,
                    hint="declare a stage for it: FROM ${NAME} AS source, then from=source",
                )
            found = field.value if field.value.text else None
    return found


def mount(flag: Flag, place: Place, expand: Callable[[Word], str]) -> tuple[Mount, list[str]]:
    """The mount that the flag asks for, and messages about keys without effect. Raises DockerfileError."""
    reading = _Reading()
    for field in split(flag):
        reading.take(field, expand)
    made = reading.made(flag, place)
    useless = [f"'{key}' has no effect on a mount of type {reading.type}" for key in _useless(reading)]
    return made, useless


def _useless(reading: _Reading) -> list[str]:
    return [key for key in _NO_EFFECT[reading.type] if key in reading.where]


# The line


def _csv(word: Word) -> list[tuple[int, int, str]]:
    """(start, end, text) of each field, as Go's encoding/csv splits a line."""
    found: list[tuple[int, int, str]] = []
    at, text = 0, word.text
    while True:
        if text.startswith('"', at):
            import re  # for those who quote

            match = re.compile(_QUOTED).match(text, at)
            if match is None:
                raise DockerfileError("a quote of --mount is not closed", _span(word, at, len(text)), hint=_CSV_HINT)
            end, value = match.end(), match[1].replace('""', '"')
            if end < len(text) and text[end] != ",":
                message = "a quoted field of --mount goes on after its quote"
                raise DockerfileError(message, _span(word, at, end + 1), hint=_CSV_HINT)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            value = text[at:end]
            if '"' in value:
                raise DockerfileError(
                    f"there is a quote inside '{value}'", _span(word, at, end), hint='quote the whole field, as "source=a,b"'
                )
        found.append((at, end, value))
        if end >= len(text):
            return found
        at = end + 1


def _field(word: Word, start: int, end: int, text: str) -> Field:
    shown, equals, value = text.partition("=")
    whole = _span(word, start, end)
    exact = end - start == len(text)
    key = ALIASES.get(shown.lower(), shown.lower())
    span = _span(word, start, start + len(shown)) if exact else whole
    if not equals:
        return Field(key, shown, None, span)
    begin = start + len(shown) + 1
    return Field(key, shown, Word(value, _span(word, begin, end) if exact and value else whole), span)


def _span(word: Word, start: int, end: int) -> Span:
    """A piece of the flag's value; the whole flag where its text is not the source's."""
    span = word.span
    if span.line != span.end_line or span.end_column - span.column != len(word.text):
        return span
    return Span(span.line, span.column + start, span.line, span.column + max(end, start + 1))


# The values


class _Reading:
    """The fields read so far."""

    def __init__(self) -> None:
        self.type = "bind"
        self.where: dict[str, Span] = {}
        self.texts: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.readonly: bool | None = None
        self.required = False

    def take(self, field: Field, expand: Callable[[Word], str]) -> None:
        if field.value is None and field.key not in _SWITCHES:
            if field.key in _KEYS:
                raise DockerfileError(
                    f"'{field.shown}' of --mount needs a value", field.span, hint=f"write {field.shown}=VALUE"
                )
            raise _unknown_key(field)
        value = None if field.value is None else expand(field.value)
        if field.key not in _KEYS:
            raise _unknown_key(field)
        self.where[field.key] = field.span
        match field.key:
            case "type":
                self.type = _choice(field, value or "", TYPES, "a type of mount")
            case "sharing":
                self.texts["sharing"] = _choice(field, value or "", SHARING, "a way of sharing")
            case "readonly":
                self.readonly = _boolean(field, value)
            case "readwrite":
                self.readonly = not _boolean(field, value)
            case "required":
                self._only_for(field, ("secret", "ssh"))
                self.required = _boolean(field, value)
            case "size":
                self._only_for(field, ("tmpfs",))
                self.numbers["size"] = _size(field, value or "")
            case "mode":
                self.numbers["mode"] = _number(field, value or "", 8)
            case "uid" | "gid":
                self.numbers[field.key] = _number(field, value or "", 10)
            case _:
                self.texts[field.key] = value or ""

    def _only_for(self, field: Field, types: tuple[str, ...]) -> None:
        if self.type not in types:
            raise DockerfileError(
                f"'{field.shown}' is no key of a mount of type {self.type}",
                field.span,
                hint=f"it goes with type={' and type='.join(types)}, which must stand before it",
            )

    def made(self, flag: Flag, place: Place) -> Mount:
        self._check(flag)
        source = fields.join("/", self.texts.get("source", ""))
        uid, gid = self.numbers.get("uid", 0), self.numbers.get("gid", 0)
        match self.type:
            case "bind":
                target = self._target(flag, place)
                return BindMount(target, place.origin or ContextOrigin(""), source, self.readonly is not False, flag.span)
            case "cache":
                sharing: Sharing = "shared"
                match self.texts.get("sharing"):
                    case "private" | "locked" as other:
                        sharing = other
                return CacheMount(
                    self._target(flag, place),
                    self.texts.get("id") or _clean(self.texts.get("target", "")),
                    sharing,
                    place.origin,
                    source,
                    bool(self.readonly),
                    self.numbers.get("mode", 0o755),
                    uid,
                    gid,
                    flag.span,
                )
            case "tmpfs":
                return TmpfsMount(self._target(flag, place), self.numbers.get("size", 0), bool(self.readonly), flag.span)
            case "secret":
                return self._secret(flag, place, uid, gid)
            case _:
                target = self.texts.get("target") or f"/run/buildkit/ssh_agent.{place.ssh}"
                where = fields.join(place.workdir, target)
                name = self.texts.get("id") or "default"
                return SshMount(where, name, self.required, self.numbers.get("mode", 0o600), uid, gid, flag.span)

    def _secret(self, flag: Flag, place: Place, uid: int, gid: int) -> SecretMount:
        target, env = self.texts.get("target", ""), self.texts.get("env", "")
        name = self.texts.get("source") or self.texts.get("id") or _base(target)
        if not target and not env:
            target = f"/run/secrets/{_base(name)}"
        where = fields.join(place.workdir, target) if target else ""
        return SecretMount(where, name, env, self.required, self.numbers.get("mode", 0o400), uid, gid, flag.span)

    def _target(self, flag: Flag, place: Place) -> str:
        target = fields.join(place.workdir, self.texts.get("target", ""))
        if target == "/":
            raise DockerfileError(
                "nothing can be mounted at '/'", self.where.get("target", flag.span), hint="name a folder, as target=/cache"
            )
        return target

    def _check(self, flag: Flag) -> None:
        """What goes with which type (commands_runmount.go, validateMount)."""
        self._refuse(
            ("mode", "uid", "gid"), in_types=("bind", "tmpfs"), hint="it goes with type=cache, type=secret and type=ssh"
        )
        self._refuse(("sharing",), in_types=("bind", "tmpfs", "secret", "ssh"), hint="it goes with type=cache")
        self._refuse(("from",), in_types=("secret",), hint="a secret comes from the command line, by its id")
        self._refuse(("source",), in_types=("ssh",), hint="an agent comes from the command line, by its id")
        if self.type != "secret":
            return
        if self.texts.get("source") and self.texts.get("id"):
            raise DockerfileError("a secret has either 'id' or 'source'", self.where["source"], hint="leave one of them")
        if not any(self.texts.get(key) for key in ("id", "source", "target")):
            raise DockerfileError("the secret has no id", flag.span, hint="as in --mount=type=secret,id=token")
        if "env" in self.texts and not self.texts["env"]:
            raise DockerfileError("'env' names no variable", self.where["env"], hint="as in env=TOKEN")
        if "=" in self.texts.get("env", ""):
            message = f"no variable can have the name '{self.texts['env'][:40]}'"
            raise DockerfileError(message, self.where["env"], hint="'env' takes a name alone, as in env=TOKEN")

    def _refuse(self, keys: tuple[str, ...], *, in_types: tuple[str, ...], hint: str) -> None:
        for key in keys:
            if self.type in in_types and (key in self.numbers or self.texts.get(key)):
                raise DockerfileError(f"'{key}' is no key of a mount of type {self.type}", self.where[key], hint=hint)


def _unknown_key(field: Field) -> DockerfileError:
    near = did_you_mean(field.shown.lower(), (*_KEYS, *ALIASES))
    shown = field.shown if len(field.shown) <= 40 else field.shown[:37] + "..."
    return DockerfileError(f"unknown key '{shown}' of --mount", field.span, hint=near or f"the keys are {', '.join(_KEYS)}")


def _choice(field: Field, value: str, choices: tuple[str, ...], what: str) -> str:
    if value.lower() in choices:
        return value.lower()
    hint = did_you_mean(value[:40], choices) or f"write one of {', '.join(choices)}"
    raise DockerfileError(f"'{value[:40]}' is not {what}", _value_span(field), hint=hint)


def _boolean(field: Field, value: str | None) -> bool:
    if value is None:
        return True
    if value not in _BOOLEANS:
        message = f"'{field.shown}' of --mount is true or false, not '{value[:40]}'"
        raise DockerfileError(message, _value_span(field), hint=f"write {field.shown} alone for true")
    return _BOOLEANS[value]


def _number(field: Field, value: str, base: int) -> int:
    # The highest id says "leave it" to chown(2).
    digits, most = ("01234567", 0o7777) if base == 8 else ("0123456789", 2**32 - 2)
    if not 0 < len(value) <= 40 or any(char not in digits for char in value) or int(value, base) > most:
        what, example = ("an octal mode", "0755") if base == 8 else (f"a number, 0 to {most}", "1000")
        message = f"'{field.shown}' of --mount is {what}, not '{value[:40]}'"
        raise DockerfileError(message, _value_span(field), hint=f"as in {field.shown}={example}")
    return int(value, base)


def _size(field: Field, value: str) -> int:
    import re  # for those who limit one

    match = re.fullmatch(_SIZE, value)
    if match is None or len(value) > 30:
        raise DockerfileError(f"'{value[:40]}' is not a size", _value_span(field), hint="a size looks like 1024, 64m or 1.5g")
    unit = 1024 ** " kmgtp".index((match[2] or " ").lower())
    return int(float(match[1]) * unit)


def _value_span(field: Field) -> Span:
    return field.value.span if field.value else field.span


def _clean(path: str) -> str:
    """Go's path.Clean: what a cache is called that has no id."""
    if path.startswith("/"):
        return fields.join("/", path)
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def _base(path: str) -> str:
    """Go's path.Base."""
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")
