"""`Dockerfile.lock`: what the names in a Dockerfile stood for when it was written. Pure. docs/lock.md has the format.

TOML, sorted, a table for each name, so that two branches that pin different names can be merged.
"""

from __future__ import annotations

from builder.errors import BuildError, DockerfileError, Span
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.errors import SourceFile

VERSION = 1
_HEADER = "# What the Dockerfile's names stood for. Written by `pybuild lock`; `pybuild build --locked` builds from it.\n"
_HEX = "0123456789abcdef"


class ImagePin(NamedTuple):
    """What FROM, `COPY --from` or a mount names, for one platform."""

    name: str
    """`Reference.identity`, as `docker.io/library/debian:12`."""
    platform: str
    digest: str
    """Of the manifest; empty for an image that came from no registry."""
    id: str
    """Of the config: the image itself."""


class UrlPin(NamedTuple):
    """A file of ADD."""

    url: str
    """Without credentials (`builder.redact`)."""
    checksum: str
    """`sha256:` and 64 digits."""


class GitPin(NamedTuple):
    """A git repository of ADD."""

    url: str
    """As that of a `UrlPin`."""
    ref: str
    """As written; empty for the default branch."""
    commit: str
    name: str = ""
    """What the ref is, as `refs/heads/main`."""
    tag: str = ""
    """The id of an annotated tag."""


class Lock(NamedTuple):
    images: tuple[ImagePin, ...] = ()
    urls: tuple[UrlPin, ...] = ()
    gits: tuple[GitPin, ...] = ()


Pin = ImagePin | UrlPin | GitPin

_REQUIRED: dict[str, tuple[str, ...]] = {
    "image": ("name", "platform", "id"),
    "url": ("url", "checksum"),
    "git": ("url", "ref", "commit"),
}
_OPTIONAL: dict[str, tuple[str, ...]] = {"image": ("digest",), "url": (), "git": ("name", "tag")}


def render(lock: Lock) -> str:
    """The file's text: the same for the same pins, in whatever order they come."""
    parts = [_HEADER, f"version = {VERSION}\n"]
    rows: list[tuple[str, tuple[tuple[str, str], ...]]] = []
    for image in sorted(lock.images):
        digest = (("digest", image.digest),) if image.digest else ()
        rows.append(("image", (("name", image.name), ("platform", image.platform), *digest, ("id", image.id))))
    rows += [("url", (("url", url.url), ("checksum", url.checksum))) for url in sorted(lock.urls)]
    for git in sorted(lock.gits):
        more = tuple((key, value) for key, value in (("name", git.name), ("tag", git.tag)) if value)
        rows.append(("git", (("url", git.url), ("ref", git.ref), ("commit", git.commit), *more)))
    for kind, values in rows:
        parts.append(f"\n[[{kind}]]\n" + "".join(f"{key} = {_quoted(value)}\n" for key, value in values))
    return "".join(parts)


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    out = ""
    for char in text:
        if char in '"\\':
            out += f"\\{char}"
        elif char < " " or char == "\x7f":
            out += f"\\u{ord(char):04x}"
        else:
            out += char
    return f'"{out}"'


def parse(source: SourceFile) -> Lock:
    """Raises DockerfileError, told where, for what is no such file, or one of another version."""
    import tomllib  # for those who have a lock

    try:
        document = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise DockerfileError(
            f"this is no TOML: {str(error).partition(' (at ')[0].lower()}",
            _span_of(str(error), source),
            hint="merge conflicts are solved by taking both sides; `pybuild lock` writes the file anew",
            source=source,
        ) from None
    except ValueError:
        # Of int(), which takes no more than sys.get_int_max_str_digits(): tomllib lets it through.
        raise DockerfileError(
            "this is no lock file: a number in it has too many digits",
            Span(1, 1, 1, 1),
            hint="`pybuild lock` writes the file anew",
            source=source,
        ) from None
    except RecursionError:
        raise DockerfileError(
            "this is no lock file: it is nested too deeply",
            Span(1, 1, 1, 1),
            hint="remove it, and run `pybuild lock`",
            source=source,
        ) from None
    version = document.pop("version", None)
    if type(version) is not int or version < 1:
        raise _unusable(
            "it does not say which version it is of",
            "version",
            source,
            "write `version = 1` on its first line; or remove it, and run `pybuild lock`",
        )
    if version != VERSION:
        raise _unusable(
            f"it is of version {_number(version)}, and this pybuild knows version {VERSION}",
            "version",
            source,
            "use the pybuild that wrote it, or write it anew: remove it and run `pybuild lock`",
        )
    pins: list[Pin] = []
    for kind, tables in document.items():
        if kind not in _REQUIRED:
            raise _unusable(f"'{kind}' is unknown", kind, source, "a lock has image, url and git")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise _unusable(f"'{kind}' is no list of tables", kind, source, f"write [[{kind}]] before each")
        for number, table in enumerate(tables):
            try:
                pins.append(_pin(kind, table))
            except BuildError as error:
                span = _table_span(kind, number, source)
                raise DockerfileError(error.message, span, hint=error.hint, source=source) from None
    lock = _lock(pins)
    for all_ in (lock.images, lock.urls, lock.gits):
        _refuse_twice(all_, source)
    return lock


def _number(number: int) -> str:
    """Python writes no number of thousands of digits in decimal."""
    return str(number) if number < 1 << 64 else f"{hex(number)[:18]}..."


def _lock(pins: Iterable[Pin]) -> Lock:
    images, urls, gits = [], [], []
    for pin in pins:
        match pin:
            case ImagePin():
                images.append(pin)
            case UrlPin():
                urls.append(pin)
            case GitPin():
                gits.append(pin)
    return Lock(tuple(sorted(images)), tuple(sorted(urls)), tuple(sorted(gits)))


def merged(pins: Iterable[Pin]) -> Lock:
    """The lock of these pins, each once."""
    return _lock(dict.fromkeys(pins))


def label(pin: Pin) -> str:
    """What a person calls it: the name that is pinned, and for what."""
    match pin:
        case ImagePin(name=name, platform=platform):
            return f"{familiar(name)} {platform}"
        case UrlPin(url=url):
            return url
        case GitPin(url=url, ref=ref):
            return f"{url}#{ref}" if ref else url


def value(pin: Pin) -> str:
    """What it is pinned to."""
    match pin:
        case ImagePin(digest=digest, id=id):
            return digest or id
        case UrlPin(checksum=checksum):
            return checksum
        case GitPin(commit=commit):
            return commit


def familiar(name: str) -> str:
    """An image's name as a person writes it."""
    try:
        return Reference.parse(name).familiar
    except BuildError:
        return name


def _pin(kind: str, table: Mapping[str, object]) -> Pin:
    known = (*_REQUIRED[kind], *_OPTIONAL[kind])
    for key, found in table.items():
        if key not in known:
            raise BuildError(f"'{key}' is no key of {kind}", hint=f"the keys are {', '.join(known)}")
        if not isinstance(found, str):
            raise BuildError(f"'{key}' of {kind} is no string", hint="write it in quotes")
    for key in _REQUIRED[kind]:
        if key not in table:
            raise BuildError(f"'{key}' of {kind} is missing", hint="`pybuild lock` writes the file anew")
    values = {key: str(found) for key, found in table.items()}
    match kind:
        case "image":
            _check_image(values)
            return ImagePin(values["name"], values["platform"], values.get("digest", ""), values["id"])
        case "url":
            _check_digest("checksum", values["checksum"])
            return UrlPin(values["url"], values["checksum"])
        case _:
            for key in ("commit", "tag"):
                commit = values.get(key, "")
                if (commit or key == "commit") and (len(commit) not in (40, 64) or commit.strip(_HEX)):
                    raise BuildError(f"'{commit[:80]}' is no {key}", hint="all 40 digits of it, in lower case")
            return GitPin(values["url"], values["ref"], values["commit"], values.get("name", ""), values.get("tag", ""))


def _check_image(values: Mapping[str, str]) -> None:
    if Reference.parse(values["name"]).identity != values["name"]:
        identity = Reference.parse(values["name"]).identity
        raise BuildError(f"the name '{values['name']}' is not written in full", hint=f"write '{identity}'")
    if str(Platform.parse(values["platform"])) != values["platform"]:
        raise BuildError(f"'{values['platform']}' is not a platform's name", hint=f"write {Platform.parse(values['platform'])}")
    for key in ("digest", "id"):
        if values.get(key):
            _check_digest(key, values[key])
    if not values["id"]:
        raise BuildError("'id' of image is empty", hint="`pybuild lock` writes the file anew")


def _check_digest(key: str, text: str) -> None:
    try:
        Digest.parse(text)
    except BuildError as error:
        raise BuildError(f"'{key}' is wrong: {error.message}", hint=error.hint) from None


def _refuse_twice(pins: tuple[Pin, ...], source: SourceFile) -> None:
    before: Pin | None = None
    for pin in pins:
        if before is not None and label(pin) == label(before):
            raise DockerfileError(
                f"'{label(pin)}' is pinned twice, to {value(before)} and to {value(pin)}",
                _find(value(pin), source),
                hint="remove one of them, or run `pybuild lock --upgrade`",
                source=source,
            )
        before = pin


def _unusable(message: str, key: str, source: SourceFile, hint: str) -> DockerfileError:
    return DockerfileError(f"this is no lock file that can be used: {message}", _find(key, source), hint=hint, source=source)


def _find(text: str, source: SourceFile) -> Span:
    """Where the text stands first; the first line where it does not."""
    for number, line in enumerate(source.text.split("\n"), 1):
        column = line.find(text)
        if column >= 0:
            return Span(number, column + 1, number, column + 1 + len(text))
    return Span(1, 1, 1, 1)


def _table_span(kind: str, number: int, source: SourceFile) -> Span:
    """The line of the table's header."""
    header = f"[[{kind}]]"
    for at, line in enumerate(source.text.split("\n"), 1):
        if line.strip().partition("#")[0].replace(" ", "").replace("\t", "") == header:
            if number == 0:
                return Span(at, 1, at, 1 + len(line.rstrip()))
            number -= 1
    return _find(kind, source)


def _span_of(message: str, source: SourceFile) -> Span:
    """tomllib has the place in its message alone: `... (at line 3, column 5)`, or `(at end of document)`."""
    numbers = [
        int(word) for word in message.rpartition("(at ")[2].replace(",", " ").replace(")", " ").split() if word.isdigit()
    ]
    lines = source.text.split("\n")
    line, column = numbers[:2] if len(numbers) >= 2 else (len(lines), len(lines[-1]) + 1)
    return Span(line, column, line, column)
