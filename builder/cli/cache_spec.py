"""Values of ``--cache-from`` and ``--cache-to``, with the keys of ``docker buildx build``. Pure."""

from __future__ import annotations

from builder.cache.places import DEFAULT_TAG, CacheFrom, CacheTo
from builder.cli.output_spec import split_csv
from builder.errors import BuildError, UsageError, did_you_mean
from builder.oci.digest import Digest

_FLAGS = {
    "--cache-from": ("src", "tag", "digest"),
    "--cache-to": (
        "dest",
        "tag",
        "mode",
        "compression",
        "ignore-error",
        "mounts",
        "force-compression",
        "image-manifest",
        "oci-mediatypes",
    ),
}
"""The keys of type=local that work. The last three of `--cache-to` change nothing here: what they ask for is the only form."""

_NOT_BUILT_TYPES = ("registry", "inline", "gha", "s3", "azblob")
_NOT_BUILT_KEYS = ("compression-level",)
_CHOICES = {
    "mode": ("min", "max"),
    "compression": ("gzip", "zstd", "uncompressed"),
    "ignore-error": ("true", "false"),
    "force-compression": ("true", "false"),
    "image-manifest": ("true",),
    "oci-mediatypes": ("true",),
}
_BOOLS = {"1": "true", "0": "false"}


def parse_cache_from(text: str) -> CacheFrom:
    """``type=local,src=DIR[,tag=NAME][,digest=sha256:...]``. Raises UsageError."""
    pairs = _pairs(text, "--cache-from")
    try:
        digest = Digest.parse(pairs["digest"]) if "digest" in pairs else None
    except BuildError as error:
        raise UsageError(f"{error.message}, in --cache-from '{text}'", hint=error.hint) from None
    return CacheFrom(_folder(pairs, "src", text), pairs.get("tag") or DEFAULT_TAG, digest)


def parse_cache_to(text: str) -> CacheTo:
    """``type=local,dest=DIR[,mode=min|max][,compression=...][,tag=NAME][,ignore-error=true][,mounts=ID,ID...]``. Raises
    UsageError."""
    pairs = _pairs(text, "--cache-to")
    return CacheTo(
        _folder(pairs, "dest", text),
        pairs.get("tag") or DEFAULT_TAG,
        pairs.get("mode", "min"),  # type: ignore[arg-type]  # _pairs checks the choices
        pairs.get("compression", "zstd"),  # type: ignore[arg-type]  # as above
        pairs.get("ignore-error") == "true",
        tuple(dict.fromkeys(id for id in pairs.get("mounts", "").split(",") if id)),
    )


def _pairs(text: str, flag: str) -> dict[str, str]:
    """The checked keys with their values, without the type."""
    fields = split_csv(text)
    if not any("=" in field for field in fields):
        # As buildx reads it: the name of an image in a registry.
        raise UsageError(
            f"{flag} '{text}' names a cache in a registry, which is not built yet",
            hint=f"for a folder: type=local,{_FLAGS[flag][0]}={text or 'DIR'}",
        )
    pairs: dict[str, str] = {}
    key = ""
    for field in fields:
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
    _check_type(pairs.pop("type", ""), flag, text)
    return {key: _value(key, value, flag) for key, value in pairs.items()}


def _check_type(kind: str, flag: str, text: str) -> None:
    if not kind:
        raise UsageError(f"{flag} '{text}' has no type", hint=f"for a folder: type=local,{_FLAGS[flag][0]}=DIR")
    if kind in _NOT_BUILT_TYPES:
        raise UsageError(f"the cache type '{kind}' is not built yet", hint=f"for a folder: type=local,{_FLAGS[flag][0]}=DIR")
    if kind != "local":
        raise UsageError(f"unknown cache type '{kind}'", hint=did_you_mean(kind, ("local", *_NOT_BUILT_TYPES)) or "type=local")


def _value(key: str, value: str, flag: str) -> str:
    known = _FLAGS[flag]
    if key not in known:
        if key in _NOT_BUILT_KEYS and flag == "--cache-to":
            raise UsageError(f"the key '{key}' of {flag} is not built yet", hint="leave it out")
        if key in ("src", "dest"):
            raise UsageError(f"{flag} has no key '{key}'", hint=f"its folder is {known[0]}=DIR")
        hint = did_you_mean(key, known) or f"type=local takes {', '.join(known)}"
        raise UsageError(f"unknown key '{key}' of {flag}", hint=hint)
    choices = _CHOICES.get(key)
    if choices is None:
        return value
    value = _BOOLS.get(value, value) if "true" in choices else value
    if value.lower() not in choices:
        hint = did_you_mean(value, choices) or f"{'one of ' * (len(choices) > 1)}{', '.join(choices)}"
        raise UsageError(f"'{value}' is not a value of '{key}' of {flag}", hint=hint)
    return value.lower()


def _folder(pairs: dict[str, str], key: str, text: str) -> str:
    folder = pairs.get(key, "")
    if not folder:
        raise UsageError(f"the cache '{text}' is a folder and needs one", hint=f"add {key}=DIR")
    return folder
