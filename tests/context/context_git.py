"""Real git repositories, and git's own server for them on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Nothing of the developer's own settings, and the same commits each time.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_AUTHOR_DATE": "1594030272 +0200",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@d",
    "GIT_COMMITTER_DATE": "1594030272 +0000",
}
COMMITTED = 1594030272


def git(folder: Path, *arguments: str | Path, stdin: bytes = b"") -> str:
    """What git says, without the last line end."""
    done = subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")


class Repository:
    """A repository with a work tree, and `bare`, the one that is served; `publish` brings that up to date."""

    def __init__(self, folder: Path, bare: Path, *init: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.bare = bare
        self("init", "--quiet", "--initial-branch=main", *init)

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        return git(self.folder, *arguments, stdin=stdin)

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "message") -> str:
        """Write and commit the files: `-> x` makes a link, `#!` a program, None removes; the id."""
        for name, data in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                path.unlink()
            elif isinstance(data, str) and data.startswith("-> "):
                path.symlink_to(data[3:])
            else:
                path.write_bytes(data.encode() if isinstance(data, str) else data)
                path.chmod(0o700 if path.read_bytes().startswith(b"#!") else 0o600)
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "-m", message)
        return self("rev-parse", "HEAD")

    def tree(self, *lines: str) -> str:
        """A commit, on main, of a tree that `git mktree` makes of these lines: `<mode> <type> <id>\\t<name>`."""
        tree = self("mktree", "--missing", stdin="".join(f"{line}\n" for line in lines).encode())
        commit = self("commit-tree", "-m", "by hand", tree)
        self("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, text: str) -> str:
        return self("hash-object", "-w", "--stdin", stdin=text.encode())

    def publish(self) -> None:
        if not self.bare.exists():
            git(self.folder, "clone", "--quiet", "--bare", self.folder, self.bare)
        else:
            self("push", "--quiet", "--force", "--mirror", self.bare)
        git(self.bare, "update-server-info")


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """`git daemon` for the repositories in `folder`; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True)
    try:
        for _ in range(500):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.01)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.communicate()
