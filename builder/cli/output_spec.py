"""Values of ``-o``/``--output`` (SPEC section 4), written as Docker writes them. Pure."""

from __future__ import annotations

from builder.errors import UsageError, did_you_mean
from builder.values import NamedTuple

_BOOLS = {"true": "true", "1": "true", "false": "false", "0": "false"}
_COMPRESSIONS = ("gzip", "zstd", "uncompressed")
_LAYERS = ("compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "name")
_KEYS = {
    "oci": ("dest", "tar", *_LAYERS),
    "docker": ("dest", "tar", *_LAYERS),
    "local": ("dest",),
    "tar": ("dest",),
    "image": ("push", "request", *_LAYERS),
    "registry": ("request", *_LAYERS),
    "cacheonly": (),
}
"""The keys of each type; those with `_LAYERS` also take ``annotation.<name>``."""

_BOOL_KEYS = ("tar", "push", "request", "force-compression", "oci-mediatypes", "rewrite-timestamp")
_NOT_BUILT_KEYS = (
    *("context", "dangling-name-prefix", "platform-split", "prefer-nondist-layers", "push-by-digest"),
    *("registry.insecure", "store"),
)
"""What BuildKit has beside these, so that the message does not call it unknown."""
_HARMLESS: dict[tuple[str, str], tuple[str, ...]] = {
    ("image", "buildinfo"): (),
    ("image", "name-canonical"): (),
    ("image", "store"): ("true",),
    ("image", "unpack"): (),
    ("local", "platform-split"): ("false",),
    ("tar", "platform-split"): ("false",),
}
"""By type and key the values, empty for any, that ask for nothing here: the store is where images go, and names are whole."""


class OutputSpec(NamedTuple):
    """One output. `dest` is a path of the host, ``-`` for stdout, empty for the store (type=image) and for a Docker engine
    (type=docker).

    `attrs` has the other keys, checked: bools as ``true`` or ``false``; names of ``annotation.*`` as they are.
    """

    type: str
    dest: str
    attrs: dict[str, str]


def parse_output(text: str) -> OutputSpec:
    """``type=oci,dest=x.tar,"name=a,b"``; a bare path is type=local; ``-`` is a tar on stdout. Raises UsageError."""
    fields = split_csv(text)
    if len(fields) == 1 and not fields[0].startswith("type="):
        return _bare(fields[0], text)
    pairs: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"'{field}' in the output '{text}' is not KEY=VALUE")
        if key in pairs:
            raise UsageError(f"the output '{text}' names '{key}' twice")
        pairs[key] = value
    if "type" not in pairs:
        raise UsageError(f"the output '{text}' has no type", hint=f"add type={'|'.join(_KEYS)}")
    return _checked(pairs, text)


def split_csv(text: str) -> list[str]:
    """One line of comma-separated fields; a field with a comma is in double quotes, ``""`` in it is a quote (RFC 4180).

    Raises UsageError.
    """
    fields: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            field, rest = _quoted(rest[1:], text)
        else:
            end = rest.find(",")
            field, rest = (rest, "") if end < 0 else (rest[:end], rest[end:])
            if '"' in field:
                raise UsageError(f"a quote in the middle of a field in '{text}'", hint='quote the whole field: "key=a,b"')
        fields.append(field)
        if not rest:
            return fields
        rest = rest[1:]


def _quoted(rest: str, text: str) -> tuple[str, str]:
    """The field after its opening quote, and what follows its closing one (empty, or starting with a comma)."""
    field = ""
    while True:
        piece, quote, rest = rest.partition('"')
        field += piece
        if not quote:
            raise UsageError(f"a quote in '{text}' is not closed")
        if not rest.startswith('"'):
            break
        field += '"'
        rest = rest[1:]
    if rest and not rest.startswith(","):
        raise UsageError(f"text after a closing quote in '{text}'", hint='quote the whole field: "key=a,b"')
    return field, rest


def _bare(value: str, text: str) -> OutputSpec:
    if not value:
        raise UsageError("an output is empty", hint="give a directory, or type=oci,dest=image.tar")
    if value == "-":
        return OutputSpec("tar", "-", {})
    key, equals, _ = value.partition("=")
    if equals and key in {key for keys in _KEYS.values() for key in keys}:
        raise UsageError(f"the output '{text}' has no type", hint=f"add type={'|'.join(_KEYS)}")
    return OutputSpec("local", value, {})


def _checked(pairs: dict[str, str], text: str) -> OutputSpec:
    kind = pairs.pop("type")
    if kind not in _KEYS:
        hint = did_you_mean(kind, _KEYS) or "one of " + ", ".join(_KEYS)
        raise UsageError(f"unknown output type '{kind}'", hint=hint)
    for key, value in list(pairs.items()):
        asks = _HARMLESS.get((kind, key))
        if asks is not None and (not asks or _BOOLS.get(value.lower()) in asks):
            del pairs[key]
            continue
        _check_key(kind, key)
    attrs = {key: _value(key, value) for key, value in pairs.items() if key != "dest"}
    return OutputSpec(kind, _dest(kind, pairs.get("dest", ""), attrs, text), attrs)


def _check_key(kind: str, key: str) -> None:
    if key in _KEYS[kind] or (key.startswith("annotation.") and key != "annotation." and "name" in _KEYS[kind]):
        return
    if key in _NOT_BUILT_KEYS or key.startswith(("annotation-", "annotation[")):
        raise UsageError(f"the key '{key}' of the output type '{kind}' is not built yet", hint="leave it out")
    hint = did_you_mean(key, _KEYS[kind]) or (f"type={kind} takes {', '.join(_KEYS[kind])}" if _KEYS[kind] else "it takes none")
    raise UsageError(f"unknown key '{key}' of the output type '{kind}'", hint=hint)


def _value(key: str, value: str) -> str:
    if key in _BOOL_KEYS:
        if value.lower() not in _BOOLS:
            raise UsageError(f"'{value}' is not a value of '{key}'", hint="true or false")
        return _BOOLS[value.lower()]
    if key == "compression" and value not in _COMPRESSIONS:
        if value == "estargz":
            raise UsageError("the compression 'estargz' is not built yet")
        hint = did_you_mean(value, _COMPRESSIONS) or "one of " + ", ".join(_COMPRESSIONS)
        raise UsageError(f"unknown compression '{value}'", hint=hint)
    if key == "compression-level" and not (value.isascii() and value.isdigit() and len(value) <= 2):
        raise UsageError(f"'{value}' is not a value of 'compression-level'", hint="a whole number")
    return value


def _dest(kind: str, dest: str, attrs: dict[str, str], text: str) -> str:
    """Where the output goes; archives go to stdout when nothing else is said, but Docker's to its engine, as with buildx."""
    if kind in ("image", "registry", "cacheonly"):
        return ""
    folder = kind == "local" or attrs.get("tar") == "false"
    if folder and dest in ("", "-"):
        raise UsageError(f"the output '{text}' is a directory and needs one", hint="add dest=DIR")
    return dest or ("" if kind == "docker" else "-")
