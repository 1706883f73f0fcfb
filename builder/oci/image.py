"""Image config and manifest (OCI image-spec config.md and manifest.md, with Docker's extension fields). Pure.

Fields that we do not know are kept: a config is the raw object with typed readers and writers for the fields in use.
"""

from __future__ import annotations

from builder import canonical
from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
CONFIG_TYPES = (CONFIG_TYPE, "application/vnd.docker.container.image.v1+json")
"""Of images; other artifacts have others."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REQUEST_ANNOTATION = "dev.pybuild.request"
"""Of an index's descriptor: what the image says of its build (`builder.plan.recorded`)."""
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
    extra: str = '{"config":{},"image":{}}'
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
    "OnBuild", "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce",
    "Image",
}  # fmt: skip
"""What is read, and what Docker's older builders say of the container that made the image, which is of no use in a child."""

_KNOWN_IMAGE = {
    "architecture", "os", "variant", "author", "created", "config", "rootfs", "history", "container", "container_config",
    "docker_version", "id", "parent", "Size", "moby.buildkit.cache.v0", "moby.buildkit.buildinfo.v0",
    "moby.buildkit.buildinfo.v1",
}  # fmt: skip
"""The same, and BuildKit's notes on the layers of that image."""

_HISTORY = {"created": str, "created_by": str, "author": str, "comment": str, "empty_layer": bool}
_MAX_DEPTH = 32
_MAX_INT = 2**63


def parse_config(data: bytes) -> ParsedImage:
    """Read a config blob. Raises BuildError for anything that is not one; values of other types than the spec's too."""
    try:
        raw = canonical.loads(data.decode())
        if not isinstance(raw, dict):
            raise TypeError("it is not an object")
        _check_plain(raw, 0)
        config, rootfs = _object(raw, "config"), _object(raw, "rootfs")
        parsed = ImageConfig(
            platform=Platform(_text(raw, "os") or "linux", _text(raw, "architecture") or "amd64", _text(raw, "variant")),
            author=_text(raw, "author"),
            env=tuple(_pair(item) for item in _strings(config, "Env") or ()),
            user=_text(config, "User"),
            workdir=_text(config, "WorkingDir"),
            entrypoint=_strings(config, "Entrypoint"),
            cmd=_strings(config, "Cmd"),
            exposed=frozenset(_object(config, "ExposedPorts")),
            volumes=frozenset(_object(config, "Volumes")),
            labels=_labels(config),
            stop_signal=_text(config, "StopSignal"),
            healthcheck=_healthcheck(config),
            shell=_strings(config, "Shell") or (),
            onbuild=_strings(config, "OnBuild") or (),
            extra=to_json(
                {
                    "config": {k: v for k, v in config.items() if k not in _KNOWN_CONFIG},
                    "image": {k: v for k, v in raw.items() if k not in _KNOWN_IMAGE},
                }
            ).decode(),
        )
        diff_ids = tuple(Digest.parse(text) for text in _strings(rootfs, "diff_ids") or ())
        return ParsedImage(parsed, diff_ids, _history(raw))
    except BuildError as error:
        raise BuildError(f"an image config is not valid: {error.message}", hint=_DAMAGED) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BuildError(f"an image config is not valid: {error}", hint=_DAMAGED) from error


_DAMAGED = "the image is damaged or hostile: fetch it again"


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
    extra = canonical.loads(config.extra)
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
    return to_json(
        {
            **extra["image"],
            **{k: v for k, v in image.items() if v},
            "config": {**extra["config"], **{k: v for k, v in inner.items() if v}},
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
    return to_json(body)


def index(manifests: Sequence[Descriptor], annotations: Mapping[str, str] | None = None) -> bytes:
    """The index of several images."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [descriptor_json(one) for one in manifests],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return to_json(body)


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
    try:
        size, annotations, platform = raw.get("size"), _object(raw, "annotations"), raw.get("platform")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise TypeError("it has no size")
        if not all(isinstance(value, str) for value in annotations.values()):
            raise TypeError("an annotation is not a string")
        where = _object(raw, "platform")
        return Descriptor(
            _text(raw, "mediaType"),
            Digest.parse(_text(raw, "digest")),
            size,
            tuple(sorted(annotations.items())),
            (_text(where, "os"), _text(where, "architecture"), _text(where, "variant")) if platform is not None else None,
        )
    except TypeError as error:
        raise BuildError(f"a descriptor is not valid: {error}", hint=_DAMAGED) from error


def complete_history(history: Sequence[Mapping[str, Any]], layers: int) -> tuple[Mapping[str, Any], ...]:
    """A history with one line for each of `layers` layers, which tools count on: some images have fewer, or none.

    Missing lines follow the others; too many count as `empty_layer` from the oldest on, as BuildKit has it.
    """
    lines = [dict(line) for line in history]
    full = [line for line in lines if not line.get("empty_layer")]
    for line in full[: max(0, len(full) - layers)]:
        line["empty_layer"] = True
    return (*lines, *({"comment": "a layer without history"} for _ in range(layers - len(full))))


def to_json(value: object) -> bytes:
    """JSON is UTF-8 (RFC 8259, section 8.1), but an argument of the command line may hold any bytes, which have become
    surrogates: each is U+FFFD here, as Go's encoder has it. Otherwise nobody could read the image."""
    text = canonical.dumps(value, ascii_only=False)
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.encode()


def _check_plain(value: object, depth: int) -> None:
    """Raises ValueError for what could not be written again or handed to a program: NUL characters, halves of surrogate pairs,
    NaN, and objects in objects without end."""
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    match value:
        case str():
            if "\0" in value:
                raise ValueError("there is a NUL character in it")
            value.encode()
        case float():
            # Neither NaN nor infinite: `math` is 0.5 ms of a cached build.
            if value - value != 0:
                raise ValueError(f"{value} is no number")
        case list():
            for item in value:
                _check_plain(item, depth + 1)
        case dict():
            for key, item in value.items():
                _check_plain(key, depth + 1)
                _check_plain(item, depth + 1)


def _object(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{key} is not an object")
    return value


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
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


def _integer(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not -_MAX_INT <= value < _MAX_INT:
        raise TypeError(f"{key} is not an integer of 64 bits")
    return value


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


def _labels(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    labels = _object(config, "Labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise TypeError("a label is not a string")
    return tuple(sorted(labels.items()))


def _history(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The lines as they are. A null is Go's zero value, and left out."""
    lines = raw.get("history")
    if lines is None:
        return ()
    if not isinstance(lines, list):
        raise TypeError("history is not a list")
    out = []
    for line in lines:
        if not isinstance(line, dict):
            raise TypeError("a line of the history is not an object")
        for key, kind in _HISTORY.items():
            if not isinstance(line.get(key), kind | None):
                raise TypeError(f"{key} in the history is not a {'text' if kind is str else 'truth value'}")
        out.append({key: value for key, value in line.items() if value is not None})
    return tuple(out)


def _healthcheck(config: Mapping[str, Any]) -> Healthcheck | None:
    raw = _object(config, "Healthcheck")
    if not raw:
        return None
    return Healthcheck(
        _strings(raw, "Test") or (),
        _integer(raw, "Interval"),
        _integer(raw, "Timeout"),
        _integer(raw, "StartPeriod"),
        _integer(raw, "StartInterval"),
        _integer(raw, "Retries"),
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
