"""Credentials in URLs. The mask is BuildKit's (moby/buildkit, urlutil/redact.go)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, SourceFile, Span, render
from builder.redact import redact


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://host.tld/path.git", "https://host.tld/path.git"),
        ("https://user@host.tld/path.git", "https://xxxxx@host.tld/path.git"),
        ("https://user:password@host.tld/path.git", "https://xxxxx:xxxxx@host.tld/path.git"),
        ("https://:password@host.tld/path.git", "https://:xxxxx@host.tld/path.git"),
        ("https://user:@host.tld/path.git", "https://xxxxx:@host.tld/path.git"),
        ("https://user:p@ss:w@host/@x", "https://xxxxx:xxxxx@host/@x"),
        ("a http://u:p@h/ and git://u:p@h/, both", "a http://xxxxx:xxxxx@h/ and git://xxxxx:xxxxx@h/, both"),
        ('["https://u:p@h/x", "https://h/@scope/y"]', '["https://xxxxx:xxxxx@h/x", "https://h/@scope/y"]'),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("ssh://git:pw@h/x", "ssh://xxxxx:xxxxx@h/x"),
        ("git@github.com:a/b", "git@github.com:a/b"),
        ("https://h/?X-Amz-Signature=ab12&token=t&page=3", "https://h/?X-Amz-Signature=xxxxx&token=xxxxx&page=3"),
        ("https://h/?sig=a#b", "https://h/?sig=xxxxx#b"),
        ("https://h/?token=t: no such file", "https://h/?token=xxxxx: no such file"),
        ("https://h/?token=a:b&x=1", "https://h/?token=xxxxx&x=1"),
        ("user:password@host", "user:password@host"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    assert redact(text) == masked
    assert redact(masked) == masked
    assert len(redact(text, keep_width=True)) == len(text)


@given(st.text(max_size=20), st.text("abcxyz0189%:@!$&'()*+,;=~-._", min_size=8, max_size=20), st.text(max_size=20))
@settings(max_examples=200)
def test_no_password_is_left(before: str, password: str, after: str) -> None:
    if password.strip("x") and "@" not in after.partition("/")[0]:
        assert f":{password}@" not in redact(f"{before} https://u:{password}@h/{after}")


def test_errors_show_none() -> None:
    source = SourceFile("Dockerfile", "FROM a\nADD https://me:s3cret@h/f /d/\n")
    error = BuildError("https://me:s3cret@h/f is gone", Span(2, 5, 2, 27), hint="see https://h/?token=s3cret", source=source)
    assert render(error) == (
        "Dockerfile:2:5: error: https://xxxxx:xxxxx@h/f is gone\n"
        "  2 | ADD https://xx:xxxxxx@h/f /d/\n"
        "    |     ^^^^^^^^^^^^^^^^^^^^^^\n"
        "  hint: see https://h/?token=xxxxx"
    )
    assert str(error) == error.message
