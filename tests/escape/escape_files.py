"""What hostile images, archives, contexts and Dockerfiles try: each function builds on one rung and says what came of it.

All aim at the field's canary: to read it (its secret would be in what the build says or makes), or to change it or its folder.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.escape.escape_ground import Done, Ground


class Trick(NamedTuple):
    tries: str
    play: Callable[[Ground], str]


def _told(ground: Ground, done: Done) -> str:
    """`contained` for a build that got to its end, else its error; OUT when the canary was read or changed."""
    leaked = ground.field.secret in done.said or not ground.field.untouched()
    if leaked:
        return "OUT"
    if done.code == 0:
        return "contained"
    error = next((line for line in done.said.splitlines() if "error: " in line), done.said[-200:])
    # The names differ, and are long.
    text = re.sub(r"(?<!\w)'[^']*'", "'...'", error.partition("error: ")[2])
    return f"refused ({done.code}): {text.partition(': ../')[0]}"


def _either(told: str) -> str:
    """Where the host's folder lies decides whether such a build fails; the canary is what counts."""
    return told if told == "OUT" else "contained"


def _built(
    ground: Ground, dockerfile: str, *flags: str | os.PathLike[str], fill: Callable[[Path], object] = lambda _: None
) -> str:
    context = ground.context(dockerfile)
    fill(context)
    # What is made is looked into, too.
    place = ground.home / f"out-{context.name}"
    done = ground.build(context, "-o", f"type=tar,dest={place}", *flags)
    said = done.said
    if place.exists():
        said += place.read_bytes().decode("latin-1")
        place.unlink()
    return _told(ground, done._replace(said=said))


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in more.items():
        setattr(member, field, value)
    return member


def _tar(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            member.size = 4 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"evil"))


def _added(*members: Callable[[Path], tarfile.TarInfo]) -> Callable[[Ground], str]:
    """ADD of an archive, whose members are made for a canary."""

    def play(ground: Ground) -> str:
        made = [member(ground.field.canary) for member in members]
        return _built(
            ground, "FROM base\nADD x.tar /d/\nRUN find /d | sort\n", fill=lambda context: _tar(context / "x.tar", *made)
        )

    return play


def _imported(*members: Callable[[Path], tarfile.TarInfo], run: str = "true") -> Callable[[Ground], str]:
    """An image whose layer is that archive, and a command in it."""

    def play(ground: Ground) -> str:
        context = ground.context("")
        _tar(context / "x.tar", *(member(ground.field.canary) for member in members))
        done = ground.program("import", context / "x.tar", "hostile")
        if done.returncode:
            return _told(ground, Done(done.returncode, done.stdout + done.stderr, ()))
        return _built(ground, f"FROM hostile\nCOPY --from=base /bin /bin\nRUN {run.format(canary=ground.field.canary)}\n")

    return play


def _dockerfile(text: str, fill: Callable[[Ground, Path], object] = lambda _, __: None) -> Callable[[Ground], str]:
    def play(ground: Ground) -> str:
        where = {"canary": ground.field.canary, "folder": ground.field.canary.parent, "up": "../" * 30}
        return _built(ground, text.format(**where), fill=lambda context: fill(ground, context))

    return play


def _link(name: str, to: str = "{canary}") -> Callable[[Ground, Path], object]:
    return lambda ground, context: (context / name).symlink_to(
        to.format(canary=ground.field.canary, folder=ground.field.canary.parent)
    )


def _swapped(ground: Ground) -> str:
    """The source of a bind mount becomes a link to the host's folder, again and again."""
    context = ground.context(
        "FROM base\nRUN --mount=target=/c i=0; while [ $i -lt 200 ]; do cat /c/d/canary; i=$((i+1)); done 2>/dev/null || true\n"
        "COPY d /d\n"
    )
    (context / "d").mkdir()
    (context / "d" / "canary").write_text("tame")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (context / "d").rename(context / "e")
            (context / "d").symlink_to(ground.field.canary.parent)
            (context / "d").unlink()
            (context / "e").rename(context / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        done = ground.build(context)
    finally:
        over.set()
        thread.join()
    return _either(_told(ground, done))


def _zip(_: Ground, context: Path) -> None:
    with zipfile.ZipFile(context / "x.zip", "w") as archive:
        archive.writestr("../../../../evil", "evil")


def _exported(ground: Ground) -> str:
    """An image with a link to the host's folder, written to a folder in which a link of that name is."""
    context = ground.context(
        f"FROM base\nRUN rm -rf /tmp; ln -s {ground.field.canary.parent} /tmp\nFROM base\nRUN echo evil > /tmp/canary\n"
    )
    place = ground.home / f"local-{context.name}"
    place.mkdir()
    os.chown(place, *_owner(ground))
    (place / "tmp").symlink_to(ground.field.canary.parent)
    return _told(ground, ground.build(context, "-o", f"type=local,dest={place}"))


def _owner(ground: Ground) -> tuple[int, int]:
    status = os.stat(ground.home)
    return status.st_uid, status.st_gid


def _workdir(ground: Ground) -> str:
    return _either(
        _built(ground, f"FROM base\nRUN ln -s {ground.field.canary.parent} /l\nWORKDIR /l/made\nRUN echo evil > f\n")
    )


def _cached(ground: Ground) -> str:
    first = ground.context(f"FROM base\nRUN --mount=type=cache,target=/k ln -sfn {ground.field.canary.parent} /k/l\n")
    again = ground.context(
        "FROM base\nRUN --mount=type=cache,target=/k --mount=type=tmpfs,target=/k/l/m "
        "cat /k/l/canary /k/l/*; echo evil > /k/l/canary\n"
    )
    done = ground.build(first)
    return _either(_told(ground, done if done.code else ground.build(again)))


def _shared(ground: Ground) -> str:
    """A new cache whose first content is a link of a stage."""
    text = f"FROM base AS l\nRUN ln -s {ground.field.canary.parent} /l\nFROM base\n"
    mount = "--mount=type=cache,id=from-link,target=/k,from=l,source=/l"
    return _told(ground, ground.build(ground.context(f"{text}RUN {mount} cat /k/canary\n")))


_DIR, _SYM, _LNK, _CHR, _BLK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE
_PIPED = "RUN --mount=type=bind,from=a,source=/l,target=/m cat /m/canary /m\n"

TRICKS: dict[str, Trick] = {
    "add-tar-dots": Trick("ADD of a tar with ../ names", _added(lambda c: _member("../" * 30 + str(c)[1:]))),
    "add-tar-absolute": Trick("ADD of a tar with an absolute name", _added(lambda c: _member(str(c)))),
    "add-tar-link-folder": Trick(
        "ADD of a tar that writes through its own link",
        _added(lambda c: _member("l", _SYM, str(c.parent)), lambda c: _member("l/canary")),
    ),
    "add-tar-link-file": Trick(
        "ADD of a tar that writes over its own link", _added(lambda c: _member("l", _SYM, str(c)), lambda c: _member("l"))
    ),
    "add-tar-hardlink": Trick("ADD of a tar with a hard link to the host", _added(lambda c: _member("l", _LNK, str(c)))),
    "add-tar-hardlink-dots": Trick("the same by ../", _added(lambda c: _member("l", _LNK, "../" * 30 + str(c)[1:]))),
    "add-tar-hardlink-link": Trick(
        "ADD of a tar with a hard link through its own link",
        _added(lambda c: _member("l", _SYM, str(c.parent)), lambda c: _member("h", _LNK, "l/canary")),
    ),
    "add-tar-whiteout": Trick(
        "ADD of a tar with a whiteout of the host's file",
        _added(lambda c: _member("../" * 30 + str(c.parent)[1:] + "/.wh.canary")),
    ),
    "add-zip": Trick("ADD of a zip with ../ names", _dockerfile("FROM base\nADD x.zip /d/\nRUN ls /d\n", _zip)),
    "layer-dots": Trick("a layer with ../ names", _imported(lambda c: _member("../" * 30 + str(c)[1:]))),
    "layer-link-folder": Trick(
        "a layer that writes through its own link",
        _imported(lambda c: _member("l", _SYM, str(c.parent)), lambda c: _member("l/canary")),
    ),
    "layer-hardlink": Trick(
        "a layer with a hard link to the host", _imported(lambda c: _member("l", _LNK, str(c)), run="cat /l")
    ),
    "layer-device": Trick(
        "a layer with a disk, and a command that reads it",
        _imported(lambda c: _member("disk", _BLK, devmajor=7), run="sh -c '! head -c 1 /disk | grep -q .'"),
    ),
    "layer-etc-link": Trick(
        "a layer whose /etc is a link to the host", _imported(lambda c: _member("etc", _SYM, str(c.parent)))
    ),
    "layer-hosts-link": Trick(
        "a layer whose /etc/hosts is a link to the host",
        _imported(lambda c: _member("etc", _DIR), lambda c: _member("etc/hosts", _SYM, str(c))),
    ),
    "layer-proc-link": Trick(
        "a layer whose /proc is a link to the host", _imported(lambda c: _member("proc", _SYM, str(c.parent)))
    ),
    "layer-dev-link": Trick(
        "a layer whose /dev is a link to the host", _imported(lambda c: _member("dev", _SYM, str(c.parent)))
    ),
    "layer-passwd-link": Trick(
        "a layer whose /etc/passwd is a link to the host",
        _imported(lambda c: _member("etc", _DIR), lambda c: _member("etc/passwd", _SYM, str(c)), run="cat /etc/passwd || true"),
    ),
    "layer-redirect": Trick(
        "a layer with trusted.overlay.redirect to the host",
        _imported(
            lambda c: _member("r", _DIR, pax_headers={"SCHILY.xattr.trusted.overlay.redirect": str(c.parent)}),
            run="sh -c 'cat /r/canary || true'",
        ),
    ),
    "layer-user-redirect": Trick(
        "a layer with user.overlay.redirect to the host",
        _imported(
            lambda c: _member("r", _DIR, pax_headers={"SCHILY.xattr.user.overlay.redirect": str(c.parent)}),
            run="sh -c 'cat /r/canary || true'",
        ),
    ),
    "layer-metacopy": Trick(
        "a layer with a file whose bytes overlayfs takes from the host",
        _imported(
            lambda c: _member(
                "r", pax_headers={"SCHILY.xattr.user.overlay.metacopy": "", "SCHILY.xattr.user.overlay.redirect": str(c)}
            ),
            run="cat /r",
        ),
    ),
    "workdir-descriptor": Trick(
        "WORKDIR in a descriptor that the builder left open",
        _dockerfile("FROM base\nWORKDIR /proc/self/fd/8\nRUN cat {up}{canary}\n"),
    ),
    "workdir-link": Trick("WORKDIR through a link to the host", _workdir),
    "copy-to-link": Trick(
        "COPY through a link of the image",
        _dockerfile("FROM base\nRUN ln -s {folder} /l\nCOPY Dockerfile /l/canary\nRUN true\n"),
    ),
    "copy-from-link": Trick(
        "COPY --from through a link of the stage",
        _dockerfile("FROM base AS a\nRUN ln -s {folder} /l\nFROM base\nCOPY --from=a /l/canary /\n"),
    ),
    "copy-from-dots": Trick(
        "COPY --from of ../ names", _dockerfile("FROM base AS a\nFROM base\nCOPY --from=a {up}{canary} /\n")
    ),
    "copy-context-link": Trick(
        "COPY through a link of the context", _dockerfile("FROM base\nCOPY l/canary /\n", _link("l", "{folder}"))
    ),
    "copy-context-file": Trick(
        "COPY of a link of the context", _dockerfile("FROM base\nCOPY l /x\nRUN cat /x || true\n", _link("l"))
    ),
    "copy-dots": Trick("COPY of ../ names", _dockerfile("FROM base\nCOPY {up}{canary} /\n")),
    "heredoc-name": Trick(
        "COPY of a heredoc with a name of the host", _dockerfile("FROM base\nCOPY <<{canary} /d/\nevil\n{canary}\n")
    ),
    "ignore-link": Trick(
        "a .dockerignore that is a link to the host",
        _dockerfile("FROM base\nCOPY . /d\nRUN cat /d/.dockerignore; true\n", _link(".dockerignore")),
    ),
    "bind-link": Trick(
        "a bind mount of a link of the context",
        _dockerfile("FROM base\nRUN --mount=source=l,target=/m cat /m/canary\n", _link("l", "{folder}")),
    ),
    "bind-context": Trick(
        "a link of the context that is mounted", _dockerfile("FROM base\nRUN --mount=target=/m cat /m/l\n", _link("l"))
    ),
    "bind-from-link": Trick(
        "a bind mount of a link of a stage", _dockerfile("FROM base AS a\nRUN ln -s {folder} /l\nFROM base\n" + _PIPED)
    ),
    "bind-dots": Trick(
        "a bind mount of ../ names", _dockerfile("FROM base\nRUN --mount=source={up}{folder},target=/m cat /m/canary\n")
    ),
    "bind-swap": Trick("a bind mount and a COPY whose source becomes a link meanwhile", _swapped),
    "mount-target-link": Trick(
        "a mount whose target is a link to the host",
        _dockerfile("FROM base\nRUN ln -s {folder} /l\nRUN --mount=type=tmpfs,target=/l/m echo evil > /l/canary\n"),
    ),
    "mount-target-dots": Trick(
        "a mount whose target has ../",
        _dockerfile("FROM base\nRUN --mount=type=tmpfs,target=/{up}{folder} echo evil > {canary}\n"),
    ),
    "cache-link": Trick("a cache mount that holds a link to the host", _cached),
    "cache-source-link": Trick("a cache mount whose content is a link of a stage", _shared),
    "export-link": Trick("an output through a link in its folder", _exported),
}


def with_the_secret(ground: Ground) -> str:
    """What a trick would say that got the canary into an image."""
    secret = ground.field.secret
    return _built(ground, "FROM base\nCOPY x /x\n", fill=lambda context: (context / "x").write_text(secret))


def played(ground: Ground) -> dict[str, tuple[str, str]]:
    """By the name of each trick what it tries, and what it got on this rung."""
    return {name: (trick.tries, trick.play(ground)) for name, trick in TRICKS.items()}
