"""The network of RUN steps on each rung: their own behind slirp4netns or pasta, or the host's where neither works.

The "host" is a network namespace made for each build, with a server on an address and one on loopback. Nothing of the
machine's own network is asked or changed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.rootless.rootless_users import UserPybuild, refusing, until

OUTSIDE = """\
# As systemd has it: what is unmounted elsewhere in a copy of these mounts is unmounted here.
# Nothing comes from the machine's own, where other tests unmount what is theirs.
mount --make-rprivate /
mount --make-rshared /
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
ip link add up0 type veth peer name up1
ip addr add 198.51.100.1/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 198.51.100.2
for program in $HIDDEN; do mount --bind /dev/null $program; done
mount -t tmpfs tmpfs {room}
mkdir {room}/www
echo served > {room}/www/f
busybox httpd -f -p 192.0.2.1:8080 -h {room}/www &
first=$!
busybox httpd -f -p 127.0.0.1:8081 -h {room}/www &
second=$!
for place in 192.0.2.1:8080 127.0.0.1:8081; do
    until busybox wget -q -O /dev/null http://$place/f 2> /dev/null; do sleep 0.02; done
done
third=
if [ -n "$NAMES" ]; then
    mount --bind $NAMES/resolv.conf /etc/resolv.conf
    python3 $NAMES/names.py {room}/ready &
    third=$!
    until [ -e {room}/ready ]; do sleep 0.02; done
fi
code=0
# Who removes a folder takes what is mounted there from all namespaces: so other tests do with theirs meanwhile.
mounts() {{ cut -d' ' -f5 /proc/self/mountinfo | grep -v /pytest-of-; }}
mounts > {room}/before
"$@" || code=$?
kill $first $second $third
mounts | diff {room}/before - >&2 || exit 99
exit $code
"""
LOOK = """\
FROM base
RUN echo "$(ls /sys/class/net | tr '\\n' ' ')| $(cat /etc/resolv.conf | tr '\\n' ' ')"
RUN wget -q -O- http://192.0.2.1:8080/f
RUN for a in 127.0.0.1 10.0.2.2; do timeout 2 wget -q -O- http://$a:8081/f 2> /dev/null || echo no; done
USER 1000
RUN cat /proc/sys/net/ipv4/ip_unprivileged_port_start
"""
NETWORKS = {"root": "root", "userns": "user", "single-uid": "solo"}


class Builder:
    """`pybuild` as somebody of a rung, on a host of its own."""

    def __init__(self, name: str, request: pytest.FixtureRequest, folder: Path) -> None:
        room = folder / "room"
        room.mkdir()
        (folder / "bin").mkdir()
        self.before = ("unshare", "--net", "--mount", "sh", "-ec", OUTSIDE.format(room=room), "sh")
        self.rung = name
        self.names = ""
        self._root: Pybuild | None = request.getfixturevalue("pybuild") if name == "root" else None
        self.user: UserPybuild | None = None if name == "root" else request.getfixturevalue(NETWORKS[name])

    def __call__(
        self, *args: object, env: dict[str, str] | None = None, hidden: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Without the programs `hidden`."""
        words = [str(arg) for arg in args]
        places = " ".join(found for name in hidden if (found := shutil.which(name)) is not None)
        before = ("env", f"HIDDEN={places}", f"NAMES={self.names}", *self.before)
        if self.user is not None:
            return self.user(*words, env=env, before=before)
        assert self._root is not None
        command = [*before, *self._root.command, *words]
        return subprocess.run(command, env=self._root.environment(env), capture_output=True, text=True, timeout=300)


@pytest.fixture(params=list(NETWORKS))
def builder(request: pytest.FixtureRequest, context: Path) -> Iterator[Builder]:
    yield Builder(request.param, request, context)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return "".join(str(event["text"]) for event in events(done) if event["type"] == "step.log")


def weaker(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What protects less."""
    return [str(event["message"]) for event in events(done) if event.get("code") == "WeakerSandbox"]


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Of the network; not of what a kernel before 6.12 lacks where it is the host's."""
    return [message for message in weaker(done) if "no Landlock scopes" not in message]


def networks(done: subprocess.CompletedProcess[str]) -> set[object]:
    return {event["network"] for event in events(done) if event["type"] == "step.usage"}


@pytest.mark.parametrize("program", ["slirp4netns", "pasta"])
def test_a_step_has_a_network_of_its_own(program: str, builder: Builder, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text(LOOK)
    flags = ("--no-cache", "--progress=json", "--build-context", f"base={base}", "-f", context / "Dockerfile", context / "bin")
    done = builder("--require-isolated-network", *flags, hidden=() if program == "slirp4netns" else ("slirp4netns",))
    assert said(done) == "lo tap0 | nameserver 10.0.2.3 \nserved\nno\nno\n0\n"
    assert warnings(done) == [] and networks(done) == {program}


NAMES = """\
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
open(sys.argv[1], "w").close()
while True:
    asked, place = server.recvfrom(512)
    end = 12 + asked[12:].index(0) + 5
    # For an address (type A): what the question asks (0xc00c points there) is 192.0.2.1.
    answer = bytes((0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1)) if asked[end - 3] == 1 else b""
    server.sendto(asked[:2] + bytes((0x81, 0x80, 0, 1, 0, int(bool(answer)), 0, 0, 0, 0)) + asked[12:end] + answer, place)
"""


@pytest.mark.parametrize("program", ["slirp4netns", "pasta"])
def test_names_are_found_by_the_hosts_name_servers(program: str, builder: Builder, base: Path, context: Path) -> None:
    """Also by one on the host's loopback, which the step itself does not reach."""
    (context / "Dockerfile").write_text("FROM base\nRUN nslookup -type=a somewhere.test | grep -o 192.0.2.1\n")
    (context / "names.py").write_text(NAMES)
    (context / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    builder.names = str(context)
    flags = ("--no-cache", "--progress=json", "--build-context", f"base={base}", "-f", context / "Dockerfile", context / "bin")
    done = builder("--require-isolated-network", *flags, hidden=() if program == "slirp4netns" else ("slirp4netns",))
    assert said(done) == "192.0.2.1\n" and networks(done) == {program}


def test_the_image_is_the_same_without_a_stack(builder: Builder, base: Path, context: Path) -> None:
    text = "FROM base\nRUN wget -q -O- http://192.0.2.1:8080/f > /got\nRUN --network=none echo x > /x\n"
    (context / "Dockerfile").write_text(text)
    flags = ("-q", "--no-cache", "--build-context", f"base={base}", "-f", context / "Dockerfile", context / "bin")
    own = builder("--require-isolated-network", *flags)
    assert (own.returncode, own.stderr) == (0, "")
    host = builder("--network=host", *flags)
    assert (host.returncode, host.stdout) == (0, own.stdout)
    # Who requires an isolated one gets no other by a flag beside it.
    both = builder("--network=host", "--require-isolated-network", *flags)
    assert both.returncode == 6 and "this command is to have the machine's own network" in both.stderr, both.stderr


def test_without_a_stack_it_is_the_hosts(builder: Builder, base: Path, context: Path) -> None:
    text = "FROM base\nRUN wget -q -O- http://127.0.0.1:8081/f\nRUN wget -q -O- http://127.0.0.1:8081/f | cat\n"
    (context / "Dockerfile").write_text(text)
    flags = ("--no-cache", "--progress=json", "--build-context", f"base={base}", "-f", context / "Dockerfile", context / "bin")
    # A program of that name that does not do it.
    fake = context / "bin/slirp4netns"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    env = {"PATH": f"{context / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"}
    hidden = ("slirp4netns", "pasta")
    done = builder(*flags, env=env, hidden=hidden)
    assert said(done) == "served\nserved\n" and networks(done) == {"host"}
    lacks = f"there is no network stack here: {fake} does not start (Network is down)"
    told = f"the network of commands is the host's, since {lacks}; "
    assert [warning.startswith(told) for warning in warnings(done)] == [True]
    done = builder("--require-isolated-network", *flags, env=env, hidden=hidden)
    assert done.returncode == 6
    error = events(done)[-1]["error"]
    assert isinstance(error, dict)
    told = f"--require-isolated-network: {lacks}"
    assert (error["message"], error["line"]) == (told, 2) and "apt-get install slirp4netns" in error["hint"]
    # Who wants the host's is told nothing.
    done = builder("--network=host", *flags, env=env)
    assert (said(done), warnings(done)) == ("served\nserved\n", [])
    # Where one does not work, the other is taken.
    done = builder("--require-isolated-network", *flags, env=env, hidden=("slirp4netns",))
    assert done.returncode == 1 and networks(done) == {"pasta"}


@pytest.mark.parametrize("given", [True, False], ids=["allowed", "not allowed"])
def test_the_hosts_network_needs_to_be_allowed(given: bool, pybuild: Pybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN --network=host readlink /proc/self/ns/net > /n\n")
    flags = ("--allow", "network.host") if given else ()
    done = pybuild(*flags, "--build-context", f"base={base}", context)
    assert done.returncode == (0 if given else 3)
    assert ("RUN --network=host is not allowed" in done.stderr) is not given


@pytest.mark.parametrize("network", ["default", "host"])
def test_the_hosts_traffic_is_not_seen(network: str, pybuild: Pybuild, gcc_socket: Path, base: Path, context: Path) -> None:
    shutil.copy(gcc_socket, context / "packets")
    (context / "Dockerfile").write_text("FROM base\nCOPY packets /\nRUN /packets; echo errno $?\n")
    done = pybuild(f"--network={network}", "--progress=json", "--build-context", f"base={base}", context)
    # EPERM; nothing of a network of one's own is anybody else's.
    assert said(done) == {"default": "errno 0\n", "host": "errno 1\n"}[network]


@pytest.fixture(scope="module")
def gcc_socket(room: Path) -> Path:
    program = room / "packets"
    source = (
        b"#include <sys/socket.h>\n#include <errno.h>\nint main() { return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno : 0; }\n"
    )
    subprocess.run(["gcc", "-static", "-x", "c", "-o", program, "-"], input=source, check=True)
    return program


def stacks_below(builder: int) -> list[int]:
    """Those that a builder's fork server has started."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                names[int(entry.name)] = (entry / "comm").read_text()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
    # pasta may be passt.avx2 by then.
    named = [pid for pid in parents if names[pid].startswith(("slirp4netns", "pasta", "passt"))]
    return [pid for pid in named if parents.get(parents[pid]) == builder]


ALONE = """\
ip link set lo up
ip link add up0 type veth peer name up1
ip addr add 198.51.100.1/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 198.51.100.2
mount --bind /dev/null $(command -v slirp4netns)
exec "$@"
"""


@pytest.mark.parametrize(
    "before", [(), ("unshare", "--net", "--mount", "sh", "-ec", ALONE, "sh")], ids=["slirp4netns", "pasta"]
)
def test_a_killed_builder_leaves_no_stack(before: tuple[str, ...], pybuild: Pybuild, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN readlink /proc/self/ns/net; sleep 1000\n")
    command = [*before, *pybuild.command, "--require-isolated-network", "--progress=plain", "--build-context", f"base={base}"]
    command.append(str(context))
    with subprocess.Popen(command, env=pybuild.environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "net:[" in line and "RUN" not in line)
        assert line
        found = stacks_below(process.pid)
        process.kill()
    assert len(found) == 1
    until(lambda: not Path(f"/proc/{found[0]}").exists(), "the stack is still there")


def test_run_has_it_too(builder: Builder, base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\n")
    done = builder("-t", "mine", "--build-context", f"base={base}", "-f", context / "Dockerfile", context / "bin")
    assert done.returncode == 0, done.stderr
    script = "wget -q -O- http://192.0.2.1:8080/f; wget -q -O- http://127.0.0.1:8081/f || echo no"
    assert builder("run", "--require-isolated-network", "mine", "sh", "-c", script).stdout == "served\nno\n"
    assert builder("run", "--network=host", "mine", "sh", "-c", script).stdout == "served\nserved\n"


def test_a_kernel_without_landlock_matters_to_the_hosts_network_alone(user: UserPybuild, base: Path, context: Path) -> None:
    """As all before Linux 6.12."""
    (context / "Dockerfile").write_text("FROM base\nRUN id\n")
    flags = ("--no-cache", "--progress=json", "--build-context", f"base={base}", context)
    old = refusing(444, 445, 446)
    assert weaker(user("--network=none", *flags, before=old)) == []
    (warning,) = weaker(user("--network=host", "--allow=network.host", *flags, before=old))
    assert warning.startswith("this kernel has no Landlock scopes: RUN steps with the host's network reach")


def descendants(pid: int) -> list[int]:
    """Of a process, itself included."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def test_a_stack_that_ends_too_early(pybuild: Pybuild, base: Path, context: Path) -> None:
    """By the kernel, for want of memory, as it were: the step is told of it, and done again by the next build."""
    (context / "Dockerfile").write_text("FROM base\nRUN echo begun; sleep 2\n")
    flags = ("--progress=json", "--build-context", f"base={base}", context)
    command = [*pybuild.command, *map(str, flags)]
    process = subprocess.Popen(command, env=pybuild.environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(json.loads(line))
        if said[-1]["type"] == "step.log" and "begun" in said[-1]["text"]:
            names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(process.pid)}
            (stack,) = [pid for pid, name in names.items() if name in ("slirp4netns", "pasta", "pasta.avx2")]
            os.kill(stack, signal.SIGKILL)
    assert process.wait(20) == 0
    (warning,) = [event for event in said if event["type"] == "warning"]
    assert (warning["code"], warning["line"]) == ("NetworkEnded", 2)
    assert "ended before the command did: it went on without one" in warning["message"]
    done = pybuild(*flags)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["status"] for event in events if event["type"] == "step.finished" and event["line"] == 2] == ["done"]
    assert not [event for event in events if event["type"] == "warning"]


def test_a_machine_that_makes_no_network_namespace_gives_nobody_its_own(pybuild: Pybuild, base: Path, context: Path) -> None:
    """It is no fault of the stack's, whose absence would be made up for by the host's network."""
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    # The limit is a user namespace's, and counts for all that are made below.
    script = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'
    limited = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh")
    command = [*limited, *pybuild.command, "--progress=plain", "--build-context", f"base={base}", str(context)]
    done = subprocess.run(command, env=pybuild.environment(), capture_output=True, text=True)
    assert done.returncode == 6, done.stderr
    assert "Dockerfile:2:1: error: the sandbox could not be made: clone: No space left on device" in done.stderr
    assert "warning" not in done.stderr
