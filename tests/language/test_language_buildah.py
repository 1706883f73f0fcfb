"""The same Dockerfiles by this program and by buildah, an implementation that shares no code with it: the configs and the
flattened trees (paths, kinds, modes, owners, links, content; no times) are equal but for what `KNOWN` lists and explains.

buildah is no authority here: where both differ, BuildKit's reference decides, and the goldens hold what it says.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.language.language_buildah import Buildah
from tests.language.language_case import Case, load, shown
from tests.language.language_image import PATH, Image, changes
from tests.language.language_room import Room, prepare
from tests.language.test_language_realistic import stand_in

GOLDEN = ROOT / "tests" / "golden" / "language"
NAMES = [
    "parser-escape-backtick",
    "parser-comments-in-continuations",
    "words-reference-forms",
    "words-quotes",
    "words-in-every-instruction",
    "words-set-but-empty",
    "json-broken-is-shell",
    "json-entrypoint-keeps-own-cmd",
    "arg-before-from",
    "arg-several-on-a-line",
    "arg-env-wins",
    "arg-inherited-by-stages",
    "env-forms",
    "env-order-and-path",
    "config-small-instructions",
    "stages-by-number-and-name",
    "run-without-a-change",
    "run-user",
    "workdir-owner",
    "copy-folder-contents",
    "copy-trailing-slash",
    "copy-onto-what-exists",
    "copy-wildcards",
    "copy-links-in-the-context",
    "copy-links-in-the-destination",
    "copy-modes-and-owners",
    "copy-chown-forms",
    "copy-chown-existing",
    "copy-hard-links",
    "add-archives",
    "ignore-any-depth",
    "ignore-last-match-wins",
    "ignore-everything-but",
    "realistic/node-app",
    "realistic/go-service",
    "realistic/postgres",
    "realistic/rust-workspace",
    "realistic/nginx-site",
    "realistic/python-django",
    "realistic/redis-from-source",
    "realistic/distroless-like",
    "realistic/multi-target",
]
CASES = [load(GOLDEN / name) for name in NAMES]

LEFT_BY_CHROOT = {"dev", "proc", "sys", "run", "etc/hosts", "etc/hostname", "etc/resolv.conf"}
"""Mount points that buildah's chroot isolation makes for a RUN and leaves in the layer; here they are not in it."""

NOT_IN_OCI = {"Healthcheck", "OnBuild", "Shell"}
"""Docker's fields that buildah drops when it writes the OCI format; here they stay (facts, item 17)."""

OPT_PATH = PATH.replace("=", "=/opt/bin:")

KNOWN = {
    "words-in-every-instruction": {
        "theirs data/v: dir 755 0:0 b''": "a RUN after VOLUME makes the volume's folder; BuildKit only notes it in the config",
    },
    "arg-inherited-by-stages": {
        "ours based: file 644 0:0 b'<1><2>\\n'": "the reference, ARG, Scope: ARGs are inherited",
        "theirs based: file 644 0:0 b'<><>\\n'": "this version forgets them at each FROM",
    },
    "json-broken-is-shell": {
        "Entrypoint: ['/bin/sh', '-c', '[]random string'] != None": "BuildKit testInvalidJSONCommands: it is the shell form",
    },
    "env-order-and-path": {
        f"Env: {[OPT_PATH, 'B=new', 'A=1', 'C=3']} != {[OPT_PATH, 'A=1', 'C=3', 'B=new']}": (
            "a variable that is set again goes to the end; with BuildKit it keeps its place"
        ),
    },
    "copy-chown-forms": {
        "ours e: dir 644 1001:77 b''": "BuildKit testCopyChmod: folders that are made have the mode of --chmod",
        "theirs e: dir 755 1001:77 b''": "as BuildKit before its issue 4945",
    },
    "copy-modes-and-owners": {
        "ours d/private/s: file 4600 0:0 b's'": "the reference, COPY: file permissions are preserved",
        "theirs d/private/s: file 600 0:0 b's'": "a setuid bit is lost, since the file is chowned after its chmod",
    },
}
"""By case, each line that differs and why. All else must be equal."""

REFUSED = {
    "parser-escape-backtick": ("unexpected end of statement", "the escape directive is not known to its expansion of words"),
    "words-reference-forms": ("substitution", "${v#p}, ${v%p} and ${v/p/r} came with a later version"),
    "words-set-but-empty": ("Missing ':' in substitution", "${v-w} and ${v+w} came with a later version"),
    "copy-wildcards": ("matched nothing", "it takes the [[] out of a pattern before it looks for files"),
}
"""What buildah refuses, with words of its message, though the reference has it; here it builds, as the goldens say."""


class Both:
    def __init__(self, folder: Path, busybox: Path) -> None:
        base = stand_in(folder, busybox)
        self.room = Room(folder, base, "busybox")
        names = {name for case in CASES for name in case.said.get("bases", [])}
        self.buildah = Buildah(folder / "buildah", base, ["busybox", *names])

    def build(self, case: Case, folder: Path) -> tuple[Image, Path, str]:
        """What this program makes of the case, the layout that buildah makes, and the error if it makes none."""
        context = prepare(case, folder)
        flags = ["-f", case.said.get("dockerfile", "Dockerfile"), *case.said.get("flags", [])]
        for image in case.said.get("before", []):
            done = self.room.run(context, "-f", image["dockerfile"], "-t", image["tag"])
            assert done.returncode == 0, done.stderr
            self.buildah.tag(context, image["tag"], "-f", image["dockerfile"])
        ours, theirs = folder / "ours", folder / "theirs"
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(self.buildah.build, context, theirs, *flags)
            done = self.room.run(
                context,
                *("-o", f"type=oci,tar=false,compression=uncompressed,dest={ours}", *self.room.contexts(case), *flags),
            )
        assert done.returncode == 0, done.stderr
        return self.room.layouts.read(ours), theirs, error.result()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, busybox_base: Path) -> Both:
    return Both(tmp_path_factory.mktemp("buildah"), busybox_base)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_buildah_makes_the_same(case: Case, both: Both, tmp_path: Path) -> None:
    ours, layout, error = both.build(case, tmp_path)
    if case.name in REFUSED:
        assert REFUSED[case.name][0] in error
        return
    assert not error
    theirs = both.room.layouts.read(layout)
    assert differing(ours, theirs) == sorted(KNOWN.get(case.name, {}))


def differing(ours: Image, theirs: Image) -> list[str]:
    """The paths and the fields of the config that differ, one line each."""
    paths = changes(ours.tree, theirs.tree).keys() - LEFT_BY_CHROOT
    paths = {path for path in paths if not path.startswith("run/")}
    lines = [
        f"{name} {line}"
        for name, image in (("ours", ours), ("theirs", theirs))
        for line in shown({path: image.tree[path] for path in paths if path in image.tree})
    ]
    one, other = plain(ours.config), plain(theirs.config)
    lines += [
        f"{key}: {one.get(key)} != {other.get(key)}" for key in one.keys() | other.keys() if one.get(key) != other.get(key)
    ]
    return sorted(lines)


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A config in the terms that both share."""
    fields = {key: value for key, value in config.items() if key not in NOT_IN_OCI}
    # Where the base has no PATH, it comes first here (as in BuildKit), and where an ENV sets it there.
    env = sorted(fields.get("Env", []), key=lambda item: not item.startswith("PATH="))
    # BuildKit says / of an image that is made of nothing; buildah says nothing, which means the same.
    workdir = fields.get("WorkingDir") or "/"
    return {**fields, "Env": env, "WorkingDir": workdir}


def test_the_tables_are_about_cases_that_are_run() -> None:
    assert {*KNOWN, *REFUSED} <= {case.name for case in CASES}
    assert len(CASES) >= 25
