"""`pybuild shell STEP [-- COMMAND...]`: look into the file system of a step."""

from __future__ import annotations

import os
import sys

from builder.cli.again import again
from builder.errors import BuildError, UsageError
from builder.history import named
from builder.report.text import clean
from builder.shell import ShellRequest, choose, shell
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.shell import View

_WORDS = {"before": "before it", "after": "after it", "failed": "as it was when it failed"}


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """The command's own exit code."""
    step, *argv = parsed.positionals
    program = parsed.text("shell")
    if argv and program is not None:
        raise UsageError("--shell and a command exclude each other", hint="leave one of them out")
    if program == "":
        raise UsageError("--shell is empty", hint="give a program of the image, as /bin/bash")
    interactive = os.isatty(0) and os.isatty(1)
    network = parsed.text("network")
    request = ShellRequest(
        step,
        parsed.text("file"),
        tuple(argv) or (program or "/bin/sh",),
        network,  # type: ignore[arg-type]  # the table has the choices
        environment.proxies,
        interactive,
        environment.sandbox,
    )
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        try:
            view = choose(request, store)
            if interactive and not argv:
                sys.stderr.write(_notice(view))
                sys.stderr.flush()
            return shell(view, request, store)
        except BuildError as error:
            if error.hint:
                error.hint = again(error.hint, parsed, file=True)
            raise


def _notice(view: View) -> str:
    return (
        f"{clean(named(view.step))}, {_WORDS[view.moment]}\n"
        "What you write is thrown away at the end; the step's secrets, ssh agents and cache mounts are not here.\n"
    )
