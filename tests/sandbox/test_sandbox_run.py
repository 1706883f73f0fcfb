"""What a person sees of one command: its code, its output, its errors, its surroundings."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import threading

import pytest
from sandbox_room import Room, eventually, server_of

from builder.errors import Interrupted
from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import BindMount, FileMount, Outcome, ScriptMount, TmpfsMount


def test_exit_code_and_output(room: Room, launcher: Launcher) -> None:
    outcome, written = room.sh(launcher, "echo hello; exit 42")
    assert (outcome.code, outcome.signal, outcome.exec_error, outcome.failed_at) == (42, 0, 0, "")
    assert written == "hello\n"


def test_a_signal_ends_the_command(room: Room, launcher: Launcher) -> None:
    # From inside, PID 1 cannot be killed by a signal that it does not handle; a fault is the kernel's own.
    outcome, _ = room.python(launcher, "import ctypes; ctypes.string_at(0)")
    assert (outcome.code, outcome.signal) == (128 + signal.SIGSEGV, signal.SIGSEGV)


def test_pid_1_is_the_command(room: Room, launcher: Launcher) -> None:
    assert room.sh(launcher, "echo $$")[1] == "1\n"


def test_both_streams_keep_their_order(room: Room, launcher: Launcher) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    assert room.sh(launcher, script)[1] == "".join(f"out {i}\nerr {i}\n" for i in range(200))


def test_much_output_arrives_whole(room: Room, launcher: Launcher) -> None:
    assert room.sh(launcher, "head -c 3000000 /dev/zero | tr '\\0' x")[1] == "x" * 3000000


def test_stdin_is_empty(room: Room, launcher: Launcher) -> None:
    assert room.sh(launcher, "cat; readlink /proc/self/fd/0")[1] == "/dev/null\n"


def test_own_streams(room: Room, launcher: Launcher) -> None:
    read_end, write_end = os.pipe()
    in_read, in_write = os.pipe()
    os.write(in_write, b"typed\n")
    os.close(in_write)
    outcome = launcher.run(room.spec("cat", stdin="inherit"), stdio=(in_read, write_end, write_end))
    os.close(write_end)
    os.close(in_read)
    assert outcome.code == 0
    assert os.read(read_end, 100) == b"typed\n"
    assert os.read(read_end, 100) == b""
    os.close(read_end)


def test_user_groups_and_its_own_stdout(room: Room, launcher: Launcher) -> None:
    outcome, written = room.sh(
        launcher, "id; echo again > /dev/stdout; echo err > /dev/stderr", uid=1000, gid=50, groups=(7, 8)
    )
    assert outcome.code == 0
    assert written == "uid=1000 gid=50 groups=7,8\nagain\nerr\n"


def test_root_has_no_groups_of_the_builder(room: Room, launcher: Launcher) -> None:
    assert room.sh(launcher, "id -G")[1] == "0\n"


def test_the_environment_is_the_specs_alone(room: Room, launcher: Launcher) -> None:
    os.environ["PYBUILD_TEST_LEAK"] = "1"
    try:
        _, written = room.run(launcher, "env", env=(("PATH", "/bin"), ("A", "b c"), ("UML", "ä"), ("RAW", "\udcff")))
    finally:
        del os.environ["PYBUILD_TEST_LEAK"]
    assert sorted(written.splitlines()) == ["A=b c", "PATH=/bin", "RAW=\udcff", "UML=ä"]


def test_surroundings_do_not_come_from_the_builder(room: Room) -> None:
    old = os.umask(0o077)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Launcher() as launcher:
            _, written = room.sh(
                launcher, "umask; hostname; pwd; ulimit -n; ulimit -c; grep -h Sig /proc/self/status; ls -ld /dev"
            )
    finally:
        os.umask(old)
        signal.signal(signal.SIGHUP, previous)
    lines = written.splitlines()
    assert lines[:5] == ["0022", "pybuild", "/", "1024", "0"]
    # Nothing blocked, nothing ignored: a Python parent ignores SIGPIPE, nohup SIGHUP.
    assert [line for line in lines if line.startswith(("SigBlk", "SigIgn"))] == [
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
    ]
    assert lines[-1].startswith("drwxr-xr-x")


def test_only_three_descriptors_are_open(room: Room) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    try:
        with Launcher() as launcher:
            _, written = room.sh(launcher, "ls /proc/$$/fd; true")
    finally:
        os.close(read_end)
        os.close(write_end)
    assert written.split() == ["0", "1", "2"]


def test_no_descriptor_is_left_in_builder_or_server(room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true")
    server = server_of(os.getpid())
    pid = os.getpid()
    eventually(lambda: len(os.listdir(f"/proc/{server}/fd")) == SERVER_DESCRIPTORS)
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(5):
        room.sh(launcher, "echo x")
        room.run(launcher, "no-such-command")
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
    # The server closes its end of a channel after the last word.
    eventually(lambda: len(os.listdir(f"/proc/{server}/fd")) == SERVER_DESCRIPTORS)


# Three streams, its socket, its own pidfd.
SERVER_DESCRIPTORS = 5


# The command cannot be started


def failed(outcome: Outcome) -> tuple[int, int, str]:
    return outcome.code, outcome.exec_error, outcome.failed_at


def test_a_missing_command_is_not_an_exit_code(room: Room, launcher: Launcher) -> None:
    assert failed(room.run(launcher, "no-such-command")[0]) == (127, errno.ENOENT, "exec")
    assert failed(room.sh(launcher, "exit 127")[0]) == (127, 0, "")
    assert failed(room.sh(launcher, "exit 126")[0]) == (126, 0, "")


def test_commands_that_cannot_start(room: Room, launcher: Launcher) -> None:
    room.write("bin/not-executable", "#!/bin/sh\n", 0o644)
    room.write("bin/no-program", "echo a script without its first line\n", 0o755)
    room.write("bin/lost-interpreter", "#!/no/such/sh\n", 0o755)
    assert failed(room.run(launcher, "not-executable")[0]) == (126, errno.EACCES, "exec")
    assert failed(room.run(launcher, "/bin/not-executable")[0]) == (126, errno.EACCES, "exec")
    assert failed(room.run(launcher, "no-program")[0]) == (126, errno.ENOEXEC, "exec")
    assert failed(room.run(launcher, "lost-interpreter")[0]) == (127, errno.ENOENT, "exec")
    assert failed(room.run(launcher, "/etc")[0]) == (126, errno.EACCES, "exec")
    assert failed(room.run(launcher, "")[0]) == (127, errno.ENOENT, "exec")
    assert failed(room.run(launcher, "sh", "x" * 200_000)[0]) == (126, errno.E2BIG, "exec")


def test_path_is_searched_in_the_root(room: Room, launcher: Launcher) -> None:
    room.write("one/tool", "", 0o644)
    room.write("two/tool", "#!/bin/sh\necho two\n", 0o755)
    room.write("three/tool", "#!/bin/sh\necho three\n", 0o755)
    path = (("PATH", "/one:/etc/hosts:/nope:/two:/three"),)
    assert room.run(launcher, "tool", env=path)[1] == "two\n"
    # An empty element is the current folder.
    assert room.run(launcher, "tool", env=(("PATH", "/nope:"),), cwd="/three")[1] == "three\n"
    # Without PATH, Docker's own default.
    assert room.run(launcher, "echo", "found", env=())[1] == "found\n"
    assert failed(room.run(launcher, "echo", env=(("PATH", ""),))[0]) == (127, errno.ENOENT, "exec")


def test_a_missing_folder(room: Room, launcher: Launcher) -> None:
    assert failed(room.sh(launcher, "true", cwd="/nope")[0]) == (126, errno.ENOENT, "cwd")
    assert failed(room.sh(launcher, "true", cwd="/etc/hosts")[0]) == (126, errno.ENOTDIR, "cwd")


def test_a_folder_only_root_may_enter(room: Room, launcher: Launcher) -> None:
    os.chmod(room.path("root"), 0o700)
    outcome, written = room.sh(launcher, "pwd", cwd="/root", uid=1000, gid=1000)
    assert (outcome.code, written) == (0, "/root\n")


# Mounts of the spec


def test_mounts_in_their_order(room: Room, launcher: Launcher) -> None:
    for name in ("readonly", "writable", "tmp/over"):
        os.makedirs(os.path.join(room.folder, "host", name))
    for name in ("ro", "rw"):
        os.makedirs(room.path(name))
    os.makedirs(os.path.join(room.folder, "host", "readonly", "inner"))
    host = os.path.join(room.folder, "host")
    mounts = (
        BindMount(host + "/readonly", "/ro"),
        TmpfsMount("/ro/inner", size=1 << 20, mode=0o750),
        BindMount(host + "/writable", "/rw", readonly=False),
        FileMount("/etc/hosts", b"127.0.0.1 localhost\n", 0o640),
    )
    script = (
        "touch /ro/x; touch /ro/inner/y; touch /rw/z; stat -c %a /ro/inner; cat /etc/hosts; stat -c %a /etc/hosts;"
        "echo more >> /etc/hosts; rm /etc/hosts; df -k /ro/inner | tail -n 1 | awk '{print $2}'"
    )
    _, written = room.sh(launcher, script, mounts=mounts)
    assert written.splitlines() == [
        "touch: /ro/x: Read-only file system",
        "750",
        "127.0.0.1 localhost",
        "640",
        "rm: can't remove '/etc/hosts': Device or resource busy",
        "1024",
    ]
    assert os.listdir(host + "/writable") == ["z"]
    assert os.listdir(host + "/readonly") == ["inner"]
    assert os.listdir(host + "/readonly/inner") == []


def test_the_upper_holds_the_commands_own_output_alone(room: Room, launcher: Launcher) -> None:
    spec = room.spec("sh", "-c", "echo x > /tmp/new", mounts=(FileMount("/etc/hosts", b"x"),))
    assert launcher.run(spec).code == 0
    found = sorted(
        os.path.join(at, name)[len(spec.upper) :] for at, dirs, files in os.walk(spec.upper) for name in dirs + files
    )
    assert found == ["/tmp", "/tmp/new"]


def test_a_missing_mount_point_is_named(room: Room, launcher: Launcher) -> None:
    outcome, _ = room.sh(launcher, "true", mounts=(TmpfsMount("/nope"),))
    assert failed(outcome) == (125, errno.ENOENT, "mount /nope")


def test_a_missing_mount_point_is_made_in_another_mount_and_below_dev_alone(room: Room, launcher: Launcher) -> None:
    cache = os.path.join(room.folder, "cache")
    os.mkdir(cache)
    mounts = (
        BindMount(cache, "/mnt", readonly=False),
        TmpfsMount("/mnt/a/b"),
        FileMount("/mnt/a/file", b"x"),
        TmpfsMount("/tmp"),
        BindMount(cache, "/tmp/c/cache"),
        FileMount("/dev/made/file", b"y"),
        ScriptMount("/dev/pipes/script", b"#!/bin/sh\necho script\n"),
        TmpfsMount("/dev/shm", size=1 << 16),
    )
    spec = room.spec("sh", "-c", "cat /mnt/a/file /dev/made/file; ls /tmp/c/cache/a; /dev/pipes/script", mounts=mounts)
    written: list[bytes] = []
    assert (launcher.run(spec, output=written.append).code, b"".join(written)) == (0, b"xyb\nfile\nscript\n")
    assert os.listdir(spec.upper) == []
    assert (sorted(os.listdir(cache + "/a")), os.stat(cache + "/a").st_mode & 0o7777) == (["b", "file"], 0o755)


@pytest.mark.parametrize("link", ["/etc", "../../../../etc", "/proc/self/fd/9", "/proc/self/fd/3", "loop"])
def test_a_link_in_a_mount_leads_nowhere_else(room: Room, launcher: Launcher, link: str) -> None:
    """A mount inside a cache whose command left a link: nothing is made in the image, nothing reaches the host."""
    cache = os.path.join(room.folder, "cache")
    os.mkdir(cache)
    os.symlink(link, cache + "/loop")
    name = "pybuild-" + secrets.token_hex(8)
    spec = room.spec("true", mounts=(BindMount(cache, "/mnt", readonly=False), TmpfsMount(f"/mnt/loop/{name}")))
    outcome = launcher.run(spec)
    assert (outcome.code, outcome.failed_at) == (125, f"mount /mnt/loop/{name}")
    assert outcome.exec_error in (errno.ENOENT, errno.ELOOP)
    assert (os.listdir(spec.upper), os.listdir(cache)) == ([], ["loop"])
    # Other tests make users meanwhile: what /etc holds else may change.
    assert not os.path.lexists(f"/etc/{name}")


def test_what_is_written_to_an_overlay_is_in_its_upper(room: Room, launcher: Launcher) -> None:
    room.write("mnt/file", "hidden")
    mount = room.overlay("stage", "/mnt", "inner", readonly=False)
    single = room.overlay("stage", "/mnt/there/one", "inner/file")
    script = "echo more >> /mnt/file; cat /mnt/file /mnt/there/one; rm /mnt/link; mknod /mnt/null c 1 3; head -c 1 /mnt/null"
    _, written = room.sh(launcher, script, mounts=(mount, single))
    assert written.splitlines() == ["stage", "more", "stage", "head: /mnt/null: Permission denied"]
    with open(mount.lowers[1] + "/inner/file", encoding="utf-8") as file:
        assert file.read() == "stage\n"
    assert sorted(os.listdir(mount.upper + "/inner")) == ["file", "link", "null", "there"]


@pytest.mark.parametrize("source", ["link", "none", "../inner"])
def test_a_source_that_is_not_there_or_a_link(room: Room, launcher: Launcher, source: str) -> None:
    outcome, _ = room.sh(launcher, "true", mounts=(room.overlay("stage", "/mnt", f"inner/{source}"),))
    assert (outcome.code, outcome.failed_at.split()[0]) == (125, "prepare")


def test_a_file_has_its_owner(room: Room, launcher: Launcher) -> None:
    mounts = (FileMount("/etc/hosts", b"secret\n", 0o440, 1000, 1001, readonly=True),)
    script = "stat -c '%a %u %g' /etc/hosts; cat /etc/hosts; chmod 777 /etc/hosts"
    outcome, written = room.sh(launcher, script, mounts=mounts, uid=7, gid=1001)
    assert (outcome.code, written.splitlines()) == (1, ["440 1000 1001", "secret", "chmod: /etc/hosts: Read-only file system"])
    assert "secret" not in repr(mounts[0])


def test_the_server_has_nothing_of_the_builders_environment(room: Room, launcher: Launcher) -> None:
    assert os.environ
    assert room.sh(launcher, "true")[0].code == 0
    with open(f"/proc/{server_of(os.getpid())}/environ", "rb") as file:
        assert file.read() == b""


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_for_a_mount_point_is_refused(room: Room, launcher: Launcher, name: str) -> None:
    os.rmdir(room.path(name))
    os.symlink("tmp", room.path(name))
    outcome, _ = room.sh(launcher, "true")
    assert failed(outcome) == (125, errno.ELOOP, f"mount /{name}")


def test_the_same_layer_twice_counts_where_it_is_higher(room: Room, launcher: Launcher) -> None:
    for name, text in (("a", "from a"), ("b", "from b")):
        os.makedirs(os.path.join(room.folder, name))
        with open(os.path.join(room.folder, name, "file"), "w", encoding="utf-8") as file:
            file.write(text)
    a, b = (os.path.join(room.folder, name) for name in "ab")
    assert room.sh(launcher, "cat /file", lowers=(a, b, a + "/", room.rootfs))[1] == "from a"


# Several at once, and the end of all


def test_threads_run_side_by_side(room: Room, launcher: Launcher) -> None:
    # Each waits for the other through a pipe in a shared folder: one after the other would never end.
    shared = os.path.join(room.folder, "shared")
    os.mkdir(shared)
    for name in ("ping", "pong"):
        os.mkfifo(os.path.join(shared, name))
    mount = (BindMount(shared, "/mnt", readonly=False),)
    scripts = ("echo one > /mnt/ping; cat /mnt/pong", "cat /mnt/ping; echo two > /mnt/pong")
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda s=script: results.append(room.sh(launcher, s, mounts=mount)[1])) for script in scripts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["one\n", "two\n"]


def test_close_ends_a_run_of_another_thread(room: Room) -> None:
    began = threading.Event()
    errors: list[BaseException] = []
    launcher = Launcher()
    spec = room.spec("sh", "-c", "trap '' TERM INT HUP; echo here; while :; do sleep 1000; done")

    def run() -> None:
        try:
            launcher.run(spec, output=lambda data: began.set())
        except Interrupted as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(30)
    launcher.close()
    thread.join(30)
    assert [type(error) for error in errors] == [Interrupted]
    with pytest.raises(Interrupted):
        launcher.run(room.spec("true"))


def test_an_error_of_the_reader_ends_the_command(room: Room, launcher: Launcher) -> None:
    def refuse(data: bytes) -> None:
        raise ValueError(data.decode())

    spec = room.spec("sh", "-c", "trap '' TERM; echo pybuild-test-reader; while :; do sleep 54321; done")
    with pytest.raises(ValueError, match="pybuild-test-reader"):
        launcher.run(spec, output=refuse)
    assert room.sh(launcher, "echo the launcher works on")[1] == "the launcher works on\n"
