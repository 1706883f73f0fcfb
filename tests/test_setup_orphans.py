"""The control of what looks for leftovers: a fork server whose builder is gone is seen, one whose builder lives is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT, is_orphaned_server

# It sleeps, and has the arguments of a fork server.
SERVER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)", str(ROOT / "builder" / "sandbox" / "main.py")]


def test_a_server_whose_builder_lives_is_no_orphan() -> None:
    with subprocess.Popen(SERVER) as server:
        time.sleep(0.05)
        assert not is_orphaned_server(Path(f"/proc/{server.pid}"))
        server.kill()


def test_a_server_whose_builder_is_gone_is_one() -> None:
    # The shell ends at once, and somebody else becomes the parent.
    shell = ["sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *SERVER]
    server = int(subprocess.run(shell, capture_output=True, text=True, check=True, timeout=20).stdout)
    try:
        deadline = time.monotonic() + 5
        while not is_orphaned_server(Path(f"/proc/{server}")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(server, signal.SIGKILL)
