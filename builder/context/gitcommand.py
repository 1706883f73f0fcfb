"""Running the host's git, cut off from the host: none of its config, hooks, helpers, prompts and credentials.

Repositories and servers are hostile. What holds them: a home of our own with nothing but our config, an environment made from
nothing, only the protocols http, https, git and ssh (submodules included, `ext::` and `file://` not), no hooks, no filters, no
prompt, a limit of time for each command, and the kill of the whole process group. What does **not** hold them: git runs with
the builder's own rights, and what it unpacks may fill the disk.
"""

from __future__ import annotations

import os
import shlex
import time
from contextlib import contextmanager, suppress

from builder.errors import BuildError, RegistryError
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.cancellation import Cancellation
    from builder.context.access import Access

TIMEOUT = 3600.0
"""Seconds that one command may take."""
OUTPUT_LIMIT = 256 << 20
"""Bytes of its output that are read."""
_STDERR_LIMIT = 64 << 10

_CONFIG = """\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\taskPass =
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tautocrlf = false
\tsymlinks = true
\tfileMode = true
\tbare = false
[credential]
\thelper =
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\trecurseSubmodules = false
\twriteCommitGraph = false
[transfer]
\tbundleURI = false
[pack]
\twriteReverseIndex = false
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 60
"""


class GitFailed(Exception):
    """A command ended with an error. `said` is what it wrote to stderr."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    def mentions(self, *words: str) -> bool:
        return any(word in self.said for word in words)


class Git:
    """git for one remote. `folder` is private, and holds the repository `folder/git` once `init` made it."""

    def __init__(self, url: str, folder: str, access: Access) -> None:
        self.shown = redact(url)
        self.url, secret = _without_credentials(url)
        self.folder = folder
        self.repository = os.path.join(folder, "git")
        home = os.path.join(folder, "home")
        os.makedirs(home, 0o700, exist_ok=True)
        with open(os.path.join(home, ".gitconfig"), "w", encoding="utf-8") as file:
            file.write(_CONFIG)
        self._env = _environment(home, folder, access)
        self._stop = access.stop
        if secret:
            # By the environment: arguments are seen by every user of the machine, and a file would outlive a crash.
            scope = "/".join(self.url.split("/")[:3])
            self._env |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{scope}/.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secret}",
            }

    def init(self, *, sha256: bool) -> None:
        """Make the empty repository; further commands work in it."""
        form = ("--object-format=sha256",) if sha256 else ()
        self.run("init", "--quiet", "--bare", "--template=", *form, self.repository)
        self._env["GIT_DIR"] = self.repository
        with open(os.path.join(self.repository, "config"), "ab") as file:
            # Submodules whose URL is relative are looked for from here.
            file.write(b"[core]\n\tbare = false\n" + remote_section(self.url))

    def run(self, *arguments: str, work_tree: str = "", stdin: bytes = b"") -> bytes:
        """What the command writes to stdout. Raises GitFailed, RegistryError when it takes too long, and BuildError where
        there is no git."""
        with self.output(*arguments, work_tree=work_tree, stdin=stdin) as path, open(path, "rb") as file:
            return file.read(OUTPUT_LIMIT)

    @contextmanager
    def output(self, *arguments: str, work_tree: str = "", stdin: bytes = b"") -> Iterator[str]:
        """As `run`, but the output is a file, which is removed at the end of the block."""
        paths = [os.path.join(self.folder, name) for name in ("stdin", "stdout", "stderr")]
        with open(paths[0], "wb") as file:
            file.write(stdin)
        try:
            env = {**self._env, "GIT_WORK_TREE": work_tree} if work_tree else self._env
            code = _wait(("git", *arguments), env, work_tree or self.folder, paths, self._stop)
            if code:
                with open(paths[2], "rb") as file:
                    raise GitFailed(file.read(_STDERR_LIMIT).decode("utf-8", "replace"))
            yield paths[1]
        finally:
            for path in paths:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def failure(self, failed: GitFailed) -> RegistryError:
        """The error for the user."""
        reason = _reason(failed.said)
        hint = next((hint for words, hint in _HINTS if any(word in failed.said for word in words)), "check the URL")
        return RegistryError(f"git cannot fetch {self.shown}: {reason}", hint=hint)


def remote_section(url: str) -> bytes:
    """The lines of a git config that make `url` the remote `origin` (git-config(1), "Syntax")."""
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    return f'[remote "origin"]\n\turl = "{quoted}"\n'.encode("utf-8", "surrogateescape")


_HINTS = (
    (("not allowed",), "only http, https, git and ssh are; a submodule may have asked for another one"),
    (
        ("could not read Username", "could not read Password", "Authentication failed", "error: 401", "error: 403"),
        "only the credentials that the URL has are sent",
    ),
    (
        ("Host key verification failed",),
        "tell ssh the key of the host: ssh-keyscan HOST >> ~/.ssh/known_hosts",
    ),
    (
        ("Permission denied",),
        "give the build your ssh agent (--ssh default), and that a key which the server knows (ssh-add -l)",
    ),
    (("cannot run ssh",), "install ssh, as by: apt-get install openssh-client"),
    (("Could not resolve host", "Name or service not known", "unable to look up"), "check the host's name and the network"),
    (("unable to access", "Connection refused", "unable to connect"), "check the URL, and the network"),
)


def _environment(home: str, folder: str, access: Access) -> dict[str, str]:
    # StrictHostKeyChecking=yes: nobody is there to be asked, and an unknown host could be anyone.
    ssh = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentityFile=none"]
    ssh += ["-o", "ConnectTimeout=30", "-o", f"UserKnownHostsFile={access.known_hosts or 'none'}"]
    env = {
        "PATH": access.path,
        "HOME": home,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": shlex.join(ssh),
        # The store may lie inside somebody's checkout.
        "GIT_CEILING_DIRECTORIES": os.path.dirname(folder),
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if access.ssh_auth_sock:
        env["SSH_AUTH_SOCK"] = access.ssh_auth_sock
    return env | dict(access.proxies)


def _wait(argv: Sequence[str], env: dict[str, str], cwd: str, paths: Sequence[str], stop: Cancellation) -> int:
    """Run to the end; the exit code. `paths`: files for stdin, stdout and stderr."""
    import select
    import shutil
    import signal
    import subprocess

    program = shutil.which(argv[0], path=env["PATH"])
    if program is None:
        raise BuildError("git is not installed, and a repository is to be fetched", hint="install it: apt-get install git")
    with open(paths[0], "rb") as stdin, open(paths[1], "wb") as stdout, open(paths[2], "wb") as stderr:
        process = subprocess.Popen(
            [program, *argv[1:]],
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=0o022,
        )
    try:
        ended = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            with stop.ending(lambda: os.killpg(process.pid, signal.SIGKILL)):
                deadline = time.monotonic() + TIMEOUT
                # By ticks: a signal that comes just before the system call does not end it.
                while not (in_time := bool(poll.poll(500))) and time.monotonic() < deadline:
                    continue
            stop.check()
            if not in_time:
                raise RegistryError(f"git {argv[1]} took longer than {TIMEOUT:.0f} s", hint="the server is too slow: try again")
        finally:
            os.close(ended)
    finally:
        # Before its id is free for others: what it started is in its group, and must end, too.
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return code


def _without_credentials(url: str) -> tuple[str, str]:
    """An http URL without user and password, and these as Basic authentication has them; others as they are."""
    if not url.startswith(("http://", "https://")):
        return url, ""
    import base64
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


def _reason(said: str) -> str:
    """The line of stderr that says most, cut to a readable length."""
    lines = [line.strip() for line in said.replace("\r", "\n").split("\n") if line.strip()]
    for mark in ("transport '", "fatal: ", "ERROR: ", "error: "):
        for number, line in enumerate(lines):
            if mark in line:
                text = line.removeprefix("fatal: ").removeprefix("error: ")
                if text.endswith(":") and number + 1 < len(lines):
                    # `unable to connect to HOST:`, and why on the next line.
                    text = f"{text} {lines[number + 1]}"
                return text[:300]
    return (lines[-1] if lines else "git said nothing")[:300]
