"""`pybuild run IMAGE [COMMAND...]`: the image's command, or another one, in the sandbox."""

from __future__ import annotations

import os

from builder.cli.lookup import find
from builder.errors import UsageError
from builder.run import RunRequest, run
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """The command's own exit code."""
    name, *argv = parsed.positionals
    terminal = parsed.flag("tty")
    if terminal and not (os.isatty(0) and os.isatty(1)):
        raise UsageError("--tty needs a terminal on stdin and stdout", hint="leave -t out: streams are handed on as they are")
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        image = find(name, store)
        return run(RunRequest(image, tuple(argv), "none" if parsed.text("network") == "none" else "host", terminal), store)
