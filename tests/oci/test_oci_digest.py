"""Digests and chain IDs (OCI image-spec, descriptor.md and config.md)."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.oci.digest import Digest, chain_id

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digests() -> None:
    assert str(Digest.of(b"")) == EMPTY
    assert Digest.parse(EMPTY) == Digest.of(b"")
    assert Digest.of(b"").short == "e3b0c44298fc"
    assert Digest.parse("sha512:" + "0" * 128) == Digest("sha512", "0" * 128)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "a digest looks like sha256:<64 hexadecimal digits>"),
        ("sha256", "a digest looks like sha256:<64 hexadecimal digits>"),
        ("a" * 64, "a digest looks like sha256:<64 hexadecimal digits>"),
        (":" + "a" * 64, "a digest looks like sha256:<64 hexadecimal digits>"),
        ("md5:" + "a" * 32, "a digest looks like sha256:<64 hexadecimal digits>"),
        ("SHA256:" + "a" * 64, "a digest looks like sha256:<64 hexadecimal digits>"),
        ("sha256:" + "a" * 63, "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:" + "a" * 65, "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:" + "A" * 64, "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:" + "g" * 64, "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:" + "a" * 63 + "\n", "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:" + "a" * 63 + "١", "sha256 has 64 lower-case hexadecimal digits"),
        ("sha256:../" + "a" * 61, "sha256 has 64 lower-case hexadecimal digits"),
        ("sha512:" + "a" * 64, "sha512 has 128 lower-case hexadecimal digits"),
    ],
)
def test_what_is_no_digest(text: str, hint: str) -> None:
    with pytest.raises(BuildError) as caught:
        Digest.parse(text)
    assert (caught.value.message, caught.value.hint) == (f"'{text}' is not a digest", hint)


def test_chain_ids() -> None:
    """ChainID(A) = A; ChainID(A|B) = Digest(A + " " + B), by a tool that is not ours."""
    a, b, c = (Digest("sha256", letter * 64) for letter in "abc")

    def sum_of(text: str) -> str:
        done = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
        return "sha256:" + done.stdout.split()[0].decode()

    assert chain_id(None, a) == a
    ab = sum_of(f"{a} {b}")
    assert str(chain_id(a, b)) == ab
    assert str(chain_id(chain_id(a, b), c)) == sum_of(f"{ab} {c}")
    assert chain_id(a, b) != chain_id(b, a)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=5).map(lambda data: f"sha256:{hashlib.sha256(data).hexdigest()}"))
def test_any_text_is_a_digest_that_reads_the_same_or_an_error(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except BuildError:
        return
    assert str(digest) == text
