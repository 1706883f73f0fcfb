"""What an image is to say of its build: the request, with the digests that the steps were done with."""

from __future__ import annotations

import os

import builder
from builder import canonical
from builder.dockerfile.ast import Arg
from builder.plan.origins import ContextOrigin
from builder.plan.recorded import FILES_LIMIT, BuildRequest, digest_of, dump
from builder.plan.steps import BaseStep, CopyStep, RunStep
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.dockerfile.ast import Dockerfile
    from builder.engine.scheduler import Outcome
    from builder.plan.listing import Rows
    from builder.plan.steps import Plan
    from builder.request import Request
    from builder.store.store import Store


def recorded(dockerfile: Dockerfile, request: Request, plan: Plan, outcome: Outcome, store: Store) -> str:
    """The canonical text of a build for one platform. `store` knows which files were taken."""
    contents = tuple(_contents(plan, outcome))
    declared = {name for each in dockerfile.instructions if isinstance(each, Arg) for name, _, _ in each.items}
    given = sorted((name, value) for name, value in request.build_args.items() if name in declared)
    return dump(
        BuildRequest(
            version=builder.__version__,
            dockerfile=digest_of(dockerfile.source.text),
            path=_place(request),
            target=request.target,
            args=tuple((name, value) for name, value in given if redact(value) == value),
            withheld=tuple(name for name, value in given if redact(value) != value),
            labels=request.labels,
            platform=str(request.platform),
            epoch=request.source_date_epoch,
            network=request.network,
            hosts=request.hosts,
            shm_size=request.shm_size,
            ulimits=request.limits.ulimits if request.limits else (),
            contexts=tuple(sorted(request.names)),
            bases=tuple(_bases(plan, outcome)),
            contents=contents,
            files=tuple(_files({digest for _, _, digest in contents}, store)),
        )
    )


def _bases(plan: Plan, outcome: Outcome) -> Iterator[tuple[str, str]]:
    for step in plan.steps:
        if isinstance(step, BaseStep) and step.id in outcome.results:
            chain = outcome.results[step.id].root.chain
            yield step.base.name, str(chain) if chain else ""


def _contents(plan: Plan, outcome: Outcome) -> Iterator[tuple[int, str, str]]:
    for step in plan.steps:
        result = outcome.results.get(step.id)
        if result is None or result.key is None:
            continue
        name = step.name.partition("] ")[2] or step.name
        if isinstance(step, CopyStep) and isinstance(step.origin, ContextOrigin):
            yield step.span.line, name, canonical.loads(result.key.preimage.decode())["content"]
        elif isinstance(step, RunStep) and step.mounts:
            mounted = canonical.loads(result.key.preimage.decode())["mounts"]
            for mount, known in zip(step.mounts, mounted, strict=True):
                if isinstance(getattr(mount, "origin", None), ContextOrigin) and known.get("content"):
                    yield step.span.line, f"RUN --mount={known['type']},target={known['target']}", known["content"]


def _files(digests: set[str], store: Store) -> Iterator[tuple[str, Rows]]:
    """As far as there is room, the short ones first."""
    room = FILES_LIMIT
    for size, digest, text in sorted((len(text), digest, text) for digest, text in store.listings(digests).items()):
        room -= size
        if room < 0:
            return
        yield digest, tuple((path, mark) for path, mark in canonical.loads(text))


def _place(request: Request) -> str:
    """Of the Dockerfile in the context; empty where it is not there, or not a folder's."""
    if request.dockerfile_text is not None or not os.path.isdir(request.context) or "" in request.remotes:
        return ""
    root = os.path.realpath(request.context)
    if not request.dockerfile:
        names = ("Dockerfile", "Containerfile")
        return next((name for name in names if os.path.lexists(os.path.join(root, name))), "")
    path = os.path.realpath(request.dockerfile)
    return os.path.relpath(path, root) if path.startswith(f"{root}/") else ""
