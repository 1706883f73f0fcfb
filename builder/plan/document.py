"""The plan as a JSON document, for `--print-plan` (docs/plan.md). Pure.

The encoder knows values, not steps: a field that a step gains is in the document with it, under its name. What is one of
several kinds (steps, origins, sources) says which by `kind`, the name of its class without what they all end in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from builder.errors import Span
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import ImageConfig, assemble, descriptor_json
from builder.oci.platform import Platform
from builder.plan.steps import CopySource, RunStep, parents
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from builder.plan.steps import Plan, Step

VERSION = 1
"""Fields may be added within a version; none is removed or changes its meaning (SPEC section 7)."""

_KINDS: dict[type, str] = {CopySource: "path"}
_ENDINGS = ("Step", "Origin", "Source", "Mount")


def document(plans: Sequence[Plan], file: str) -> dict[str, Any]:
    """Objects, lists and plain values; `file` is the Dockerfile's name, for the spans. Plans for several platforms have the
    same steps (`joining.join`): what differs is told of each."""
    plan = plans[0]
    return {
        "v": VERSION,
        "file": file,
        **_image(plan, file),
        **({"images": [_image(each, file) for each in plans]} if len(plans) > 1 else {}),
        "steps": [_step(step, file) for step in plan.steps],
        "skipped": list(plan.skipped),
        "triggers": [list(pair) for pair in plan.triggers],
        "warnings": [{"code": code, "message": message, "span": _value(span, file)} for code, message, span in plan.warnings],
    }


def _image(plan: Plan, file: str) -> dict[str, Any]:
    return {
        "platform": str(plan.platform),
        "target": plan.target,
        "base": plan.base.name,
        "config": _value(plan.config, file),
        "history": [{"created_by": line.created_by, "step": line.step} for line in plan.history],
    }


def kind(of: type) -> str:
    """What stands as `kind` in the object of a class; empty for one that is no kind of something."""
    known = _KINDS.get(of)
    ending = next((ending for ending in _ENDINGS if of.__name__.endswith(ending)), "")
    return known or (of.__name__.removesuffix(ending).lower() if ending else "")


def _step(step: Step, file: str) -> dict[str, Any]:
    shown = {"id": step.id, "kind": kind(type(step)), "needs": list(parents(step)), **_value(step, file)}
    if isinstance(step, RunStep):
        # A proxy's address often has a password in it, and a plan may end in a log.
        shown["proxy"] = [name for name, _ in step.proxy]
        if not step.ulimits:
            del shown["ulimits"]
    return shown


def _value(value: object, file: str) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case Span():
            return {"file": file, **value._asdict()}
        case Digest() | Platform():
            return str(value)
        case Descriptor():
            return descriptor_json(value)
        case ImageConfig():
            config = json.loads(assemble(value, (), (), created=""))
            return {key: each for key, each in config.items() if key not in ("rootfs", "history")}
        case Mapping():
            return {str(key): _value(each, file) for key, each in value.items()}
        case set() | frozenset():
            return sorted(_value(each, file) for each in value)
        case tuple() if hasattr(value, "_asdict"):
            named = {name: _value(each, file) for name, each in value._asdict().items()}
            if "url" in named:
                named["url"] = redact(named["url"])
            return {"kind": name, **named} if (name := kind(type(value))) else named
        case tuple() | list():
            return [_value(each, file) for each in value]
    raise AssertionError(f"a plan holds a {type(value).__name__}")
