"""Why a step ran, in words: each input that can change, alone and with others; secrets stay out."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.plan import reasons, wording
from builder.plan.reasons import File, Files, Reason
from tests.conftest import ROOT as ROOT_FOLDER

ROOT = Reason("before", "another file system", 1)
RUN: dict[str, Any] = {
    "op": "run",
    "root": "sha256:aa",
    "argv": ["/bin/sh", "-c", "make"],
    "cwd": "/",
    "env": [["PATH", "/bin"], ["GIT_SHA", "abc"], ["NPM_TOKEN", "hunter2"]],
    "hostname": "pybuild",
    "hosts": [],
    "mounts": [],
    "network": "host",
    "platform": "linux/amd64",
    "rung": "root",
    "security": "sandbox",
    "shm_size": 67108864,
    "user": "",
}
COPY: dict[str, Any] = {
    "op": "copy",
    "root": "sha256:aa",
    "chmod": None,
    "chown": "",
    "content": "11",
    "dest": "/app/",
    "unpack": False,
}


def told(before: Mapping[str, Any], now: Mapping[str, Any], files: Files | None = None) -> list[str]:
    found = reasons.compare(before, now, args=("GIT_SHA", "NPM_TOKEN"), copied="COPY src", files=files, root=ROOT)
    return [reason.text for reason in found]


def env(**changes: str | None) -> dict[str, Any]:
    values = {name: value for name, value in {**dict(RUN["env"]), **changes}.items() if value is not None}
    return {"env": [list(pair) for pair in values.items()]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"argv": ["/bin/sh", "-c", "make all"]}, "command: make -> make all"),
        ({"argv": ["make"]}, "command: make -> make"),
        ({"argv": ["ls", "-l"]}, "command: make -> ls -l"),
        ({"argv": ["/bin/bash", "-o", "pipefail", "-c", "make"]}, "SHELL: /bin/sh -c -> /bin/bash -o pipefail -c"),
        (env(GIT_SHA="def"), "ARG GIT_SHA: abc -> def"),
        (env(GIT_SHA=""), 'ARG GIT_SHA: abc -> ""'),
        (env(GIT_SHA=None), "GIT_SHA: no longer set (it was abc)"),
        (env(NEW="1"), "ENV NEW: set to 1"),
        (env(PATH="/usr/bin:/bin"), "ENV PATH: /bin -> /usr/bin:/bin"),
        (env(NPM_TOKEN="hunter3"), "ARG NPM_TOKEN: changed (its value is not shown)"),
        (env(NPM_TOKEN=None), "NPM_TOKEN: no longer set"),
        (env(DB_PASSWORD="x"), "ENV DB_PASSWORD: set"),
        ({"env": [["GIT_SHA", "abc"], ["PATH", "/bin"], ["NPM_TOKEN", "hunter2"]]}, "the order of the variables"),
        ({"cwd": "/app"}, "WORKDIR: / -> /app"),
        ({"user": "1000"}, "USER: root -> 1000"),
        ({"network": "none"}, "network: host -> none"),
        ({"hostname": "other"}, "host name: pybuild -> other"),
        ({"hosts": [["a", "1.2.3.4"], ["b", "::1"]]}, "--add-host: none -> a:1.2.3.4, b:::1"),
        ({"shm_size": 1024}, "--shm-size: 67108864 -> 1024"),
        ({"platform": "linux/arm64"}, "platform: linux/amd64 -> linux/arm64"),
        ({"rung": "root without CAP_MKNOD"}, "sandbox: root -> root without CAP_MKNOD"),
        ({"security": "insecure"}, "--security: sandbox -> insecure"),
        ({"mounts": [{"type": "cache", "target": "/c", "id": "x"}]}, "--mount=type=cache /c: added"),
        ({"script": ["EOF", "#!/bin/sh"]}, "the script of its heredoc changed"),
        ({"root": "sha256:bb"}, "another file system"),
        ({"later_field": 1}, "later-field changed"),
    ],
)
def test_each_input_of_a_run(change: Mapping[str, Any], text: str) -> None:
    assert told(RUN, {**RUN, **change}) == [text]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dest": "/srv/"}, "destination: /app/ -> /srv/"),
        ({"chmod": 0o755}, "--chmod: none -> 755"),
        ({"chown": "1000:1000"}, "--chown: none -> 1000:1000"),
        ({"unpack": True}, "archives are unpacked now"),
        ({"content": "22"}, "COPY src: files changed"),
    ],
)
def test_each_input_of_a_copy(change: Mapping[str, Any], text: str) -> None:
    assert told(COPY, {**COPY, **change}) == [text]


def test_a_workdir() -> None:
    before = {"op": "workdir", "root": "sha256:aa", "path": "/a", "user": ""}
    assert told(before, {**before, "path": "/b", "user": "bin"}) == ["WORKDIR: /a -> /b", "USER: root -> bin"]


@pytest.mark.parametrize(
    ("before", "now", "texts"),
    [
        ({"content": "1"}, {"content": "2"}, ["--mount=type=bind /src: its files changed"]),
        ({"content": "1", "readonly": True}, {"content": "2", "readonly": False},
         ["--mount=type=bind /src: content, readonly changed"]),
        ({}, {"target": "/dst"}, ["--mount=type=bind /dst: added", "--mount=type=bind /src: removed"]),
        ({"type": "secret", "target": "", "env": "T"}, {"type": "secret", "target": "", "env": "T", "required": True},
         ["--mount=type=secret T: required changed"]),
    ],
)  # fmt: skip
def test_mounts(before: dict[str, Any], now: dict[str, Any], texts: list[str]) -> None:
    mounts = [[{"type": "bind", "target": "/src", **changes}] for changes in (before, now)]
    assert told({**RUN, "mounts": mounts[0]}, {**RUN, "mounts": mounts[1]}) == texts
    two = [{"type": "tmpfs", "target": target} for target in ("/a", "/b")]
    assert told({**RUN, "mounts": two}, {**RUN, "mounts": two[::-1]}) == ["the order of its --mount flags"]


def test_the_steps_own_inputs_come_first_and_what_it_starts_from_last() -> None:
    now = {**RUN, "root": "sha256:bb", "network": "none", "argv": ["x"], **env(GIT_SHA="def")}
    assert told(RUN, now) == ["command: make -> x", "ARG GIT_SHA: abc -> def", "network: host -> none", "another file system"]


def files(**names: tuple[str, int, int]) -> dict[str, File]:
    return {name.replace("_", "."): File(content, mode, (owner, owner)) for name, (content, mode, owner) in names.items()}


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (files(a_py=("1", 0o644, 0)), files(a_py=("2", 0o644, 0)), "1 file changed: a.py"),
        (
            files(a_py=("1", 0o644, 0), b_py=("1", 0o644, 0)),
            files(a_py=("2", 0o600, 0), b_py=("2", 0o644, 0)),
            "2 files changed: a.py, b.py",
        ),
        (files(), files(a_py=("1", 0o644, 0)), "1 file added: a.py"),
        (files(a_py=("1", 0o644, 0), b_py=("1", 0o644, 0)), files(), "2 files removed: a.py, b.py"),
        (
            files(a=("1", 0o644, 0), b=("1", 0o644, 0), d=("1", 0o644, 0), e=("1", 0o644, 0)),
            files(a=("2", 0o644, 0), c=("1", 0o644, 0), d=("1", 0o755, 0), e=("1", 0o644, 7)),
            "1 file changed: a; 1 added: c; 1 removed: b; 1 mode changed: d (644 -> 755); 1 owner changed: e (0:0 -> 7:7)",
        ),
        (files(a=("1", 0o644, 0)), files(a=("1", 0o644, 0)), "the sources changed, and gave the same files"),
        (
            {},
            {f"f{number:02}": File("1", 0o644, (0, 0)) for number in range(17)},
            "17 files added: f00, f01, f02, f03, f04 and 12 more",
        ),
    ],
)
def test_files(before: dict[str, File], now: dict[str, File], text: str) -> None:
    files = Files()
    for name in {**before, **now}:
        files.compare(name, before.get(name), now.get(name))
    assert told(COPY, {**COPY, "content": "22"}, files) == [f"COPY src: {text}"]


def test_many_variables_are_counted() -> None:
    now = {**RUN, "env": [*RUN["env"], *([f"V{number}", "1"] for number in range(9))]}
    assert told(RUN, now)[-1] == "and 4 more variables"
    assert len(told(RUN, now)) == reasons.MOST_VARIABLES + 1


def test_credentials_in_values_are_masked() -> None:
    before, now = env(GIT_SHA="https://me:hunter2@example.com/a"), env(GIT_SHA="https://me:hunter3@example.com/b")
    (text,) = told({**RUN, **before}, {**RUN, **now})
    assert "hunter" not in text
    (text,) = told(RUN, {**RUN, "argv": ["curl", "https://me:hunter2@example.com/a"]})
    assert "hunter" not in text


def test_of_long_values_the_difference_is_shown() -> None:
    start, end = "apt-get install -y " + "some-package " * 20, " && rm -rf /var/lib/apt/lists/* /tmp/* /var/tmp/*"
    (text,) = told({**RUN, "argv": [f"{start}vim{end}"]}, {**RUN, "argv": [f"{start}emacs{end}"]})
    assert text == "command: …ome-package vim && rm -rf /… -> …ome-package emacs && rm -rf /…"


def test_what_a_step_follows_from() -> None:
    why = (Reason("files", "COPY src: 1 file changed: a.py"),)
    assert reasons.follows(True, 3, "[2/3] COPY src .", why) == Reason(
        "before", "the step before: [2/3] COPY src . (1 file changed: a.py)", 3
    )
    assert reasons.follows(False, 3, "[2/3] COPY src .", ()).text == "an earlier step: [2/3] COPY src ."
    assert reasons.base("debian:12", "debian:12", 1) == Reason("base", "base: new digest (debian:12)", 1)
    assert reasons.base("debian:11", "debian:12", 1) == Reason("base", "base: debian:11 -> debian:12", 1)


TEXT = st.text(max_size=80)
INPUTS = st.fixed_dictionaries(
    {
        "op": st.just("run"),
        "root": st.sampled_from(["sha256:aa", "sha256:bb", None]),
        "argv": st.lists(TEXT, min_size=1, max_size=4),
        "cwd": TEXT,
        "env": st.dictionaries(st.sampled_from(["A", "B", "PATH", "API_TOKEN"]), TEXT).map(
            lambda d: [list(i) for i in d.items()]
        ),
        "hosts": st.lists(st.tuples(TEXT, TEXT).map(list), max_size=2),
        "network": st.sampled_from(["host", "none"]),
        "user": TEXT,
    },
    optional={"script": st.tuples(TEXT, TEXT).map(list), "other": st.integers()},
)


@settings(max_examples=200)
@given(INPUTS, INPUTS)
def test_whatever_differs_has_a_reason_and_nothing_else_has(before: dict[str, Any], now: dict[str, Any]) -> None:
    texts = told(before, now)
    assert told(before, before) == []
    assert bool(texts) == (before != now)
    assert all(len(text) < 400 and "\n" not in text for text in texts)
    assert told(now, before) == [] if before == now else told(now, before)
    assert ("another file system" in texts) == (before["root"] != now["root"])


@settings(max_examples=100)
@given(st.text(min_size=8, alphabet="0123456789abcdef"), st.text(min_size=8, alphabet="0123456789abcdef"), INPUTS)
def test_no_value_of_a_secret_is_told(old: str, new: str, inputs: dict[str, Any]) -> None:
    before, now = ({**inputs, "env": [["MY_SECRET", value]], "argv": ["x"]} for value in (old, new))
    text = " ".join(told(before, now))
    assert old not in text and new not in text


@pytest.mark.parametrize("name", ["NPM_TOKEN", "token", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "API_KEY", "PASSPHRASE_PASSWD"])
def test_names_that_sound_like_a_secret(name: str) -> None:
    assert wording.is_secret(name)


@pytest.mark.parametrize("name", ["GIT_SHA", "KEYBOARD", "VERSION", "PATH", "AUTHOR"])
def test_names_that_do_not(name: str) -> None:
    assert not wording.is_secret(name)


@settings(max_examples=300)
@given(st.text(max_size=300), st.text(max_size=300))
def test_a_pair_is_short_and_shows_a_difference(old: str, new: str) -> None:
    text = wording.pair(old, new)
    assert len(text) <= 2 * (wording.LONGEST + 4) + 4
    assert "\n" not in text


def test_the_docs_have_every_kind() -> None:
    """Kinds as the sources make them, and the table of docs/why.md."""
    made: set[str] = set()
    for path in ("builder/plan/reasons.py", "builder/engine/explaining.py"):
        for node in ast.walk(ast.parse((ROOT_FOLDER / path).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason":
                made |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    made |= {kind for kind, _ in reasons._WORDS.values()} | {"arg", "env"}
    rows = re.findall(r"^\| (`.*?) \|", (ROOT_FOLDER / "docs" / "why.md").read_text(), re.MULTILINE)
    told = {kind for row in rows for kind in re.findall(r"`([a-z-]+)`", row)}
    # The table of steps has a stage.
    assert told - {"build"} == made
