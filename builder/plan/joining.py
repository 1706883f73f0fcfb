"""Plans of one Dockerfile for several platforms, as one graph: what does not depend on the platform is one step. Pure."""

from __future__ import annotations

from builder.plan.steps import BaseStep, CopyStep, RunStep, StageOrigin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.plan.mounts import Mount
    from builder.plan.origins import Origin
    from builder.plan.steps import Place, Plan, Step


def join(plans: Sequence[Plan]) -> list[Plan]:
    """The plans, each with the steps of all of them and its own target, config and history. Equal steps on equal steps are
    one: a stage `FROM --platform=$BUILDPLATFORM` is built once, as far as no variable of the target's comes into it."""
    joining = _Joining()
    moved = [joining.add(plan) for plan in plans]
    steps, places = tuple(joining.steps), tuple(joining.places)
    triggers = tuple(dict.fromkeys((new[step], text) for plan, new in zip(plans, moved) for step, text in plan.triggers))
    warnings = tuple(dict.fromkeys(warning for plan in plans for warning in plan.warnings))
    return [
        plan._replace(
            steps=steps,
            target=new[plan.target],
            history=tuple(line if line.step is None else line._replace(step=new[line.step]) for line in plan.history),
            warnings=warnings,
            triggers=triggers,
            places=places,
        )
        for plan, new in zip(plans, moved)
    ]


class _Joining:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.places: list[Place] = []
        self._known: dict[object, int] = {}

    def add(self, plan: Plan) -> dict[int, int]:
        """Take over a plan's steps; the new id of each."""
        new: dict[int, int] = {}
        for step, place in zip(plan.steps, plan.places, strict=True):
            moved = _moved(step, new)
            identity = _identity(moved)
            if identity not in self._known:
                self._known[identity] = len(self.steps)
                self.steps.append(moved._replace(id=len(self.steps)))
                self.places.append(place)
            new[step.id] = self._known[identity]
        return new


def _identity(step: Step) -> object:
    if isinstance(step, BaseStep):
        # A base's history holds objects, which have no hash; its layers say what the step gives.
        return (step.name, step.span, step.base.diff_ids, step.base.config)
    return (type(step).__name__, step)


def _moved(step: Step, new: Mapping[int, int]) -> Step:
    """The step without its id, on the new ids of what it builds on."""
    match step:
        case BaseStep():
            return step._replace(id=-1)
        case RunStep():
            mounts = tuple(_moved_mount(mount, new) for mount in step.mounts)
            return step._replace(id=-1, parent=new[step.parent], mounts=mounts)
        case CopyStep():
            return step._replace(id=-1, parent=new[step.parent], origin=_moved_origin(step.origin, new))
        case _:
            return step._replace(id=-1, parent=new[step.parent])


def _moved_origin(origin: Origin, new: Mapping[int, int]) -> Origin:
    return StageOrigin(new[origin.step]) if isinstance(origin, StageOrigin) else origin


def _moved_mount(mount: Mount, new: Mapping[int, int]) -> Mount:
    from builder.plan.mounts import BindMount, CacheMount

    if isinstance(mount, BindMount | CacheMount) and mount.origin is not None:
        return mount._replace(origin=_moved_origin(mount.origin, new))
    return mount
