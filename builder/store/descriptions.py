"""What a person reads for a layer: the step that gave it, from the text that its key is a hash of."""

from __future__ import annotations

from builder import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.store.database import Row


def described(preimage: bytes) -> str:
    """What a person reads for the step whose key has this preimage."""
    try:
        said: Mapping[str, object] = canonical.loads(preimage.decode())
    except ValueError:
        return ""
    match said.get("op"):
        case "run":
            argv = said.get("argv")
            return "RUN " + " ".join(str(word) for word in (argv if isinstance(argv, list) else [])[-1:])
        case "copy":
            return f"COPY to {said.get('dest')}"
        case "workdir":
            return f"WORKDIR {said.get('path')}"
        case "directory":
            return "a folder that stands for a base"
    return ""


def record_text(rows: Iterable[Row]) -> dict[str, str]:
    """By diff ID, what the first record says that gave it."""
    out: dict[str, str] = {}
    for diff_id, preimage in rows:
        out.setdefault(diff_id, described(preimage))
    return out
