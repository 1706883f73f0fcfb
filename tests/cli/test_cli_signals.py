"""A signal that ends the program is not lost, and breaks nothing, whenever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
BEGIN = "import os, sys, time, weakref\nfrom builder.cli.faults import install\ninstall()\n"


def run(code: str, *paths: Path) -> str:
    program = f"{BEGIN}sys.path += {[str(path) for path in (ROOT, *paths)]!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in SIGNALS],
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("number", SIGNALS)
def test_in_the_callback_of_a_weak_reference(number: signal.Signals) -> None:
    """Where Python drops every exception."""
    code = f"""
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {number:d}))
try:
    del thing
    time.sleep(30)
except KeyboardInterrupt:
    print("ended")
"""
    assert run(code) == "ended\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_in_an_import(number: signal.Signals, tmp_path: Path) -> None:
    """The module is there, whole, and then the program ends."""
    (tmp_path / "hit.py").write_text(f"import os\nos.kill(os.getpid(), {number:d})\nwhole = True\n")
    code = """
try:
    import hit
    time.sleep(30)
except KeyboardInterrupt:
    print(sys.modules["hit"].whole)
    print("ended")
"""
    assert run(code, tmp_path) == "True\nended\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_so(number: signal.Signals) -> None:
    program = f"{BEGIN}import signal\nos.kill(os.getpid(), {number:d})\nprint('goes on')\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert (done.stdout, done.stderr) == ("goes on\n", "")


IMPORTING = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), 2)
sys.meta_path.insert(0, Finder())
exec(compile(open(sys.argv[2]).read(), sys.argv[2], "exec"))
"""


@pytest.mark.parametrize("module", ["builder", "builder.errors", "builder.cli.table"])
def test_amid_the_imports(module: str) -> None:
    """There is nothing to be ended yet, and nothing to be said."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, module, ROOT / "builder/cli/pybuild"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in SIGNALS],
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
