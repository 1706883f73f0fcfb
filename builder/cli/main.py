"""The command line: reads argv and the environment, calls one command, and turns every error into one message and a code."""

from __future__ import annotations

import gc
import os
import sys

from builder.cli import faults
from builder.cli.environment import read_environment
from builder.cli.faults import NO_THREAD, complain, discard, install, streams, told
from builder.cli.flags import parse
from builder.errors import BuildError, render
from builder.sandbox.capabilities import lacking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.cli.isolation import Entering

    Run = Callable[[Parsed, Environment, Mapping[str, str]], int]


def main() -> NoReturn:
    """The program. Exits with the codes of SPEC section 3; no traceback for what a user can cause."""
    # A cached build makes no garbage worth looking for; one that runs long looks often enough.
    gc.set_threshold(50_000)
    streams()
    try:
        code = run(sys.argv[1:], os.environ)
    except KeyboardInterrupt:
        # Ctrl-C was pressed again while the first one was told of. No call from here on: Python looks for signals after each.
        code = 128 + faults.received
    # All is written and closed: to take the interpreter apart would cost 3 ms, and a Ctrl-C in them a traceback.
    os._exit(code)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """One command; its exit code."""
    install()
    color = False
    try:
        environment = read_environment(environ)
        color = environment.color(is_tty=sys.stderr.isatty())
        parsed = parse(argv)
        if parsed.command in ("help", "version"):
            return _explain(parsed)
        # It takes as long as the command's imports, and goes on beside them.
        entering = _entering(parsed, environment)
        command = _command(parsed.command)
        if entering is not None:
            environment = environment._replace(sandbox=entering.finish()._replace(path=environment.path))
        code = command(parsed, environment, environ)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who read our results has enough of them.
        discard(1)
        return 1
    except (BuildError, OSError, KeyboardInterrupt, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != NO_THREAD:
            raise
        failure = told(error)
        complain(render(failure, color=color) + "\n")
        return failure.exit_code
    finally:
        _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # It was said already.
        discard(1)


def _explain(parsed: Parsed) -> int:
    from builder.cli.help import help_text, version

    text = version() if parsed.command == "version" else help_text(*parsed.positionals)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


def _entering(parsed: Parsed, environment: Environment) -> Entering | None:
    """None for root with all its rights, who needs no namespace to be let into."""
    if os.geteuid() == 0 and not (parsed.values.get("isolation") or environment.isolation) and not lacking():
        return None
    from builder.cli.isolation import begin

    return begin(parsed, environment)


def _command(name: str) -> Run:
    # Imported on demand: a cached build must not pay for the other commands.
    modules = {
        name: name
        for name in (
            "build",
            "check",
            "diff",
            "doctor",
            "du",
            "index",
            "inspect",
            "load",
            "lock",
            "prune",
            "pull",
            "push",
            "run",
            "save",
            "shell",
            "verify",
            "why",
        )
    }
    modules |= {"import": "import_", "login": "login", "logout": "login"}
    modules |= dict.fromkeys(("images", "history", "tag", "rmi"), "images")
    module = f"builder.cli.{modules[name]}"
    __import__(module)
    command: Run = sys.modules[module].command
    return command


if __name__ == "__main__":
    main()
