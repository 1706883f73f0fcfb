"""Why each step ran, told by the real program: transcripts for each kind of change, and the same in every form."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Pybuild

GOLDEN = ROOT / "tests" / "golden" / "why"
DOCKERFILE = """\
FROM base AS build
ARG GIT_SHA=abc
ENV MODE=fast
WORKDIR /app
COPY src .
RUN cat a.py b.py > all
RUN echo $GIT_SHA > sha

FROM base
COPY --from=build /app/all /all
RUN cat /all > /copy
"""


class Room:
    """A build context, and the transcript of what was done in it."""

    def __init__(self, pybuild: Pybuild, folder: Path, base: Path) -> None:
        self.pybuild = pybuild
        self.folder = folder
        self.base = base
        (folder / "src").mkdir(parents=True)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        for name in ("a.py", "b.py"):
            self.write(f"src/{name}", name)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"{text}\n")
        # Whatever the umask of who runs the tests.
        (self.folder / name).chmod(0o644)

    def edit(self, old: str, new: str) -> None:
        text = (self.folder / "Dockerfile").read_text()
        assert old in text
        (self.folder / "Dockerfile").write_text(text.replace(old, new))

    def build(self, *flags: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.pybuild("--build-context", f"base={self.base}", "--progress=plain", *flags, ".", cwd=self.folder)
        assert done.returncode == code, done.stderr
        return done

    def why(self, *arguments: str) -> str:
        """stdout, or the message."""
        done = self.pybuild("why", *arguments, cwd=self.folder)
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE TIME", done.stdout or done.stderr)

    def reasons(self, step: str) -> list[str]:
        told: dict[str, Any] = json.loads(self.why(step, "--format=json"))
        return [reason["text"] for each in told["steps"] for reason in each["reasons"]]


@pytest.fixture
def room(pybuild: Pybuild, tmp_path: Path, busybox_base: Path) -> Room:
    return Room(pybuild, tmp_path / "context", busybox_base)


def files(room: Room) -> None:
    room.write("src/a.py", "changed")
    room.write("src/c.py", "new")
    (room.folder / "src" / "b.py").chmod(0o755)
    room.build()


def arg(room: Room) -> None:
    room.build("--build-arg", "GIT_SHA=def")


def command(room: Room) -> None:
    room.edit("cat a.py b.py", "cat b.py a.py")
    room.edit("ENV MODE=fast", "ENV MODE=slow LEVEL=2")
    room.build()


def base(room: Room) -> None:
    room.base = Path(shutil.copytree(room.base, room.folder.parent / "base", symlinks=True))
    (room.base / "etc" / "issue").write_text("another\n")
    room.build()


def failure(room: Room) -> None:
    room.edit("echo $GIT_SHA > sha", "echo half > sha; exit 3")
    room.build(code=1)
    room.build(code=1)


@pytest.mark.parametrize("change", [files, arg, command, base, failure], ids=lambda change: change.__name__)
def test_transcripts(room: Room, change: Callable[[Room], None]) -> None:
    """Whole outputs of `pybuild why`, after a first build and a change."""
    room.build()
    change(room)
    told = re.sub("sha256:[0-9a-f]{64}", "IMAGE", room.why())
    assert told == (GOLDEN / f"{change.__name__}.txt").read_text()


def test_a_first_build_and_a_cached_one(room: Room) -> None:
    room.build()
    assert room.reasons("build") == ["never built"] * 4
    room.build()
    assert room.why("#3") == "#3 [build 3/5] COPY src .\n     cached: made of the same inputs on DATE TIME\n"
    assert room.reasons("build") == []


def test_a_step_that_ran_though_its_inputs_are_the_same(room: Room) -> None:
    room.build()
    room.build("--no-cache")
    assert room.reasons("5/5") == ["the cache was not asked (--no-cache)"]
    room.build("--no-cache-filter=build")
    assert room.reasons("5/5") == ["the cache was not asked (--no-cache-filter)"]
    assert room.reasons(":10") == []
    shutil.rmtree(room.pybuild.store / "index")
    (room.pybuild.store / "index").mkdir(0o700)
    assert room.pybuild("import", room.base, "other").returncode == 0
    room.build()
    assert room.reasons(":5") == ["the same inputs, but its result was removed from the store"]


def test_a_step_that_was_interrupted(room: Room) -> None:
    room.edit("echo $GIT_SHA > sha", "echo be''gun; sleep 1000")
    process = room.pybuild.start("--build-context", f"base={room.base}", ".", cwd=room.folder)
    assert process.stderr is not None
    said = b""
    while b"begun" not in said:
        data = os.read(process.stderr.fileno(), 4096)
        assert data, said
        said += data
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert "it was interrupted" in room.why()
    assert "[build 5/5]" in room.why("5/5") and "CANCELED\n     never built\n" in room.why("5/5")
    room.edit("sleep 1000", "true")
    room.build()
    (text,) = room.reasons("5/5")
    assert text == "command: echo be''gun; sleep 1000 -> echo be''gun; true"


def test_a_new_line_was_never_built_and_those_behind_it_follow(room: Room) -> None:
    room.build()
    room.edit("COPY src .\n", "COPY src .\nRUN echo new > new\n")
    room.build()
    assert room.reasons(":6") == ["never built"]
    assert room.reasons(":7") == ["the step before: [build 4/6] RUN echo new > new (never built)"]
    assert room.reasons(":8") == ["an earlier step: [build 4/6] RUN echo new > new (never built)"]
    # Its result is what it was: the rebuilding stopped there.
    assert room.reasons(":11") == []


def test_a_step_that_changes_no_file_is_no_cause(room: Room) -> None:
    text = "FROM base\nCOPY src/a.py /\nENV MODE={}\nRUN true\nRUN echo $PATH\nCOPY src/b.py /\n"
    for mode, content in (("fast", "1"), ("slow", "2")):
        room.write("src/a.py", content)
        (room.folder / "Dockerfile").write_text(text.format(mode))
        room.build()
    copied = "[stage-0 2/5] COPY src/a.py / (1 file changed: a.py)"
    assert room.reasons("3") == ["ENV MODE: fast -> slow", f"the step before: {copied}"]
    assert room.reasons("5") == [f"an earlier step: {copied}"]
    # Back: what comes from the cache changed no file either.
    room.write("src/a.py", "1")
    (room.folder / "Dockerfile").write_text(text.format("fast").replace("src/b.py", "src"))
    room.build()
    assert room.reasons("5")[-1] == "an earlier step: [stage-0 2/5] COPY src/a.py / (cached, with another result)"


def test_another_dockerfile_learns_from_what_was_built(room: Room) -> None:
    room.build()
    (room.folder / "other").write_text(DOCKERFILE.replace("MODE=fast", "MODE=slow"))
    room.build("-f", "other", "--target", "build")
    assert room.reasons(":6") == ["ENV MODE: fast -> slow"]


def test_secrets_and_credentials_are_not_told(room: Room) -> None:
    room.edit("ARG GIT_SHA=abc", "ARG GIT_SHA=abc\nARG NPM_TOKEN\nARG URL")
    first = ("--build-arg", "NPM_TOKEN=hunter2", "--build-arg", "URL=https://me:hunter4@example.com/a")
    second = ("--build-arg", "NPM_TOKEN=hunter3", "--build-arg", "URL=https://me:hunter5@example.com/b")
    proxy = ("--build-arg", "http_proxy=http://me:hunter6@proxy.example:1")
    room.build(*first, *proxy)
    done = room.build(*second, *proxy, "--explain")
    assert "#4 WHY ARG NPM_TOKEN: changed (its value is not shown)\n" in done.stderr
    assert "#4 WHY ARG URL: https://xxxxx:xxxxx@example.com/a -> https://xxxxx:xxxxx@example.com/b\n" in done.stderr
    assert "hunter" not in done.stderr + room.why()
    room.edit("RUN cat a.py b.py > all", "RUN exit 3")
    room.build(*second, *proxy, code=1)
    (text,) = room.reasons("4/5")
    assert text == "command: cat a.py b.py > all -> exit 3"
    room.build("--build-arg", "NPM_TOKEN=hunter3", "--build-arg", "URL=https://me:hunter7@example.com/b", code=1)
    (text,) = room.reasons("4/5")
    assert text == "an input changed that is not shown: credentials in a URL"
    history = b"".join(path.read_bytes() for path in (room.pybuild.store / "builds").iterdir())
    # What a RUN sees of build args is in its key, and in the image's history: a token in the Dockerfile's own ARG.
    assert not [word for word in (b"hunter4", b"hunter5", b"hunter6", b"hunter7") if word in history]


def test_every_form_tells_the_same(room: Room) -> None:
    room.build()
    room.write("src/a.py", "changed")
    metadata = room.folder.parent / "metadata.json"
    done = room.pybuild(
        *("--build-context", f"base={room.base}", "--progress=json", "--metadata-file", metadata, "."), cwd=room.folder
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    explained = {each["step"]: each["reasons"] for each in events if each["type"] == "step.explained"}
    finished = {each["step"]: each for each in events if each["type"] == "step.finished"}
    steps = json.loads(metadata.read_text())["pybuild.steps"]
    told = json.loads(room.why("--format=json"))
    assert told["v"] == 1 and told["build"]["outcome"] == "done" and told["build"]["image_id"].startswith("sha256:")
    assert steps == [{key: value for key, value in step.items() if key != "made"} for step in told["steps"]]
    assert explained == {step["step"]: step["reasons"] for step in steps if step["reasons"]}
    for step in steps:
        for field in ("status", "key", "diff_id", "name", "line"):
            assert finished[step["step"]][field] == step[field], (step, field)
    assert explained[3] == [{"kind": "files", "text": "COPY src: 1 file changed: a.py", "step": None}]
    assert explained[4][0]["kind"] == "before" and explained[4][0]["step"] == 3
    # Each reason comes right before the end of its step.
    order = [(each["type"], each["step"]) for each in events if each["type"] in ("step.explained", "step.finished")]
    assert all(
        order[place + 1] == ("step.finished", step) for place, (kind, step) in enumerate(order) if kind == "step.explained"
    )


def test_which_step_is_meant(room: Room) -> None:
    room.build()
    third = "#3 [build 3/5] COPY src .\n     never built\n"
    for text in ("3", "#3", "build 3/5", "[build 3/5]", "3/5", ":5", "copy src"):
        assert room.why(text) == third, text
    assert room.why("build").count("\n#") == 4
    message = room.why("RUN")
    assert message.startswith(
        "error: 'RUN' means 3 steps\n  hint: give the number of one: #4 [build 4/5] RUN cat a.py b.py > all; "
    )
    assert room.why("biuld") == "error: no step of the build is 'biuld'\n  hint: did you mean 'build'?\n"
    assert room.why("99") == "error: the build has no step #99: it has 7\n  hint: pybuild why lists them\n"
    assert room.why(":1000") == "error: no step of the build stands in line 1000\n  hint: pybuild why lists the steps\n"
    assert room.why(":x") == "error: ':x' is not a line of the Dockerfile\n  hint: a line looks like :12\n"


def test_which_build_is_meant(room: Room) -> None:
    assert room.why() == (
        "error: no build is remembered in this store\n  hint: build something first, or name the store with --root\n"
    )
    room.build()
    (room.folder / "other").write_text("FROM base\nRUN true\n")
    room.build("-f", "other")
    assert "other, context ." in room.why().partition("\n")[0]
    assert "other" not in room.why("-f", "Dockerfile")
    assert room.why("-f", "othr").endswith("\n  hint: did you mean 'other'?\n")
    # A Dockerfile that cannot be read was no build.
    room.edit("WORKDIR /app", "WORKDIRR /app")
    room.build(code=3)
    assert "other, context ." in room.why().partition("\n")[0]
