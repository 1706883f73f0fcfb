"""The rung `chroot` in containers as Docker and podman make them, in a virtual machine (.ci/machine) where both run: the table
of what each leaves to a builder, and whether its image is root's. `make containers`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TABLE = ROOT / "tests/golden/containers.txt"
PYBUILD = Path(sys.executable).with_name("pybuild")
DOCKERFILE = r"""FROM scratch
ADD base.tar /
RUN id; touch /x; chown 33:44 /x; mkdir /y; ln -s x /z; echo x > /dev/null; rm /bin/sed; chmod u+s /bin/busybox
USER 1000
RUN id -u > /tmp/who
USER 0
RUN mkdir -p /etc && echo jane:x:7:9::/:/bin/sh >> /etc/passwd
RUN mkdir -p /home/jane && chown -R jane /home/jane && mknod /fifo p && rm -r /y
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t echo cached > /cache/f && cp /cache/f /f
"""
INSIDE = """\
p={pybuild}
echo "caps $(awk '/CapEff/ {{print $2}}' /proc/self/status)"
echo "seccomp $(awk '/Seccomp:/ {{print $2}}' /proc/self/status)"
$p doctor | sed -n 's/^  \\([a-z-]*\\):  *\\(no\\|works\\).*/rung \\1 \\2/p'
$p build --progress=plain --isolation=chroot -o type=oci,dest=/ctx/$1.tar /ctx > /ctx/$1.log 2>&1 || tail -n 5 /ctx/$1.log
"""
SCRIPT = """\
cd /disk
mkdir -p ctx lib vol dvol docker
tar -C {base} -cf ctx/base.tar .
cat > ctx/Dockerfile <<'END'
{dockerfile}END
cat > ctx/inside <<'END'
{inside}END
echo "== root"
{pybuild} --root /disk/store --progress=plain -o type=oci,dest=/disk/ctx/root.tar /disk/ctx > root.log 2>&1 || cat root.log
echo "== podman"
podman --root /disk/lib --runtime runc --cgroup-manager cgroupfs run --rm --cap-add=mknod --network=host \\
    -v /disk/vol:/var/lib/pybuild:dev -v /disk/ctx:/ctx --rootfs /machine:O sh /ctx/inside podman 2>&1
echo "== docker"
export DOCKER_HOST=unix:///disk/d.sock
dockerd --iptables=false --bridge=none --data-root /disk/docker --exec-root /disk/dx --host $DOCKER_HOST \\
    --pidfile /disk/d.pid > dockerd.log 2>&1 &
for i in $(seq 90); do docker version > /dev/null 2>&1 && break; sleep 1; done
tar c --files-from /dev/null | docker import - empty > /dev/null
for folder in /machine/*; do
    case ${{folder#/machine}} in
        /proc | /sys | /dev | /tmp | /var | /run) ;;
        *) [ -d "$folder" ] && binds="$binds -v $folder:${{folder#/machine}}:ro" ;;
    esac
done
docker run --rm --network=host $binds -v /disk/dvol:/var/lib/pybuild -v /disk/ctx:/ctx empty sh /ctx/inside docker 2>&1
for name in root podman docker; do
    echo "== digest of $name"
    tar xOf ctx/$name.tar index.json | grep -o '"digest":"sha256:[0-9a-f]*","mediaType"' | cut -d'"' -f4
done
"""


def table() -> str:
    base = ROOT / ".cache/bases/busybox"
    inside = INSIDE.format(pybuild=PYBUILD)
    script = SCRIPT.format(pybuild=PYBUILD, base=base, dockerfile=DOCKERFILE, inside=inside)
    done = subprocess.run([ROOT / ".ci/machine", "bash", "-c", script], capture_output=True, text=True)
    said = done.stdout.replace("\r\n", "\n")
    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    digests = {name: parts.get(f"digest of {name}", "").strip() for name in ("root", "podman", "docker")}
    lines = ["container | effective capabilities | seccomp | rungs that work | manifest digest"]
    for name in ("docker", "podman"):
        words = [line.split() for line in parts.get(name, "").splitlines()]
        rungs = [word[1] for word in words if word[0] == "rung" and word[2] == "works"]
        facts = {word[0]: word[1] for word in words if word[0] in ("caps", "seccomp")}
        same = "root's" if digests[name] and digests[name] == digests["root"] else "another"
        lines.append(f"{name} | {facts.get('caps')} | {facts.get('seccomp')} | {', '.join(rungs)} | {same}")
    if lines[-1].endswith("another") or lines[-2].endswith("another"):
        print(said, file=sys.stderr)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    found = table()
    print(found, end="")
    TABLE.write_text(found)
    sys.exit(0 if found.count("| root's") == 2 else 1)
