"""How far a pull or a push is, on stderr, for commands that are no builds."""

from __future__ import annotations

import os

from builder.report.reporter import open_reporter, screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.environment import Environment
    from builder.report.reporter import Reporter


def shown(environment: Environment, *, quiet: bool) -> Reporter:
    """A reporter to be closed, which shows transfers as a build would."""
    is_tty = os.isatty(2)
    return open_reporter(
        environment.progress_mode(None, quiet=quiet),
        2,
        color=environment.color(is_tty=is_tty),
        is_tty=is_tty,
        width=lambda: screen(2)[0],
        debug=False,
        explain=False,
    )
