"""The plan as JSON: a whole document by hand, every field documented, every value a plain one."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from builder.dockerfile.syntax import parse
from builder.errors import SourceFile
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import ImageConfig
from builder.plan import document, mounts, origins, steps
from builder.plan.lower import lower
from builder.plan.stages import platform_args, reachable
from builder.plan.steps import BaseImage, Plan
from builder.values import NamedTuple
from tests.conftest import ROOT
from tests.plan.plan_lowered import AMD64, SETTINGS, plan_of

GOLDEN = ROOT / "tests" / "golden" / "document"
TEXT = (ROOT / "docs" / "plan.md").read_text()
COMMON = {"id", "name", "span"}


def plan_with_base(text: str) -> Plan:
    """The plan for a base that has all that one can have."""
    dockerfile = parse(SourceFile("app/Dockerfile", text))
    args = {"NOPE": "1", "HTTP_PROXY": "http://user:secret@proxy"}
    predefined = platform_args(AMD64, AMD64)
    stages = reachable(dockerfile, target="", build_args=args, contexts=(), directories=(), predefined=predefined)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest("sha256", "1" * 64), 7)
    config = ImageConfig(AMD64, env=(("PATH", "/bin"),), user="app")
    bases = {
        "base": BaseImage("base", config, (Digest("sha256", "0" * 64),), ({"created_by": "made"},), (layer,)),
        "scratch": BaseImage("scratch", ImageConfig(AMD64, workdir="/")),
    }
    settings = SETTINGS._replace(build_args=args, hosts=(("db", "10.0.0.1"),))
    return lower(stages, bases, settings, dockerfile.directives.escape)


def test_a_document_whole() -> None:
    plan = plan_with_base((GOLDEN / "stages.Dockerfile").read_text())
    assert document.document([plan], "app/Dockerfile") == json.loads((GOLDEN / "stages.json").read_text())


def test_secrets_of_a_proxy_are_not_shown() -> None:
    plan = plan_with_base("FROM base\nRUN x\n")
    assert "secret" not in json.dumps(document.document([plan], "Dockerfile"))


def documented(kind: str) -> set[str]:
    """The fields that docs/plan.md has for a kind of step."""
    section = re.split(r"^## ", TEXT.partition(f"## `{kind}`\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize("step", get_args(steps.Step))
def test_every_field_of_a_step_is_documented(step: Any) -> None:
    assert documented(document.kind(step)) == set(step._fields) - COMMON


def test_every_kind_is_documented() -> None:
    kinds = {document.kind(step) for step in get_args(steps.Step)}
    assert set(re.findall(r"^## `(\w+)`", TEXT, re.MULTILINE)) == kinds
    others = {document.kind(each) for each in (*get_args(origins.Origin), *get_args(mounts.Mount), *_sources())}
    assert not others - set(re.findall(r"`(\w+)`", TEXT))


def _sources() -> tuple[Any, ...]:
    """All that may stand in `CopyStep.sources`."""
    return get_args(getattr(steps, "Source", None)) or (steps.CopySource,)


def test_the_top_of_a_document_is_documented() -> None:
    top = TEXT.partition("## Values")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", top, re.MULTILINE)) == set(document.document([plan_of("FROM scratch\n")], "x"))


class OddSource(NamedTuple):
    """What a branch may add one day."""

    data: bytes
    names: frozenset[str]
    more: tuple[tuple[str, int], ...]
    inner: steps.ContextOrigin | None


def test_new_values_need_no_new_code() -> None:
    plan = plan_of("FROM scratch\nCOPY a b\n")
    copy: Any = plan.steps[1]
    odd = OddSource(b"\0x", frozenset(("b", "a")), (("n", 1),), steps.ContextOrigin("c"))
    steps_ = (plan.steps[0], copy._replace(sources=(odd,)))
    shown = document.document([plan._replace(steps=steps_)], "x")["steps"][1]
    assert shown["sources"] == [
        {
            "kind": "odd",
            "data": {"base64": "AHg="},
            "names": ["a", "b"],
            "more": [["n", 1]],
            "inner": {"kind": "context", "name": "c"},
        }
    ]
    assert json.loads(json.dumps(shown)) == shown
