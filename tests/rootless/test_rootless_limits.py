"""What a sandbox with a single uid cannot do, which it says, and what its supervisor must not do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.rootless.rootless_users import UserPybuild
from tests.rootless.test_rootless_hardening import ESCAPES

SWITCHED = (
    "programs ran as another user (uid {}), and were refused nothing that root may do: a sandbox with a single uid cannot do"
    " that, and who asks a unix socket for the other end's user (as PostgreSQL does) is told root. Owners in the layer are"
    " right (Emulation)"
)


LIMITS = r"""FROM debian:12
RUN mkdir -m 777 /w && chmod 700 /root && touch /root/secret && printf '\177ELF\001\001\001' > /bin/old && chmod 755 /bin/old
RUN ! /bin/old
USER 1000
RUN cat /root/secret && cd /w && touch /proc/self/cwd/mine && echo told > /dev/stderr && python3 -c 'import os; \
 open(f"/proc/{os.getpid()}/cwd/lost", "w"); f = os.open(".", 0); open(f"/proc/self/fd/{f}/mine too", "w"); \
 open("/proc/thread-self/root/w/mine as well", "w")' && stat -c '%u %n' *
RUN true
"""


def test_what_a_single_uid_cannot_do_is_said(solo: UserPybuild, debian_base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text(LIMITS)
    assert solo("import", debian_base, "debian:12").returncode == 0
    done = solo("--progress=json", "--no-cache", context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    switched = SWITCHED.format("1000").removesuffix(" (Emulation)")
    assert [(each["line"], each["message"]) for each in events if each["type"] == "warning"] == [
        (3, "a 32-bit program was not run: a sandbox with a single uid cannot answer for it"),
        (5, switched),
        (5, "a file that another user made through a link of /proc belongs to root in the layer"),
        (8, switched),
    ]
    said = "".join(event["text"] for event in events if event["type"] == "step.log")
    assert said == (
        "/bin/sh: 1: /bin/old: Operation not permitted\ntold\n0 lost\n1000 mine\n1000 mine as well\n1000 mine too\n"
    )


BEYOND = r"""
import ctypes, os, sys
host = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
os.symlink(host, "/link")
os.symlink("../../../../../../../../.." + host, "/climbs")
os.makedirs("/jail/in")
os.symlink("/../../etc/passwd", "/jail/in/out")
def tried(what, call):
    try:
        print(what, call())
    except OSError as error:
        print(what, error.strerror)
for path in ("/link", "/climbs", host, "/proc/1/root" + host, "/proc/self/root" + host, "/proc/1/cwd/.." + host):
    tried("chown", lambda: os.chown(path, 1, 1))
    tried("stat", lambda: os.stat(path).st_uid)
    tried("open", lambda: os.open(path, os.O_CREAT | os.O_WRONLY))
    tried("mknod", lambda: os.mknod(path + "/x", 0o020666, os.makedev(1, 3)))
# What is not a process's own: the supervisor is in another pid namespace, and its listener is nobody's.
print([name for name in os.listdir("/proc") if name.isdigit() and name != "1" and int(name) != os.getpid()])
print(sorted(os.listdir("/proc/self/fd")))
tried("pidfd", lambda: os.pidfd_open(2))
# Who changed his root stays below it.
sys.stdout.flush()
if not os.fork():
    os.chroot("/jail")
    os.chdir("/in")
    tried("chrooted", lambda: os.chown("out", 2, 2))
    tried("chrooted", lambda: os.chown("../../../../etc/passwd", 2, 2))
    tried("chrooted", lambda: os.stat("out").st_uid)
    sys.stdout.flush()
    os._exit(0)
os.wait()
print(os.stat("/etc/passwd").st_uid)
# Another filter of its own that allows all changes nothing.
print(libc.prctl(38, 1, 0, 0, 0))
code = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f")
filter = ctypes.create_string_buffer(b"\1\0\0\0\0\0\0\0" + ctypes.addressof(code).to_bytes(8, "little"))
print(libc.prctl(22, 2, filter, 0, 0))
os.setuid(5)
tried("mknod", lambda: os.mknod("/disk", 0o060666, os.makedev(8, 0)))
tried("mount", lambda: libc.mount(b"proc", b"/mnt", b"proc", 0, None))
"""


def test_the_supervisor_takes_nobody_out_of_the_sandbox(solo: UserPybuild, debian_base: Path, context: Path) -> None:
    """It has the user's own rights over the host, and uses them for nothing that a command names."""
    kept = solo.account.home / "kept"
    kept.write_text("the host's")
    os.chown(kept, solo.account.uid, solo.account.gid)
    before = kept.stat()
    (context / "escapes.py").write_text(BEYOND)
    (context / "Dockerfile").write_text(f"FROM debian:12\nCOPY escapes.py /\nRUN exec python3 -I -S /escapes.py {kept}\n")
    assert solo("import", debian_base, "debian:12").returncode == 0
    done = solo("--progress=json", "--no-cache", context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    said = "".join(event["text"] for event in events if event["type"] == "step.log").splitlines()
    none = "No such file or directory"
    # The supervisor follows no magic link to another process, and is asked for owners alone.
    chown = [none, none, none, "Invalid cross-device link", none, "Invalid cross-device link"]
    tries = [(f"chown {each}", f"stat {none}", f"open {none}", f"mknod {none}") for each in chown]
    assert said[:24] == [line for each in tries for line in each]
    assert said[24:] == [
        *("[]", "['0', '1', '2', '3']", "pidfd No such process"),
        *(f"chrooted {none}",) * 3,
        *("0", "0", "0", "mknod Operation not permitted", "mount -1"),
    ]
    after = kept.stat()
    assert (after.st_uid, after.st_ctime_ns, os.listxattr(kept)) == (before.st_uid, before.st_ctime_ns, [])


@pytest.mark.parametrize("number", [0, 1000])
def test_known_ways_out_are_shut(number: int, solo: UserPybuild, base: Path, context: Path) -> None:
    """Also to whom the kernel takes for root all the time."""
    tried = {name: script for name, script in ESCAPES.items() if name != "ids that were not given"}
    lines = [f"( {script} ) >/dev/null 2>&1 && echo '{name}';" for name, script in tried.items()]
    (context / "script").write_text("\n".join([*lines, "true"]))
    (context / "Dockerfile").write_text(f"FROM base\nCOPY script /\nUSER {number}\nRUN sh /script\n")
    done = solo("--no-cache", "--progress=json", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert "".join(event["text"] for event in events if event["type"] == "step.log") == ""


FORGED = r"""
import ctypes, errno, os, threading
libc = ctypes.CDLL(None, use_errno=True)
open("/w/mine", "w").close()
os.mkfifo("/w/fifo")
os.chmod("/w/mine", 0o4755)
def tried(what, call):
    try:
        print(what, call())
    except OSError as error:
        print(what, errno.errorcode[error.errno])
tried("set", lambda: os.setxattr("/w/mine", "user.pybuild.owner", b"0:0"))
tried("device", lambda: os.setxattr("/w/mine", "user.pybuild.device", b"b 8:0"))
tried("remove", lambda: os.removexattr("/w/mine", "user.pybuild.owner"))
tried("fifo", lambda: os.removexattr("/w/fifo", "security.capability"))
tried("list", lambda: os.listxattr("/w/mine"))
name = ctypes.create_string_buffer(b"user.pybuild.other")
done = []
def swap():
    while not done:
        name.raw = b"user.pybuild.owner\0"
        name.raw = b"user.pybuild.other\0"
thread = threading.Thread(target=swap)
thread.start()
ways = {libc.setxattr(b"/w/mine", name, b"0:0", ctypes.c_size_t(3), 0) for _ in range(3000)}
done.append(1)
thread.join()
print("raced", 0 in ways)
"""


def test_no_program_gives_a_file_to_root(solo: UserPybuild, debian_base: Path, context: Path) -> None:
    """Nor by a thread that changes the attribute's name while the supervisor looks at it."""
    (context / "forged.py").write_text(FORGED)
    (context / "Dockerfile").write_text(
        "FROM debian:12\nCOPY forged.py /\nRUN mkdir -m 777 /w\nUSER 1000\nRUN python3 /forged.py && stat -c '%u:%g %a %n' /w/*"
        "\nUSER root\nRUN stat -c '%u:%g %a %n' /w/*\n"
    )
    assert solo("import", debian_base, "debian:12").returncode == 0
    done = solo("--progress=json", "--no-cache", context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    owners = "1000:0 644 /w/fifo\n1000:0 4755 /w/mine\n"
    said = "".join(event["text"] for event in events if event["type"] == "step.log")
    assert said == f"set EPERM\ndevice EPERM\nremove ENODATA\nfifo EPERM\nlist []\nraced True\n{owners}{owners}"
