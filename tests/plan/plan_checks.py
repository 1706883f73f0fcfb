"""The checks of a Dockerfile as a build runs them, without a disk; and the golden cases in tests/golden/checks.

A case is a text file: lines `key: value`, then `--- Dockerfile` and it, then `--- warnings` and a line for each:
`Rule LINE:COLUMN-LINE:COLUMN message`, the end exclusive. Keys: `source` (whose word it is), `build-arg`, `dockerignore` (a
pattern), `base` (a name and any of OS/ARCH, `SHELL`, `ENV NAME=VALUE`), `error` (how the message begins that ends the build).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.checks.warning import Warn
from builder.dockerfile.ignore import Matcher
from builder.dockerfile.syntax import parse
from builder.errors import DockerfileError, SourceFile, Span
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from builder.plan import checking
from builder.plan.lower import lower
from builder.plan.stages import platform_args
from builder.plan.steps import BaseImage
from builder.values import NamedTuple
from tests.plan.plan_lowered import AMD64, SETTINGS, stages_of_tree

FOLDER = Path(__file__).parents[1] / "golden" / "checks"


class Case(NamedTuple):
    source: str
    dockerfile: str
    warnings: tuple[Warn, ...]
    build_args: Mapping[str, str]
    ignore: Matcher
    bases: Mapping[str, ImageConfig]
    error: str


def read(name: str) -> Case:
    with open(FOLDER / f"{name}.case", encoding="utf-8", newline="") as file:
        head, rest = file.read().split("--- Dockerfile\n")
    dockerfile, told = rest.split("--- warnings\n")
    fields: dict[str, list[str]] = {}
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        fields.setdefault(key, []).append(value)
    args = (pair.partition("=") for pair in fields.pop("build-arg", []))
    case = Case(
        fields.pop("source")[0],
        dockerfile,
        tuple(map(_warning, told.splitlines())),
        {key: value for key, _, value in args},
        Matcher.parse("\n".join(fields.pop("dockerignore", [])), ".dockerignore"),
        dict(_base(text) for text in fields.pop("base", [])),
        fields.pop("error", [""])[0],
    )
    assert not fields, fields
    return case


def _warning(line: str) -> Warn:
    code, place, message = line.split(" ", 2)
    begin, end = (tuple(map(int, at.split(":"))) for at in place.split("-"))
    return Warn(code, message, Span(*begin, *end))


def _base(text: str) -> tuple[str, ImageConfig]:
    name, _, rest = text.partition(" ")
    config = ImageConfig(AMD64)
    if rest == "SHELL":
        config = config._replace(shell=("cmd", "/S"))
    elif rest.startswith("ENV "):
        key, _, value = rest[4:].partition("=")
        config = config.setenv(key, value)
    else:
        config = config._replace(platform=Platform.parse(rest))
    return name, config


def checked(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str] | None = None,
    leaves_nothing_of: Callable[[str], bool] = lambda path: False,
    bases: Mapping[str, ImageConfig] | None = None,
) -> tuple[tuple[Warn, ...], DockerfileError | None]:
    """The warnings of a build, and the error that it ends with. Unknown bases are images without any config."""
    args = build_args or {}
    options = checking.options(dockerfile, args)
    predefined = platform_args(AMD64, AMD64)
    found = checking.early(dockerfile, options, target="", build_args=args, predefined=predefined)
    failure = None
    try:
        stages = stages_of_tree(dockerfile, build_args=args)
        images = {
            external.key: BaseImage(external.name, (bases or {}).get(external.name, ImageConfig(AMD64)))
            for external in stages.externals()
        }
        settings = SETTINGS._replace(build_args=args)
        plan = lower(stages, images, settings, dockerfile.directives.escape, warnings=found)
        found += checking.late(plan, leaves_nothing_of)
    except DockerfileError as error:
        failure = error
    warnings = checking.told(found, dockerfile, options)
    try:
        checking.enforce(warnings, options)
    except DockerfileError as error:
        failure = failure or error
    return tuple(warnings), failure


def parsed(text: str) -> Dockerfile:
    return parse(SourceFile("Dockerfile", text))
