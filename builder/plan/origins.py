"""Where the files come from that a COPY takes or a RUN has mounted, once every name is resolved. Pure."""

from __future__ import annotations

from builder.values import NamedTuple


class ContextOrigin(NamedTuple):
    """A build context: the main one (`""`) or a named directory."""

    name: str


class StageOrigin(NamedTuple):
    """A stage or an image: the file system that step `step` leaves."""

    step: int


Origin = ContextOrigin | StageOrigin
