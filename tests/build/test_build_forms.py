"""The forms of a layer, folder and tar (DESIGN): each is made only when something needs it, and they never disagree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from builder.engine.roots import Layer, Roots
from builder.layers.entry import Entry
from builder.layers.scan import scan
from builder.layers.source import open_source
from builder.layers.tarreader import read_tar
from builder.oci.digest import Digest
from builder.store.store import Store
from builder.values import NamedTuple
from tests.build.build_shipped import Member, pack, run_build
from tests.conftest import Pybuild
from tests.engine.engine_chroot import Planted, plant

DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
EPOCH = 315619200


def snapshots(pybuild: Pybuild) -> list[str]:
    return sorted(os.listdir(pybuild.store / "snapshots"))


def compressed(pybuild: Pybuild) -> list[Path]:
    """Blobs that are neither JSON nor tar."""
    blobs = (pybuild.store / "blobs" / "sha256").iterdir()
    return [blob for blob in blobs if blob.read_bytes()[:2] in (b"\x1f\x8b", b"\x28\xb5")]


def layers_of(layout: Path) -> tuple[list[str], list[str]]:
    """The diff IDs and the manifest's layer digests of the only image of an OCI layout."""

    def blob(digest: str) -> dict[str, object]:
        data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest.partition(":")[2]
        return json.loads(data)  # type: ignore[no-any-return]  # JSON is anything

    index = json.loads((layout / "index.json").read_text())
    manifest = blob(index["manifests"][0]["digest"])
    config = blob(manifest["config"]["digest"])  # type: ignore[index]  # JSON
    return config["rootfs"]["diff_ids"], [layer["digest"] for layer in manifest["layers"]]  # type: ignore[index, attr-defined]  # JSON


def a_context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    (context / "dir" / "sub").mkdir(parents=True)
    (context / "dir" / "sub" / "f").write_text("f")
    (context / "file").write_text("file")
    for path in [*context.rglob("*"), context]:
        os.utime(path, (1_500_000_000,) * 2)
    return context


def test_a_build_of_copies_makes_no_folder_and_compresses_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    context = a_context(tmp_path)
    base = tmp_path / "base"
    shutil.copytree(context / "dir", base / "etc")
    pack(context / "a.tar", Member("packed", data=b"packed"))
    flags = ["--build-context", f"base={base}", "-t", "copies"]
    run_build(
        pybuild,
        context,
        "FROM base AS one\nWORKDIR /w\nCOPY dir .\nADD a.tar /a\nCOPY --chown=5 file /etc/\n"
        "FROM scratch\nCOPY --from=one / /all\nCOPY --from=one /a /etc /x/\n",
        *flags,
        "-o",
        f"type=tar,dest={tmp_path}/out.tar",
        "-o",
        str(tmp_path / "out"),
    )
    assert snapshots(pybuild) == []
    assert compressed(pybuild) == []
    # An output that asks is the first to compress; still no folder is needed.
    run_build(pybuild, context, (context / "Dockerfile").read_text(), *flags, "-o", f"type=oci,dest={tmp_path}/oci.tar")
    assert len(compressed(pybuild)) == 2
    assert snapshots(pybuild) == []
    # A RUN looks into its own stage alone: base, copy. What it leaves is the third.
    run_build(
        pybuild,
        context,
        "FROM scratch AS other\nCOPY dir /d\nFROM base\nCOPY --from=busy bin/busybox /touch\n"
        'COPY --from=other /d /d\nRUN ["/touch", "/t"]\nCOPY file /last\n',
        *flags,
        "--build-context",
        f"busy={a_shell(tmp_path)}",
    )
    assert len(snapshots(pybuild)) == 4
    assert len(compressed(pybuild)) == 2


NOTHING_LATER = """
import builder.engine.rendering as rendering
make = rendering._compress
def compress(layer, form, store, *rest):
    if form != "uncompressed" or not store.has_blob(layer.diff_id):
        raise AssertionError(f"{form} was not made with the layer")
    return make(layer, form, store, *rest)
rendering._compress = compress
from builder.cli.main import main
main()
"""


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_each_form_that_is_asked_for_is_made_with_the_layer(pybuild: Pybuild, tmp_path: Path, jobs: str) -> None:
    """Of a COPY, of one that a RUN looks into, of the RUN, and of a stage that does not ship; the same bytes that come later of
    what is in a store."""
    context = a_context(tmp_path)
    (context / "big").write_bytes(b"0123456789" * 700_000)
    os.link(context / "big", context / "other")
    text = (
        "FROM scratch AS other\nCOPY file /other\n"
        'FROM scratch\nCOPY --from=busy bin/busybox /touch\nCOPY . /c\nRUN ["/touch", "/t"]\nCOPY --from=other /other /d/\n'
    )
    flags = ["--jobs", jobs, "--build-context", f"busy={a_shell(tmp_path)}"]
    asked = [f"type=oci,tar=false,compression={form},dest={tmp_path}/{form}" for form in ("zstd", "uncompressed")]
    cache = f"type=local,dest={tmp_path}/cache,compression=gzip,mode=max"
    program, pybuild.command = pybuild.command, [sys.executable, "-c", NOTHING_LATER]
    run_build(pybuild, context, text, *flags, "--cache-to", cache, "-o", asked[0], "-o", asked[1])
    pybuild.command = program
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        rows = database.execute("SELECT form, diff_id, digest FROM renderings ORDER BY form").fetchall()
    assert [form.partition("-")[0] for form, *_ in rows] == ["gzip"] * 5 + ["uncompressed"] * 4 + ["zstd"] * 4
    by_form = {form: {row[1]: row[2] for row in rows if row[0].startswith(form)} for form in ("gzip", "zstd", "uncompressed")}
    # Another store has the layers before anybody asks, and makes each form of what it has.
    other = ["--root", str(tmp_path / "later"), *flags]
    run_build(pybuild, context, text, *other)
    for form, known in by_form.items():
        diff_ids, digests = layers_made(pybuild, context, text, tmp_path / f"later-{form}", form, other)
        assert digests == [known[diff_id] for diff_id in diff_ids]


def test_a_tar_that_is_looked_into_is_kept_beside_what_it_is_compressed_to(pybuild: Pybuild, tmp_path: Path) -> None:
    context = a_context(tmp_path)
    cache = f"type=local,dest={tmp_path}/cache"
    text = "FROM scratch\nCOPY dir /dir\n"
    tars = []
    for number, flags in enumerate(
        (
            ["--cache-to", cache],
            ["--cache-to", cache, "-o", str(tmp_path / "out")],
            ["--cache-to", f"{cache},ignore-error=true"],
        )
    ):
        store = tmp_path / f"store{number}"
        run_build(pybuild, context, text, "--root", str(store), *flags)
        with closing(sqlite3.connect(store / "db.sqlite")) as database:
            (diff_id,) = database.execute("SELECT diff_id FROM layers").fetchone()
        tars.append((store / "blobs" / diff_id.replace(":", "/")).exists())
    # What may fail is made in the end, of a tar.
    assert tars == [False, True, True]


def layers_made(
    pybuild: Pybuild, context: Path, text: str, out: Path, form: str, flags: list[str]
) -> tuple[list[str], list[str]]:
    said = run_build(pybuild, context, text, *flags, "-o", f"type=oci,tar=false,compression={form},dest={out}")
    assert said.count("CACHED") == 6
    return layers_of(out)


def a_shell(tmp_path: Path) -> Path:
    folder = tmp_path / "busy"
    (folder / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, folder / "bin" / "busybox")
    return folder


def test_a_cached_copy_that_is_looked_into_comes_from_the_sources_at_hand(pybuild: Pybuild, tmp_path: Path) -> None:
    """Twice copied, through a stage and an archive: a RUN that is added later sees the true times of now, not of the tar nor of
    the build that made it."""
    context = a_context(tmp_path)
    pack(context / "a.tar", Member("packed", data=b"packed", mtime=1_400_000_000))
    flags = ["--build-context", f"busy={a_shell(tmp_path)}"]
    copies = (
        "FROM scratch AS other\nCOPY file /other\n"
        "FROM scratch\nCOPY --from=busy bin/busybox /stat\nCOPY dir /d\nADD a.tar /a\nCOPY --from=other /other /o\n"
    )
    run_build(pybuild, context, copies, *flags)
    assert snapshots(pybuild) == []
    os.utime(context / "dir" / "sub" / "f", (1_600_000_000,) * 2)
    said = run_build(
        pybuild,
        context,
        copies + 'RUN ["/stat", "-c", "%n=%Y", "/d/sub/f", "/d/sub", "/a/packed", "/o", "/stat"]\n',
        *flags,
    )
    assert said.count("CACHED") == 6
    for line in ("/d/sub/f=1600000000", "/d/sub=1500000000", "/a/packed=1400000000", "/o=1500000000"):
        assert line in said, said
    assert "/stat=315619200" not in said
    check_snapshots(pybuild, at_least=4)


def test_folder_and_tar_never_disagree(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = a_context(tmp_path)
    os.link(context / "file", context / "dir" / "again")
    os.symlink("nowhere", context / "dir" / "dangling")
    os.mkfifo(context / "dir" / "fifo")
    pack(
        context / "a.tar",
        Member("d", DIR, mode=0o700, uid=3),
        Member("d/one", data=b"1" * 5000),
        Member("d/two", HARD, link="d/one"),
        Member("bin", LINK, link="/d"),
        Member("bin/three", data=b"3", mode=0o4755, uid=7),
    )
    run_build(
        pybuild,
        context,
        "FROM base\n"
        "COPY --chown=7:8 dir /dir\n"
        "RUN rm -r /dir/sub && ln /dir/fifo /dir/fifo2 && chmod 4711 /bin/busybox && rm -r /tmp && mkdir /tmp && touch /tmp/x\n"
        "ADD a.tar /dir/\n"
        "RUN rm /dir/d/two && mv /dir/dangling /moved && rm -rf /usr && echo > /usr\n"
        "WORKDIR /dir/d/e\n"
        "COPY dir .\n"
        "RUN rm -r /dir/d && touch -d @1 /etc/passwd\n",
        "--build-context",
        f"base={busybox_base}",
        "-o",
        f"type=oci,tar=false,dest={tmp_path}/layout",
    )
    check_snapshots(pybuild, at_least=8)


def check_snapshots(pybuild: Pybuild, *, at_least: int) -> None:
    """Every folder in the store, rendered, is the layer that it says it is."""
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        rows = database.execute("SELECT id, diff_id, chain FROM snapshots").fetchall()
    assert len(rows) >= at_least
    assert sorted(str(row[0]) for row in rows) == snapshots(pybuild)
    with Store(str(pybuild.store)) as store:
        roots = Roots(store)
        for name, diff_id, chain in rows:
            # Raises unless the folder's tar has the diff ID; the index and the folder also agree on every name.
            layer = Layer(Digest.parse(diff_id), Digest.parse(chain) if chain else Digest.parse(diff_id))
            digest = hashlib.sha256()
            roots.tar(layer, digest.update)
            assert digest.hexdigest() == layer.diff_id.hex
            folder = pybuild.store / "snapshots" / str(name)
            paths = {entry.path for entry in roots.entries(layer)}
            named = paths | {above for path in paths for above in parents(path)}
            assert {os.fsencode(path.relative_to(folder)) for path in folder.rglob("*")} == named - {b""}


def parents(path: bytes) -> Iterator[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def test_outputs_show_the_times_that_ship(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """What the build made, brought or touched has the constant; what is of the base has the base's own (SPEC section 5).
    Another tool that unpacks the image sees the same."""
    old = 1_234_567_890
    context = a_context(tmp_path)
    image = pack(
        tmp_path / "base.tar",
        Member("etc", DIR, mode=0o755, mtime=old + 1),
        Member("etc/kept", data=b"kept", mtime=old + 2),
        Member("etc/link", LINK, link="kept", mtime=old + 3),
        Member("etc/again", HARD, link="etc/kept", mtime=old + 2),
        Member("etc/touched", data=b"t", mtime=old + 4),
        Member("etc/before", data=b"b", mtime=-86400),
        Member("var", DIR, mode=0o755, mtime=old + 5),
        Member("gone", data=b"g", mtime=old),
    )
    assert pybuild("import", image, "base:1").returncode == 0
    pack(context / "a.tar", Member("packed", data=b"packed", mtime=old))
    text = (
        'FROM base:1\nSHELL ["/bin/sh", "-ec"]\nCOPY --from=busy bin/busybox /bin/sh\n'
        "RUN touch -d @77 /etc/touched && rm /gone && mkdir /var/made\nCOPY dir /dir\nADD a.tar /var/\n"
    )
    run_build(
        pybuild,
        context,
        text,
        "--build-context",
        f"busy={a_shell(tmp_path)}",
        "-o",
        f"type=tar,dest={tmp_path}/out.tar",
        "-o",
        str(tmp_path / "out"),
        "-o",
        f"type=oci,tar=false,dest={tmp_path}/layout",
        "-t",
        "shown",
    )
    with tarfile.open(tmp_path / "out.tar") as tar:
        from_tar = {member.name: member.mtime for member in tar}
    assert from_tar == {
        "bin": EPOCH,
        "bin/sh": EPOCH,
        "dir": EPOCH,
        "dir/sub": EPOCH,
        "dir/sub/f": EPOCH,
        "etc": old + 1,
        "etc/again": old + 2,
        "etc/before": -86400,
        "etc/kept": old + 2,
        "etc/link": old + 3,
        "etc/touched": EPOCH,
        "var": old + 5,
        "var/made": EPOCH,
        "var/packed": EPOCH,
    }
    assert times(tmp_path / "out") == from_tar
    assert times(unpack(tmp_path / "layout", tmp_path)) == from_tar


def times(root: Path) -> dict[str, float]:
    return {str(path.relative_to(root)): path.lstat().st_mtime for path in root.rglob("*")}


def unpack(layout: Path, tmp_path: Path) -> Path:
    """What umoci makes of the image."""
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", bundle], check=True, capture_output=True)
    return bundle / "rootfs"


def test_a_stage_on_scratch_is_nobodys_base(pybuild: Pybuild, tmp_path: Path) -> None:
    """The chain ID of a lowest layer is its diff ID: ours is still told from a foreign one, by its times."""
    context = a_context(tmp_path)
    run_build(pybuild, context, "FROM scratch\nCOPY dir /\n", "-t", "ours", "-o", str(tmp_path / "one"))
    run_build(pybuild, context, "FROM ours\nCOPY file /\n", "-o", str(tmp_path / "two"))
    assert set(times(tmp_path / "one").values()) | set(times(tmp_path / "two").values()) == {EPOCH}


# Random trees

NAMES = st.sampled_from(["a", "b", "c", "ab", "a.b", "a-b", "ü"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
NODES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=4), st.sampled_from([0o644, 0o4755, 0o600])),
    st.tuples(st.just("dir"), st.just(b""), st.sampled_from([0o755, 0o700, 0o1777])),
    st.tuples(st.just("link"), st.sampled_from([b"a", b"/b", b"../c", b"nowhere", b"../../../a/b"]), st.just(0)),
    st.tuples(st.just("hard"), st.just(b""), st.just(0)),
)
TREES = st.dictionaries(PATHS, NODES, max_size=6)
# `far` is an absolute symlink two layers down, to a folder; `app` is a user that an earlier RUN made.
COPIES = st.lists(
    st.tuples(
        st.sampled_from(["COPY", "ADD"]),
        st.sampled_from(["", "--chown=app ", "--chown=3:4 ", "--chmod=750 ", "--chown=:team --chmod=0600 "]),
        st.sampled_from(["tree", "tree/a", "tree/*", "tree/a*/b", "packed.tar", "tree/a tree/b"]),
        st.sampled_from(["/", "/far/", "/far/x/", "/deep/y/", "/tree/", "/far/../z/"]),
    ),
    min_size=1,
    max_size=3,
)


class Way(NamedTuple):
    diff_ids: list[str]
    entries: dict[bytes, Entry]
    message: str
    """The error, where the copies cannot be done."""


def go(tmp_path: Path, name: str, contexts: Path, dockerfile: str) -> Way:
    """Build in a store of its own; what the layers are, and the merged file system as `-o type=tar` shows it."""
    home = tmp_path / f"home-{name}"
    home.mkdir()
    pybuild = Pybuild(tmp_path / f"store-{name}", home)
    (contexts / "context" / f"Dockerfile.{name}").write_text(dockerfile)
    layout, tar = tmp_path / f"layout-{name}", tmp_path / f"{name}.tar"
    done = pybuild(
        *(
            "--progress=plain",
            "--build-context",
            f"base={contexts / 'base'}",
            "-f",
            contexts / "context" / f"Dockerfile.{name}",
        ),
        *("-o", f"type=oci,tar=false,dest={layout}", "-o", f"type=tar,dest={tar}", "-t", "way", contexts / "context"),
    )
    if done.returncode:
        assert done.returncode in (1, 3) and "Traceback" not in done.stderr, done.stderr
        return Way([], {}, done.stderr.partition("error: ")[2].partition("\n")[0])
    entries = {}
    for item in read_tar(str(tar), whiteouts=False):
        digest = hashlib.sha256(b"".join(open_source(item.source))).hexdigest() if item.source else ""
        entries[item.entry.path] = item.entry._replace(digest=digest)
    check_snapshots(pybuild, at_least=2)
    return Way(layers_of(layout)[0], entries, "")


# Shrinking whole builds would take longer than finding the fault.
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(base=TREES, tree=TREES, copies=COPIES)
def test_every_way_to_a_file_system_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, base: Planted, tree: Planted, copies: list[tuple[str, str, str, str]]
) -> None:
    """Straight to tars; folders first, whose tars are rendered; what another tool unpacks: the same entries and diff IDs."""
    tmp_path = tmp_path_factory.mktemp("ways")
    plant(tmp_path / "base", base)
    a_shell(tmp_path)
    shutil.copytree(tmp_path / "busy", tmp_path / "base" / "tools")
    (tmp_path / "context").mkdir()
    plant(tmp_path / "context" / "tree", tree)
    (tmp_path / "context" / "Dockerfile.dockerignore").write_text("")
    with tarfile.open(tmp_path / "context" / "packed.tar", "w") as archive:
        archive.add(tmp_path / "context" / "tree", "inside")
    lines = "".join(f"{keyword} {flags}{sources} {dest}\n" for keyword, flags, sources, dest in copies)
    dockerfile = (
        'FROM base\nSHELL ["/tools/bin/busybox", "sh", "-ec"]\n'
        "RUN mkdir -p /etc /target/of && chown 5:6 /target/of && ln -s /target/of /far &&"
        " echo app:x:77:88::/:/bin/sh >> /etc/passwd && echo team:x:99: >> /etc/group\n"
        f"COPY packed.tar /between\n{lines}"
    )
    direct = go(tmp_path, "direct", tmp_path, dockerfile)
    folders = go(tmp_path, "folders", tmp_path, dockerfile + "RUN true\n")
    assert direct == folders
    if direct.message:
        return
    # The copies were a tar alone, then folders; equal layers may share one.
    made = [len(os.listdir(tmp_path / f"store-{name}" / "snapshots")) for name in ("direct", "folders")]
    assert made[0] == 2 and made[1] >= len(set(direct.diff_ids)) > 2
    found = scan(str(unpack(tmp_path / "layout-direct", tmp_path)), owners="keep")
    seen = {}
    for item in found:
        digest = hashlib.sha256(b"".join(open_source(item.source))).hexdigest() if item.source else ""
        seen[item.entry.path] = item.entry._replace(digest=digest)
    assert {path: plain(entry) for path, entry in seen.items()} == {path: plain(e) for path, e in direct.entries.items()}


def plain(entry: Entry) -> Entry:
    """What the entry says of itself: what a hard link repeats of another is the other's."""
    return entry._replace(digest="") if entry.kind == "hardlink" else entry


def test_what_an_output_compressed_is_the_only_form(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """The tar is not written beside it, and whatever needs it later gets it from there."""
    context = a_context(tmp_path)
    base = ("--build-context", f"base={busybox_base}")
    run_build(pybuild, context, "FROM base\nCOPY dir /d\n", *base, "-t", "packed", "-o", f"type=oci,dest={tmp_path}/1.tar")
    found = layers(pybuild)
    assert len(found) == 2 and snapshots(pybuild) == []
    blobs = pybuild.store / "blobs" / "sha256"
    # The base came before an output asked for anything; the COPY has its compressed form alone.
    assert [(blobs / diff_id.partition(":")[2]).exists() for diff_id in found] == [True, False]
    assert len(compressed(pybuild)) == 2
    # It counts as the result of its step, and as what the image needs.
    said = run_build(pybuild, context, "FROM base\nCOPY dir /d\n", *base)
    assert said.count("CACHED") == 2, said
    assert pybuild("prune", "--force").returncode == 0
    assert pybuild("doctor", "--store").returncode == 0
    # Looked into: by COPY of a stage, by a command, by every output.
    said = run_build(
        pybuild,
        context,
        "FROM packed AS p\nFROM base\nCOPY --from=p /d/sub/f /f\n"
        "FROM packed\nRUN cat /d/sub/f && touch /new\nCOPY --from=1 /f /\n",
        *base,
        "-o",
        str(tmp_path / "out"),
    )
    assert (tmp_path / "out" / "f").read_text() == (tmp_path / "out" / "d/sub/f").read_text() == "f"
    for form in ("docker-archive", "oci-archive"):
        assert pybuild("save", "--format", form, "-o", tmp_path / form, "packed").returncode == 0
    archive = f"type=oci,dest={tmp_path}/zstd.tar,compression=zstd"
    run_build(pybuild, context, "FROM packed\nCOPY file /\n", "-o", archive, "-o", f"type=docker,dest={tmp_path}/docker.tar")
    assert pybuild("run", "packed", "cat", "/d/sub/f").stdout == "f"
    # What was unpacked for them is gone.
    assert not (blobs / found[1].partition(":")[2]).exists()
    assert pybuild("doctor", "--store").returncode == 0
    # Without it nothing is left of the layer, and the step is done again.
    (packed,) = [
        row[0] for row in rows(pybuild, "SELECT digest FROM renderings WHERE diff_id = ? AND form LIKE 'gzip%'", found[1])
    ]
    shutil.rmtree(pybuild.store / "snapshots")
    (pybuild.store / "snapshots").mkdir()
    (blobs / packed.partition(":")[2]).unlink()
    for (digest,) in rows(pybuild, "SELECT digest FROM renderings WHERE diff_id = ? AND form NOT LIKE 'gzip%'", found[1]):
        (blobs / digest.partition(":")[2]).unlink(missing_ok=True)
    assert run_build(pybuild, context, "FROM base\nCOPY dir /d\n", *base).count("CACHED") == 1


def rows(pybuild: Pybuild, sql: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as database:
        return database.execute(sql, values).fetchall()


def layers(pybuild: Pybuild) -> list[str]:
    """The diff IDs of the image `packed`."""
    (image,) = json.loads(pybuild("inspect", "packed").stdout)
    found: list[str] = image["RootFS"]["Layers"]
    return found


def test_a_compressed_form_that_is_damaged(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = a_context(tmp_path)
    base = ("--build-context", f"base={busybox_base}")
    run_build(pybuild, context, "FROM base\nCOPY dir /d\n", *base, "-t", "packed", "-o", f"type=oci,dest={tmp_path}/1.tar")
    ((packed,),) = rows(pybuild, "SELECT digest FROM renderings WHERE diff_id = ?", layers(pybuild)[1])
    # One that is whole, and another layer's, is not taken for it.
    ((other,),) = rows(pybuild, "SELECT digest FROM renderings WHERE diff_id = ?", layers(pybuild)[0])
    point = "UPDATE renderings SET digest = ? WHERE diff_id = ?"
    for digest, code in ((other, 7), (packed, 0)):
        with closing(sqlite3.connect(pybuild.store / "db.sqlite", isolation_level=None)) as database:
            database.execute(point, (digest, layers(pybuild)[1]))
        shutil.rmtree(pybuild.store / "snapshots")
        (pybuild.store / "snapshots").mkdir()
        done = pybuild("run", "packed", "cat", "/d/sub/f")
        assert done.returncode == code, done.stderr
        assert code == 0 or "is not the layer" in done.stderr
    shutil.rmtree(pybuild.store / "snapshots")
    (pybuild.store / "snapshots").mkdir()
    blob = pybuild.store / "blobs" / "sha256" / packed.partition(":")[2]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    done = pybuild("run", "packed", "cat", "/d/sub/f")
    assert done.returncode == 7 and f"blob {packed} is corrupt" in done.stderr, done.stderr
    done = pybuild("doctor", "--store")
    assert done.returncode == 7 and "has lost its files" in done.stdout + done.stderr


def test_files_of_an_image_on_the_same_base_leave_the_base_as_it_is(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path
) -> None:
    """Layers of which the store has tars alone are looked through when a file of them is asked for: with the trees of those
    below, one of which is the file system that the files go to."""
    home = Pybuild(tmp_path / "other", tmp_path)
    context = tmp_path / "context"
    (context / "more/usr/src").mkdir(parents=True)
    (context / "more/usr/src/file").write_text("of the source\n")
    (context / "more/usr/alone").write_text("")
    (context / "last").write_text("the last layer's\n")
    (context / "more/usr").chmod(0o700)
    given = ("--build-context", f"base={busybox_base}", "-f", "-", context)
    for name, dockerfile in (
        ("below", "FROM base\nCOPY more/usr/src /usr/old\n"),
        ("above", "FROM below\nCOPY more /\nCOPY last /usr/src/\n"),
    ):
        assert home("-t", name, *given, stdin=dockerfile.encode()).returncode == 0
        assert home("save", "-o", tmp_path / name, name).returncode == 0
        assert pybuild("load", "-i", tmp_path / name).returncode == 0
    copy = "FROM below\nCOPY --from=above /usr/src /usr/new\n"
    look = f"{copy}RUN stat -c '%a %n' /usr /usr/new/last; ls /usr/new; cat /usr/new/last\n"
    assert pybuild("-f", "-", context, stdin=copy.encode()).returncode == 0
    done = pybuild("--progress=json", "-f", "-", context, stdin=look.encode())
    assert done.returncode == 0, done.stderr
    logs = [event["text"] for event in map(json.loads, done.stderr.splitlines()) if event["type"] == "step.log"]
    assert "".join(logs) == "755 /usr\n644 /usr/new/last\nfile\nlast\nthe last layer's\n"
