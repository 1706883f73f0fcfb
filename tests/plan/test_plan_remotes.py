"""What counts as git, as a URL and as a path. The cases are BuildKit's: moby/buildkit, dfgitutil/git_ref_test.go and
util/gitutil/git_url_test.go, with convert_copy.go for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import DockerfileError, Span
from builder.plan import remotes
from builder.plan.giturl import GitRemote, parse_git
from builder.plan.remotes import Options
from builder.plan.steps import CopySource, GitSource, Source, UrlSource
from tests.plan.plan_lowered import plan_of

HERE = Span(2, 5, 2, 9)
COMMIT = "b" * 40
SHA256 = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com/", None),
        ("https://example.com/foo", None),
        ("https://example.com/foo.git", GitRemote("https://example.com/foo.git")),
        ("https://example.com/foo.git#deadbeef", GitRemote("https://example.com/foo.git", "deadbeef")),
        ("https://example.com/foo.git#release/1.2", GitRemote("https://example.com/foo.git", "release/1.2")),
        ("https://example.com/foo.git/", None),
        ("https://example.com/foo.git.bar", None),
        ("https://example.com/foo%2Egit", GitRemote("https://example.com/foo%2Egit")),
        ("git://example.com/foo", GitRemote("git://example.com/foo")),
        ("github.com/moby/buildkit", None),
        ("custom.xyz/moby/buildkit.git", None),
        ("https://github.com/moby/buildkit", None),
        ("HTTPS://github.com/moby/buildkit.git", GitRemote("https://github.com/moby/buildkit.git")),
        ("https://foo:bar@github.com/moby/buildkit.git", GitRemote("https://foo:bar@github.com/moby/buildkit.git")),
        ("git@github.com:moby/buildkit", GitRemote("git@github.com:moby/buildkit")),
        ("git@github.com:moby/buildkit.git#v1.0.0:hack", GitRemote("git@github.com:moby/buildkit.git", "v1.0.0", "hack")),
        ("weird_user@example.com:/srv/x.git", GitRemote("weird_user@example.com:/srv/x.git")),
        ("ssh://root@sub.example:2222/p/foo.git", GitRemote("ssh://root@sub.example:2222/p/foo.git")),
        ("git://host.xz:1234/path/to/repo.git", GitRemote("git://host.xz:1234/path/to/repo.git")),
        (
            "https://github.com/foo/bar.git#baz/qux:quux/quuz",
            GitRemote("https://github.com/foo/bar.git", "baz/qux", "quux/quuz"),
        ),
        ("http://github.com/docker/docker.git:#branch", None),
        ("https://github.com/docker/docker.git#:myfolder", GitRemote("https://github.com/docker/docker.git", "", "myfolder")),
        ("./.git", None),
        (".git", None),
        ("file:///srv/x.git", None),
        ("ext::sh -c x.git", None),
        ("https://h/r.git?ref=v1.0.0&subdir=/subdir", GitRemote("https://h/r.git", "v1.0.0", "subdir")),
        ("https://h/r.git?subdir=/subdir#v1.0.0", GitRemote("https://h/r.git", "v1.0.0", "subdir")),
        ("https://h/r.git?tag=v1.0.0", GitRemote("https://h/r.git", "refs/tags/v1.0.0")),
        ("https://h/r.git?tag=refs/tags/v1", GitRemote("https://h/r.git", "refs/tags/v1")),
        ("https://h/r.git?branch=v1.0", GitRemote("https://h/r.git", "refs/heads/v1.0")),
        ("https://h/r.git?ref=v1&checksum=AbC", GitRemote("https://h/r.git", "v1", "", "abc")),
        (f"https://h/r.git?commit={COMMIT}", GitRemote("https://h/r.git", COMMIT, "", COMMIT)),
        ("git@h:r.git?subdir=/subdir#v1", GitRemote("git@h:r.git", "v1", "subdir")),
        (
            "https://h/r.git?keep-git-dir&submodules=false",
            GitRemote("https://h/r.git", keep_git_dir=True, submodules=False),
        ),
        ("https://h/r.git?keep-git-dir=0", GitRemote("https://h/r.git", keep_git_dir=False)),
        ("https://h/r.git#a%2Fb:c%20d", GitRemote("https://h/r.git", "a/b", "c d")),
        ("https://h/r.git#main:a/../b/./c/", GitRemote("https://h/r.git", "main", "b/c")),
    ],
)
def test_git_or_not(text: str, expected: GitRemote | None) -> None:
    assert parse_git(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://h/r.git?ref=v1.0.0#v1.2.3", "the URL says two things: ref 'v1.0.0' and 'v1.2.3'"),
        ("https://h/r.git?ref=v1&tag=v2", "the URL says two things: tag 'refs/tags/v2' and 'v1'"),
        ("https://h/r.git?tag=v1&branch=v1", "the URL says two things: branch 'refs/heads/v1' and 'refs/tags/v1'"),
        ("https://h/r.git?subdir=a#:b", "the URL says two things: subdir 'a' and 'b'"),
        ("https://h/r.git?invalid=1", "unexpected query 'invalid' in the URL of a git repository"),
        ("https://h/r.git?ref=a&ref=b", "the query 'ref' has multiple values"),
        ("https://h/r.git?ref=", "the query 'ref' has no value"),
        ("https://h/r.git?submodules=maybe", "the query 'submodules' is true or false, not 'maybe'"),
        ("https://h/r.git?checksum=main", "invalid checksum 'main' for a git repository"),
        ("https://h/r.git#--upload-pack=x", "'--upload-pack=x' is no name of a branch or tag, and no commit"),
        ("https://h/r.git#a b", "'a b' is no name of a branch or tag, and no commit"),
        ("https://h/r.git#a..b", "'a..b' is no name of a branch or tag, and no commit"),
        ("https://h/r.git#*", "'*' is no name of a branch or tag, and no commit"),
        ("https://h/r.git#main:../x", "the folder '../x' leads out of the git repository"),
        ("https://h/r.git#main:a/../../x", "the folder 'a/../../x' leads out of the git repository"),
        ("git@-oProxyCommand=x:y", None),
        ("-oProxyCommand@h:y", "'-oProxyCommand@h:y' is no git repository: user and host do not begin with '-'"),
        ("git@-h:y", "'git@-h:y' is no git repository: user and host do not begin with '-'"),
        ("ssh://-oProxyCommand=x/y", "'ssh://-oProxyCommand=x/y' is no URL: user and host do not begin with '-'"),
        ("git:///x", "'git:///x' is no URL: it names no host"),
        ("git://h:99999/x", "'git://h:99999/x' is no URL: port out of range 0-65535"),
    ],
)
def test_git_that_is_wrong(text: str, message: str | None) -> None:
    if message is None:
        assert parse_git(text) is None
        return
    with pytest.raises(DockerfileError) as caught:
        parse_git(text)
    assert caught.value.message == message


def sources(*paths: str, keyword: str = "ADD", **options: Any) -> tuple[Source, ...]:
    return remotes.resolve(tuple(CopySource(path, HERE) for path in paths), keyword, Options()._replace(**options))


def test_sources_of_an_add() -> None:
    assert sources("a", "https://h/f", "https://h/r.git#v1:d", "HTTPS://h/f", "ftp://h/f", "file:///f") == (
        CopySource("a", HERE),
        UrlSource("https://h/f", "", HERE),
        GitSource("https://h/r.git", "v1", "d", False, "", HERE),
        CopySource("HTTPS://h/f", HERE),
        CopySource("ftp://h/f", HERE),
        CopySource("file:///f", HERE),
    )
    assert sources("https://h/f", checksum=SHA256, unpack=True) == (UrlSource("https://h/f", SHA256, HERE, True),)
    assert sources("git@h:r?submodules=0", checksum="AB", keep_git_dir=True) == (
        GitSource("git@h:r", "", "", True, "ab", HERE, False),
    )
    # BuildKit ignores --keep-git-dir where nothing is git.
    assert sources("a", keep_git_dir=True) == (CopySource("a", HERE),)


def test_variables_in_urls_and_flags_are_expanded_and_archives_stay_packed() -> None:
    plan = plan_of(
        f"FROM scratch\nARG H=h V=1 SUM={SHA256}\n"
        "ADD --checksum=$SUM https://$H/f-${V}.tar /d/\n"
        "ADD a https://$H/b.tar http://$H/r.git#v$V /d/\n"
        "ADD --unpack http://h/c.tar /d/\n"
        "ADD git@h:r /d/\n"
    )
    adds = [(step.sources, step.unpack) for step in plan.steps[1:]]  # type: ignore[union-attr]  # all are CopySteps
    assert [[source[:-2] if isinstance(source, UrlSource) else source[0] for source in found] for found, _ in adds] == [
        [("https://h/f-1.tar", SHA256)],
        ["a", ("https://h/b.tar", ""), "http://h/r.git"],
        [("http://h/c.tar", "")],
        ["git@h:r"],
    ]
    assert [unpack for _, unpack in adds] == [False, True, True, False]
    assert [source.unpack for found, _ in adds for source in found if isinstance(source, UrlSource)] == [False, False, True]


def test_credentials_are_in_no_history_and_no_name() -> None:
    plan = plan_of(
        "FROM scratch\nARG T=tok3n\n"
        "ADD https://me:s3cret@h/f /d/\n"
        "ADD https://$T@h/r.git#main /d/\n"
        "ADD https://h/f?private_token=s3cret&x=1#y /d/\n"
    )
    assert [line.created_by for line in plan.history[-3:]] == [
        "ADD https://xxxxx:xxxxx@h/f /d/",
        "ADD https://xxxxx@h/r.git#main /d/",
        "ADD https://h/f?private_token=xxxxx&x=1#y /d/",
    ]
    assert [step.name for step in plan.steps[1:]] == [
        "[stage-0 2/4] ADD https://xxxxx:xxxxx@h/f /d/",
        "[stage-0 3/4] ADD https://xxxxx@h/r.git#main /d/",
        "[stage-0 4/4] ADD https://h/f?private_token=xxxxx&x=1#y /d/",
    ]


PIECES = st.sampled_from(
    ["https://", "git://", "ssh://", "h", "/", ".git", "#", ":", "?", "ref=", "&", "..", "@", "-", "%2f", "é"]
)


@given(st.lists(PIECES, max_size=10).map("".join) | st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """And what is parsed holds nothing that git could take for an option or that leaves the repository."""
    try:
        found = sources(text)[0]
    except DockerfileError as error:
        assert error.span == HERE
        return
    if isinstance(found, GitSource):
        assert not found.url.startswith("-") and not found.ref.startswith("-")
        assert ".." not in found.subdir.split("/") and not found.subdir.startswith("/")
