"""What a fully cached build does not import: the time from start to exit is a headline figure, and imports are most of it.

Each name was measured (milliseconds above bare Python, 3.11): re 6, typing 5, json 2, enum 2, contextlib 1, datetime 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

PYBUILD = Path(sys.executable).with_name("pybuild")
GOLDEN = Path(__file__).parents[1] / "golden" / "startup"
"""The modules that a cached build may load, and those that one with an archive may besides. Python's own differ by version."""
TOO_SLOW = {
    "argparse", "contextlib", "ctypes", "dataclasses", "datetime", "encodings.ascii", "enum", "functools", "hmac",
    "inspect", "isal", "json", "lark", "logging", "math", "multiprocessing", "pathlib", "re", "requests", "select",
    "shutil", "signal", "socket", "sqlite3", "ssl", "struct", "subprocess", "tarfile", "tempfile", "threading",
    "typing", "urllib3", "zstandard",
}  # fmt: skip
SANDBOX = {"builder.sandbox", "builder.sandbox.capabilities", "builder.sandbox.rungs"}
"""What every build has of it: what the builder itself may do, as values."""
DOCKERFILE = """\
ARG WORD=base
FROM ${WORD} AS one
ENV PATH=$PATH:/opt GREETING="hello $WORD"
WORKDIR /work
COPY --chown=1:1 file .
COPY --chmod=u=rwX,go=rX file moded
COPY --link --exclude=README.md --exclude=node_modules/** . linked/
RUN cat file > copy
RUN --mount=type=cache,target=/c,mode=0700 --mount=source=file,target=/f --mount=from=base,source=/etc,target=/w \
    --mount=type=secret,id=s --mount=type=ssh --mount=type=tmpfs,target=/t cp /f /mounted
COPY <<END plain
text
END
RUN <<END
#!/bin/sh
true
END
EXPOSE 80/tcp 90
USER 1000
LABEL a=b
STOPSIGNAL SIGTERM
CMD ["cat", "copy"]
"""


def imported(command: list[str], cwd: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=cwd,
        env={**os.environ, "PYBUILD_ROOT": str(cwd / "store")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_a_cached_build_imports_little(tmp_path: Path, busybox_base: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "file").write_text("text\n")
    (context / ".dockerignore").write_text("README.md\n**/.git\nnode_modules/**\n")
    build = [
        str(PYBUILD),
        "-t",
        "little",
        "-t",
        "registry.example:5000/a/b:1",
        "--build-context",
        f"base={busybox_base}",
        "context",
    ]
    first = imported(build, tmp_path)
    assert {"re", "hashlib", "subprocess"} <= first
    # Nor has anybody else a use for what made the parser's tables.
    assert "lark" not in first
    bare = imported(["-c", "pass"], tmp_path)
    cached = imported(build, tmp_path) - bare
    assert cached & TOO_SLOW == set()
    # What is not in the list has to say why it is needed.
    allowed = set((GOLDEN / "cached.txt").read_text().split())
    assert cached - allowed == set()
    # Nor one that writes its image to an archive.
    archive = [*build[:-1], "-o", "type=oci,dest=image.tar", "context"]
    imported(archive, tmp_path)
    written = imported(archive, tmp_path) - bare
    assert written & TOO_SLOW == set()
    assert written - allowed - set((GOLDEN / "cached_archive.txt").read_text().split()) == set()
    # Who has all bases in the store has no use for registries.
    assert [name for name in cached if name.startswith(("builder.registry", "builder.http"))] == []


def test_a_cached_build_of_little_loads_no_openssl(tmp_path: Path) -> None:
    """Python's own sha256 is slower, and there at once."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (context / "file").write_text("text\n")
    build = [str(PYBUILD), "-t", "little", "context"]
    imported(build, tmp_path)
    assert {"hashlib", "_hashlib"} & imported(build, tmp_path) == set()
    (context / "file").write_bytes(bytes(1 << 20))
    assert "_hashlib" in imported(build, tmp_path)


def test_a_new_build_imports_what_it_has_a_use_for(tmp_path: Path, busybox_base: Path) -> None:
    """Who only copies has no use for a sandbox, and who runs something small for none of Python's own larger modules."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("text\n")
    (context / "Dockerfile").write_text("FROM scratch\nWORKDIR /work\nCOPY file /\n")
    build = [str(PYBUILD), "-t", "new", "--build-context", f"base={busybox_base}", "context"]
    copies = imported(build, tmp_path)
    assert "builder.engine.work" in copies
    slow = {"concurrent.futures", "logging", "select", "selectors", "socket", "tarfile", "threading", "urllib3"}
    assert copies & (slow | {"builder.engine.running", "builder.layers.folder", "builder.layers.tarreader"}) == set()
    assert [name for name in copies if name.startswith("builder.sandbox") and name not in SANDBOX] == []
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    runs = imported(build, tmp_path)
    assert "builder.sandbox.launcher" in runs
    assert runs & (slow - {"select"}) == set()


COUNTED = """
import os, sys
from builder.store.database import Database
asked = []
for name in ("one", "all"):
    def counting(self, sql, *values, ask=getattr(Database, name)):
        asked.append(sql)
        return ask(self, sql, *values)
    setattr(Database, name, counting)
end = os._exit
os._exit = lambda code: (print(len(asked), file=sys.stderr), sys.stderr.flush(), end(code))
from builder.cli.main import main
main()
"""


def asked(tmp_path: Path, *out: str) -> int:
    """How many questions a build of the context asked its store."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, "-q", "-t", "name", *out, "context"],
        cwd=tmp_path,
        env={**os.environ, "PYBUILD_ROOT": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


def test_a_build_after_a_change_asks_the_store_no_more_for_more_folders(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "src").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")

    def questions(folders: int) -> int:
        for number in range(folders):
            (context / "src" / f"{number}").mkdir(exist_ok=True)
            for name in range(210 // folders + 1):
                (context / "src" / f"{number}" / f"{name}").write_text(f"{folders} {number}")
        # Older than the grain of any time: else nothing is remembered.
        time.sleep(2.5)
        asked(tmp_path)
        (context / "src" / "0" / "0").write_text("changed")
        return asked(tmp_path)

    few = questions(2)
    assert questions(60) == few < 40
    # 64 at once.
    assert questions(450) <= few + 8


def test_a_cached_build_asks_the_store_no_more_for_more_steps(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("text\n")

    def questions(steps: int) -> int:
        """Of the third build: the first makes the layers, the second their compressed forms."""
        lines = [f"COPY file /{step}" for step in range(steps)]
        (context / "Dockerfile").write_text("\n".join(["FROM scratch", *lines]) + "\n")
        asked(tmp_path)
        archive = ("-o", "type=oci,dest=image.tar")
        asked(tmp_path, *archive)
        return asked(tmp_path, *archive)

    few = questions(3)
    assert questions(40) == few < 25
