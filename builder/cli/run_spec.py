"""What `pybuild run` changes of an image's own command, as the command line says it, with Docker's words."""

from __future__ import annotations

import os

from builder.cli.context_spec import parse_hosts
from builder.engine.mountpoints import Attachment
from builder.errors import UsageError
from builder.run import Changes
from builder.sandbox.spec import BindMount, TmpfsMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.cli.flags import Parsed

_FILE_LIMIT = 4 << 20
_FORM = "it looks like -v HOST:PATH, or -v HOST:PATH:ro"
_MEANINGLESS = ("rw", "z", "Z", "delegated", "cached", "consistent")
"""Options of a volume that change nothing here: labels of SELinux, and what Docker's desktop makes of them."""


def parse_changes(parsed: Parsed, environ: Mapping[str, str]) -> Changes:
    """Raises UsageError."""
    entrypoint = parsed.text("entrypoint")
    workdir = parsed.text("workdir")
    if workdir is not None and not workdir.startswith("/"):
        raise UsageError(f"'{workdir}' of --workdir is no absolute path", hint="it is a folder of the image, as /srv/app")
    env: dict[str, str] = {}
    for path in parsed.texts("env-file"):
        env |= _env_file(path, environ)
    for name, value in parsed.pairs("env").items():
        # As with Docker, a name alone brings the value from here, and is nothing where there is none.
        found = environ.get(name) if value is None else value
        if found is not None:
            env[name] = found
    return Changes(
        env=tuple(env.items()),
        user=parsed.text("user"),
        workdir=workdir,
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        hostname=_hostname(parsed.text("hostname") or ""),
        hosts=parse_hosts(parsed.texts("add-host")),
        mounts=(*(_volume(text) for text in parsed.texts("volume")), *(_tmpfs(text) for text in parsed.texts("tmpfs"))),
        readonly=parsed.flag("read-only"),
    )


def _hostname(text: str) -> str:
    """As hostname(7) has it: it is a line of /etc/hosts, too."""
    labels = text.split(".")
    if text and (len(text) > 64 or not all(map(_is_label, labels))):
        raise UsageError(f"'{text[:80]}' of --hostname is no host name", hint="letters, digits and '-', at most 64")
    return text


def _is_label(text: str) -> bool:
    return text.isascii() and text.replace("-", "a").isalnum() and not text.startswith("-")


def _env_file(path: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Docker's format: NAME=VALUE a line, taken as it is, quotes too; NAME alone; comments and empty lines."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"'{path}' of --env-file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"'{path}' of --env-file is no text", hint="it has NAME=VALUE a line, in UTF-8") from None
    if len(text) > _FILE_LIMIT:
        raise UsageError(f"'{path}' of --env-file is too large", hint="it has NAME=VALUE a line")
    return dict(_assignments(path, text, environ))


def _assignments(path: str, text: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or any(char.isspace() for char in name):
            raise UsageError(f"{path}:{number}: '{name}' is no name of a variable", hint="a line looks like NAME=VALUE")
        if equals:
            yield name, value
        elif name in environ:
            yield name, environ[name]


def _volume(text: str) -> Attachment:
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not (colon and source and target):
        raise UsageError(f"'{text}' is not a value of '--volume'", hint=f"{_FORM}; volumes without a folder are not built")
    if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
        raise UsageError(f"'{source}' of --volume is the name of a volume", hint=f"write ./{source} for a folder: {_FORM}")
    readonly = False
    for option in options.split(",") if options else ():
        if option in ("ro", "readonly"):
            readonly = True
        elif option not in _MEANINGLESS:
            raise UsageError(f"the option '{option}' of '--volume {text}' is not built", hint="the options are ro and rw")
    path = os.path.abspath(source)
    if not os.path.exists(path):
        raise UsageError(f"'{source}' of --volume is not there", hint="make it first: pybuild makes no folders of the host")
    return Attachment(BindMount(os.path.realpath(path), _target(target, "volume"), readonly), os.path.isdir(path))


def _tmpfs(text: str) -> Attachment:
    target, _, options = text.partition(":")
    size, mode, readonly = 0, 0o1777, False
    for option in options.split(",") if options else ():
        key, _, value = option.partition("=")
        if key == "size" and (found := _size(value)) is not None:
            size = found
        elif key == "mode" and value and not value.strip("01234567") and len(value) <= 5:
            mode = int(value, 8)
        elif option == "ro":
            readonly = True
        elif option not in ("rw", "exec", "nosuid", "nodev"):
            raise UsageError(
                f"the option '{option}' of '--tmpfs {text}' is not built", hint="as --tmpfs /tmp:size=64m,mode=1777"
            )
    return Attachment(TmpfsMount(_target(target, "tmpfs"), size, mode, readonly), is_folder=True)


def _size(text: str) -> int | None:
    unit = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower(), 0)
    digits = text[:-1] if unit else text
    return int(digits) * (unit or 1) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def _target(path: str, flag: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"'{path}' of --{flag} is no absolute path", hint="the second path is one of the container, as /data")
    return os.path.normpath(path).replace("//", "/")
