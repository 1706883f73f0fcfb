"""From the text of a Dockerfile to stages and plans, with bases that need no store."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.syntax import parse
from builder.errors import SourceFile
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from builder.plan.lower import lower
from builder.plan.stages import Stages, platform_args, reachable
from builder.plan.state import Settings
from builder.plan.steps import BaseImage, Plan

AMD64 = Platform("linux", "amd64")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SETTINGS = Settings({}, AMD64, 315619200)


def stages_of(
    text: str,
    target: str = "",
    *,
    build_args: Mapping[str, str] | None = None,
    contexts: Collection[str] = (),
    directories: Collection[str] = (),
    onbuild: Mapping[str, tuple[str, ...]] | None = None,
) -> Stages:
    return _stages(parse(SourceFile("Dockerfile", text)), target, build_args or {}, contexts, directories, onbuild)


def stages_of_tree(dockerfile: Dockerfile, *, build_args: Mapping[str, str]) -> Stages:
    return _stages(dockerfile, "", build_args, (), ())


def _stages(
    dockerfile: Dockerfile,
    target: str,
    build_args: Mapping[str, str],
    contexts: Collection[str],
    directories: Collection[str],
    onbuild: Mapping[str, tuple[str, ...]] | None = None,
) -> Stages:
    return reachable(
        dockerfile,
        target=target,
        build_args=build_args,
        contexts=(*contexts, *directories),
        directories=directories,
        predefined=platform_args(AMD64, AMD64),
        onbuild=onbuild,
    )


def plan_of(
    text: str,
    target: str = "",
    *,
    bases: Mapping[str, ImageConfig] | None = None,
    settings: Settings = SETTINGS,
    contexts: Collection[str] = (),
) -> Plan:
    """The plan; a base that `bases` does not have is an image without any config."""
    dockerfile = parse(SourceFile("Dockerfile", text))
    onbuild = {name: config.onbuild for name, config in (bases or {}).items()}
    stages = _stages(dockerfile, target, settings.build_args, contexts, settings.directories, onbuild)
    images = {
        external.key: BaseImage(external.name, (bases or {}).get(external.name, ImageConfig(AMD64)))
        for external in stages.externals()
    }
    return lower(stages, images, settings, dockerfile.directives.escape)


def lines(plan: Plan) -> list[str]:
    """The history since the base."""
    return [line.created_by for line in plan.history]
