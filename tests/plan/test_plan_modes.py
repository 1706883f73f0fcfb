"""`--chmod`, in octal and as chmod(1) writes it: against setmode(3)'s rules and, where they agree, against chmod itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import DockerfileError
from builder.plan.modes import SymbolicMode, mode


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("755", 0o755), ("0755", 0o755), ("7777", 0o7777), ("000000000644", 0o644)]
)
def test_octal(text: str, expected: int) -> None:
    assert mode(text) == expected


def changed(text: str, before: int, *, folder: bool = False) -> int:
    symbolic = mode(text)
    assert isinstance(symbolic, SymbolicMode) and symbolic.text == text
    return symbolic.apply(before, folder=folder)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        # The reference's examples ("COPY --chmod").
        ("+x", 0o644, 0o755),
        ("u=rwX,go=rX", 0o600, 0o644),
        ("u=rwX,go=rX", 0o711, 0o755),
        ("g=u", 0o640, 0o660),
        # chmod(1) of the BSDs.
        ("go-w", 0o777, 0o755),
        ("=rw,+X", 0o766, 0o777),
        ("=rw,+X", 0o666, 0o666),
        ("u=rwx,go=u-w", 0o000, 0o755),
        ("go=", 0o777, 0o700),
        # Classes, operators, several of each.
        ("a+x", 0o644, 0o755),
        ("ug+rw,o-r", 0o404, 0o660),
        ("u+r-w+x", 0o200, 0o500),
        ("+", 0o421, 0o421),
        ("-", 0o421, 0o421),
        ("=", 0o6777, 0o000),
        ("u+", 0o421, 0o421),
        ("g=", 0o2777, 0o707),
        # No umask: BuildKit's daemon has none (cmd/buildkitd/main_unix.go).
        ("+w", 0o000, 0o222),
        # Copies of a class.
        ("u=g-w", 0o742, 0o442),
        ("u+go", 0o021, 0o321),
        ("o-u", 0o777, 0o770),
        # Set-id and sticky bits.
        ("u+s", 0o755, 0o4755),
        ("g+s", 0o755, 0o2755),
        ("o+s", 0o755, 0o755),
        ("+s", 0o755, 0o6755),
        ("-s", 0o6755, 0o755),
        ("u=rwx", 0o4000, 0o700),
        ("+t", 0o777, 0o1777),
        ("a+t", 0o777, 0o1777),
        ("o+t", 0o777, 0o777),
        ("-t", 0o1777, 0o777),
        ("a=rwxt", 0o000, 0o1777),
        ("a=rx", 0o1777, 0o1555),
        # What setmode(3) makes of it.
        ("+rt", 0o000, 0o1000),
        # POSIX.1-2024: -X is -x.
        ("a-X", 0o755, 0o644),
        ("u+X", 0o001, 0o101),
        # It looks at what there was at first.
        ("a-x,a+X", 0o744, 0o755),
        ("a+x,a-x,a+X", 0o644, 0o644),
    ],
)
def test_symbolic(text: str, before: int, after: int) -> None:
    assert oct(changed(text, before)) == oct(after)


@pytest.mark.parametrize(("text", "after"), [("u=rwX,go=rX", 0o755), ("a+X", 0o711), ("g=X", 0o610), ("-X", 0o600)])
def test_a_folder_can_be_searched(text: str, after: int) -> None:
    assert oct(changed(text, 0o600, folder=True)) == oct(after)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "'8' is not a mode"),
        ("10000", "'10000' is not a mode"),
        ("77777777777777", "'77777777777777' is not a mode"),
        ("0x1ff", "'0x1ff' is not a mode"),
        ("644,u+x", "'644,u+x' is not a mode"),
        ("u", "'u' is not a mode: 'u' says nothing to do"),
        (",", "',' is not a mode: one of its clauses is empty"),
        ("u+x,,g+x", "'u+x,,g+x' is not a mode: one of its clauses is empty"),
        ("q+r", "'q+r' is not a mode: 'q' is no operator"),
        ("+rq", "'+rq' is not a mode: 'q' is no permission"),
        ("u+r w", "'u+r w' is not a mode: ' ' is no permission"),
        ("+7", "'+7' is not a mode: '7' is no permission"),
        ("٣", "'٣' is not a mode"),
    ],
)
def test_what_is_no_mode(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        mode(text)
    assert caught.value.message == message and caught.value.hint


# GNU's chmod keeps set-id bits of folders, reads X after other clauses, and sees a umask where there is no class: what is left
# of the language is the same.
clauses = st.builds(
    lambda who, operator, what: who + operator + what,
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "uo"]),
    st.sampled_from("+-="),
    st.sampled_from(["", "r", "w", "x", "rw", "rx", "rwx", "u", "g", "o"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(clauses, min_size=1, max_size=4).map(",".join), st.integers(0, 0o777))
def test_as_chmod_does(tmp_path_factory: pytest.TempPathFactory, text: str, before: int) -> None:
    path = tmp_path_factory.getbasetemp() / "moded"
    Path(path).touch()
    path.chmod(before)
    subprocess.run(["chmod", text, path], check=True)
    assert oct(changed(text, before)) == oct(stat.S_IMODE(os.stat(path).st_mode))


@settings(max_examples=200, deadline=None)
@given(st.text("ugoarwxXst+-=,07 q", max_size=12), st.integers(0, 0o7777), st.booleans())
def test_any_text_is_a_mode_or_an_error(text: str, before: int, folder: bool) -> None:
    try:
        found = mode(text)
    except DockerfileError:
        return
    assert 0 <= (found if isinstance(found, int) else found.apply(before, folder=folder)) <= 0o7777
