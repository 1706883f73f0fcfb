"""diffoscope's word on files that nothing here explains (--diffoscope), where it is installed.

It runs dozens of other programs on what it is given, and that is somebody else's: hence only where it is asked for, with a
limit of time, memory and disk, and as root under the user `nobody`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.diff import Look

LOOKS = 20
"""Files of a comparison that it is asked about."""
_SECONDS = 60
_LINES = 60
_NOBODY = 65534
_LIMITED = f'ulimit -t {_SECONDS}; ulimit -v {4 << 20}; ulimit -f {1 << 21}; exec "$@"'
"""Seconds of a processor's; KiB of memory and blocks of 512 bytes of a file, for each of its processes."""
_ARGUMENTS = ("--no-progress", "--text-color=never", "--text=-", "--max-text-report-size=65536")
_DIFFERENT = 1


def installed(environ: Mapping[str, str]) -> str:
    """Its path; empty where there is none."""
    return shutil.which("diffoscope", path=environ.get("PATH")) or ""


def looker(environ: Mapping[str, str], warn: Callable[[str], object]) -> Look:
    """Asks it about two contents of a file. `warn` is told where it has no answer: then what is shown is what is shown without.
    Raises UsageError where it is not installed."""
    program = installed(environ)
    if not program:
        raise UsageError("diffoscope is not installed", hint="apt-get install diffoscope-minimal, or pip install diffoscope")

    def look(path: bytes, a: bytes, b: bytes) -> Sequence[str]:
        with tempfile.TemporaryDirectory(prefix="pybuild-") as folder:
            places = [_placed(folder, side, path, content) for side, content in (("a", a), ("b", b))]
            if os.geteuid() == 0:
                os.chown(folder, _NOBODY, _NOBODY)
            said, why = _asked([program, *_ARGUMENTS, *places], folder, environ.get("PATH", os.defpath))
        if why:
            warn(f"diffoscope has no answer for /{path.decode('utf-8', 'backslashreplace')}: {why}")
            return ()
        # The first two lines are the names that the files have here.
        return [line for line in said.splitlines() if not line.startswith(("--- ", "+++ "))][:_LINES]

    return look


def _placed(folder: str, side: str, path: bytes, content: bytes) -> str:
    """Under the file's own name, as far as that is harmless: it goes by its ending, too."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path).decode("ascii", "replace")).lstrip(".-")[-100:] or "file"
    above = os.path.join(folder, side)
    os.mkdir(above)
    # Whatever this process's mask is: verify varies it.
    os.chmod(above, 0o755)
    place = os.path.join(above, name)
    with open(place, "xb") as file:
        file.write(content)
    os.chmod(place, 0o644)
    return place


def _asked(command: list[str], folder: str, path: str) -> tuple[str, str]:
    """What it says; or why it says nothing."""
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(
        ["/bin/sh", "-c", _LIMITED, "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={"PATH": path, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
        start_new_session=True,
        **user,  # type: ignore[call-overload]  # the three of subprocess that are given together
    )
    try:
        said, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return "", f"it took more than {_SECONDS} seconds"
    finally:
        # Whatever it started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != _DIFFERENT:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"it ended with {process.returncode}"]
        return "", last[0][:200]
    return said.decode("utf-8", "replace"), ""
