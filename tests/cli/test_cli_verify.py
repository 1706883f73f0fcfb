"""`pybuild verify`: real builds with one cause each, which it has to name, and others on which it has to be silent."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild

SILENT = """FROM base
ARG WORD=hello
WORKDIR /work
COPY . /src/
RUN echo $WORD > /word; touch -d @0 /old; mkdir -p /d/e; ln /word /d/link; chown 5:6 /d
RUN find /src /bin | sort > /files; ls /bin > /bins
RUN --mount=type=cache,target=/cache echo kept > /cache/file; env | sort > /env; id > /id; umask >> /id; hostname >> /id
RUN --network=none --mount=target=/context cat /context/file > /copied
"""


def context(tmp_path: Path, *runs: str, base: str = "base") -> Path:
    folder = tmp_path / "context"
    folder.mkdir(exist_ok=True)
    text = runs[0] if runs[0].startswith("FROM") else "".join([f"FROM {base}\n", *(f"RUN {run}\n" for run in runs)])
    (folder / "Dockerfile").write_text(text)
    (folder / "file").write_text("text\n")
    return folder


def verified(program: Pybuild, folder: Path, *flags: str, code: int = 4) -> dict[str, Any]:
    done = program("verify", "-q", "--format=json", *flags, folder)
    assert (done.returncode, done.stderr) == (code, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def causes(found: dict[str, Any], step: int = 0) -> list[str]:
    return [cause["name"] for cause in found["steps"][step]["causes"]]


def test_what_can_be_repeated_is_silent(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, SILENT)
    found = verified(program, folder, code=0)
    assert found["verdict"] == "identical"
    assert [step["status"] for step in found["steps"]] == ["same"] * 6
    assert all(step["a"] == step["b"] for step in found["steps"])
    # The cache mount of the build is as it was: the other one began anew.
    assert verified(program, folder, "--vary=none", "--keep-cache-mounts", code=0)["varied"] == []
    text = program("verify", "-q", folder).stdout
    assert text.endswith(": every step gives the same again\n")
    assert_valid(program.store)
    assert_nothing_left(program.store)
    assert os.listdir(program.store / "tmp") == []


def test_the_clock(program: Pybuild, tmp_path: Path) -> None:
    """By the seconds that pass: nothing else can be done for a static program."""
    found = verified(program, context(tmp_path, "date > /date", "echo after > /after", "cat /date > /twice"))
    assert [step["status"] for step in found["steps"]] == ["different", "tainted", "tainted"]
    assert causes(found) == ["clock"]
    (file,) = found["steps"][0]["files"]
    assert file["path"] == "/date" and file["findings"][0]["pattern"] == "date-in-text"
    assert "SOURCE_DATE_EPOCH" in file["findings"][0]["fix"]


def test_chance(program: Pybuild, tmp_path: Path) -> None:
    found = verified(program, context(tmp_path, "head -c 8 /dev/urandom > /noise"))
    assert causes(found) == ["random"]
    assert found["steps"][0]["files"][0]["path"] == "/noise"


def test_the_order_of_folders(program: Pybuild, tmp_path: Path) -> None:
    made = "mkdir /d; cd /d; for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h; do echo > $i; done"
    folder = context(tmp_path, made, "find /d -type f > /list", "find /d -type f | sort > /sorted")
    done = program("verify", "-q", "--format=json", "--vary=order", folder)
    found = json.loads(done.stdout)
    if found["not_varied"]:
        # The store itself is in memory, or nothing is.
        assert [one["name"] for one in found["not_varied"]] == ["order"] and done.returncode == 0
        return
    assert [step["status"] for step in found["steps"]] == ["same", "different", "tainted"]
    assert causes(found, 1) == ["order"]
    assert found["steps"][1]["files"][0]["findings"][0]["pattern"] == "line-order"


def test_what_a_bind_mount_shows_is_varied_too(program: Pybuild, tmp_path: Path) -> None:
    """From the context, and from a stage: the times of the files, and their order."""
    lines = (
        "FROM base AS made",
        "RUN mkdir /d; cd /d; for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h; do echo > $i; done",
        "FROM base",
        "RUN --mount=type=bind,source=tree,target=/t stat -c %Y /t/f > /context-times",
        "RUN --mount=type=bind,from=made,source=/d,target=/t stat -c %Y /t/a > /stage-times",
        "RUN --mount=type=bind,source=tree,target=/t find /t > /context-order",
        "RUN --mount=type=bind,from=made,source=/d,target=/t find /t > /stage-order; echo x > /t/new 2>/dev/null || true",
        "RUN --mount=type=bind,source=tree,target=/t cat /t/f > /quiet",
    )
    folder = context(tmp_path, "\n".join(lines) + "\n")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("f", *map(str, range(16))):
        (tree / name).write_text(name)
        os.utime(tree / name, (1_700_000_000,) * 2)
    found = verified(program, folder, "--vary=mtimes,order")
    named = [causes(found, number) for number in range(1, 6)]
    orders = [[], []] if found["not_varied"] else [["order"], ["order"]]
    assert named == [["mtimes"], ["mtimes"], *orders, []]
    assert found["steps"][0]["status"] == "same" and found["steps"][5]["status"] in ("same", "tainted")
    assert_nothing_left(program.store)


def test_programs_that_know_no_other_day(program: Pybuild, tmp_path: Path) -> None:
    """Static ones do not take libfaketime's word: that is said, and not that the day was varied."""
    found = verified(program, context(tmp_path, "date +%Y > /year", "echo 1 > /one"), "--vary=clock", code=0)
    (note,) = found["notes"]
    assert note.startswith("the day was the same for steps 2, 3: the programs there do not take libfaketime's word")


def test_what_is_random_with_few_outcomes(program: Pybuild, tmp_path: Path) -> None:
    """One run says little of it: nothing that was varied is blamed, and not pybuild itself."""
    coin = "head -c 1 /dev/urandom | od -An -tu1 | awk '{print ($1 % OF) == 0}' > /coin"
    runs = [coin.replace("OF", str(of)) for of in (2, 2, 2, 5, 5, 5)]
    found = verified(program, context(tmp_path, *runs), "--runs=9")
    named = [causes(found, number) for number, step in enumerate(found["steps"]) if step["status"] == "different"]
    assert len(named) > 2 and all(each in (["random"], ["since"]) for each in named), named
    assert ["random"] in named


def test_processors(program: Pybuild, tmp_path: Path) -> None:
    done = program("verify", "-q", "--format=json", "--vary=cpus", context(tmp_path, "nproc > /cpus"))
    found = json.loads(done.stdout)
    if len(os.sched_getaffinity(0)) > 1:
        assert (done.returncode, causes(found)) == (4, ["cpus"])
    else:
        assert found["not_varied"][0]["name"] == "cpus"


def test_numbers_of_processes(program: Pybuild, tmp_path: Path) -> None:
    found = verified(program, context(tmp_path, "sh -c 'echo $$' > /pid; true"), "--vary=pids,cpus")
    assert causes(found) == ["pids"]


def test_addresses(program: Pybuild, tmp_path: Path) -> None:
    """The stack's, which is the kernel's to choose for any program."""
    found = verified(program, context(tmp_path, "grep -F '[stack]' /proc/self/maps | cut -d' ' -f1 > /stack"))
    assert causes(found) == ["aslr"]


def test_the_rung(program: Pybuild, tmp_path: Path) -> None:
    """All ids are as they are, whiteouts, links and attributes too; a step that makes a device is not run in such a sandbox."""
    folder = context(
        tmp_path,
        "id > /id; touch /f; chown 33:44 /f; chmod 4755 /f; mkdir /d; chown 7:8 /d; chmod 2775 /d; ln /f /d/hard; rm /bin/ls",
        "rm -r /d; mkdir /d; touch /d/new; mv /f /g; chown 4294967293 /g; ls -l /g > /listed || true",
        "mknod /device c 1 3",
        "grep -c 4294967295 /proc/self/uid_map > /map; true",
    )
    found = verified(program, folder, "--vary=rung")
    assert [step["status"] for step in found["steps"]] == ["same", "same", "same", "different"]
    assert causes(found, 3) == ["rung"] and found["varied"] == ["rung"]
    # In a container of Docker's, say.
    hidden = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    program.command = [*hidden, *program.command]
    found = verified(program, context(tmp_path, "true"), "--vary=rung", code=0)
    assert found["varied"] == [] and [each["name"] for each in found["not_varied"]] == ["rung"]


def test_what_cache_mounts_had(program: Pybuild, tmp_path: Path) -> None:
    """They begin empty the second time: what differs, or fails, by that is neither the network nor pybuild."""
    mount = "--mount=type=cache,target=/c"
    counted = context(tmp_path, f"{mount} echo x >> /c/n && wc -l < /c/n > /n")
    for _ in range(2):
        assert program("-q", "--no-cache", counted).returncode == 0
    assert causes(verified(program, counted)) == ["caches"]
    used = context(tmp_path, f"{mount} echo data > /c/x", f"{mount} cat /c/x > /f")
    found = verified(program, used)
    assert [step["status"] for step in found["steps"]] == ["same", "failed"] and causes(found, 1) == ["caches"]
    assert "--keep-cache-mounts" in found["steps"][1]["causes"][0]["fix"]
    assert verified(program, used, "--keep-cache-mounts", code=0)["verdict"] == "identical"


def test_kept_cache_mounts_are_looked_at_and_not_written_to(program: Pybuild, tmp_path: Path) -> None:
    """Each repetition finds them as the build left them, and the next build, too."""
    mount = "--mount=type=cache,target=/c,mode=0711,uid=5"
    folder = context(
        tmp_path,
        f"{mount} echo line >> /c/n; stat -c %A:%u:%g /c > /mode; touch /c/$(wc -l < /c/n)",
        f"{mount} cat /c/n; echo line >> /c/n; wc -l < /c/n > /n",
    )
    found = verified(program, folder, "--keep-cache-mounts")
    assert [step["status"] for step in found["steps"]] == ["same", "different"] and causes(found, 1) == ["since"]
    # One line by each step of the first build.
    (folder / "Dockerfile").write_text(f"FROM base\nRUN {mount} wc -l < /c/n > /seen; ls -l /c/n\n")
    seen = program("--progress=plain", "-o", f"type=local,dest={tmp_path / 'out'}", folder)
    assert seen.returncode == 0 and (tmp_path / "out/seen").read_text().strip() == "2"


def test_chance_that_looks_like_a_time(program: Pybuild, tmp_path: Path) -> None:
    number = "0x$(head -c 3 /dev/urandom | hexdump -v -e '/1 \"%02x\"')"
    folder = context(tmp_path, f"echo $(({number} * 20 + 1500000000)) > /number")
    shown = program("verify", "-q", "--vary=aslr", folder).stdout
    assert "depends on: nothing that was varied" in shown and "fix the seed" in shown and "date -ud" not in shown, shown


def test_an_add_that_gives_something_else(program: Pybuild, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        count = 0
        breaks = False

        def do_GET(self) -> None:
            type(self).count += 1
            body = b"%03d" % self.count
            self.send_response(503 if self.breaks and self.count > 1 else 200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = context(tmp_path, f"FROM base\nADD http://127.0.0.1:{server.server_port}/count /c\n")
        found = verified(program, folder)
        assert (found["steps"][0]["status"], causes(found)) == ("different", ["since"])
        assert "--checksum" in found["steps"][0]["causes"][0]["fix"]
        shown = program("verify", "-q", "--format=github", folder).stdout
        assert "not reproducible: it depends on something outside of it" in shown
        Handler.count, Handler.breaks = 0, True
        found = verified(program, folder, "--no-cache")
        server.shutdown()
    assert found["steps"][0]["status"] == "failed" and causes(found)[0] in ("network", "since"), found


def test_a_step_that_needs_what_no_user_namespace_gives(program: Pybuild, tmp_path: Path) -> None:
    """It gives the same each time it runs: that it does not run there is no fault of its."""
    found = verified(program, context(tmp_path, "mknod /n c 1 3 && rm /n && echo done > /done"), code=0)
    assert found["steps"][0]["status"] == "same"
    assert "not varied: the sandbox, since it fails in a user namespace" in found["steps"][0]["notes"][0]


def test_little_memory(program: Pybuild, tmp_path: Path) -> None:
    """As in Docker's containers. What is not varied for want of it is said where a pipeline looks."""
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m none /dev/shm && exec "$@"', "sh"]
    program.command = [*small, *program.command]
    text = "FROM base\nRUN echo small > /small\nRUN dd if=/dev/zero of=/big bs=1M count=100\n"
    found = verified(program, context(tmp_path, text), "--vary=order", code=0)
    assert found["varied"] == ["order"]
    assert found["not_varied"] == [{"name": "order", "reason": "for want of room in memory (/dev/shm) for step 3"}]
    # What it removes again is not known before: it is tried, and then done without.
    passing = "dd if=/dev/zero of=/big bs=1M count=100 && rm /big && echo done > /done"
    found = verified(program, context(tmp_path, passing), "--vary=order", "--no-cache", code=0)
    assert (found["varied"], [each["name"] for each in found["not_varied"]]) == ([], ["order"])


def test_what_changed_since_the_first_build(program: Pybuild, tmp_path: Path) -> None:
    """The cache has it as it was: that is nobody's fault."""

    class Handler(BaseHTTPRequestHandler):
        content = b"one"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(self.content)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = context(tmp_path, f"--network=host wget -q -O /f http://127.0.0.1:{server.server_port}/")
        assert program("-q", "--allow=network.host", folder).returncode == 0
        Handler.content = b"two"
        found = verified(program, folder, "--allow=network.host")
        server.shutdown()
    assert causes(found) == ["since"] and "--checksum" in found["steps"][0]["causes"][0]["fix"]


def test_a_lock_counts_the_second_time_too(program: Pybuild, tmp_path: Path) -> None:
    repository = tmp_path / "r.git"
    git = ["git", "-C", str(repository), "-c", "user.name=j", "-c", "user.email=j@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)

    def commit(text: str) -> None:
        (repository / "f").write_text(text)
        subprocess.run([*git, "add", "f"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", text], check=True)
        subprocess.run([*git, "update-server-info"], check=True)

    commit("one")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = context(tmp_path, f"FROM base\nADD http://127.0.0.1:{server.server_port}/r.git/.git#main /r\n")
        assert program("lock", folder).returncode == 0
        commit("two")
        assert verified(program, folder, "--locked", code=0)["verdict"] == "identical"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def test_chance_that_takes_longer_than_a_second(program: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """No two runs fit into one second then; the clock stands still on a day of libfaketime's."""
    assert program("import", debian_base, "debian").returncode == 0
    folder = context(tmp_path, "sleep 1.1; head -c 8 /dev/urandom > /noise", base="debian")
    assert causes(verified(program, folder, "--vary=clock,surroundings")) == ["random"]


def test_diffoscope_while_the_mask_is_another(program: Pybuild, tmp_path: Path) -> None:
    """It runs as nobody, who must be able to read what it is asked about."""
    folder = context(tmp_path, "head -c 300 /dev/urandom > /noise.bin")
    done = program("verify", "-q", "--diffoscope", "--vary=pids,surroundings", folder)
    assert (done.returncode, done.stderr) == (4, ""), done.stderr
    assert "diffoscope" in done.stdout or "noise.bin" in done.stdout


def test_a_step_that_fails_by_chance_or_by_the_day(program: Pybuild, tmp_path: Path) -> None:
    """Its last words are told, and neither the network nor what was varied is blamed."""
    # It fails one time in four: hardly in all runs that ask why, and hardly in none of the many that verify.
    coin = "echo once >&2; test $(head -c 1 /dev/urandom | od -An -tu1 | awk '{print $1 % 4}') != 0 || exit 7"
    folder = context(tmp_path, coin)
    for _ in range(40):
        if program("-q", "--no-cache", folder).returncode == 0:
            break
    found = verified(program, folder, "--runs=60")
    (step,) = found["steps"]
    assert (step["status"], causes(found)) == ("failed", ["random"])
    assert step["message"].startswith("the command failed with exit code 7") and step["message"].endswith("once")
    # It may be the day, or what it needs from outside: nobody tried it with a network.
    until = int(time.time()) + 4
    folder = context(tmp_path, f"test $(date +%s) -lt {until}")
    assert program("-q", folder).returncode == 0
    time.sleep(max(0.0, until + 1 - time.time()))
    assert causes(verified(program, folder)) == ["since"]


def test_a_network_that_is_gone(program: Pybuild, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "file").write_text("served\n")
        folder = context(tmp_path, f"wget -q -O /got http://127.0.0.1:{server.server_port}/file")
        assert program("-q", "--network=host", folder).returncode == 0
        server.shutdown()
    found = verified(program, folder, "--network=host")
    assert (found["steps"][0]["status"], causes(found)) == ("failed", ["network"])
    assert "refused" in found["steps"][0]["message"]


def test_what_is_left_out_of_the_variations(program: Pybuild, tmp_path: Path) -> None:
    """The clock cannot be: it goes on, and it is that which is named."""
    for vary in ("--vary=none", "--vary=-clock"):
        assert causes(verified(program, context(tmp_path, "date > /d; sleep 1"), vary, "--no-cache")) in (
            ["clock"],
            ["clock", "random"],
        )


def test_parts_of_a_second(program: Pybuild, tmp_path: Path) -> None:
    """They look like chance; the file says what they are."""
    found = verified(program, context(tmp_path, "touch /f; stat -c %y /f > /time"))
    assert causes(found) == ["clock"]


def test_what_no_day_of_libfaketimes_shows(program: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """A step that fails on all of them, and parts of a second, which it holds."""
    assert program("import", debian_base, "debian").returncode == 0
    folder = context(tmp_path, "[ $(date +%Y) -lt 2031 ]", "date +%N > /nano", base="debian")
    found = verified(program, folder, "--vary=clock,surroundings")
    assert any(note.startswith("it fails on another day, 2031-") for note in found["steps"][0]["notes"])
    assert found["steps"][0]["status"] == "same" and causes(found, 1) == ["clock"]


def test_what_is_varied_can_be_chosen(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "sh -c 'echo $$' > /pid; true")
    assert verified(program, folder, "--vary=-pids,-clock", code=0)["verdict"] == "identical"
    done = program("verify", "--vary=clokc", folder)
    assert (done.returncode, done.stderr) == (2, "error: there is no variation 'clokc'\n  hint: did you mean 'clock'?\n")


def test_a_step_that_fails_the_second_time(program: Pybuild, tmp_path: Path) -> None:
    """By what was varied; and by something that is no more there, as a network would be."""
    found = verified(program, context(tmp_path, "test $(sh -c 'echo $$; true') -lt 30"), "--vary=pids")
    assert (found["verdict"], found["steps"][0]["status"], causes(found)) == ("different", "failed", ["pids"])
    assert "exit code 1" in found["steps"][0]["message"]
    folder = context(tmp_path, "FROM base\nRUN --mount=type=cache,target=/c test ! -e /c/ran && touch /c/ran\nRUN true\n")
    assert verified(program, folder, code=0)["verdict"] == "identical"
    found = verified(program, folder, "--keep-cache-mounts")
    assert found["steps"][0]["status"] == "failed" and found["steps"][1]["status"] in ("same", "tainted")


def test_what_is_ignored_does_not_count(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "mkdir /log; head -c 8 /dev/urandom > /log/noise")
    found = verified(program, folder, "--ignore=/log/**", "--require=semantic", code=0)
    assert (found["verdict"], found["steps"][0]["status"], found["met"]) == ("semantic", "semantic", True)
    assert verified(program, folder, "--ignore=/log/**")["met"] is False


def test_a_copy_of_what_changes(program: Pybuild, tmp_path: Path) -> None:
    """A file that is written while it is verified: here by the build itself, whose Dockerfile has no say in it."""
    folder = context(tmp_path, "true", "cat /src/file > /copied")
    (folder / "Dockerfile").write_text("FROM base\nCOPY file /src/\nRUN cat /src/file > /copied\n")
    assert verified(program, folder, code=0)["verdict"] == "identical"


def test_nothing_of_it_is_in_the_cache(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "head -c 8 /dev/urandom > /noise")
    first = program("-q", folder).stdout
    verified(program, folder, "--vary=none")
    again = program("--progress=plain", folder)
    assert "#2 CACHED" in again.stderr
    assert program("-q", folder).stdout == first


def test_on_another_day(program: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """Programs that take libfaketime's word see another year."""
    assert program("import", debian_base, "debian").returncode == 0
    folder = context(tmp_path, "date +%Y > /year", "date -d @0 +%Y > /constant", base="debian")
    found = verified(program, folder, "--vary=clock")
    assert [step["status"] for step in found["steps"]] == ["different", "tainted"]
    assert causes(found) == ["clock"]
    assert found["steps"][0]["files"][0]["diff"][-2:] == ["-2031", "+2032"]
    assert found["not_varied"] == []


def test_a_step_that_fails_on_other_days(program: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    """By a certificate, as it were: what else it depends on is found on this day."""
    assert program("import", debian_base, "debian").returncode == 0
    folder = context(tmp_path, "test $(date +%Y) -lt 2030 && head -c 8 /dev/urandom > /f", base="debian")
    assert causes(verified(program, folder)) == ["random"]


def test_what_killed_programs_left_in_memory_goes(program: Pybuild, tmp_path: Path) -> None:
    left = Path(f"/dev/shm/pybuild-verify-left-{os.getpid()}")
    (left / "1").mkdir(parents=True)
    (left / "1/file").write_text("text")
    os.utime(left, (0, 0))
    assert verified(program, context(tmp_path, "echo text > /f"), "--vary=order", code=0)["verdict"] == "identical"
    assert not left.exists()


def test_annotations_for_github(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "head -c 8 /dev/urandom > '/a,b:c'; echo '::error::no' > /x")
    lines = program("verify", "-q", "--format=github", "--vary=none", folder).stdout.splitlines()
    place = f"file={str(folder).replace(':', '%3A')}/Dockerfile,line=2,title=pybuild verify"
    assert lines[0] == (
        f"::error {place}::not reproducible: it depends on"
        " nothing that was varied: it is random even when all is fixed; 1 files differ: /a,b:c"
    )
    # The runner takes commands anywhere in a line: there are none until the word that no text can have in it.
    shown = "".join(f"{line}\n" for line in lines[2:-1])
    token = hashlib.sha256(shown.encode()).hexdigest()
    assert (lines[1], lines[-1]) == (f"::stop-commands::{token}", f"::{token}::")
    assert program("-q", "-t", "app", folder).returncode == 0
    done = program("verify", "-q", "--format=github", "--context", folder, "app")
    assert done.returncode == 4
    assert done.stdout.startswith(f"::error {place}::app and {folder} are different: ")


def test_whether_a_context_gives_an_image(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "FROM base\nARG A=1\nCOPY file /app/\nRUN echo $A > /made\n")
    assert program("-q", "-t", "app", folder).returncode == 0
    done = program("verify", "-q", "--context", folder, "app")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"app and {folder} are identical")
    (folder / "file").write_text("other\n")
    done = program("verify", "-q", "--context", folder, "app")
    assert done.returncode == 4
    assert "/app/file" in done.stdout and "COPY file /app/" in done.stdout
    (folder / "file").write_text("text\n")
    done = program("verify", "-q", "--context", folder, "--build-arg=A=2", "app")
    assert done.returncode == 4 and "/made" in done.stdout
    done = program("verify", "-q", "--context", folder, "nosuch")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: there is no image 'nosuch' in the store")
    # One of another builder: what can be compared is.
    archive = tmp_path / "other.tar"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{_layout(program, tmp_path)}:", f"docker-archive:{archive}:o:1"],
        check=True,
    )
    done = program("verify", "-q", "--context", folder, f"docker-archive:{archive}")
    assert done.returncode in (0, 4) and "Traceback" not in done.stderr


def _layout(program: Pybuild, tmp_path: Path) -> Path:
    assert program("save", "--format=oci-dir", "-o", tmp_path / "layout", "app").returncode == 0
    return tmp_path / "layout"


def test_what_cannot_be_verified(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "true")
    done = program("verify", "--platform=linux/amd64,linux/arm64", folder)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: one platform is verified at a time")
    done = program("verify", "-", stdin=b"FROM scratch\n")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: what comes on standard input is there once")
    done = program("verify", "--print-plan", folder)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: unknown flag '--print-plan' of 'verify'")
    (folder / "Dockerfile").write_text("FROM base\nRUN exit 3\n")
    done = program("verify", folder)
    assert done.returncode == 1 and "Dockerfile:2:1: error: the command failed with exit code 3" in done.stderr


def test_an_image_in_the_place_of_its_source(program: Pybuild) -> None:
    done = program("verify", "base")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "error: the build context 'base' does not exist\n"
        "  hint: give the folder that holds the sources; whether they give an image is told by:"
        " pybuild verify --context DIR base\n",
    )


def test_what_differs_rarely(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "head -c 1 /dev/urandom | od -An -tu1 | awk '{print $1 % 2}' > /coin")
    # One time in a million this passes all the same.
    found = verified(program, folder, "--vary=pids", "--runs=20")
    assert found["steps"][0]["status"] == "different"
    done = program("verify", "--runs=0", folder)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: --runs=0 is no number of runs")


def test_annotations_from_a_folder_of_the_repository(program: Pybuild, tmp_path: Path) -> None:
    folder = context(tmp_path, "head -c 8 /dev/urandom > /noise")
    workspace = {"GITHUB_WORKSPACE": str(tmp_path)}
    done = program("verify", "-q", "--format=github", "--vary=none", ".", cwd=folder, env=workspace)
    assert done.stdout.startswith("::error file=context/Dockerfile,line=2,title=pybuild verify::")
    assert program("-q", "-t", "one", ".", cwd=folder).returncode == 0
    for command, shown in ((("verify", "--context", "."), "verify"), (("diff", "base"), "diff")):
        done = program(command[0], "--format=github", *command[1:], "one", cwd=folder, env=workspace)
        assert done.returncode == 4
        assert done.stdout.startswith(f"::error file=context/Dockerfile,line=2,title=pybuild {shown}::"), done.stdout
    (folder / "Dockerfile").write_text("FROM base\nMAINTAINER j\n")
    done = program("check", "--format=github", ".", cwd=folder, env=workspace)
    assert "file=context/Dockerfile,line=2," in done.stdout


def test_the_flags_of_a_build(program: Pybuild, tmp_path: Path) -> None:
    """As a pipeline has them; what becomes of the image means nothing here, and --no-cache is the first build's."""
    folder = context(tmp_path, "echo one > /f")
    results = ("-t", "registry.example/app:1", "--push", "-o", f"type=oci,dest={tmp_path}/x", "--iidfile", tmp_path / "id")
    flags = ("--metadata-file", tmp_path / "m", "--progress=plain", "--provenance=false", "--label=a=b", "--no-cache")
    done = program("verify", "-q", "--format=json", "--vary=pids", *results, *flags, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [name for name in ("x", "id", "m") if (tmp_path / name).exists()]


def test_a_blob_that_no_compressor_gives_again(program: Pybuild, tmp_path: Path) -> None:
    """The same layers, and another manifest: as if the compressor of the store had been another."""
    folder = context(tmp_path, "echo text > /f")
    assert verified(program, folder, "--vary=pids", code=0)["verdict"] == "identical"
    with closing(sqlite3.connect(program.store / "db.sqlite", isolation_level=None)) as database:
        (digest,), *_ = database.execute("SELECT digest FROM renderings WHERE form LIKE 'gzip%'").fetchall()
        blobs = program.store / "blobs/sha256"
        other = gzip.compress(gzip.decompress((blobs / digest.removeprefix("sha256:")).read_bytes()), mtime=0)
        name = hashlib.sha256(other).hexdigest()
        (blobs / name).write_bytes(other)
        database.execute("UPDATE renderings SET digest = ? WHERE digest = ?", (f"sha256:{name}", digest))
    found = verified(program, folder, "--vary=pids")
    assert (found["verdict"], found["steps"][0]["status"]) == ("diff-ids", "same")
    assert verified(program, folder, "--vary=pids", "--require=diff-ids", code=0)["verdict"] == "identical", "not looked at"
    assert "but its layers are compressed to other bytes" in program("verify", "-q", "--vary=pids", folder).stdout
