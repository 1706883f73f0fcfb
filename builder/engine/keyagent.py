"""OpenSSH's ssh-agent with keys from files, for RUN --mount=type=ssh: begun for one build, and ended with it."""

from __future__ import annotations

import os
import shutil
import subprocess

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store.store import Scratch

_SECONDS = 30.0
"""What ssh-agent may take to end, and ssh-add to give it a key."""
_KEY_LIMIT = 100 << 10
"""Bytes of a key file, as buildx has it."""


class KeyAgent:
    """OpenSSH's ssh-agent, with keys from files, for as long as this object is open.

    It is told to end by a command that it started, which waits for the end of its input: of this process, that is, however it
    ends. (PDEATHSIG is no help: Debian's ssh-agent is a setgid program, and exec(2) of one clears it.)
    """

    def __init__(self, scratch: Scratch, path: str) -> None:
        self._scratch = scratch
        self._path = path
        self._folder = scratch.__enter__()
        self.socket = os.path.join(self._folder, "agent")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        # Names relative to the folder: a path to a socket has 108 bytes at most (unix(7)).
        command = [self._program("ssh-agent"), "-a", "agent", "/bin/sh", "-c", 'echo; cat; kill "$SSH_AGENT_PID"']
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env={"PATH": self._path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        if not self._process.stdout.readline():
            raise UsageError(f"ssh-agent does not begin: {_last_line(self._process.stderr.read())}")

    def add(self, path: str) -> None:
        """Raises UsageError for a file that is no private key, or an encrypted one."""
        try:
            with open(path, "rb") as file:
                key = file.read(_KEY_LIMIT + 1)
        except OSError as error:
            raise UsageError(f"the ssh key '{path}' cannot be read: {error.strerror}") from error
        if len(key) > _KEY_LIMIT:
            raise UsageError(f"'{path}' is too large for an ssh key: {_KEY_LIMIT} bytes are allowed")
        # By stdin, so that a copy of the key lies nowhere, and a key that others may read, as in many a CI, is taken.
        env = {"PATH": self._path, "SSH_AUTH_SOCK": "agent", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                [self._program("ssh-add"), "-q", "-"],
                cwd=self._folder,
                env=env,
                input=key,
                capture_output=True,
                start_new_session=True,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"ssh-add took longer than {_SECONDS:.0f} s for the key '{path}'") from None
        if done.returncode:
            raise UsageError(
                f"ssh-add does not take the key '{path}': {_last_line(done.stderr)}",
                hint="it must be a private key without a passphrase; others go into an agent, for --ssh default",
            )

    def close(self) -> None:
        process, self._process = self._process, None
        try:
            if process is not None:
                _end(process)
        finally:
            self._scratch.__exit__(None, None, None)

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self._path)
        if found is None:
            raise UsageError(f"{name} is not installed, and --ssh has key files", hint="apt-get install openssh-client")
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it says nothing"
