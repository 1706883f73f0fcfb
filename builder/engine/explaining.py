"""Why a step ran: the inputs of its key beside those that it had in an earlier build."""

from __future__ import annotations

from contextlib import nullcontext

from builder import canonical
from builder.engine.past import Past, line_of
from builder.engine.times import told
from builder.errors import StoreError
from builder.layers.names import show
from builder.oci.digest import Digest
from builder.plan import reasons
from builder.plan.reasons import File, Files
from builder.plan.steps import BaseStep, ContextOrigin, CopySource, CopyStep, GitSource, InlineSource, StageOrigin
from builder.plan.wording import masked
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from builder.engine.past import Earlier
    from builder.events import StepFinished
    from builder.layers.entry import Entry
    from builder.plan.keys import Key
    from builder.plan.reasons import Reason
    from builder.plan.steps import Plan, RunStep, Step, WorkdirStep
    from builder.store.builds import Build, BuiltStep
    from builder.store.store import Store

LONGEST = 60
"""Characters of what a COPY copies that are shown."""


class _Miss(NamedTuple):
    key: Key
    refused: str
    """The flag that forbids to take what is known; empty where the cache was asked."""
    forgotten: bool
    """There was a record once, whose layer is gone."""


class Explainer:
    """For one build; the caller sees to it that one thread at a time is in here."""

    def __init__(self, store: Store, plan: Plan, place: str, ended: Mapping[int, StepFinished]) -> None:
        """`ended` grows: the steps that have ended, by their numbers."""
        self._store = store
        self._ended = ended
        self._plan = plan
        self._past = Past(store, plan, place)
        self._misses: dict[int, _Miss] = {}
        self._reasons: dict[int, tuple[Reason, ...]] = {}

    def missed(self, step: Step, key: Key, refused: str) -> None:
        """The cache has no result for the step; to be told before it has one."""
        self._misses[step.id + 1] = _Miss(key, refused, self._store.remembered(key.hex) is not None)

    def reasons(self, number: int, diff_id: str) -> tuple[Reason, ...]:
        """Why the step ran that was missed; `diff_id` is the layer that it made, empty for none."""
        miss, step = self._misses[number], self._plan.steps[number - 1]
        found = self._reasons[number] = self._found(miss, step, diff_id)
        return found

    def _found(self, miss: _Miss, step: Step, diff_id: str) -> tuple[Reason, ...]:
        if miss.refused:
            return (reasons.no_cache(miss.refused),)
        same = self._past.by_key(miss.key)
        if same is not None:
            when = told(same.build.created)
            match same.step.status:
                case "failed":
                    return (reasons.failed_before(when),)
                case "cancelled" | "waiting":
                    return (reasons.unfinished(when),)
                case _:
                    return (reasons.REMOVED,)
        if miss.forgotten:
            return (reasons.REMOVED,)
        now = masked(canonical.loads(miss.key.preimage.decode()))
        best = self._past.same(step) or self._past.nearest(now)
        if best is None:
            return (reasons.NEVER,)
        if best.inputs is None:
            return (reasons.UNKNOWN,)
        files = self._files(step, best.step, diff_id) if isinstance(step, CopyStep) else None
        found = reasons.compare(
            best.inputs,
            now,
            args=self._plan.places[step.id].args,
            copied=_copied(self._plan, step) if isinstance(step, CopyStep) else "",
            files=files,
            root=self._root(step, best),
        )
        return found or (reasons.HIDDEN,)

    # What it starts from

    def _root(self, step: Step, earlier: Earlier) -> Reason:
        """Why the step starts from another file system than the earlier one."""
        assert not isinstance(step, BaseStep)
        parent, old = self._giver(step, earlier)
        direct = parent.id == step.parent
        if isinstance(parent, BaseStep):
            before = _base_name(old.name) if old is not None and old.op == "base" else ""
            if old is not None and old.op != "base":
                return reasons.now_from(direct, parent.id + 1, parent.name)
            return reasons.base(before, parent.base.name, parent.id + 1)
        why = self._reasons.get(parent.id + 1)
        if why is None:
            # It came from the cache, with what another build had given.
            return reasons.cached(direct, parent.id + 1, parent.name)
        first = why[0]
        if len(why) == 1 and first.kind == "base":
            return first
        if len(why) > 1 or first.kind != "before" or first.step not in self._reasons:
            return reasons.follows(direct, parent.id + 1, parent.name, why)
        cause = self._plan.steps[first.step - 1]
        return reasons.follows(False, first.step, cause.name, self._reasons[first.step])

    def _giver(self, step: RunStep | CopyStep | WorkdirStep, earlier: Earlier) -> tuple[Step, BuiltStep | None]:
        """The step that gave what `step` starts from, and the one that did so earlier: of those before it the last that
        changed a file then or now."""
        parent = self._plan.steps[step.parent]
        old = _before(earlier.step, earlier.build)
        while not isinstance(parent, BaseStep) and (ended := self._ended.get(parent.id + 1)) and not ended.diff_id:
            if old is not None and old.op != "base":
                if old.layers:
                    break
                old = _before(old, earlier.build)
            parent = self._plan.steps[parent.parent]
        return parent, old

    # What a COPY gave

    def _files(self, step: CopyStep, old: BuiltStep, diff_id: str) -> Files | None:
        if old.status not in ("done", "cached"):
            return None
        try:
            with self._entries((old.layers or ("",))[0]) as before, self._entries(diff_id) as now:
                return compared(before, now, step.dest)
        except StoreError:
            # It is there no more.
            return None

    def _entries(self, diff_id: str) -> AbstractContextManager[Iterator[Entry]]:
        """What the layer holds."""
        return self._store.layer_entries(Digest.parse(diff_id)) if diff_id else nullcontext(iter(()))


def compared(before: Iterable[Entry], now: Iterable[Entry], dest: str) -> Files:
    """The files of two layers, in canonical order, that a COPY to `dest` gave, by their paths below it, else by their paths in
    the image; one by one, since there may be hundreds of thousands.

    A folder counts where it is in both, for its mode and owner, and where it is empty.
    """
    target = dest.strip("/").encode("utf-8", "surrogateescape")
    files = Files()
    # Folders that one side alone has, until something is seen in them there.
    empty: tuple[dict[bytes, File], dict[bytes, File]] = ({}, {})
    for path, pair in _side_by_side(_copied_to(before, target), _copied_to(now, target)):
        for entry, folders in zip(pair, empty):
            if entry is not None and folders:
                for parent in _parents(path):
                    folders.pop(parent, None)
        old, new = pair
        if old is not None and new is not None:
            files.compare(_name(path, target), _file(old), _file(new))
        elif old is not None and old.kind == "dir":
            empty[0][path] = _file(old)
        elif new is not None and new.kind == "dir":
            empty[1][path] = _file(new)
        else:
            files.compare(_name(path, target), old and _file(old), new and _file(new))
    for path, file in empty[0].items():
        files.compare(_name(path, target), file, None)
    for path, file in empty[1].items():
        files.compare(_name(path, target), None, file)
    return files


def _side_by_side(before: Iterator[Entry], now: Iterator[Entry]) -> Iterator[tuple[bytes, tuple[Entry | None, Entry | None]]]:
    """The entries of either, in the order of their paths, equal ones together."""
    old, new = next(before, None), next(now, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.path < new.path):
            assert old is not None
            yield old.path, (old, None)
            old = next(before, None)
        elif old is None or new.path < old.path:
            yield new.path, (None, new)
            new = next(now, None)
        else:
            yield old.path, (old, new)
            old, new = next(before, None), next(now, None)


def _copied_to(entries: Iterable[Entry], target: bytes) -> Iterator[Entry]:
    """Without what was removed, and the folders on the way to where it was copied to."""
    for entry in entries:
        if entry.kind in ("whiteout", "opaque"):
            continue
        if entry.kind == "dir" and (target + b"/").startswith(entry.path + b"/" * bool(entry.path)):
            continue
        yield entry


def _name(path: bytes, target: bytes) -> str:
    if path == target:
        return show(path.rpartition(b"/")[2])
    if path.startswith(target + b"/" if target else b""):
        return show(path[len(target) :].lstrip(b"/"))
    return "/" + show(path)


def _file(entry: Entry) -> File:
    what = "file" if entry.kind == "hardlink" else entry.kind
    link = entry.link if what == "symlink" else b""
    content = f"{what} {entry.digest} {link!r} {entry.rdev} {entry.xattrs!r}"
    # A symlink's mode means nothing (symlink(7)).
    return File(content, 0 if what == "symlink" else entry.mode, (entry.uid, entry.gid))


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _copied(plan: Plan, step: CopyStep) -> str:
    """The instruction as far as it says what is copied: `COPY src`, `COPY --from=build /out`."""
    words = [step.keyword]
    match step.origin:
        case ContextOrigin(name=name) if name:
            words.append(f"--from={name}")
        case StageOrigin(step=origin):
            source = plan.steps[origin]
            words.append(f"--from={source.base.name if isinstance(source, BaseStep) else plan.places[origin].stage}")
    for each in step.sources:
        match each:
            case CopySource():
                words.append(each.path)
            case InlineSource():
                words.append(f"<<{each.name}")
            case GitSource():
                words.append(f"{each.url}{f'#{each.ref}' if each.ref else ''}")
            case _:
                words.append(each.url)
    text = redact(" ".join(words))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _before(step: BuiltStep, build: Build) -> BuiltStep | None:
    return build.steps[step.parent - 1] if step.parent else None


def _base_name(name: str) -> str:
    return line_of(name).removeprefix("FROM ")
