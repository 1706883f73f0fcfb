"""The tools that switch users, change owners and install: on each rung whether they ran, and whether the layer is root's.

`python -m tests.rootless.rootless_table` (make rungs) writes the table of that, with Debian as the base, and below it what a
RUN costs that does nothing, over a hundred of them, and what Python takes to start, beside each other.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT, debian_tar
from tests.escape.escape_ground import RUNGS, Ground, grounds

GOLDEN = ROOT / "tests/golden/rungs.txt"
IMAGE = "image id, of all of them"
COST = "a RUN that does nothing"
_CONTROL = "Package: pack\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b.c>\\nDescription: d\\n"
_POSTINST = "#!/bin/sh\\nset -e\\nadduser --system --group packed\\nchown packed:packed /opt/file\\n"
_DATE = "2001-01-01T00:00:00Z"
_GIT = f"GIT_AUTHOR_DATE={_DATE} GIT_COMMITTER_DATE={_DATE} git -c user.name=app -c user.email=a@b.c"
TOOLS = {
    "adduser": "adduser --disabled-password --gecos '' app",
    "useradd": "useradd -m -u 4242 other",
    "su": "su app -c 'touch /home/app/mine' && test $(stat -c %U /home/app/mine) = app",
    "chown -R": "mkdir -p /data/a/b && touch /data/a/b/c && chown -R app:other /data && test $(stat -c %G /data/a/b/c) = other",
    "tar x": "tar -C / -cf /t.tar data && mkdir /x && tar -C /x -xpf /t.tar && rm /t.tar && test $(stat -c %U /x/data) = app",
    "install -o": "install -o other -g app -m 0640 /etc/passwd /pw && test $(stat -c %U:%G:%a /pw) = other:app:640",
    "apt-get install": (
        f"mkdir -p /p/DEBIAN /p/opt && cd /p/DEBIAN && printf '{_CONTROL}' > control && printf '{_POSTINST}' > postinst"
        " && chmod 755 postinst && touch /p/opt/file && dpkg-deb --build --root-owner-group /p /tmp/pack.deb > /dev/null"
        " && apt-get install -y /tmp/pack.deb && rm -rf /p /tmp/pack.deb /var/log/* /var/cache/apt"
        " && rm -rf /var/lib/dpkg/*-old /var/cache/debconf/*-old && test $(stat -c %U:%G /opt/file) = packed:packed"
    ),
    "setcap": "cp /bin/true /capped && setcap cap_net_raw+ep /capped && getcap /capped | grep -q cap_net_raw=ep",
    "set-user-id": "cp -p /bin/true /suid && chown other /suid && chmod 4755 /suid && test $(stat -c %a /suid) = 4755",
    "mknod": "mknod /null c 1 3 && chown 0:7 /null && chmod 640 /null && rm -f /none",
    "cp -a of a device": "cp -a /null /copied",
    "pip install": (
        "mkdir /w && cd /w && echo 'x = 1' > one.py"
        ' && echo \'from setuptools import setup; setup(name="one", version="1", py_modules=["one"])\' > setup.py'
        " && python3 -m pip install --break-system-packages --no-index --no-build-isolation --no-compile ."
        " && cd / && rm -rf /w /root/.cache /tmp/*"
    ),
    "git": (
        "mkdir /repo && chown app /repo && cd /repo && echo 1 > one"
        f" && su app -c 'git init -q && git add one && {_GIT} commit -q -m first && git clone -q /repo /tmp/clone'"
        " && test $(git -c safe.directory=/repo log --format=%an) = app && ! git -C /repo log 2>/dev/null"
        # When a file was looked at, and its inode.
        " && rm .git/index && rm -rf /tmp/clone"
    ),
    "sgid folder": (
        "mkdir /shared && chown :other /shared && chmod 2775 /shared && touch /shared/f && test $(stat -c %G /shared/f) = other"
    ),
    "USER": "id -un > /tmp/me && test $(cat /tmp/me) = app && touch /tmp/mine && test $(stat -c %U /tmp/mine) = app",
}
DOCKERFILE = "FROM debian:12\n" + "".join(
    ("USER app\n" if name == "USER" else "") + f"RUN {command}\n" for name, command in TOOLS.items()
)


def layers(ground: Ground, base: Path) -> dict[str, str]:
    """The diff ID that each tool's step gave, `failed` where it did not run; and the image's id."""
    imported = ground.program("import", base, "debian:12")
    assert imported.returncode == 0, imported.stderr
    context = ground.context(DOCKERFILE)
    done = ground.program(f"--isolation={ground.rung}", "--progress=json", "--no-cache", context)
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    ended = [event for event in events if event["type"] == "step.finished" and " RUN " in event["name"]]
    found = {name: event["diff_id"] or event["status"] for name, event in zip(TOOLS, ended)}
    image = next((event["image_id"] for event in events if event["type"] == "build.finished"), "failed")
    return {name: found.get(name, "failed") for name in TOOLS} | {IMAGE: image}


def table(places: dict[str, Ground], base: Path) -> str:
    results = {rung: layers(places[rung], base) for rung in RUNGS}
    lines = ["tool | " + " | ".join(RUNGS) + "\n"]
    for name in (*TOOLS, IMAGE):
        words = []
        for rung in RUNGS:
            own, roots = results[rung][name], results["root"][name]
            words.append("failed" if own in ("failed", "cancelled") else "ran" if rung == "root" else _compared(own, roots))
        lines.append(f"{name} | {' | '.join(words)}\n")
    return "".join(lines)


def _compared(own: str, roots: str) -> str:
    return "ran, the same" if own == roots else "ran, another"


def cost(ground: Ground, steps: int) -> float:
    """Milliseconds of a RUN that does nothing, beside those of a build without any."""
    seconds = []
    for count in (1, steps + 1):
        context = ground.context("FROM base\n" + "".join(f"RUN true {number}\n" for number in range(count)))
        begun = time.perf_counter()
        done = ground.build(context, "-q")
        seconds.append(time.perf_counter() - begun)
        assert done.code == 0, done.said
    return (seconds[1] - seconds[0]) * 1000 / steps


def _bare() -> float:
    """Milliseconds of a Python that does nothing."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    room = Path(tempfile.mkdtemp(prefix="pybuild-rungs-"))
    try:
        room.chmod(0o755)
        base = room / "debian.tar"
        shutil.copyfile(debian_tar(), base)
        with grounds(room) as places:
            # First, in a new store: one with many builds to compare with is slower by 2 ms.
            costs: dict[str, list[float]] = {name: [] for name in (*RUNGS, "Python")}
            for _ in range(3):
                costs["Python"].append(statistics.median(_bare() for _ in range(15)))
                for rung in RUNGS:
                    costs[rung].append(cost(places[rung], 100))
            middle = {name: statistics.median(found) for name, found in costs.items()}
            text = table(places, base)
            text += f"{COST}, where Python takes {middle['Python']:.1f} ms to start"
            text += "".join(f" | {middle[rung]:.1f} ms" for rung in RUNGS) + "\n"
            print(text, end="")
            GOLDEN.write_text(text)
    finally:
        shutil.rmtree(room)


if __name__ == "__main__":
    main()
