"""What a plan may hold and is not executed: what the user has not allowed. Pure."""

from __future__ import annotations

from builder.errors import DockerfileError
from builder.plan import triggers
from builder.plan.steps import RunStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.plan.steps import Plan


def refuse_unexecuted(plan: Plan, allow: frozenset[str] = frozenset()) -> None:
    """Raises DockerfileError for the first step that could not be run, before any is, cached ones too. `allow` is what the user
    grants, by BuildKit's names."""
    for step in plan.steps:
        error = _refusal(step, allow) if isinstance(step, RunStep) else None
        if error is not None:
            trigger = dict(plan.triggers).get(step.id)
            raise error if trigger is None else triggers.told(error, trigger)


def _refusal(step: RunStep, allow: frozenset[str]) -> DockerfileError | None:
    if step.network_span is not None and "network.host" not in allow:
        return DockerfileError(
            "RUN --network=host is not allowed",
            step.network_span,
            hint="it gives the command the host's network, its loopback included: --allow network.host grants that",
        )
    if step.security == "insecure" and "security.insecure" not in allow:
        return DockerfileError(
            "RUN --security=insecure is not allowed",
            step.security_span,
            hint="it gives the command all of the builder's rights: --allow security.insecure grants them",
        )
    return None
