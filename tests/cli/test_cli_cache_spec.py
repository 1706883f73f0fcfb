"""`--cache-from` and `--cache-to`, as buildx reads them; what cannot be is refused by its name, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cache.places import CacheTo, InlineTo, LocalFrom, LocalTo, RegistryFrom, RegistryTo
from builder.cli.cache_spec import parse_cache_from, parse_cache_to
from builder.errors import UsageError, render
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from tests.conftest import Pybuild


def of(name: str) -> RegistryFrom:
    return RegistryFrom(Reference.parse(name))


def to(name: str) -> RegistryTo:
    return RegistryTo(Reference.parse(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=registry,ref=user/app:cache", (of("docker.io/user/app:cache"),)),
        ("user/app:cache", (of("docker.io/user/app:cache"),)),
        ("app,registry.example:5000/b", (of("app:latest"), of("registry.example:5000/b:latest"))),
        (f"type=registry,ref=app@sha256:{'1' * 64}", (of(f"app@sha256:{'1' * 64}"),)),
        ("type=local,src=a/b", (LocalFrom("a/b"),)),
        (f"type=local,src=a,tag=t,digest=sha256:{'1' * 64}", (LocalFrom("a", "t", Digest("sha256", "1" * 64)),)),
    ],
)
def test_what_is_read(text: str, expected: object) -> None:
    assert parse_cache_from(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=registry,ref=user/app:cache", (CacheTo(to("user/app:cache")),)),
        ("user/app:cache,b", (CacheTo(to("user/app:cache")), CacheTo(to("b")))),
        (
            "type=registry,ref=r.example/c,mode=max,compression=gzip,ignore-error=true,mounts=a,b,image-manifest=true",
            (CacheTo(to("r.example/c"), "max", "gzip", True, ("a", "b")),),
        ),
        ("type=inline", (CacheTo(InlineTo()),)),
        ("type=inline,mode=min", (CacheTo(InlineTo()),)),
        ("type=local,dest=d,tag=t", (CacheTo(LocalTo("d", "t")),)),
    ],
)
def test_what_is_written(text: str, expected: object) -> None:
    assert parse_cache_to(text) == expected


def test_what_messages_call_them() -> None:
    assert [one.name for one in (of("a"), LocalFrom("d"))] == ["registry a:latest", "local d"]
    assert [CacheTo(one).name for one in (to("a:b"), InlineTo(), LocalTo("d"))] == ["registry a:b", "inline", "local d"]
    assert [CacheTo(one).inline for one in (to("a:b"), InlineTo())] == [False, True]


INSTEAD = "keep it in a registry, type=registry,ref=NAME:cache, or in a folder that the CI service keeps: type=local"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cache-to=./folder", "'./folder' is not an image reference: '.' is not a registry's name, in"),
        ("--cache-from=", "--cache-from is empty\n  hint: type=registry,ref=NAME; for a folder: type=local,src=DIR"),
        ("--cache-to=inline", "--cache-to 'inline' lacks its keys\n  hint: type=inline,..."),
        ("--cache-to=gha", "--cache-to 'gha' lacks its keys"),
        (
            "--cache-to=type=gha,scope=x",
            f"caches of the type 'gha' are not built: they need GitHub's own interface for caches\n  hint: {INSTEAD},dest=DIR",
        ),
        (
            "--cache-from=type=s3",
            f"caches of the type 's3' are not built: they need the interface of S3\n  hint: {INSTEAD}",
        ),
        ("--cache-from=type=azblob,name=x", "caches of the type 'azblob' are not built: they need the interface of Azure's"),
        (
            "--cache-from=type=inline",
            "an inline cache lies in an image, which --cache-from has to name\n  hint: --cache-from type=registry,ref=IMAGE",
        ),
        ("--cache-to=type=inline,mode=max", "an inline cache has the steps of its image alone: it is no place for mode=max"),
        (
            "--cache-to=type=inline,compression=zstd",
            "an inline cache has no 'compression' of its own\n  hint: its layers are the image's: -o type=registry",
        ),
        ("--cache-to=type=inline,mounts=a", "an inline cache has no 'mounts' of its own"),
        ("--cache-to=type=inline,ref=a", "unknown key 'ref' of --cache-to type=inline"),
        ("--cache-to=type=registry", "the cache 'type=registry' is in a registry and needs a name\n  hint: add ref="),
        ("--cache-to=type=registry,ref=A", "'A' is not an image reference: 'A' is not a name, in --cache-to 'type=registry,"),
        (f"--cache-to=type=registry,ref=a@sha256:{'1' * 64}", f"the name 'a@sha256:{'1' * 64}' has a digest, in --cache-to"),
        (f"--cache-to=a@sha256:{'1' * 64}", f"the name 'docker.io/library/a@sha256:{'1' * 64}' has a digest"),
        (
            "--cache-from=type=registry,ref=a,mode=max",
            "unknown key 'mode' of --cache-from type=registry\n  hint: type=",
        ),
        ("--cache-to=type=registry,ref=a,registry.insecure=true", "the key 'registry.insecure' of --cache-to is not built yet"),
        ("--cache-to=type=registry,ref=a,dest=b", "unknown key 'dest' of --cache-to type=registry"),
        ("--cache-to=type=registri,ref=a", "unknown cache type 'registri'\n  hint: did you mean 'registry'?"),
        (
            "--cache-from=ref=a",
            "--cache-from 'ref=a' has no type\n  hint: type=registry,ref=NAME; for a folder: type=local,src=",
        ),
    ],
)
def test_what_cannot_be(flag: str, message: str) -> None:
    name, _, text = flag.partition("=")
    with pytest.raises(UsageError) as caught:
        (parse_cache_to if name == "--cache-to" else parse_cache_from)(text)
    assert render(caught.value).startswith(f"error: {message}")


WORDS = st.sampled_from(["type", "registry", "inline", "local", "ref", "src", "=", ",", "a", '"', "@", ":", "/", ""])


@given(st.lists(WORDS).map("".join) | st.text())
def test_whatever_is_written_is_understood_or_refused(text: str) -> None:
    for parse in (parse_cache_from, parse_cache_to):
        try:
            assert parse(text)
        except UsageError as error:
            assert render(error)


def test_an_image_is_not_its_own_cache(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = pybuild("-t", "registry.invalid/app", "--push", "--cache-to=registry.invalid/app:latest", tmp_path)
    assert done.returncode == 2
    assert "'registry.invalid/app:latest' cannot be both the image and its cache\n  hint: choose another tag" in done.stderr
