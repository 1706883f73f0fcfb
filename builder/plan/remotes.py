"""What a source of ADD is: a path, the URL of a file, or a git repository. Pure.

As BuildKit decides (moby/buildkit, `convert_copy.go`): what is no git repository and begins with `http(s)://` is a file; all
else, `file://` too, is a path.
"""

from __future__ import annotations

from builder.errors import DockerfileError
from builder.plan.steps import CopySource, GitSource, UrlSource
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.errors import Span
    from builder.plan.giturl import GitRemote
    from builder.plan.steps import Source


class Options(NamedTuple):
    """The flags of the instruction that say something about remote sources."""

    checksum: str = ""
    checksum_span: Span | None = None
    keep_git_dir: bool | None = None
    unpack: bool | None = None


def resolve(paths: tuple[CopySource, ...], keyword: str, options: Options) -> tuple[Source, ...]:
    """The sources of a COPY or ADD, each as what it is. Raises DockerfileError at the source or the flag that is wrong."""
    found: list[Source] = []
    for path in paths:
        try:
            found.append(_source(path, keyword, options))
        except DockerfileError as error:
            error.span = error.span or path.span
            raise
    if options.checksum:
        wrong = "" if len(found) == 1 else "can't be specified for multiple sources"
        if found and isinstance(found[0], CopySource):
            wrong = wrong or "requires HTTP(S) or Git sources"
        if wrong:
            raise DockerfileError(
                f"checksum {wrong}", options.checksum_span, hint="give the URL or the git repository a line of its own"
            )
    return tuple(found)


def _source(path: CopySource, keyword: str, options: Options) -> Source:
    text, span = path
    if "://" not in text and "@" not in text:
        return path
    from builder.plan.giturl import check_url, parse_git  # for those who have a URL

    git = parse_git(text)
    if git is not None:
        if keyword != "ADD":
            raise DockerfileError(f"source can't be a git ref for {keyword}", hint="ADD fetches git repositories")
        return _git_source(git, options, span)
    if text.startswith(("http://", "https://")):
        if keyword != "ADD":
            raise DockerfileError(f"source can't be a URL for {keyword}", hint="ADD fetches URLs")
        check_url(text)
        if options.checksum and not _is_sha256(options.checksum):
            raise DockerfileError(
                f"'{options.checksum[:80]}' is no checksum of a file",
                options.checksum_span,
                hint="write sha256: and 64 hexadecimal digits in lower case, as sha256sum prints them",
            )
        return UrlSource(text, options.checksum, span, bool(options.unpack))
    return path


def _git_source(git: GitRemote, options: Options, span: Span) -> GitSource:
    from builder.plan.giturl import commit

    keep, checksum = options.keep_git_dir, options.checksum
    if None not in (keep, git.keep_git_dir) and keep != git.keep_git_dir:
        raise DockerfileError("inconsistent keep-git-dir configuration: the flag and the URL differ", hint="leave one of them")
    if checksum:
        checksum = commit(checksum, options.checksum_span)
        if git.checksum not in ("", checksum):
            raise DockerfileError(
                f"checksum mismatch: the flag says {checksum}, the URL {git.checksum}", hint="leave one of them"
            )
    return GitSource(
        git.url,
        git.ref,
        git.subdir,
        bool(git.keep_git_dir if keep is None else keep),
        checksum or git.checksum,
        span,
        git.submodules is not False,
    )


def _is_sha256(text: str) -> bool:
    algorithm, _, digits = text.partition(":")
    return algorithm == "sha256" and len(digits) == 64 and not digits.strip("0123456789abcdef")
