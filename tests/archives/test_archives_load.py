"""Loading archives: the forms of all tools, and hostile ones, of which nothing is to be seen in the store."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import tarfile
import termios
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.archives.archive import Archive, Regular
from builder.archives.images import images
from builder.archives.tar import open_tar
from builder.engine.loading import Loaded, load
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, UsageError
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.store.store import Store
from tests.archives.archives_made import (
    CONFIG,
    DIFF_IDS,
    FORMS,
    ID,
    LAYERS,
    NAME,
    PACKERS,
    Members,
    archive,
    config_of,
    described,
    hex_of,
    jib,
    kaniko,
    listed,
    oci,
    old_docker,
    skopeo_dir,
    skopeo_docker,
    with_links,
)
from tests.conftest import Pybuild

AMD64 = Platform("linux", "amd64")
KIND = "application/vnd.oci.image"
KEYS = [
    *("manifests", "mediaType", "digest", "size", "annotations", "platform", "os", "architecture", "layers", "config"),
    *("schemaVersion", "Config", "RepoTags", "Layers", "rootfs", "diff_ids", "history", "io.containerd.image.name"),
    "org.opencontainers.image.ref.name",
]


def loaded(data: bytes, folder: Path, store: Store, platform: Platform = AMD64, *, asked: bool = False) -> list[Loaded]:
    (folder / "a.tar").write_bytes(data)
    with (folder / "a.tar").open("rb") as file, (folder / "spool").open("w+b") as spool:
        found = open_tar(file.fileno(), "a.tar", spool.fileno())
        return load(found, images(found, platform, asked=asked), store, Roots(store), lambda _: None)


def unpacked(data: bytes, folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="fully_trusted")
    return folder


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_however_it_is_compressed(tmp_path: Path, form: str, packer: str) -> None:
    with Store(str(tmp_path / "store")) as store:
        (image,) = loaded(PACKERS[packer](archive(FORMS[form]())), tmp_path, store)
        assert (str(image.id), image.names, image.tag) == (ID, (NAME,), "")
        record = store.find_image(NAME)
        assert record is not None and record.blobs is not None
        # What is uncompressed because of the form is compressed when it goes elsewhere; what came compressed stays so.
        kept = [blob.media_type if blob else None for blob in record.blobs]
        whole = f"{KIND}.layer.v1.tar" if form == "oci-plain" else f"{KIND}.layer.v1.tar+gzip"
        assert kept == [None if form in ("docker-24", "docker-25", "skopeo", "dotted") else whole] * 2
        assert Roots(store).read(Root.of(map(Digest.parse, DIFF_IDS)), b"etc/os") == b"two\n"
        assert not store.verify().problems


def test_a_layer_that_docker_saved_as_a_link(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        (image,) = loaded(archive(with_links()), tmp_path, store)
        assert [str(layer) for layer in json.loads(store.read_blob(image.id, 1 << 20))["rootfs"]["diff_ids"]] == [
            *DIFF_IDS,
            DIFF_IDS[0],
        ]


def test_from_a_pipe_a_file_and_a_folder(pybuild: Pybuild, tmp_path: Path) -> None:
    data = archive(old_docker(["app:1", "localhost:5000/app"]))
    lines = "Loaded image: app:1\nLoaded image: localhost:5000/app:latest\n"
    done = pybuild("load", stdin=data)
    assert (done.returncode, done.stdout) == (0, lines), done.stderr
    assert "loading app:1" in done.stderr
    (tmp_path / "a.tar.zst").write_bytes(PACKERS["zstd"](data))
    quiet = pybuild("load", "-q", "-i", tmp_path / "a.tar.zst")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, lines, "")
    for number, members in enumerate((old_docker(["app:1", "localhost:5000/app"]), oci(), skopeo_dir(), with_links())):
        folder = unpacked(archive(members), tmp_path / f"folder-{number}")
        done = pybuild("load", "--input", folder, env={"PYBUILD_ROOT": str(tmp_path / f"store-{number}")})
        assert done.returncode == 0, done.stderr
        assert done.stdout == (lines, f"Loaded image: {NAME}\n", f"Loaded image ID: {ID}\n", f"Loaded image: {NAME}\n")[number]
    assert (
        pybuild("inspect", "--format", "{{.Id}} {{.RepoTags}}", "app:1").stdout == f"{ID} [app:1 localhost:5000/app:latest]\n"
    )


def test_an_image_that_has_only_a_tag(pybuild: Pybuild) -> None:
    """umoci's layouts have nothing else, and no name follows from it."""
    done = pybuild("load", stdin=archive(oci({"org.opencontainers.image.ref.name": "v3"})))
    assert (done.returncode, done.stdout) == (0, f"Loaded image ID: {ID}\n")
    assert f"the archive has only the tag 'v3' of it; name it: pybuild tag {ID[7:19]} NAME" in done.stderr


def test_a_second_load_reads_no_layer(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        loaded(archive(old_docker()), tmp_path, store)
        # Layers of zeros, which are no layers at all, would be found out if they were looked at.
        empty = old_docker(["other:1"])
        for number in (1, 2):
            empty[f"{number:064x}/layer.tar"] = bytes(len(LAYERS[number - 1]))
        (image,) = loaded(archive(empty), tmp_path, store)
        assert (str(image.id), image.names) == (ID, ("docker.io/library/other:1",))


def two_platforms(*, nested: bool) -> Members:
    members: Members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    manifests = []
    for architecture in ("arm64", "amd64"):
        config = config_of(architecture=architecture)
        layers = [
            {"mediaType": f"{KIND}.layer.v1.tar", "digest": d, "size": len(layer)}
            for d, layer in zip(DIFF_IDS, LAYERS, strict=True)
        ]
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": described(config, "config"),
                "layers": layers,
                "mediaType": f"{KIND}.manifest.v1+json",
            }
        ).encode()
        members |= {f"blobs/sha256/{hex_of(data)}": data for data in (config, manifest, *LAYERS)}
        manifests.append(described(manifest) | {"platform": {"os": "linux", "architecture": architecture}})
    manifests.append({**manifests[0], "platform": {"os": "unknown", "architecture": "unknown"}, "digest": "sha256:" + "0" * 64})
    index = {"schemaVersion": 2, "mediaType": f"{KIND}.index.v1+json", "manifests": manifests}
    if nested:
        inner = json.dumps(index).encode()
        members[f"blobs/sha256/{hex_of(inner)}"] = inner
        named = described(inner, "index") | {"annotations": {"io.containerd.image.name": NAME}}
        index = {"schemaVersion": 2, "manifests": [named]}
    return members | {"index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("nested", [True, False])
def test_of_several_platforms_one_is_loaded(tmp_path: Path, nested: bool) -> None:
    data = archive(two_platforms(nested=nested))
    with Store(str(tmp_path / "store")) as store:
        for architecture in ("amd64", "arm64"):
            (image,) = loaded(data, tmp_path, store, Platform("linux", architecture), asked=True)
            assert str(image.id)[7:] == hex_of(config_of(architecture=architecture))
            assert image.names == ((NAME,) if nested else ())
        with pytest.raises(UsageError) as caught:
            loaded(data, tmp_path, store, Platform("linux", "s390x"), asked=True)
    name = NAME if nested else "an image"
    assert caught.value.message == f"'a.tar' has {name} not for linux/s390x"
    assert caught.value.hint == "choose by --platform: it is for linux/arm64, linux/amd64"


# Hostile ones.


def replaced(members: Members, end: str, content: bytes | str | None) -> Members:
    """The first member whose name ends so, with another content or without."""
    name = next(name for name in members if name.endswith(end))
    return {name: data for name, data in {**members, name: content}.items() if data is not None}


def with_member(kind: bytes, name: str = "thing", link: str = "", size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member.tobuf(tarfile.GNU_FORMAT) + archive(old_docker())


def manifest_with(**changes: object) -> Members:
    members = oci()
    name = next(name for name, data in members.items() if isinstance(data, bytes) and b'"layers"' in data)
    manifest = json.dumps({**json.loads(members.pop(name)), **changes}).encode()
    index = {"schemaVersion": 2, "manifests": [described(manifest)]}
    return members | {f"blobs/sha256/{hex_of(manifest)}": manifest, "index.json": json.dumps(index).encode()}


def nested_deeply() -> Members:
    members = oci()
    inner = json.loads(members["index.json"])["manifests"][0]
    for _ in range(5):
        index = json.dumps({"schemaVersion": 2, "mediaType": f"{KIND}.index.v1+json", "manifests": [inner]}).encode()
        members[f"blobs/sha256/{hex_of(index)}"] = index
        inner = described(index, "index")
    return members | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [inner]}).encode()}


def huge(name: str, size: int) -> bytes:
    """A header that claims so much, with all of the content missing."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


PLAIN = archive(old_docker())
FIRST, SECOND = f"{1:064x}/layer.tar", f"{2:064x}/layer.tar"
DIGEST = json.loads(oci()["index.json"])["manifests"][0]["digest"]

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "'a.tar' is empty"),
    "no tar": (lambda: b"hello" * 1000, "'a.tar' is no archive of images"),
    "zeros": (lambda: bytes(1 << 16), "'a.tar' is no archive of images"),
    "gzip of no tar": (lambda: PACKERS["gzip"](b"hello" * 1000), "'a.tar' is no archive of images"),
    "damaged gzip": (lambda: PACKERS["gzip"](PLAIN)[:-30], "'a.tar' is damaged: it ends too early"),
    "cut in a header": (lambda: PLAIN[:-10240][:1300], "'a.tar' is damaged: it ends too early"),
    "cut in a content": (lambda: PLAIN[:5000], "'a.tar' is damaged: it ends too early"),
    "garbage behind": (lambda: PLAIN + b"garbage", "'a.tar' is damaged: something follows the end of the archive"),
    "zeros without end": (lambda: PLAIN + bytes(17 << 20), "'a.tar' is damaged: zeros without end follow it"),
    "a root file system": (lambda: LAYERS[0], "'a.tar' holds no image: it has neither manifest.json nor oci-layout"),
    "before 1.10": (lambda: archive({"repositories": b"{}"}), "'a.tar' was written by a Docker older than 1.10"),
    "up": (lambda: with_member(b"0", "a/../../b"), "'a.tar' holds the name 'a/../../b', which leads out of it"),
    "absolute": (lambda: with_member(b"0", "/etc/passwd"), "'a.tar' holds the name '/etc/passwd', which leads out of it"),
    "link up": (lambda: with_member(b"2", "a/b", "../../c"), "'a.tar' holds the link 'a/b', which leads out of it"),
    "absolute link": (lambda: with_member(b"2", "a", "/etc/passwd"), "'a.tar' holds the link 'a', which leads out of it"),
    "hard link up": (lambda: with_member(b"1", "a", "../c"), "'a.tar' holds the name '../c', which leads out of it"),
    "device": (lambda: with_member(b"3", "sda"), "'a.tar' is damaged: its 'sda' is a device or a fifo"),
    "fifo": (lambda: with_member(b"6", "pipe"), "'a.tar' is damaged: its 'pipe' is a device or a fifo"),
    "file and folder": (
        lambda: with_member(b"5", "manifest.json/"),
        "'a.tar' is damaged: its 'manifest.json' is a folder and none",
    ),
    "two manifests": (
        lambda: archive({"manifest.json": b"[]"})[:1024] + PLAIN,
        "'a.tar' is damaged: it has two different members 'manifest.json'",
    ),
    "links in a ring": (
        lambda: archive(replaced(replaced(old_docker(), FIRST, f"../{SECOND}"), SECOND, f"../{FIRST}")),
        f"'a.tar' is damaged: the links of '{FIRST}' lead nowhere",
    ),
    "a member of 5 TB": (lambda: huge("x", 5 << 40), "'a.tar' is damaged: it ends too early"),
    "a manifest of 500 MB": (
        lambda: archive({"manifest.json": b"[" + b" " * (17 << 20) + b"]"}),
        f"'a.tar' is damaged: 'manifest.json' has {(17 << 20) + 2} bytes, and may have {16 << 20}",
    ),
    "a config of 17 MB": (
        lambda: archive(replaced(jib(), "config.json", b" " * (17 << 20))),
        f"'a.tar' is damaged: 'config.json' has {17 << 20} bytes, and may have {16 << 20}",
    ),
    "no JSON": (lambda: archive({"manifest.json": b"[{"}), "'a.tar' is damaged: its 'manifest.json' is no JSON"),
    "deep JSON": (
        lambda: archive({"manifest.json": b"[" * 100_000}),
        "'a.tar' is damaged: its 'manifest.json' is no JSON",
    ),
    "no list": (lambda: archive({"manifest.json": b"{}"}), "'a.tar' is damaged: its 'manifest.json' is no list of images"),
    "no image": (lambda: archive({"manifest.json": b"[]"}), "'a.tar' is damaged: it has no image"),
    "no config": (
        lambda: archive({"manifest.json": b"[{}]"}),
        "'a.tar' is damaged: its 'manifest.json' names no config, or no layers",
    ),
    "config missing": (
        lambda: archive({"manifest.json": listed("x.json", [], ["a"])}),
        "'a.tar' is damaged: it has no 'x.json'",
    ),
    "config changed": (
        lambda: archive(replaced(old_docker(), f"{ID[7:]}.json", CONFIG + b" ")),
        f"'a.tar' is damaged: the config '{ID[7:]}.json' has another digest than its name says",
    ),
    "config is none": (
        lambda: archive(replaced(jib(), "config.json", b"[]")),
        "'a.tar' is damaged: the config 'config.json': an image config is not valid: it is not an object",
    ),
    "fewer layers": (
        lambda: archive(jib() | {"manifest.json": listed("config.json", [], ["a"])}),
        "'a.tar' is damaged: it lists 0 layers of 'config.json', whose config has 2",
    ),
    "layer missing": (
        lambda: archive(replaced(old_docker(), FIRST, None)),
        f"'a.tar' is damaged: it has no '{FIRST}'",
    ),
    "layer changed": (
        lambda: archive(replaced(old_docker(), FIRST, LAYERS[1])),
        f"'a.tar' is damaged: the layer '{FIRST}' is not {DIFF_IDS[0]}",
    ),
    "compressed layer changed": (
        lambda: archive(replaced(kaniko(), ".tar.gz", PACKERS["gzip"](LAYERS[1]))),
        f"is not what the image's config says: {DIFF_IDS[0]}",
    ),
    "a name that is none": (
        lambda: archive(old_docker(["x/UPPER:1"])),
        "'a.tar' is damaged: an image has a name that is none: 'x/UPPER:1' is not an image reference",
    ),
    "no index": (lambda: archive(replaced(oci(), "index.json", None)), "'a.tar' is damaged: it has no 'index.json'"),
    "index is a list": (
        lambda: archive(replaced(oci(), "index.json", b"[]")),
        "'a.tar' is damaged: index.json is no JSON object",
    ),
    "blob missing": (
        lambda: archive(replaced(oci(), DIGEST[7:], None)),
        f"'a.tar' is damaged: the blob {DIGEST} is missing",
    ),
    "blob changed": (
        lambda: archive(replaced(oci(), DIGEST[7:], b"x" * json.loads(oci()["index.json"])["manifests"][0]["size"])),
        f"'a.tar' is damaged: the blob {DIGEST} has another digest",
    ),
    "blob cut": (lambda: archive(replaced(oci(), DIGEST[7:], b"{}")), f"the blob {DIGEST} has 2 bytes, not"),
    "schema 1": (lambda: archive(manifest_with(schemaVersion=1)), "is no manifest of an image"),
    "no layers": (lambda: archive(manifest_with(layers="x")), "is no manifest of an image"),
    "a layer that is none": (
        lambda: archive(manifest_with(layers=[{}, {}])),
        "'a.tar' is damaged: a layer: ",
    ),
    "a digest that is not its own": (
        lambda: archive(oci({"io.containerd.image.name": "debian@sha256:" + "0" * 64})),
        f"'a.tar' is damaged: an image is called docker.io/library/debian@sha256:{'0' * 64}, and has another digest",
    ),
    "a digest in Docker's list": (
        lambda: archive(old_docker([f"debian@{DIGEST}"])),
        f"'a.tar' is damaged: an image is called docker.io/library/debian@{DIGEST}, and has another digest",
    ),
    "nested": (lambda: archive(nested_deeply()), "'a.tar' is damaged: its indexes are nested too deeply"),
    "a digest as a path": (
        lambda: archive(manifest_with(config={"digest": "sha256:../../etc", "size": 3})),
        "'sha256:../../etc' is not a digest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(tmp_path: Path, case: str) -> None:
    make, message = HOSTILE[case]
    with Store(str(tmp_path / "store")) as store:
        with pytest.raises(UsageError) as caught:
            loaded(make(), tmp_path, store)
        assert message in caught.value.message
        assert caught.value.exit_code == 2
        assert store.images() == []
        assert not store.verify().problems
    # Of no image at all that is damaged half way.
    assert not (tmp_path / "store" / "blobs" / "sha256" / ID[7:]).exists()


def test_nothing_of_a_damaged_archive_is_named(tmp_path: Path) -> None:
    """The first image is right, and has no name before the second was found to be so."""
    good, bad = old_docker(["good:1"]), skopeo_docker()
    bad_layer = next(name for name in bad if name.endswith(".tar"))
    bad[bad_layer] = LAYERS[1]
    config = config_of([DIFF_IDS[1], DIFF_IDS[1]])
    both = json.loads(good["manifest.json"]) + [
        {"Config": "other.json", "RepoTags": ["bad:1"], "Layers": [bad_layer, f"{1:064x}/layer.tar"]}
    ]
    members = {**good, bad_layer: LAYERS[1], "other.json": config, "manifest.json": json.dumps(both).encode()}
    with Store(str(tmp_path / "store")) as store:
        with pytest.raises(UsageError, match=r"the layer .* is not"):
            loaded(archive(members), tmp_path, store)
        assert store.images() == []


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(PLAIN) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(PLAIN)))
def test_any_damage_is_an_error_or_the_same_image(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, cut: int
) -> None:
    damaged = bytearray(PLAIN)
    damaged[at] = byte
    folder = tmp_path_factory.mktemp("damaged", numbered=True)
    with Store(str(folder / "store")) as store:
        for data in (bytes(damaged), PLAIN[:cut]):
            try:
                found = loaded(data, folder, store)
            except BuildError as error:
                assert error.message
                continue
            # Names and such may have changed; content has not.
            assert [str(image.id) for image in found] == [ID]


PLACES = ["manifest.json", "index.json", f"blobs/sha256/{DIGEST[7:]}", "c.json"]
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.text(max_size=5)
    | st.sampled_from([DIGEST, NAME, ID, "layers", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(PLACES), value=ANY, key=st.sampled_from(KEYS))
def test_any_json_is_an_error_or_an_image(place: str, value: object, key: str) -> None:
    """Instead of all of a document, and instead of what it has under one key, wherever that is."""

    def changed(raw: object) -> object:
        if isinstance(raw, dict):
            return {name: value if name == key else changed(inner) for name, inner in raw.items()}
        return [changed(inner) for inner in raw] if isinstance(raw, list) else raw

    listing = listed("c.json", [name for name in jib() if name.endswith(".tar.gz")], [NAME])
    docker = jib() | {"c.json": CONFIG, "manifest.json": listing}
    for members in (oci(), docker):
        for new in (value, changed(json.loads(members.get(place, b"{}")))):
            data = json.dumps(new).encode()
            changes: Members = {place: data}
            if place.startswith("blobs"):
                # Under its right digest, so that it is looked at.
                changes = {f"blobs/sha256/{hex_of(data)}": data}
                changes["index.json"] = json.dumps({"manifests": [described(data)]}).encode()
            made = {**members, **changes}
            found = Archive("a", {name: Regular(0, len(c)) for name, c in made.items()}, lambda _: nullcontext(0))
            found.chunks = lambda name, made=made: iter([made[name]])  # type: ignore[method-assign, misc]
            found.head = lambda name, size=16, made=made: made[name][:size]  # type: ignore[method-assign, misc]
            try:
                assert images(found, AMD64)
            except UsageError as error:
                assert len(error.message) < 700


def test_an_interrupted_load_leaves_nothing(pybuild: Pybuild) -> None:
    data = PACKERS["gzip"](archive(old_docker()))
    with subprocess.Popen(
        [*pybuild.command, "load"],
        env=pybuild.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        deadline = time.monotonic() + 20
        # Until it has taken that, and waits for the rest.
        while any(fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"error: interrupted\n")
    assert os.listdir(pybuild.store / "tmp") == []
    assert pybuild("images", "-q").stdout == ""


def test_members_without_end(pybuild: Pybuild, tmp_path: Path) -> None:
    one = archive({"x": b""})[:512]
    script = f"import sys\nwhile True: sys.stdout.buffer.write({one!r} * 1000)"
    endless = subprocess.Popen(["python3", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert endless.stdout is not None
    with endless:
        done = subprocess.run(
            [*pybuild.command, "load"],
            stdin=endless.stdout,
            env=pybuild.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        endless.stdout.close()
        endless.kill()
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'standard input' is damaged: it has more than 100000 members\n")
    assert list((pybuild.store / "tmp").rglob("*tmp*")) == []


def test_a_member_that_the_disk_has_no_room_for(pybuild: Pybuild) -> None:
    """It is not written until the disk is full."""
    done = pybuild("load", stdin=huge("x", 3 << 40) + bytes(1 << 20))
    assert done.returncode == 7
    assert done.stderr == "error: no space left on the disk\n  hint: free some space, or choose another place\n"


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered: the real one is 4 GiB."""
    monkeypatch.setattr("builder.archives.tar._GROWS", 1 << 20)
    bomb = PACKERS["gzip"](archive({"big": bytes(64 << 20)}))
    with Store(str(tmp_path / "store")) as store, pytest.raises(UsageError, match=r"'a.tar' unpacks to more than .* bytes"):
        loaded(bomb, tmp_path, store)
    assert (tmp_path / "spool").stat().st_size < 16 << 20


def test_a_large_archive_takes_little_memory(pybuild: Pybuild, tmp_path: Path) -> None:
    size = 160 << 20
    head, tail = huge("big", size), bytes(1024)
    hasher = hashlib.sha256(head)
    for _ in range(size >> 20):
        hasher.update(bytes(1 << 20))
    hasher.update(tail)
    config = config_of([f"sha256:{hasher.hexdigest()}"])
    others = archive({"manifest.json": listed("c.json", ["l.tar"], ["big"]), "c.json": config})
    # Holes: only its reader sees zeros.
    with (tmp_path / "big.tar").open("wb") as file:
        file.write(huge("l.tar", len(head) + size + len(tail)) + head)
        file.seek(size + len(tail), os.SEEK_CUR)
        file.write(others)
    with (tmp_path / "big.tar").open("rb") as file:
        piped = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        with piped:
            done = subprocess.run(
                [*pybuild.command, "load"],
                stdin=piped.stdout,
                env=pybuild.environment(),
                capture_output=True,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (128 << 20, 128 << 20)),
            )
    assert (done.returncode, done.stdout) == (0, "Loaded image: big:latest\n"), done.stderr


def test_what_is_not_there(pybuild: Pybuild, tmp_path: Path) -> None:
    done = pybuild("load", "-i", tmp_path / "no.tar")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: '{tmp_path}/no.tar' does not exist\n  hint: give an archive of images, or a folder with an OCI layout\n"
    )
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "manifest.json")
    done = pybuild("load", "-i", tmp_path / "folder")
    assert done.stderr.startswith(f"error: '{tmp_path}/folder/manifest.json' is a device, fifo or socket\n")
    (tmp_path / "folder" / "manifest.json").unlink()
    (tmp_path / "folder" / "manifest.json").symlink_to("/etc/hostname")
    done = pybuild("load", "-i", tmp_path / "folder")
    assert done.stderr.startswith(f"error: '{tmp_path}/folder' holds the link 'manifest.json', which leads out of it\n")


def test_names_of_the_archive_are_parsed(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        (image,) = loaded(archive(old_docker(["app", "app:latest", "index.docker.io/team/app:2"])), tmp_path, store)
    assert image.names == ("docker.io/library/app:latest", "docker.io/team/app:2")
    assert [Reference.parse(name).familiar for name in image.names] == ["app:latest", "team/app:2"]
