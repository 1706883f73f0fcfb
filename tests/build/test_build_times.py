"""The two faces of a file's time (SPEC section 5): true for later steps, constant in what ships."""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from pathlib import Path

from tests.conftest import Pybuild

EPOCH = 315619200

MAKEFILE = """\
prog: a.o b.o
\tcat a.o b.o > prog
%.o: %.c
\techo compiling $<
\tcp $< $@
"""


def make_project(context: Path, *, age: float) -> None:
    """Sources as a checkout leaves them: all written `age` seconds ago."""
    context.mkdir(exist_ok=True)
    for name, text in (("Makefile", MAKEFILE), ("a.c", "a\n"), ("b.c", "b\n")):
        (context / name).write_text(text)
        os.utime(context / name, (time.time() - age,) * 2)


def compiled(stderr: str, step: int) -> list[str]:
    """Which sources the step with this number compiled."""
    lines = [line.split(None, 2) for line in stderr.splitlines() if line.startswith(f"#{step} ")]
    return [words[2].removeprefix("compiling ") for words in lines if len(words) == 3 and words[2].startswith("compiling ")]


def import_debian(pybuild: Pybuild, debian_base: Path) -> None:
    assert pybuild("import", debian_base, "debian:12").returncode == 0


def test_make_rebuilds_what_docker_would_rebuild(pybuild: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """Objects that an earlier step made are newer than their sources; a later COPY of a changed source is newer again."""
    import_debian(pybuild, debian_base)
    context = tmp_path / "context"
    make_project(context, age=3600)
    (context / "new").mkdir()
    (context / "new" / "b.c").write_text("changed\n")
    # In the future, whatever the build takes: the object that the first make writes is older.
    os.utime(context / "new" / "b.c", (time.time() + 3600,) * 2)
    (context / "Dockerfile").write_text(
        "FROM debian:12\nWORKDIR /p\nCOPY Makefile *.c ./\nRUN make -s\nRUN make -s\nCOPY new/ ./\nRUN make -s && cat prog\n"
    )
    done = pybuild("--progress=plain", "-o", f"type=tar,dest={tmp_path}/out.tar", context)
    assert done.returncode == 0, done.stderr
    assert sorted(compiled(done.stderr, 4)) == ["a.c", "b.c"]
    assert compiled(done.stderr, 5) == []
    assert compiled(done.stderr, 7) == ["b.c"]
    with tarfile.open(tmp_path / "out.tar") as tar:
        ours = {member.name: member.mtime for member in tar if member.name.startswith("p/")}
    assert ours
    assert set(ours.values()) == {EPOCH}


def test_a_cached_copy_is_looked_into_with_the_times_of_the_context(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    """First only the tar is made; then a RUN is added, and sees the context's own times, not the tar's."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("x")
    os.utime(context / "file", (1_500_000_000,) * 2)
    (context / "Dockerfile").write_text("FROM base\nCOPY file /file\n")
    flags = ["--progress=plain", "--build-context", f"base={busybox_base}"]
    assert pybuild(*flags, context).returncode == 0
    (context / "Dockerfile").write_text("FROM base\nCOPY file /file\nRUN stat -c time=%Y /file\n")
    done = pybuild(*flags, context)
    assert "#2 CACHED" in done.stderr
    assert "time=1500000000" in done.stderr, done.stderr


def test_times_from_before_the_epoch_reach_a_step_and_no_layer(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "old").write_text("x")
    os.utime(context / "old", (-86400, -86400))
    (context / "Dockerfile").write_text("FROM base\nCOPY old /old\nRUN stat -c time=%Y /old\n")
    done = pybuild(
        "--progress=plain", "--build-context", f"base={busybox_base}", "-o", f"type=tar,dest={tmp_path}/out.tar", context
    )
    assert "time=-86400" in done.stderr, done.stderr
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getmember("old").mtime == EPOCH


def test_times_that_no_index_can_hold(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """Of 64 bits of nanoseconds, which end in 2262: ext4 has times until 2446, others further ones."""
    (tmp_path / "late").write_text("")
    os.utime(tmp_path / "late", (10_000_000_000,) * 2)
    (tmp_path / "Dockerfile").write_text(
        "FROM base\nCOPY late /\nRUN stat -c %Y /late; touch -d @10000000001 /new\nRUN : > /x\n"
    )
    done = pybuild("--progress=plain", "--build-context", f"base={busybox_base}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert " 10000000000\n" in done.stderr


def test_copy_from_a_stage_brings_true_times(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM base AS a\nRUN touch -d @1400000000 /f\nFROM base\nCOPY --from=a /f /g\nRUN stat -c time=%Y /g\n"
    )
    done = pybuild("--progress=plain", "--build-context", f"base={busybox_base}", context)
    assert "time=1400000000" in done.stderr, done.stderr


def test_a_touch_alone_is_an_entry_and_ships_as_the_constant(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN echo x > /f\nRUN touch -d @1400000000 /f\nRUN true\n")
    flags = ["--build-context", f"base={busybox_base}", "-t", "touched"]
    assert pybuild(*flags, "-o", f"type=oci,tar=false,dest={tmp_path}/layout", context).returncode == 0
    history = pybuild("history", "--no-trunc", "touched").stdout.splitlines()
    sizes = {line.split("   ")[1].strip(): line for line in history[1:]}
    assert "0 B" in sizes["RUN /bin/sh -c true"]
    assert "2 B" in sizes["RUN /bin/sh -c touch -d @1400000000 /f"]


def test_a_pip_install_leaves_pycs_that_stay_valid(pybuild: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """With SOURCE_DATE_EPOCH in its environment pip's compiler writes pycs that are checked by hash (PEP 552): the constant
    times that ship do not make them stale."""
    import_debian(pybuild, debian_base)
    context = tmp_path / "context"
    (context / "pkg" / "greet").mkdir(parents=True)
    (context / "pkg" / "greet" / "__init__.py").write_text("WORD = 'hi'\n")
    (context / "pkg" / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='greet', version='1', packages=['greet'])\n"
    )
    (context / "Dockerfile").write_text(
        "FROM debian:12\nCOPY pkg /pkg\n"
        "RUN pip install --no-index --no-build-isolation --break-system-packages --root-user-action=ignore /pkg\n"
    )
    layout = tmp_path / "layout"
    done = pybuild("--progress=plain", "-o", f"type=oci,tar=false,dest={layout}", "-t", "pip", context)
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", bundle], check=True, capture_output=True)
    [pyc] = (bundle / "rootfs").glob("usr/local/lib/python3*/dist-packages/greet/__pycache__/__init__.*.pyc")
    # PEP 552: bit 0 says "hash-based", bit 1 "check the source".
    assert int.from_bytes(pyc.read_bytes()[4:8], "little") == 0b11
    used = pybuild("run", "pip", "python3", "-v", "-c", "import greet; print(greet.WORD)")
    assert used.stdout == "hi\n"
    # What the importer says when a pyc's hash is its source's (importlib's own words, python -v).
    inside = f"/{pyc.relative_to(bundle / 'rootfs')}"
    assert f"{inside} matches " in used.stderr
