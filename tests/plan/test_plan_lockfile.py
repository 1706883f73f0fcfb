"""The lock file's format: what is written is read again, and what is wrong is told where (docs/lock.md)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError, SourceFile, render
from builder.plan import lockfile
from builder.plan.lockfile import GitPin, ImagePin, Lock, UrlPin

GOLDEN = Path(__file__).parents[1] / "golden" / "lock"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
COMMIT = "c" * 40

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_sha = st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda digits: f"sha256:{digits}")
_commits = st.text("0123456789abcdef", min_size=40, max_size=40)
_images = st.builds(
    ImagePin,
    st.from_regex(r"docker\.io/library/[a-z]{1,8}:[a-z0-9]{1,5}", fullmatch=True),
    st.sampled_from(["linux/amd64", "linux/arm64", "linux/arm/v7"]),
    _sha | st.just(""),
    _sha,
)
_locks = st.builds(
    lambda images, urls, gits: Lock(tuple(sorted(images)), tuple(sorted(urls)), tuple(sorted(gits))),
    st.lists(_images, unique_by=lambda pin: pin[:2]),
    st.lists(st.builds(UrlPin, _text, _sha), unique_by=lambda pin: pin.url),
    st.lists(st.builds(GitPin, _text, _text, _commits, _text, _commits | st.just("")), unique_by=lockfile.label),
)


def read(text: str) -> Lock:
    return lockfile.parse(SourceFile("Dockerfile.lock", text))


@given(_locks)
def test_what_is_written_is_read_again(lock: Lock) -> None:
    text = lockfile.render(lock)
    assert read(text) == lock
    assert lockfile.render(read(text)) == text
    assert tomllib.loads(text)["version"] == 1


@given(_locks, st.randoms())
def test_the_order_says_nothing(lock: Lock, random: object) -> None:
    pins: list[lockfile.Pin] = [*lock.images, *lock.urls, *lock.gits]
    random.shuffle(pins)  # type: ignore[attr-defined]  # of hypothesis
    assert lockfile.render(lockfile.merged(pins)) == lockfile.render(lock)


@given(st.text(max_size=200) | st.text("[]=\"'#\n\\ version1imageurl{}", max_size=60))
def test_any_text_is_a_lock_or_an_error_with_its_place(text: str) -> None:
    try:
        read(text)
    except BuildError as error:
        assert error.span is not None and error.source is not None
        lines = text.split("\n")
        assert 1 <= error.span.line <= len(lines)
        assert render(error).startswith(f"Dockerfile.lock:{error.span.line}:")


def test_the_text_as_it_is_written() -> None:
    lock = Lock(
        (
            ImagePin("docker.io/library/debian:12", "linux/arm64", A, B),
            ImagePin("docker.io/library/debian:12", "linux/amd64", B, A),
            ImagePin("docker.io/library/mine:latest", "linux/amd64", "", A),
        ),
        (UrlPin('https://example.com/"quoted"\\', A),),
        (
            GitPin("https://example.com/a.git", "", COMMIT, "refs/heads/main"),
            GitPin("git@x.example:a", "v1", COMMIT, tag="d" * 40),
        ),
    )
    assert (
        lockfile.render(lock)
        == f"""\
# What the Dockerfile's names stood for. Written by `pybuild lock`; `pybuild build --locked` builds from it.
version = 1

[[image]]
name = "docker.io/library/debian:12"
platform = "linux/amd64"
digest = "{B}"
id = "{A}"

[[image]]
name = "docker.io/library/debian:12"
platform = "linux/arm64"
digest = "{A}"
id = "{B}"

[[image]]
name = "docker.io/library/mine:latest"
platform = "linux/amd64"
id = "{A}"

[[url]]
url = "https://example.com/\\"quoted\\"\\\\"
checksum = "{A}"

[[git]]
url = "git@x.example:a"
ref = "v1"
commit = "{COMMIT}"
tag = "{"d" * 40}"

[[git]]
url = "https://example.com/a.git"
ref = ""
commit = "{COMMIT}"
name = "refs/heads/main"
"""
    )


IMAGE = f'[[image]]\nname = "docker.io/library/a:1"\nplatform = "linux/amd64"\ndigest = "{A}"\nid = "{B}"\n'
WRONG = {
    "empty": ("", 1, "it does not say which version it is of"),
    "of another version": ("# x\nversion = 2\n", 2, "it is of version 2, and this pybuild knows version 1"),
    "version of another kind": ('version = "1"\n', 1, "it does not say which version it is of"),
    "a merge conflict": (f"version = 1\n<<<<<<< ours\n{IMAGE}", 2, "this is no TOML"),
    "an unknown table": ("version = 1\n[[images]]\n", 2, "'images' is unknown"),
    "a table that is none": ("version = 1\nimage = 3\n", 2, "'image' is no list of tables"),
    "an unknown key": (f"version = 1\n{IMAGE}digests = 'x'\n", 2, "'digests' is no key of image"),
    "a missing key": ('version = 1\n\n[[url]]\nurl = "x"\n', 3, "'checksum' of url is missing"),
    "a number": ("version = 1\n[[url]]\nurl = 3\n", 2, "'url' of url is no string"),
    "an edited digest": (f"version = 1\n{IMAGE}".replace("a" * 64, "a" * 63), 2, "'digest' is wrong: 'sha256:aaa"),
    "an empty id": (f"version = 1\n{IMAGE}".replace(B, ""), 2, "'id' of image is empty"),
    "a short name": (f"version = 1\n{IMAGE}".replace("docker.io/library/", ""), 2, "the name 'a:1' is not written in full"),
    "an odd platform": (f"version = 1\n{IMAGE}".replace("amd64", "x86_64"), 2, "'linux/x86_64' is not a platform's name"),
    "a short commit": ('version = 1\n[[git]]\nurl = "u"\nref = ""\ncommit = "abc"\n', 2, "'abc' is no commit"),
    "a name twice": (f"version = 1\n{IMAGE}{IMAGE.replace(A, B)}", 6, "'a:1 linux/amd64' is pinned twice"),
    "a version without end": (f"version = {'9' * 5000}\n", 1, "a number in it has too many digits"),
    "a hexadecimal version": (f"version = 0x{'f' * 5000}\n", 1, "it is of version 0xffffffffffffffff..."),
    "nested too deeply": ("version = 1\na = " + "[" * 5000 + "]" * 5000 + "\n", 1, "it is nested too deeply"),
    "the second table": (f"version = 1\n{IMAGE}\n[[image]] # two\n", 8, "'name' of image is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_messages(name: str) -> None:
    """Each as a person sees it."""
    with pytest.raises(BuildError) as caught:
        read(WRONG[name][0])
    assert render(caught.value) + "\n" == (GOLDEN / f"{name.replace(' ', '-')}.txt").read_text()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_where(name: str) -> None:
    text, line, message = WRONG[name]
    with pytest.raises(BuildError) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.exit_code == 3 and caught.value.hint
    assert caught.value.span is not None and caught.value.span.line == line
