"""Values of ``--cache-from`` and ``--cache-to``, with the keys of ``docker buildx build``. Pure."""

from __future__ import annotations

from builder.cache.places import DEFAULT_TAG, CacheTo, InlineTo, LocalFrom, LocalTo, RegistryFrom, RegistryTo
from builder.cli.lookup import new_name
from builder.cli.output_spec import split_csv
from builder.errors import BuildError, UsageError, did_you_mean
from builder.oci.digest import Digest
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cache.places import CacheFrom

_FIXED = ("force-compression", "image-manifest", "oci-mediatypes")
"""Change nothing here: what they ask for is the only form."""
_WRITTEN = ("mode", "compression", "ignore-error", "mounts", *_FIXED)
_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "--cache-from": {"local": ("src", "tag", "digest"), "registry": ("ref",)},
    "--cache-to": {
        "local": ("dest", "tag", *_WRITTEN),
        "registry": ("ref", *_WRITTEN),
        "inline": ("mode", "ignore-error", *_FIXED),
    },
}
"""The keys of each type."""

_SERVICES = {
    "gha": "GitHub's own interface for caches",
    "s3": "the interface of S3",
    "azblob": "the interface of Azure's blob storage",
}
_INSTEAD = "keep it in a registry, type=registry,ref=NAME:cache, or in a folder that the CI service keeps: type=local,"
_NOT_BUILT_KEYS = {"compression-level": "leave it out", "registry.insecure": "--tls-verify=false says so for all registries"}
_CHOICES = {
    "mode": ("min", "max"),
    "compression": ("gzip", "zstd", "uncompressed"),
    "ignore-error": ("true", "false"),
    "force-compression": ("true", "false"),
    "image-manifest": ("true",),
    "oci-mediatypes": ("true",),
}
_BOOLS = {"1": "true", "0": "false"}


def parse_cache_from(text: str) -> tuple[CacheFrom, ...]:
    """``type=local,src=DIR[,tag=NAME][,digest=sha256:...]``, ``type=registry,ref=NAME``, or names alone. Raises UsageError."""
    if names := _names(text, "--cache-from", "src"):
        return tuple(map(RegistryFrom, names))
    kind, pairs = _pairs(text, "--cache-from")
    if kind == "registry":
        return (RegistryFrom(_ref(pairs, text, "--cache-from", Reference.parse)),)
    try:
        digest = Digest.parse(pairs["digest"]) if "digest" in pairs else None
    except BuildError as error:
        raise UsageError(f"{error.message}, in --cache-from '{text}'", hint=error.hint) from None
    return (LocalFrom(_folder(pairs, "src", text), pairs.get("tag") or DEFAULT_TAG, digest),)


def parse_cache_to(text: str) -> tuple[CacheTo, ...]:
    """``type=local,dest=DIR[,tag=NAME]``, ``type=registry,ref=NAME``, both with ``[,mode=min|max][,compression=...]
    [,ignore-error=true][,mounts=ID,ID...]``; ``type=inline``; or names alone. Raises UsageError."""
    if names := _names(text, "--cache-to", "dest"):
        return tuple(CacheTo(RegistryTo(new_name(str(name)))) for name in names)
    kind, pairs = _pairs(text, "--cache-to")
    return (
        CacheTo(
            _place(kind, pairs, text),
            pairs.get("mode", "min"),  # type: ignore[arg-type]  # _pairs checks the choices
            pairs.get("compression", "zstd"),  # type: ignore[arg-type]  # as above
            pairs.get("ignore-error") == "true",
            tuple(dict.fromkeys(id for id in pairs.get("mounts", "").split(",") if id)),
        ),
    )


def _place(kind: str, pairs: dict[str, str], text: str) -> LocalTo | RegistryTo | InlineTo:
    match kind:
        case "inline":
            if pairs.get("mode") == "max":
                raise UsageError(
                    "an inline cache has the steps of its image alone: it is no place for mode=max",
                    hint="a cache beside the image has all: type=registry,ref=NAME:cache,mode=max",
                )
            return InlineTo()
        case "registry":
            return RegistryTo(_ref(pairs, text, "--cache-to", new_name))
        case _:
            return LocalTo(_folder(pairs, "dest", text), pairs.get("tag") or DEFAULT_TAG)


def _names(text: str, flag: str, folder: str) -> list[Reference]:
    """The names of a value without any key, which are of registries, as buildx reads it."""
    fields = split_csv(text)
    if any("=" in field for field in fields):
        return []
    hint = f"for a folder: type=local,{folder}={text or 'DIR'}"
    if not text:
        raise UsageError(f"{flag} is empty", hint=f"type=registry,ref=NAME; {hint}")
    if text in _KEYS[flag] or text in _SERVICES:
        raise UsageError(f"{flag} '{text}' lacks its keys", hint=f"type={text},...")
    try:
        return [Reference.parse(field) for field in fields]
    except UsageError as error:
        raise UsageError(f"{error.message}, in {flag} '{text}'", hint=hint) from None


def _pairs(text: str, flag: str) -> tuple[str, dict[str, str]]:
    """The type, and the checked keys with their values."""
    pairs: dict[str, str] = {}
    key = ""
    for field in split_csv(text):
        if key == "mounts" and "=" not in field:
            # mounts=a,b is a list, with quotes around it or without.
            pairs[key] += f",{field}"
            continue
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"'{field}' in {flag} '{text}' is not KEY=VALUE")
        if key in pairs:
            raise UsageError(f"{flag} '{text}' names '{key}' twice")
        pairs[key] = value
    kind = pairs.pop("type", "")
    _check_type(kind, flag, text)
    return kind, {key: _value(kind, key, value, flag) for key, value in pairs.items()}


def _check_type(kind: str, flag: str, text: str) -> None:
    known = _KEYS[flag]
    folder = f"type=local,{known['local'][0]}=DIR"
    if not kind:
        raise UsageError(f"{flag} '{text}' has no type", hint=f"type=registry,ref=NAME; for a folder: {folder}")
    if kind in _SERVICES:
        raise UsageError(
            f"caches of the type '{kind}' are not built: they need {_SERVICES[kind]}",
            hint=f"{_INSTEAD}{known['local'][0]}=DIR",
        )
    if kind == "inline" and flag == "--cache-from":
        raise UsageError(
            "an inline cache lies in an image, which --cache-from has to name", hint="--cache-from type=registry,ref=IMAGE"
        )
    if kind not in known:
        hint = did_you_mean(kind, (*known, *_SERVICES)) or f"one of {', '.join(known)}"
        raise UsageError(f"unknown cache type '{kind}'", hint=hint)


def _value(kind: str, key: str, value: str, flag: str) -> str:
    known = _KEYS[flag][kind]
    if key not in known:
        raise _unknown(kind, key, flag)
    choices = _CHOICES.get(key)
    if choices is None:
        return value
    value = _BOOLS.get(value, value) if "true" in choices else value
    if value.lower() not in choices:
        hint = did_you_mean(value, choices) or f"{'one of ' * (len(choices) > 1)}{', '.join(choices)}"
        raise UsageError(f"'{value}' is not a value of '{key}' of {flag}", hint=hint)
    return value.lower()


def _unknown(kind: str, key: str, flag: str) -> UsageError:
    known = _KEYS[flag][kind]
    if key in _NOT_BUILT_KEYS:
        return UsageError(f"the key '{key}' of {flag} is not built yet", hint=_NOT_BUILT_KEYS[key])
    if key in ("src", "dest") and kind == "local":
        return UsageError(f"{flag} has no key '{key}'", hint=f"its folder is {known[0]}=DIR")
    if kind == "inline" and key in _WRITTEN:
        return UsageError(
            f"an inline cache has no '{key}' of its own",
            hint="its layers are the image's: -o type=registry,compression=zstd" if key == "compression" else None,
        )
    hint = did_you_mean(key, known) or f"type={kind} takes {', '.join(known)}"
    return UsageError(f"unknown key '{key}' of {flag} type={kind}", hint=hint)


def _folder(pairs: dict[str, str], key: str, text: str) -> str:
    folder = pairs.get(key, "")
    if not folder:
        raise UsageError(f"the cache '{text}' is a folder and needs one", hint=f"add {key}=DIR")
    return folder


def _ref(pairs: dict[str, str], text: str, flag: str, parse: Callable[[str], Reference]) -> Reference:
    if not pairs.get("ref"):
        raise UsageError(f"the cache '{text}' is in a registry and needs a name", hint="add ref=registry.example/name:cache")
    try:
        return parse(pairs["ref"])
    except UsageError as error:
        raise UsageError(f"{error.message}, in {flag} '{text}'", hint=error.hint) from None
