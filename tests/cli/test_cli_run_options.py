"""The options of `pybuild run`, by what the command sees. Expectations are of docker run's reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Pybuild

LINK = "RUN ln -s /data /link && echo jane:x:77:77::/home/jane:/bin/sh >> /etc/passwd"


@pytest.fixture
def app(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> str:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f'FROM base\n{LINK}\nENV A=one B=two\nWORKDIR /work\nENTRYPOINT ["echo", "entry"]\nCMD ["cmd"]\n'
    )
    done = pybuild("-q", "-t", "app", "--build-context", f"base={busybox_base}", context)
    assert done.returncode == 0, done.stderr
    return "app"


def run(pybuild: Pybuild, *args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = pybuild("run", *args, env=env, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def sh(pybuild: Pybuild, *args: str, script: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    return run(pybuild, *args, "--entrypoint", "sh", "app", "-c", script, env=env, cwd=cwd)


def refused(pybuild: Pybuild, *args: str, code: int = 2) -> str:
    done = pybuild("run", *args, "app")
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_entrypoint(pybuild: Pybuild, app: str) -> None:
    assert run(pybuild, app) == "entry cmd\n"
    # The image's CMD was for the image's ENTRYPOINT.
    assert run(pybuild, "--entrypoint", "echo", app) == "\n"
    assert run(pybuild, "--entrypoint", "echo", app, "a", "b") == "a b\n"
    assert run(pybuild, "--entrypoint", "", app, "echo", "c") == "c\n"
    assert "the image has no command" in refused(pybuild, "--entrypoint=")


def test_variables(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    script = 'echo "$A $B $C ${D-unset} $HOME"'
    env = {"C": "from here"}
    assert (
        sh(pybuild, "-e", "A=1", "--env=B=x=y z", "-e", "C", "-e", "D", script=script, env=env)
        == "1 x=y z from here unset /root\n"
    )
    file = tmp_path / "file"
    file.write_text("# comment\n\nA='quoted'\n  B=  two  \r\nC\nD=\n")
    assert sh(pybuild, "--env-file", str(file), script=f'{script}; echo "[$B]"', env=env) == (
        "'quoted'   two   from here  /root\n[  two  ]\n"
    )
    assert sh(pybuild, "--env-file", str(file), "-e", "A=flag", script="echo $A") == "flag\n"
    file.write_text("A=1\nB C=2\n")
    assert f"{file}:2: 'B C' is no name of a variable" in refused(pybuild, f"--env-file={file}")
    assert "of --env-file cannot be read: No such file" in refused(pybuild, "--env-file=/nowhere")
    assert "'=x' is not a value of '-e'" in refused(pybuild, "-e", "=x")


def test_who_and_where(pybuild: Pybuild, app: str) -> None:
    script = "id -u; id -g; pwd; echo $HOME"
    assert sh(pybuild, script=script) == "0\n0\n/work\n/root\n"
    assert sh(pybuild, "-u", "jane", "-w", "/tmp", script=script) == "77\n77\n/tmp\n/home/jane\n"
    assert sh(pybuild, "--user=5:6", script=script) == "5\n6\n/work\n/\n"
    assert "did you mean 'jane'?" in refused(pybuild, "-u", "jan", code=1)
    for path in ("/etc/passwd", "/etc/passwd/x"):
        told = refused(pybuild, "-w", path, code=126)
        assert f"cannot run in '{path}': Not a directory" in told and "what --workdir says" in told
    assert "'work' of --workdir is no absolute path" in refused(pybuild, "-w", "work")


def test_folders_of_the_host(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "in").write_text("host\n")
    assert sh(pybuild, "-v", f"{data}:/data", script="cat /data/in; echo new > /data/out") == "host\n"
    assert (data / "out").read_text() == "new\n"
    # A path that begins with a dot counts from here; a single file; read-only; a target that the image lacks.
    done = pybuild("run", "-v", "./data:/a/b/c:ro", "--entrypoint", "touch", app, "/a/b/c/x", cwd=tmp_path)
    assert done.returncode == 1 and "Read-only file system" in done.stderr and not (data / "x").exists()
    assert sh(pybuild, "-v", f"{data}/in:/etc/one:z,ro", script="cat /etc/one") == "host\n"
    # A link of the image leads to a place in the image, never on the host.
    assert sh(pybuild, "-v", f"{data}:/link", script="ls /data; readlink /link") == "in\nout\n/data\n"
    # Nothing of it is in the image.
    assert sh(pybuild, script="ls /a /etc/one 2>&1 || true").count("No such file") == 2


def test_wrong_folders(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    for value, message in (
        ("/x", "'/x' is not a value of '--volume'"),
        ("name:/x", "'name' of --volume is the name of a volume"),
        (f"{tmp_path}/none:/x", "none' of --volume is not there"),
        (f"{tmp_path}:x", "'x' of --volume is no absolute path"),
        (f"{tmp_path}:/x:shared", "the option 'shared' of"),
        (f"{tmp_path}:/", "nothing can be mounted at '/'"),
        (f"{tmp_path}:/proc/x", "the sandbox has its own /proc"),
        (f"{tmp_path}:/etc/passwd", "a folder cannot be mounted at '/etc/passwd', where the image has a file"),
    ):
        told = refused(pybuild, "-v", value)
        assert message in told and "hint: " in told, told
    assert "two mounts have the target" in refused(pybuild, "-v", f"{tmp_path}:/x", "-v", f"{tmp_path}:/x")
    assert not (tmp_path / "none").exists()


def test_a_root_that_is_read_only(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    script = (
        "for p in /new /etc/passwd /work/x /tmp/x /dev/shm/x /data/x /mem/x; do echo x 2>/dev/null >> $p && echo $p; done; true"
    )
    everything = ["/new", "/etc/passwd", "/work/x", "/tmp/x", "/dev/shm/x", "/data/x", "/mem/x"]
    flags = ("-v", f"{tmp_path}:/data", "--tmpfs", "/mem:size=1m,mode=700")
    assert sh(pybuild, *flags, script=script).split() == everything
    assert sh(pybuild, "--read-only", *flags, script=script).split() == everything[4:]
    assert sh(pybuild, "--read-only", script="touch /x 2>&1 || true") == "touch: /x: Read-only file system\n"
    assert sh(pybuild, *flags, script="stat -c %a /mem; df -k /mem | tail -1 | awk '{print $2}'") == "700\n1024\n"
    assert "the option 'noexec' of '--tmpfs /x:noexec' is not built" in refused(pybuild, "--tmpfs", "/x:noexec")


def test_names(pybuild: Pybuild, app: str) -> None:
    script = "hostname; cat /etc/hostname; echo $HOSTNAME; grep -c box.example /etc/hosts; grep other /etc/hosts"
    assert sh(pybuild, "--hostname=box.example", "--add-host", "other:10.1.2.3", script=script) == (
        "box.example\nbox.example\nbox.example\n1\n10.1.2.3\tother\n"
    )
    for name in ("a b", "-a", "a\nb", "x" * 65):
        assert "is no host name" in refused(pybuild, f"--hostname={name}")


def test_what_is_not_built_is_named(pybuild: Pybuild, app: str) -> None:
    for flag in ("-d", "-p=80:80", "--name=x"):
        assert "not built yet" in refused(pybuild, flag)
