"""`--cache-to` and `--cache-from`: one store's work in another, and caches that are damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.tarwriter import write_layer
from tests.build.build_portable import Room
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild

TYPE = "application/vnd.pybuild.cache.v1"


@pytest.fixture
def room(tmp_path: Path, busybox_base: Path, pybuild: Pybuild) -> Room:
    return Room(tmp_path, busybox_base, pybuild)


def blobs_of(folder: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (folder / "blobs" / "sha256").iterdir()}


# Going around


@pytest.mark.parametrize("compression", ["zstd", "gzip", "uncompressed"])
def test_an_empty_store_takes_every_step_from_a_cache(room: Room, compression: str) -> None:
    first = room.export(more=f",compression={compression}")
    assert set(first.statuses.values()) == {"cached", "done"}
    second = room.bring("b")
    assert set(second.statuses.values()) == {"cached"}
    assert second.warnings == []
    assert second.image == first.image
    steps, size = second.imported[0]
    assert (steps, size > 0) == (8, True)
    assert_valid(room.store)
    # It is in the store now, without the cache.
    shutil.rmtree(room.cache)
    third = room("b")
    assert (set(third.statuses.values()), third.image, third.imported) == ({"cached"}, first.image, [])


def test_what_was_imported_is_a_base_for_further_steps(room: Room) -> None:
    room.export()
    with open(room.context / "Dockerfile", "a") as file:
        file.write(
            "RUN find /made /opt /unpacked /tmp /etc all -exec stat -c '%n %a %u %g %F' {} + > /list\nCOPY tree/b /opt/\n"
        )
    bare = room("c")
    done = room.bring("b")
    assert list(done.statuses.values())[-2:] == ["done", "done"]
    assert list(done.statuses.values()).count("done") == 2
    assert done.image == bare.image
    assert_valid(room.store)


def test_the_layout_is_an_artifact_that_tools_take(room: Room) -> None:
    done = room.export()
    manifest, config = room.manifest(), room.config()
    assert (room.cache / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert room.index()["manifests"] == [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": TYPE,
            "digest": done.exports[0]["digest"],
            "size": len(room.blob(done.exports[0]["digest"]).read_bytes()),
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }
    ]
    assert (manifest["artifactType"], manifest["config"]["mediaType"]) == (TYPE, f"{TYPE}+json")
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert (done.exports[0]["output"], done.exports[0]["size"]) == (
        "cache local cache",
        sum(path.stat().st_size for path in (room.cache / "blobs" / "sha256").iterdir()),
    )
    # Each record is what its key says, and each layer what its diff ID says.
    for record in config["records"]:
        assert hashlib.sha256(b"pybuild-key-v1\0" + record["preimage"].encode()).hexdigest() == record["key"]
        assert record["diff_id"] is None or record["diff_id"] in config["layers"]
    for diff_id, layer in zip(config["layers"], manifest["layers"], strict=True):
        tar = zstandard.ZstdDecompressor().decompressobj().decompress(room.blob(layer["digest"]).read_bytes())
        assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == diff_id
    # Nothing of the machine is in it.
    assert str(room.folder).encode() not in b"".join(path.read_bytes() for path in room.cache.rglob("*") if path.is_file())
    subprocess.run(["skopeo", "copy", f"oci:{room.cache}:latest", f"oci:{room.folder / 'copy'}:latest"], check=True, timeout=60)
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{room.folder / 'copy'}:latest"], check=True, capture_output=True, timeout=60
    )
    assert json.loads(raw.stdout) == manifest
    copied = room("b", "--cache-from", "type=local,src=copy")
    assert set(copied.statuses.values()) == {"cached"}


def test_min_has_the_steps_of_the_image_alone(room: Room) -> None:
    first = room.export(mode="min")
    ops = sorted(json.loads(record["preimage"])["op"] for record in room.config()["records"])
    assert ops == ["copy", "copy", "copy", "run", "run", "workdir"]
    # The stage must be made again, to know what is copied of it; from there on all is known.
    done = room.bring("b")
    assert list(done.statuses.values()) == ["cached", "done", "done", *["cached"] * 6]
    assert done.image == first.image
    assert done.imported[0][0] == 6


def test_nothing_is_fetched_that_no_step_needs(room: Room) -> None:
    room.export()
    # All layers are gone but those of the first stage, which is all that is asked for.
    done = room("b", "--cache-from", "type=local,src=cache", "--target=make")
    assert list(done.statuses.values()) == ["cached"] * 3
    assert done.imported[0][0] == 2
    fetched = [layer for layer in room.config()["layers"] if (room.store / "blobs" / layer.replace(":", "/")).exists()]
    assert len(fetched) == 2


def test_a_cached_build_does_not_look_at_the_cache(room: Room) -> None:
    room.export()
    (room.cache / "index.json").write_text("{")
    done = room.bring("a")
    assert (set(done.statuses.values()), done.warnings, done.imported) == ({"cached"}, [], [(0, 0)])


def test_no_cache_takes_nothing_from_a_cache(room: Room) -> None:
    room.export()
    done = room("b", "--cache-from", "type=local,src=cache", "--no-cache")
    assert list(done.statuses.values()).count("done") == 8
    filtered = room("c", "--cache-from", "type=local,src=cache", "--no-cache-filter=make")
    assert list(filtered.statuses.values()) == ["cached", "done", "done", *["cached"] * 6]


def test_several_caches_are_asked_in_turn(room: Room) -> None:
    room.export(mode="min")
    room("a", "--target=make", "--cache-to", "type=local,dest=other,tag=stage")
    flags = ["--cache-from", "type=local,src=cache", "--cache-from", "type=local,src=other,tag=stage"]
    done = room("b", *flags, "--cache-to", "type=local,dest=new,mode=max", "--cache-to", "type=local,dest=new,tag=small")
    assert set(done.statuses.values()) == {"cached"}
    assert [steps for steps, _ in done.imported] == [6, 2]
    assert [export["output"] for export in done.exports] == ["cache local new"] * 2
    assert set(room("c", "--cache-from", "type=local,src=new").statuses.values()) == {"cached"}
    assert room("d", "--cache-from", "type=local,src=new,tag=small").imported[0][0] == 6
    digest = done.exports[1]["digest"]
    assert room("e", "--cache-from", f"type=local,src=new,digest={digest}").imported[0][0] == 6


def test_people_are_told(room: Room, pybuild: Pybuild) -> None:
    room.export()
    pybuild.store = room.folder / "store-b"
    flags = ["--progress=plain", "--build-context", f"base={room.base}", "--cache-from=type=local,src=cache"]
    done = pybuild(*flags, "--cache-to=type=local,dest=other", room.context, cwd=room.folder)
    assert "imported  8 steps from the cache local cache, " in done.stderr
    assert "wrote     cache local other sha256:" in done.stderr
    assert done.stderr.count("CACHED") == 9


def test_proxies_stay_out_of_a_cache(room: Room) -> None:
    (room.context / "Dockerfile").write_text('FROM base\nRUN test -n "$https_proxy"\nRUN test -n "$https_proxy"; : > /made\n')
    done = room("a", "--build-arg=https_proxy=http://user:canary@proxy.invalid", "--cache-to=type=local,dest=cache,mode=max")
    assert done.code == 0
    parts = [path.read_bytes() for path in room.cache.rglob("*") if path.is_file()]
    parts += [
        zstandard.ZstdDecompressor().decompressobj().decompress(part) for part in parts if part[:4] == b"\x28\xb5\x2f\xfd"
    ]
    assert len(parts) == 6
    assert [part for part in parts if b"canary" in part or b"proxy.invalid" in part] == []


# The folder


def test_a_new_cache_replaces_the_old_one_and_its_blobs(room: Room) -> None:
    room.export(mode="max")
    first = blobs_of(room.cache)
    assert room.export(mode="min").exports[0]["digest"] in blobs_of(room.cache)
    named = {room.index()["manifests"][0]["digest"], room.manifest()["config"]["digest"]}
    named |= {layer["digest"] for layer in room.manifest()["layers"]}
    assert blobs_of(room.cache) == named
    assert len(first) == len(named) + 2
    # What a killed writer left goes, and what is damaged is written again.
    (room.cache / "blobs" / "sha256" / ".pybuild-left").write_text("x")
    (room.cache / "blobs" / "sha256" / ("0" * 64)).write_text("x")
    (room.cache / "index.json.lock").write_text("")
    damaged = room.blob(room.manifest()["layers"][0]["digest"])
    damaged.write_text("x")
    room.export(mode="min")
    assert blobs_of(room.cache) == named
    assert f"sha256:{hashlib.sha256(damaged.read_bytes()).hexdigest()}" == f"sha256:{damaged.name}"
    assert sorted(os.listdir(room.cache)) == ["blobs", "index.json", "oci-layout"]


def test_images_in_the_folder_stay(room: Room) -> None:
    assert room("a", "-t", "app:1", "-o", "type=oci,dest=cache,tar=false").code == 0
    image, blobs = room.index()["manifests"][0], blobs_of(room.cache)
    (room.cache / "blobs" / "sha256" / ("0" * 64)).write_text("not ours")
    room.export(mode="max")
    room.export(mode="min")
    assert room.index()["manifests"][0] == image
    assert blobs | {"sha256:" + "0" * 64} < blobs_of(room.cache)
    subprocess.run(["skopeo", "inspect", f"oci:{room.cache}:1"], check=True, capture_output=True, timeout=60)
    assert room.bring("b").imported[0][0] == 6
    # Its tag is not taken away from an image.
    refused = room("a", "--cache-to", "type=local,dest=cache,tag=1")
    assert (refused.code, refused.image) == (2, "")
    assert refused.error == "the cache cannot be written to 'cache': it has something else with the tag '1'"


def test_a_damaged_index_is_replaced(room: Room) -> None:
    room.export()
    (room.cache / "index.json").write_text("{")
    room.export()
    assert set(room.bring("b").statuses.values()) == {"cached"}


def test_two_writers_of_one_folder(room: Room, pybuild: Pybuild) -> None:
    """Each with its own tag, at the same time, many times: both are there in the end, and whole."""
    room("a")
    tags = [f"t{number}" for number in range(4)]
    flags = ["-q", "--build-context", f"base={room.base}"]
    running = [
        pybuild.start(*flags, "--cache-to", f"type=local,dest=cache,mode=max,tag={tag}", room.context, cwd=room.folder)
        for tag in tags
    ]
    for process in running:
        with process:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    assert sorted(each["annotations"]["org.opencontainers.image.ref.name"] for each in room.index()["manifests"]) == tags
    assert sorted(os.listdir(room.cache)) == ["blobs", "index.json", "oci-layout"]
    for blob in blobs_of(room.cache):
        assert f"sha256:{hashlib.sha256(room.blob(blob).read_bytes()).hexdigest()}" == blob
    assert room("b", "--cache-from", "type=local,src=cache,tag=t3").imported[0][0] == 8


def test_a_writer_that_is_killed_leaves_the_old_cache(room: Room, pybuild: Pybuild) -> None:
    (room.context / "Dockerfile").write_text("FROM base\nCOPY tree /tree/\n")
    first = room.export()
    large = room.context / "tree" / "large"
    large.write_bytes(os.urandom(1 << 20) * 40)
    flags = ["--build-context", f"base={room.base}", "--cache-to=type=local,dest=cache,mode=max,compression=uncompressed"]
    with pybuild.start(*flags, room.context, cwd=room.folder) as process:
        while process.poll() is None and not list((room.cache / "blobs" / "sha256").glob(".pybuild-*")):
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    large.unlink()
    old = room.bring("b")
    assert (set(old.statuses.values()), old.image, old.warnings) == ({"cached"}, first.image, [])
    room.export()
    assert [path.name for path in room.cache.rglob("*") if path.name.startswith((".pybuild-", "index.json."))] == []


@pytest.mark.parametrize("ignore", [False, True])
def test_a_cache_that_cannot_be_written(room: Room, ignore: bool) -> None:
    (room.folder / "file").write_text("")
    flag = f"type=local,dest=file/cache,ignore-error={str(ignore).lower()}"
    done = room("a", "-t", "app", "--cache-to", flag)
    message = "the cache cannot be written to 'file/cache': Not a directory"
    if ignore:
        assert (done.code, done.warnings, done.image != "") == (0, [f"CacheExport: {message}"], True)
    else:
        assert (done.code, done.error, done.image) == (2, message, "")


def test_a_folder_that_is_none_of_ours_is_refused_before_the_build(room: Room) -> None:
    done = room("a", "--cache-to", "type=local,dest=context")
    assert (done.code, done.statuses) == (2, {})
    assert done.error == "the cache cannot be written to 'context': the folder is not empty and no OCI layout"
    done = room("a", "--cache-to", "type=local,dest=context/Dockerfile")
    assert (done.code, done.statuses) == (2, {})


# Damage


def truncate(room: Room) -> str:
    path = room.blob(room.manifest()["config"]["digest"])
    path.write_bytes(path.read_bytes()[:-1])
    return f"its blob sha256:{path.name} is truncated"


def remove_config(room: Room) -> str:
    path = room.blob(room.manifest()["config"]["digest"])
    path.unlink()
    return f"its blob sha256:{path.name} is missing"


def remove_manifest(room: Room) -> str:
    digest = room.index()["manifests"][0]["digest"]
    room.blob(digest).unlink()
    return f"its blob {digest} is missing"


def link_config(room: Room) -> str:
    path = room.blob(room.manifest()["config"]["digest"])
    path.rename(room.folder / "elsewhere")
    path.symlink_to(room.folder / "elsewhere")
    return f"its blob sha256:{path.name} cannot be read: Too many levels of symbolic links"


def fifo_index(room: Room) -> str:
    (room.cache / "index.json").unlink()
    os.mkfifo(room.cache / "index.json")
    return "its index.json is no file"


def huge_index(room: Room) -> str:
    with open(room.cache / "index.json", "r+b") as file:
        file.truncate(1 << 40)
    return "its index.json is larger than 4194304 bytes"


def deep_index(room: Room) -> str:
    (room.cache / "index.json").write_text("[" * 100_000)
    return "its index.json is not JSON"


def no_index(room: Room) -> str:
    (room.cache / "index.json").unlink()
    return "its index.json is missing"


def bad_index(room: Room) -> str:
    (room.cache / "index.json").write_text('{"manifests": 1}')
    return "its index.json has no manifests"


def other_tag(room: Room) -> str:
    (room.cache / "index.json").write_text((room.cache / "index.json").read_text().replace("latest", "older"))
    return "it has no tag 'latest'"


def newer_version(room: Room) -> str:
    room.change(manifest=lambda value: value.update(artifactType="application/vnd.pybuild.cache.v2"))
    return f"its format is 'application/vnd.pybuild.cache.v2', and this pybuild reads '{TYPE}'"


def an_image(room: Room) -> str:
    room.change(manifest=lambda value: value.pop("artifactType"))
    return "its manifest is not that of a pybuild cache"


def foreign_config(room: Room) -> str:
    room.change(manifest=lambda value: value["config"].update(mediaType="application/json"))
    return "the config of its manifest has another type"


def fewer_layers(room: Room) -> str:
    room.change(manifest=lambda value: value["layers"].pop())
    count = len(room.config()["layers"])
    return f"its config names {count} layers, its manifest {count - 1}"


def lost_layer(room: Room) -> str:
    key = next(record["key"] for record in room.config()["records"] if record["diff_id"])
    room.change(config=lambda value: [r.update(diff_id="sha256:" + "0" * 64) for r in value["records"] if r["key"] == key])
    return f"the layer of its record {key[:12]} is in no blob"


def wrong_preimage(room: Room) -> str:
    key = room.config()["records"][0]["key"]
    room.change(config=lambda value: value["records"][0].update(preimage='{"op":"run"}'))
    return f"its record '{key[:12]}' is not what its key says"


def malformed_record(room: Room) -> str:
    room.change(config=lambda value: value["records"][0].update(created="now"))
    return "one of its records is malformed"


DAMAGES: tuple[Callable[[Room], str], ...] = (
    *(truncate, remove_config, remove_manifest, link_config, fifo_index, huge_index, deep_index, no_index, bad_index),
    *(other_tag, newer_version, an_image, foreign_config, fewer_layers, lost_layer, wrong_preimage, malformed_record),
)


def test_a_damaged_cache_is_named_and_not_used(room: Room) -> None:
    """One build is told of many, which it asks in turn."""
    (room.context / "Dockerfile").write_text("FROM base\nCOPY tree /tree/\nCOPY tree/a /a\n")
    first = room.export()
    expected: list[str] = []
    for name in copies(room, len(DAMAGES)):
        reason = DAMAGES[len(expected)](room)
        expected.append(f"CacheImport: the cache local {name} is not used: {reason}")
    done = room("b", *(f"--cache-from=type=local,src=cache{number}" for number in range(len(DAMAGES))))
    assert done.warnings == expected
    assert list(done.statuses.values()) == ["cached", "done", "done"]
    assert done.image == first.image
    assert_valid(room.store)


def copies(room: Room, count: int) -> Iterator[str]:
    """The names of so many copies of the room's cache, which is each of them in turn."""
    original = room.cache
    for number in range(count):
        room.cache = original.with_name(f"cache{number}")
        shutil.copytree(original, room.cache)
        yield room.cache.name


def test_a_cache_that_is_not_there(room: Room) -> None:
    (room.context / "Dockerfile").write_text("FROM base\nCOPY tree /tree/\n")
    done = room.bring("b")
    assert (done.code, done.warnings) == (0, ["CacheImport: the cache local cache is not used: it is not there"])


def tar_of(*members: tuple[str, bytes, bytes | str]) -> bytes:
    """An archive of (name, type, content or target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mtime = kind, 315619200
            member.mode = {tarfile.SYMTYPE: 0o777, tarfile.DIRTYPE: 0o755}.get(kind, 0o644)
            if isinstance(content, str):
                member.linkname = content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


FILE = tarfile.REGTYPE


def file(path: str) -> Item:
    return Item(Entry(path.encode(), "file", 0o644, size=4), BytesSource(b"evil"))


def canonical(*items: Item) -> bytes:
    """What our own writer makes: nothing keeps an attacker from using it."""
    parts: list[bytes] = []
    write_layer(items, parts.append)
    return b"".join(parts)


HOSTILE: tuple[tuple[bytes, bool, str], ...] = (
    (tar_of(("a", FILE, b"evil")), True, "its content does not have this diff ID"),
    (b"no archive", False, "is not a tar archive that can be read"),
    (tar_of(("../../../../tmp/evil", FILE, b"evil")), False, "leads out of it"),
    (tar_of(("/etc/evil", FILE, b"evil")), False, "it is not written as pybuild writes layers"),
    (tar_of(("b", FILE, b""), ("a", FILE, b"")), False, "'a' stands after 'b'"),
    (tar_of(("a", FILE, b""), ("a", FILE, b"")), False, "'a' stands after 'a'"),
    (tar_of(("h", tarfile.LNKTYPE, "bin/busybox")), False, "hard link 'h' names no earlier entry"),
    (tar_of(("h", tarfile.LNKTYPE, "../../etc/shadow")), False, "leads out of it"),
    (tar_of((".wh..wh..opq", FILE, b"")), False, "opaque marks are read, never written"),
    (canonical(file("bin/sh/evil")), False, "'bin/sh/evil' lies in what is no folder"),
    (canonical(Item(Entry(b"l", "symlink", 0o777, link=b"/etc")), file("l/evil")), False, "'l/evil' lies in what is no"),
    (tar_of(("a", FILE, b"1"))[:700], False, "it is not written as pybuild writes layers"),
    (tar_of(("a", FILE, b"1"))[:300], False, "is not a tar archive that can be read"),
)


def test_a_hostile_layer_is_named_and_not_used(room: Room) -> None:
    (room.context / "Dockerfile").write_text("FROM base\nRUN : > /made\nRUN ls / > /list\n")
    first = room.export()
    number = room.config()["layers"].index(json_record(room, "run", ": > /made")["diff_id"])
    for (tar, lie, _), _name in zip(HOSTILE, copies(room, len(HOSTILE)), strict=True):
        room.replace_layer(number, tar, lie=lie)
    done = room("b", *(f"--cache-from=type=local,src=cache{number}" for number in range(len(HOSTILE))))
    assert len(done.warnings) == len(HOSTILE)
    for number, (warning, (_, _, reason)) in enumerate(zip(done.warnings, HOSTILE, strict=True)):
        assert warning.startswith(f"CacheImport: the cache local cache{number} is not used: layer sha256:")
        assert reason in warning
    # The other record is still good.
    assert list(done.statuses.values()) == ["cached", "done", "cached"]
    assert done.image == first.image
    assert_valid(room.store)
    assert not Path("/tmp/evil").exists()


def json_record(room: Room, op: str, text: str) -> dict[str, Any]:
    records: list[dict[str, Any]] = [r for r in room.config()["records"] if json.loads(r["preimage"])["op"] == op]
    return next(record for record in records if text in record["preimage"])


def test_a_hostile_layer_that_fits_one_base_does_not_come_to_another(room: Room) -> None:
    """A COPY --link lies on any base: one whose entries count on folders of theirs is not ours."""
    (room.context / "Dockerfile").write_text("FROM base\nCOPY --link tree/a /new/a\n")
    room.export()
    room.replace_layer(0, canonical(file("new/evil")))
    done = room.bring("b")
    assert [line.partition(": layer ")[2].partition(": ")[2] for line in done.warnings] == [
        "'new/evil' lies in what is no folder"
    ]
    assert list(done.statuses.values()) == ["cached", "done"]


def test_layers_that_are_missing_or_damaged(room: Room) -> None:
    first = room.export()
    layers = room.manifest()["layers"]
    room.blob(layers[0]["digest"]).unlink()
    damaged = room.blob(layers[1]["digest"])
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    done = room.bring("b")
    assert sorted(line.rpartition(": ")[2] for line in done.warnings) == sorted(
        [f"its blob {layers[0]['digest']} is missing", f"its blob {layers[1]['digest']} is corrupt"]
    )
    assert list(done.statuses.values()).count("done") == 2
    assert done.image == first.image
    assert_valid(room.store)


# Bad input


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cache-to=type=lokal,dest=x", "unknown cache type 'lokal'"),
        ("--cache-to=dest=x", "--cache-to 'dest=x' has no type"),
        ("--cache-to=type=local", "the cache 'type=local' is a folder and needs one"),
        ("--cache-from=type=local,src=", "the cache 'type=local,src=' is a folder and needs one"),
        ("--cache-from=type=local,dest=x", "--cache-from has no key 'dest'"),
        ("--cache-to=type=local,dest=x,mode=all", "'all' is not a value of 'mode' of --cache-to"),
        ("--cache-to=type=local,dest=x,moed=max", "unknown key 'moed' of --cache-to type=local"),
        ("--cache-to=type=local,dest=x,dest=y", "--cache-to 'type=local,dest=x,dest=y' names 'dest' twice"),
        ("--cache-to=type=local,dest=x,compression=xz", "'xz' is not a value of 'compression' of --cache-to"),
        ("--cache-to=type=local,dest=x,compression-level=3", "the key 'compression-level' of --cache-to is not built yet"),
        ("--cache-to=type=local,mounts=a,b", "the cache 'type=local,mounts=a,b' is a folder and needs one"),
        ("--cache-to=type=local,dest=x,b", "'b' in --cache-to 'type=local,dest=x,b' is not KEY=VALUE"),
        ("--cache-to=type=local,dest=x,oci-mediatypes=false", "'false' is not a value of 'oci-mediatypes' of --cache-to"),
        ("--cache-from=type=local,src=x,digest=1", "'1' is not a digest, in --cache-from 'type=local,src=x,digest=1'"),
    ],
)
def test_flags_that_cannot_be(pybuild: Pybuild, tmp_path: Path, flag: str, message: str) -> None:
    done = pybuild(flag, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {message}\n" in done.stderr
