"""`pybuild diff`: two images compared, wherever they are, and what differs explained. One story: look, align, compare, explain,
judge."""

from __future__ import annotations

from builder.engine.rendering import kept_blobs, manifest_of
from builder.engine.roots import Root
from builder.engine.shelf import Shelf
from builder.errors import BuildError, UsageError
from builder.oci.digest import Digest
from builder.oci.image import complete_history, parse_config
from builder.values import NamedTuple
from builder.verify import explain
from builder.verify.alignment import LayerLine, align, plain_line
from builder.verify.comparison import Comparison, Instruction, LayerSide, Side, judge
from builder.verify.configs import compare_configs, compare_manifests
from builder.verify.difference import Finding
from builder.verify.ignores import Ignores
from builder.verify.trees import Image, compare_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from builder.engine.roots import Roots
    from builder.engine.shelf import Shelved, Stack
    from builder.engine.sides import Opened
    from builder.oci.image import ParsedImage
    from builder.store.store import Store
    from builder.verify.difference import FileChange, LayerPair

    Look = Callable[[bytes, bytes, bytes], Sequence[str]]
    """Another tool's lines about two contents of the file at a path; none where it has nothing to say."""

_TOLD = 3
"""Things that are not compared, of each image."""
_COMMENT = "pybuild"
_BUILDS = 50
"""Builds of the store that are looked through for the line of a Dockerfile."""


class Options(NamedTuple):
    content: bool = True
    """Look into files that differ."""
    ignores: Ignores = Ignores()
    look: Look | None = None
    """Asked of files that nothing explains; the first `looks` of them."""
    looks: int = 0


def compare(a: Opened, b: Opened, store: Store, roots: Roots, scratch: str, options: Options) -> Comparison:
    """Compare two images; layers that are not in the store go into the folder `scratch`. Raises UsageError for two of different
    platforms, and as `Shelf.stack`."""
    parsed = _parsed(a), _parsed(b)
    _check_platforms(a, b, *parsed)
    manifests = _manifests(a, b, store, roots)
    sides = [_side(image, read, manifest, store) for image, read, manifest in zip((a, b), parsed, manifests)]
    left, right = sides
    pairs = align(_lines(left), _lines(right))
    files: Iterable[FileChange] = ()
    left_out: tuple[str, ...] = ()
    shelf = Shelf(scratch, roots)
    differ = left.diff_ids != right.diff_ids
    for image in (a, b):
        shelf.check(image, keep=differ)
    if differ:
        stacks = shelf.stack(a), shelf.stack(b)
        left_out = tuple(_left_out(shelf))
        pairs = [_with_form(pair, *stacks) for pair in pairs]
        files = explained(*stacks, options)
    fields = [*compare_configs(a.config, b.config), *compare_manifests(*manifests)]
    counted = [change for change in fields if not options.ignores.field(change)]
    kept, ignored = [], 0
    for change in files:
        rest = options.ignores.rest(change)
        if rest is None:
            ignored += 1
        else:
            kept.append(rest)
    verdict = judge(left, right, counted, kept)
    return Comparison(
        left,
        right,
        verdict,
        tuple(counted),
        tuple(pairs),
        tuple(looked_at(kept, *stacks, options) if kept else ()),
        len(fields) - len(counted),
        ignored,
        (*_notes(a, b, *parsed), *left_out),
    )


def _parsed(image: Opened) -> ParsedImage:
    try:
        return parse_config(image.config)
    except BuildError as error:
        raise image.damaged(error) from error


def _check_platforms(a: Opened, b: Opened, one: ParsedImage, other: ParsedImage) -> None:
    platforms = [parsed.config.platform.normal() for parsed in (one, other)]
    if platforms[0] != platforms[1]:
        raise UsageError(
            f"'{a.name}' is for {platforms[0]} and '{b.name}' for {platforms[1]}",
            hint="images of one platform can be compared: choose by --platform where a name stands for several",
        )


def _manifests(a: Opened, b: Opened, store: Store, roots: Roots) -> tuple[bytes, bytes]:
    """An image of the store has a manifest once an output asks for it: it is made where nothing else tells the two apart."""
    if a.config != b.config or not (a.record or b.record):
        return a.manifest, b.manifest
    if a.record and b.record:
        root = Root.of(parse_config(a.config).diff_ids)
        if list(kept_blobs(a.record, root, store)) == list(kept_blobs(b.record, root, store)):
            return b"", b""
    elif not (a.manifest or b.manifest):
        return b"", b""
    one, other = (manifest_of(image.record, image.config, store, roots) if image.record else image.manifest for image in (a, b))
    return one, other


def _side(image: Opened, parsed: ParsedImage, manifest: bytes, store: Store) -> Side:
    history = complete_history(parsed.history, len(parsed.diff_ids))
    lines = [str(line.get("created_by") or "") for line in history if not line.get("empty_layer")]
    places = _places(store) if parsed.diff_ids else {}
    digests = [str(layer.digest) for layer in image.layers] or [""] * len(parsed.diff_ids)
    layers = []
    for diff_id, line, digest in zip(map(str, parsed.diff_ids), lines, digests):
        dockerfile, number = places.get(diff_id, ("", 0))
        layers.append(LayerSide(diff_id, Instruction(plain_line(line), dockerfile, number), digest))
    manifest_digest = str(Digest.of(manifest)) if manifest else ""
    platform = str(parsed.config.platform.normal())
    return Side(image.name, image.where, str(Digest.of(image.config)), manifest_digest, platform, tuple(layers))


def _places(store: Store) -> dict[str, tuple[str, int]]:
    """The Dockerfile and the line that gave a layer, of the last builds of this store."""
    found: dict[str, tuple[str, int]] = {}
    for build in store.builds(_BUILDS):
        for step in build.steps:
            for diff_id in step.layers if step.line and step.op != "base" else ():
                found.setdefault(diff_id, (build.dockerfile, step.line))
    return found


def _lines(side: Side) -> list[LayerLine]:
    return [LayerLine(layer.diff_id, layer.made.text) for layer in side.layers]


def _with_form(pair: LayerPair, a: Stack, b: Stack) -> LayerPair:
    """With what differs between two tars of the same files."""
    if pair.a is None or pair.b is None or pair.by == "diff-id":
        return pair
    one, other = a.layers[pair.a], b.layers[pair.b]
    if _shipped(one) != _shipped(other):
        return pair
    orders = one.order, other.order
    known = None not in orders
    return pair._replace(findings=(Finding("layer-order" if known and orders[0] != orders[1] else "layer-form"),))


def _shipped(layer: Shelved) -> object:
    """What of its entries is in its tar, with the times as it has them where they are its own."""
    return layer.constant, [entry._replace(mtime=0) if layer.constant else entry for entry in layer.entries]


def explained(a: Stack, b: Stack, options: Options) -> Iterator[FileChange]:
    """What differs between two file systems, in path order, and why."""
    images = [Image(stack.tree, tuple(layer.constant for layer in stack.layers)) for stack in (a, b)]
    for change in compare_trees(*images):
        found = _explain(change, a, b, options)
        yield change._replace(findings=found.findings, diff=found.diff, complete=found.complete)


def _explain(change: FileChange, a: Stack, b: Stack, options: Options) -> explain.Explained:
    if change.kind != "changed":
        return explain.explain_one_sided(change.path)
    if not any(aspect.name == "content" for aspect in change.aspects):
        return explain.Explained()
    assert change.a is not None and change.b is not None
    if not options.content:
        return explain.explain_unread(change.path)
    if max(change.a.size, change.b.size) > explain.LARGEST:
        found = explain.explain_unread(change.path)
        return found._replace(diff=() if found.complete else (f"not looked into: larger than {explain.LARGEST >> 20} MiB",))
    return explain.explain(change.path, a.read(change.path), b.read(change.path))


def looked_at(changes: Sequence[FileChange], a: Stack, b: Stack, options: Options) -> Iterator[FileChange]:
    """With another tool's word on what nothing here explains, where there is one."""
    asked = 0
    for change in changes:
        if options.look is None or change.complete or not change.diff or asked == options.looks:
            yield change
            continue
        asked += 1
        lines = options.look(change.path, a.read(change.path), b.read(change.path))
        yield change._replace(diff=tuple(lines)) if lines else change


def _notes(a: Opened, b: Opened, one: ParsedImage, other: ParsedImage) -> Iterator[str]:
    for image, parsed in ((a, one), (b, other)):
        if image.listed:
            yield f"{image.name} is an index: its image for {parsed.config.platform.normal()} is compared (--platform)"
        if not any(str(line.get("comment", "")).startswith(_COMMENT) for line in parsed.history):
            yield f"{image.name} was not built by pybuild: {_without(parsed.history, len(parsed.diff_ids))}"


def _left_out(shelf: Shelf) -> Iterator[str]:
    for name, told in shelf.left_out.items():
        more = f", and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        yield f"{name} has what no layer of pybuild carries, and it is not compared: {'; '.join(told[:_TOLD])}{more}"


def _without(history: Sequence[Mapping[str, Any]], layers: int) -> str:
    """What is lost with images of others."""
    lines = sum(1 for line in history if line.get("created_by") and not line.get("empty_layer"))
    if lines < layers:
        return f"nothing says what made {layers - lines} of its {layers} layers; layers and files are compared all the same"
    return "its steps are known by its history alone, and its files may have the times of their build"
