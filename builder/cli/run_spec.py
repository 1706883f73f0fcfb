"""What `pybuild run` changes of an image's own command, as the command line says it, with Docker's words."""

from __future__ import annotations

import os

from builder.cli.context_spec import parse_hosts
from builder.engine.mountpoints import Attachment
from builder.errors import UsageError, did_you_mean
from builder.run import Changes
from builder.sandbox.capabilities import DOCKER_CAPABILITIES, NAMES
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
    options = _security_options(parsed.texts("security-opt"))
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
        mounts=(
            *(_volume(text) for text in parsed.texts("volume")),
            *(_tmpfs(text) for text in parsed.texts("tmpfs")),
            *(_mount(text) for text in parsed.texts("mount")),
        ),
        readonly=parsed.flag("read-only"),
        groups=parsed.texts("group-add"),
        capabilities=_capabilities(parsed.texts("cap-add"), parsed.texts("cap-drop")),
        no_new_privileges="no-new-privileges" in options,
        without=frozenset(weaker for option in options for weaker in _WEAKER.get(option, ())),
    )


def _capabilities(added: tuple[str, ...], dropped: tuple[str, ...]) -> tuple[str, ...] | None:
    """Docker's, more or less; None where nothing is said. Who says ALL on one side names exceptions on the other."""
    if not added and not dropped:
        return None
    more, less = {_capability(name) for name in added}, {_capability(name) for name in dropped}
    have = set(NAMES) if "ALL" in more else set() if "ALL" in less else set(DOCKER_CAPABILITIES)
    if "ALL" not in less:
        have -= less
    have |= more - {"ALL"} if "ALL" in less else more - {"ALL"} - less
    return tuple(name for name in NAMES if name in have)


def _capability(text: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    full = name if name.startswith("CAP_") else f"CAP_{name}"
    if full not in NAMES:
        near = did_you_mean(full, NAMES) or "see capabilities(7), as NET_ADMIN; or ALL"
        raise UsageError(f"there is no capability '{text}'", hint=near)
    return full


_WEAKER = {"seccomp=unconfined": ("seccomp",), "systempaths=unconfined": ("masked-paths", "readonly-proc", "readonly-sys")}


def _security_options(texts: tuple[str, ...]) -> frozenset[str]:
    found = set()
    for text in texts:
        # Docker's older form has a colon.
        option = text.replace(":", "=", 1)
        if option in ("no-new-privileges", "no-new-privileges=true"):
            found.add("no-new-privileges")
        elif option in _WEAKER:
            found.add(option)
        elif option != "no-new-privileges=false" and not option.startswith(("label=", "apparmor=")):
            # SELinux and AppArmor are not used here at all.
            raise UsageError(f"'{text}' of --security-opt is not built", hint=f"no-new-privileges, {' or '.join(_WEAKER)}")
    return frozenset(found)


def _mount(text: str) -> Attachment:
    """Docker's --mount, in the form of a volume or a tmpfs."""
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    given = {_MOUNT_NAMES.get(name, name): value for name, value in fields.items()}
    kind, source, target = (given.pop(name, "") for name in ("type", "source", "target"))
    readonly = given.pop("readonly", "false") in ("", "1", "true")
    if kind not in ("bind", "tmpfs"):
        raise UsageError(
            f"'{kind or 'volume'}' of '--mount {text}' is not built",
            hint="the types are bind, with a folder of the host, and tmpfs",
        )
    if not target or (kind == "bind") != bool(source):
        raise UsageError(f"'--mount {text}' lacks something, or has a source too many", hint=_MOUNT_FORM)
    if kind == "bind":
        _refuse_other(given, text)
        return _bind(source, target, "mount", readonly=readonly)
    options = [f"{name.removeprefix('tmpfs-')}={given.pop(name)}" for name in ("tmpfs-size", "tmpfs-mode") if name in given]
    _refuse_other(given, text)
    return _tmpfs(f"{target}:{','.join([*options, *(['ro'] if readonly else [])])}")


_MOUNT_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_MOUNT_FORM = "it looks like type=bind,source=DIR,target=PATH,readonly or type=tmpfs,target=PATH,tmpfs-size=64m"


def _refuse_other(given: dict[str, str], text: str) -> None:
    for name in given:
        raise UsageError(f"the option '{name}' of '--mount {text}' is not built", hint=_MOUNT_FORM)


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
    return _bind(source, target, "volume", readonly=readonly)


def _bind(source: str, target: str, flag: str, *, readonly: bool) -> Attachment:
    path = os.path.abspath(source)
    if not os.path.exists(path):
        raise UsageError(f"'{source}' of --{flag} is not there", hint="make it first: pybuild makes no folders of the host")
    return Attachment(BindMount(os.path.realpath(path), _target(target, flag), readonly), os.path.isdir(path))


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
