"""Where `--cache-to` goes, checked before the build against what it would overwrite."""

from __future__ import annotations

from builder.cache.localsink import check
from builder.cache.places import CacheTo, InlineTo, LocalTo, RegistryTo
from builder.cli.cache_spec import parse_cache_to
from builder.errors import UsageError
from builder.plan.giturl import is_true

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.engine.exporting import Output


def cache_to(texts: tuple[str, ...], outputs: tuple[Output, ...], *, inline: str) -> tuple[CacheTo, ...]:
    """`inline` is the build arg that may ask for an inline cache besides. Raises UsageError."""
    places = [to for text in texts for to in parse_cache_to(text)]
    if is_true(inline) and not any(to.inline for to in places):
        places.append(CacheTo(InlineTo()))
    pushed = {str(name) for output in outputs if output.type == "registry" for name in output.names}
    for to in places:
        match to.place:
            case LocalTo(dest=dest) if not to.ignore_error:
                check(dest)
            case RegistryTo(reference=reference) if str(reference) in pushed:
                raise UsageError(
                    f"'{reference.familiar}' cannot be both the image and its cache",
                    hint="choose another tag for the cache, as in ref=registry.example/name:cache, or type=inline",
                )
    return tuple(places)
