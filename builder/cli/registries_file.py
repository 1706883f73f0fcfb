"""`registries.toml`: what the user says of registries. The keys are those of BuildKit's `buildkitd.toml` (docs.docker.com,
"Configure BuildKit"); docs/registries.md describes them."""

from __future__ import annotations

import os

from builder.errors import SourceFile, Span, UsageError, did_you_mean
from builder.oci.reference import Reference
from builder.registry.access import Host
from builder.registry.hosts import hub_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Path = tuple[str | int, ...]
    """Keys and places in arrays, as they lead to a value."""

_LIMIT = 1 << 20
_KEYS = ("mirrors", "http", "insecure", "ca", "keypair")
_KEYPAIR = ("cert", "key")


def read_registries(paths: tuple[str, ...]) -> dict[str, Host]:
    """What the files say that are there, by `host[:port]`; what a later one says of a registry replaces what an earlier one
    does. Raises UsageError, with the line."""
    found: dict[str, Host] = {}
    for path in paths:
        found |= _read(path)
    return found


def _read(path: str) -> dict[str, Host]:
    import tomllib

    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(data) > _LIMIT:
        raise UsageError(f"'{path}' is larger than {_LIMIT >> 20} MiB", hint="is it the file that you mean?")
    try:
        text = data.decode()
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        text = data.decode("utf-8", "replace")
        said = str(error) or "it is nested too deeply"
        at = _line_of(text, ()) if isinstance(error, tomllib.TOMLDecodeError) else 1
        raise _Reader(path, text).wrong(f"this is no TOML: {said[:1].lower()}{said[1:]}", line=at) from error
    return _Reader(path, text).hosts(raw)


class _Reader:
    """Takes a parsed file apart; its text says in which line a value stands."""

    def __init__(self, path: str, text: str) -> None:
        self._source = SourceFile(path, text)
        self._folder = os.path.dirname(os.path.abspath(path))

    def wrong(self, message: str, *where: str | int, hint: str | None = None, line: int = 0) -> UsageError:
        line = line or _line_of(self._source.text, where)
        span = Span(line, 1, line, max(2, len(self._source.line(line)) + 1))
        return UsageError(message, span, hint=hint, source=self._source)

    def hosts(self, raw: dict[str, Any]) -> dict[str, Host]:
        self._only(raw, ("registry",), ())
        tables = raw.get("registry", {})
        if not isinstance(tables, dict):
            raise self.wrong("'registry' is no table", "registry", hint='write [registry."registry.example"]')
        return dict(self._host(name, table) for name, table in tables.items())

    def _host(self, name: str, table: object) -> tuple[str, Host]:
        where = ("registry", name)
        if not _is_registry(name):
            hint = "it looks like registry.example or registry.example:5000, without scheme and path"
            raise self.wrong(f"'{name}' is not a registry's name", *where, hint=hint)
        if not isinstance(table, dict):
            raise self.wrong(f"'{name}' is no table", *where, hint=f'write [registry."{name}"]')
        self._only(table, _KEYS, where)
        mirrors = self._texts(table, "mirrors", where)
        for mirror in mirrors:
            server, _, path = mirror.partition("/")
            if not _is_registry(server) or (path and not _is_path(path)):
                hint = (
                    "it looks like mirror.example:5000 or mirror.example/path, without scheme; http = true is said of it alone"
                )
                raise self.wrong(f"'{mirror}' is not a mirror's address", *where, "mirrors", hint=hint)
        host = Host(
            mirrors,
            self._flag(table, "http", where),
            self._flag(table, "insecure", where),
            tuple(map(self._file, self._texts(table, "ca", where))),
            self._keypairs(table, where),
        )
        if host.http and (host.insecure or host.ca or host.keypairs):
            other = next(key for key in ("insecure", "ca", "keypair") if key in table)
            raise self.wrong(f"'http' and '{other}' exclude each other", *where, other, hint="plain HTTP has no certificates")
        return hub_name(name), host

    def _keypairs(self, table: dict[str, Any], where: Path) -> tuple[tuple[str, str], ...]:
        raw = table.get("keypair", [])
        pairs = raw if isinstance(raw, list) else [raw]
        found = []
        for number, pair in enumerate(pairs):
            at: Path = (*where, "keypair", number) if isinstance(raw, list) else (*where, "keypair")
            if not isinstance(pair, dict):
                hint = f'[[registry."{where[1]}".keypair]], and below it cert = "FILE" and key = "FILE"'
                raise self.wrong("'keypair' is no table", *where, "keypair", hint=hint)
            self._only(pair, _KEYPAIR, at)
            for key in _KEYPAIR:
                if not isinstance(pair.get(key), str) or not pair[key]:
                    raise self.wrong(f"a keypair needs '{key}', the name of a file", *at, *([key] if key in pair else []))
            found.append((self._file(pair["cert"]), self._file(pair["key"])))
        return tuple(found)

    def _only(self, table: dict[str, Any], known: tuple[str, ...], where: Path) -> None:
        for key in table:
            if key not in known:
                hint = did_you_mean(key, known) or f"there are {', '.join(known)}"
                raise self.wrong(f"unknown key '{key}'", *where, key, hint=hint)

    def _flag(self, table: dict[str, Any], key: str, where: Path) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(f"'{key}' is neither true nor false", *where, key)
        return value

    def _texts(self, table: dict[str, Any], key: str, where: Path) -> tuple[str, ...]:
        value = table.get(key, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) and one for one in values):
            raise self.wrong(f"'{key}' is no list of texts", *where, key, hint=f'{key} = ["...", "..."]')
        return tuple(values)

    def _file(self, name: str) -> str:
        """Relative names are of the folder that the settings lie in."""
        return os.path.join(self._folder, name)


def _is_registry(name: str) -> bool:
    if hub_name(name) != name:
        return True
    try:
        # Without a dot or a port it would be a piece of a path.
        return Reference.parse(f"{name}/a").domain == name
    except UsageError:
        return False


def _is_path(path: str) -> bool:
    try:
        return Reference.parse(f"registry.example/{path}").name == f"registry.example/{path}"
    except UsageError:
        return False


def _line_of(text: str, where: Path) -> int:
    """The line in which the value begins. TOML's parser does not say, so it is asked for ever more of the text: where the value
    is there for the first time, its first line comes after the last end of a line up to which all was complete. Without
    `where` the line that is wrong."""
    import tomllib

    lines = text.split("\n")
    begun = 0
    for count in range(1, len(lines) + 1):
        try:
            raw = tomllib.loads("\n".join(lines[:count]))
        except (ValueError, RecursionError):
            continue
        if where and _leads(raw, where):
            break
        begun = count
    return min(begun + 1, len(lines))


def _leads(raw: object, where: Path) -> bool:
    for step in where:
        match raw, step:
            case dict(), str() if step in raw:
                raw = raw[step]
            case list(), int() if step < len(raw):
                raw = raw[step]
            case _:
                return False
    return True
