"""Plans for several platforms as one graph."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.syntax import parse
from builder.engine.scheduler import _looked_into, _shipped
from builder.errors import SourceFile
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from builder.plan.joining import join
from builder.plan.lower import lower
from builder.plan.stages import platform_args, reachable
from builder.plan.steps import BaseImage, BaseStep, Plan, RunStep, parents
from tests.plan.plan_lowered import AMD64, SETTINGS

ARM64, ARM = Platform("linux", "arm64"), Platform("linux", "arm", "v7")


def plans(text: str, *platforms: Platform) -> list[Plan]:
    dockerfile = parse(SourceFile("Dockerfile", text))
    found = []
    for platform in platforms:
        stages = reachable(
            dockerfile, target="", build_args={}, contexts=(), directories=(), predefined=platform_args(platform, AMD64)
        )
        bases = {
            each.key: BaseImage(each.name, ImageConfig(each.platform or platform), history=({"created_by": "made"},))
            for each in stages.externals()
        }
        asked = SETTINGS._replace(platform=platform, several=len(platforms) > 1)
        found.append(lower(stages, bases, asked, "\\"))
    return found


CROSS = """\
FROM --platform=$BUILDPLATFORM image AS tool
FROM --platform=$BUILDPLATFORM go AS deps
RUN --mount=type=bind,from=tool,target=/t,source=/ fetch
FROM deps AS build
ARG TARGETARCH
RUN build for $TARGETARCH
FROM base
COPY --from=build /out /out
RUN after
"""


def test_what_is_the_same_is_there_once() -> None:
    joined = join(plans(CROSS, AMD64, ARM64, ARM))
    assert {id(plan.steps) for plan in joined} == {id(joined[0].steps)}
    names = [step.name for step in joined[0].steps]
    assert [name for name in names if "fetch" in name] == [
        "[linux/amd64 deps 2/2] RUN --mount=type=bind,from=tool,target=/t,source=/ fetch"
    ]
    assert [name for name in names if "build for" in name] == [
        "[linux/amd64 build 1/1] RUN build for $TARGETARCH",
        "[linux/amd64->arm64 build 1/1] RUN build for $TARGETARCH",
        "[linux/amd64->arm/v7 build 1/1] RUN build for $TARGETARCH",
    ]
    assert [name for name in names if "after" in name] == [
        f"[{platform} stage-3 3/3] RUN after" for platform in ("linux/amd64", "linux/arm64", "linux/arm/v7")
    ]
    assert [step.platform for step in joined[0].steps if isinstance(step, RunStep) and "after" in step.name] == [
        AMD64,
        ARM64,
        ARM,
    ]
    for plan, platform in zip(joined, (AMD64, ARM64, ARM), strict=True):
        target = plan.steps[plan.target]
        assert target.name == f"[{platform} stage-3 3/3] RUN after"
        assert [plan.steps[line.step].name.partition("] ")[2] for line in plan.history if line.step is not None] == [
            "COPY --from=build /out /out",
            "RUN after",
        ]
        assert (plan.platform, plan.config.platform) == (platform, platform)


def test_one_platform_is_as_it_was() -> None:
    (plan,) = plans(CROSS, ARM64)
    assert join([plan]) == [plan]
    assert [step.name for step in plan.steps if isinstance(step, RunStep)][-1] == "[stage-3 3/3] RUN after"


_STAGE = st.sampled_from([
    "FROM base\nRUN a\n", "FROM --platform=$BUILDPLATFORM base\nRUN a\n", "FROM --platform=linux/s390x base\nWORKDIR /x\n",
    "FROM base\nARG TARGETARCH\nRUN b\n", "FROM --platform=$BUILDPLATFORM base\nARG TARGETOS\nRUN b\n",
])  # fmt: skip


@settings(deadline=None)
@given(st.lists(_STAGE, min_size=1, max_size=4), st.lists(st.sampled_from([AMD64, ARM64, ARM]), unique=True, min_size=1))
def test_a_joined_plan_does_what_its_parts_do(texts: list[str], platforms: list[Platform]) -> None:
    text = "".join(stage.replace("\n", f" AS s{number}\n", 1) for number, stage in enumerate(texts))
    text += "FROM scratch\n" + "".join(f"COPY --from=s{number} /x /{number}\n" for number in range(len(texts)))
    apart = plans(text, *platforms)
    together = join(apart)
    steps = together[0].steps
    assert [step.id for step in steps] == list(range(len(steps)))
    assert all(need < step.id for step in steps for need in parents(step))
    assert len(together[0].places) == len(steps)

    def shape(plan: Plan, step: int) -> object:
        """A step with all that it builds on, without ids."""
        one = plan.steps[step]
        below = tuple(shape(plan, need) for need in parents(one))
        return (one.name, isinstance(one, BaseStep), one.platform if isinstance(one, RunStep) else None, below)

    for before, after in zip(apart, together, strict=True):
        assert shape(before, before.target) == shape(after, after.target)
    assert len({shape(together[0], step.id) for step in steps}) == len(steps)


def test_what_ships_and_what_is_looked_into_is_known_of_all_platforms() -> None:
    """What only one of the images has is compressed while it is made, too; what a RUN of one of them mounts is a folder."""
    text = "FROM base AS made\nARG TARGETARCH\nCOPY a /$TARGETARCH\nFROM made\nCOPY b /b\n"
    text += "FROM made\nCOPY c /c\nRUN --mount=from=1,target=/m x\n"
    joined = join(plans(text, AMD64, ARM64))
    names = {step.id: step.name for step in joined[0].steps}
    shipped, looked = _shipped(joined), _looked_into(joined[0])
    assert {id for id, name in names.items() if "] COPY a" in name or "] COPY c" in name or "] RUN" in name} == shipped
    assert {id for id, name in names.items() if "COPY" in name} == {id for id in looked if "COPY" in names[id]}
    assert all(plan.target in shipped for plan in joined)
