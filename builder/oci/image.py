"""Image config and manifest (OCI image-spec config.md and manifest.md, with Docker's extension fields). Pure.

Fields that we do not know are kept: a config is the raw object with typed readers and writers for the fields in use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.platform import Platform
from builder.values import NamedTuple

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What Docker sets where the base sets no PATH."""


class History(NamedTuple):
    """One line of an image's history; `step` is the plan's step that made its layer, None for config changes."""

    created_by: str
    step: int | None = None


class Healthcheck(NamedTuple):
    """Docker's extension; times in nanoseconds, 0 for the default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ImageConfig(NamedTuple):
    """What an image says about itself, without its layers: they come with `assemble`."""

    platform: Platform
    author: str = ""
    env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    exposed: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()
    extra: str = "{}"
    """JSON of the unknown fields: {"config": {...}, "image": {...}}."""

    def setenv(self, name: str, value: str) -> ImageConfig:
        """The same config with `name` set; an existing variable keeps its place, as in Docker."""
        if any(key == name for key, _ in self.env):
            return self._replace(env=tuple((k, value if k == name else v) for k, v in self.env))
        return self._replace(env=(*self.env, (name, value)))

    def setlabel(self, name: str, value: str) -> ImageConfig:
        return self._replace(labels=tuple(sorted({**dict(self.labels), name: value}.items())))


class ParsedImage(NamedTuple):
    """A config blob: what it says, the diff IDs of its layers bottom first, and its raw history."""

    config: ImageConfig
    diff_ids: tuple[Digest, ...]
    history: tuple[Mapping[str, Any], ...]


_KNOWN_CONFIG = {
    "Env", "User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck", "Shell",
    "OnBuild", "ArgsEscaped", "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin",
    "StdinOnce", "Image",
}  # fmt: skip
_KNOWN_IMAGE = {
    "architecture", "os", "variant", "author", "created", "config", "rootfs", "history", "container", "container_config",
    "docker_version", "id", "parent", "Size",
}  # fmt: skip


def parse_config(data: bytes) -> ParsedImage:
    """Read a config blob. Raises BuildError for anything that is not one; values of other types than the spec's too."""
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict):
            raise TypeError("not an object")
        config = raw.get("config") or {}
        rootfs = raw.get("rootfs") or {}
        check = config.get("Healthcheck")
        parsed = ImageConfig(
            platform=Platform(_text(raw, "os") or "linux", _text(raw, "architecture") or "amd64", _text(raw, "variant")),
            author=_text(raw, "author"),
            env=tuple(_pair(item) for item in _strings(config, "Env") or ()),
            user=_text(config, "User"),
            workdir=_text(config, "WorkingDir"),
            entrypoint=_strings(config, "Entrypoint"),
            cmd=_strings(config, "Cmd"),
            exposed=frozenset(config.get("ExposedPorts") or {}),
            volumes=frozenset(config.get("Volumes") or {}),
            labels=tuple(sorted((str(k), str(v)) for k, v in (config.get("Labels") or {}).items())),
            stop_signal=_text(config, "StopSignal"),
            healthcheck=_healthcheck(check) if check else None,
            shell=_strings(config, "Shell") or (),
            onbuild=_strings(config, "OnBuild") or (),
            extra=_canonical(
                {
                    "config": {k: v for k, v in config.items() if k not in _KNOWN_CONFIG},
                    "image": {k: v for k, v in raw.items() if k not in _KNOWN_IMAGE},
                }
            ).decode(),
        )
        history = tuple(dict(line) for line in raw.get("history") or ())
        return ParsedImage(parsed, tuple(Digest.parse(text) for text in _strings(rootfs, "diff_ids") or ()), history)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise BuildError(
            f"an image config is not valid: {error}", hint="the image is damaged or hostile: fetch it again"
        ) from error


def assemble(
    config: ImageConfig,
    diff_ids: Sequence[Digest],
    history: Sequence[Mapping[str, Any]],
    *,
    created: str,
) -> bytes:
    """The config blob, whose digest is the image id. `created` is RFC 3339; `history` holds the base's lines too.

    Keys are sorted and nothing that is empty is written, so that equal images are equal bytes.
    """
    extra = json.loads(config.extra)
    inner: dict[str, Any] = {
        "Env": [f"{k}={v}" for k, v in config.env],
        "User": config.user,
        "WorkingDir": config.workdir,
        "Entrypoint": list(config.entrypoint) if config.entrypoint is not None else None,
        "Cmd": list(config.cmd) if config.cmd is not None else None,
        "ExposedPorts": {port: {} for port in config.exposed},
        "Volumes": {path: {} for path in config.volumes},
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "OnBuild": list(config.onbuild),
        "Healthcheck": _healthcheck_json(config.healthcheck),
    }
    image: dict[str, Any] = {
        "architecture": config.platform.architecture,
        "os": config.platform.os,
        "variant": config.platform.variant,
        "author": config.author,
        "created": created,
    }
    return _canonical(
        {
            **extra.get("image", {}),
            **{k: v for k, v in image.items() if v},
            "config": {**extra.get("config", {}), **{k: v for k, v in inner.items() if v}},
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in diff_ids]},
            "history": list(history),
        }
    )


def manifest(config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str] | None = None) -> bytes:
    """The manifest blob of one image."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor_json(config),
        "layers": [descriptor_json(layer) for layer in layers],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return _canonical(body)


def descriptor_json(d: Descriptor) -> dict[str, Any]:
    """A descriptor as the OCI documents write it."""
    out: dict[str, Any] = {"mediaType": d.media_type, "digest": str(d.digest), "size": d.size}
    if d.annotations:
        out["annotations"] = dict(d.annotations)
    if d.platform:
        os, architecture, variant = d.platform
        out["platform"] = {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
    return out


def parse_descriptor(raw: object) -> Descriptor:
    """Read a descriptor from JSON. Raises BuildError."""
    if not isinstance(raw, dict):
        raise BuildError("a descriptor is not an object")
    size, platform = raw.get("size"), raw.get("platform")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BuildError("a descriptor has no size")
    annotations = raw.get("annotations")
    return Descriptor(
        str(raw.get("mediaType") or ""),
        Digest.parse(str(raw.get("digest"))),
        size,
        tuple(sorted((str(k), str(v)) for k, v in annotations.items())) if isinstance(annotations, dict) else (),
        (str(platform.get("os", "")), str(platform.get("architecture", "")), str(platform.get("variant", "")))
        if isinstance(platform, dict)
        else None,
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def _strings(raw: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} is not a list of strings")
    return tuple(value)


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


def _healthcheck(raw: Mapping[str, Any]) -> Healthcheck:
    return Healthcheck(
        tuple(str(item) for item in raw.get("Test") or ()),
        *(int(raw.get(key) or 0) for key in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")),
    )


def _healthcheck_json(check: Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    numbers = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {"Test": list(check.test), **{k: v for k, v in numbers.items() if v}}
