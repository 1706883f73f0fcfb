"""Who a command runs as and who owns a copy: runc's rules for USER (moby/sys user.go), the reference's for --chown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.accounts import Account, Accounts, Group, Identity, identity, owner, parse
from builder.errors import BuildError

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
# adm:x:3:4:a comment:/var/adm:/bin/false
  daemon:x:1:1::/usr/sbin:
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:77:78:a number as a name:/home/number:/bin/sh
nohome:x:5:5:::
broken line
minus:x:-1:0::/x:
word:x:one:0::/x:
large:x:4294967295:0::/x:
short:x:9:9
app:x:2000:2000:the second is never seen:/x:/y

caf\xe9:x:30:30::/cafe:/bin/sh\r
"""
GROUP = b"""\
root:x:0:
staff:x:50:app,root
app:x:1001:
wheel:x:10:nobody,app,
1234:x:99:app
nomembers:x:11
bad:x:x:app
large:x:4294967296:app
"""
KNOWN = parse(PASSWD, GROUP)


def test_files() -> None:
    assert parse(PASSWD, GROUP) == Accounts(
        (
            Account("root", 0, 0, "/root"),
            Account("daemon", 1, 1, "/usr/sbin"),
            Account("app", 1000, 1001, "/home/app"),
            Account("1234", 77, 78, "/home/number"),
            Account("nohome", 5, 5, ""),
            Account("app", 2000, 2000, "/x"),
            Account("caf\udce9", 30, 30, "/cafe"),
        ),
        (
            Group("root", 0, ()),
            Group("staff", 50, ("app", "root")),
            Group("app", 1001, ()),
            Group("wheel", 10, ("nobody", "app")),
            Group("1234", 99, ("app",)),
            Group("nomembers", 11, ()),
        ),
    )
    assert parse(b"", b"") == Accounts((), ())


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (0, 50), "/root")),
        ("root", Identity(0, 0, (0, 50), "/root")),
        ("0", Identity(0, 0, (0, 50), "/root")),
        (":", Identity(0, 0, (0, 50), "/root")),
        (":staff", Identity(0, 50, (50,), "/root")),
        ("app", Identity(1000, 1001, (10, 50, 99, 1001), "/home/app")),
        ("1000", Identity(1000, 1001, (10, 50, 99, 1001), "/home/app")),
        ("01000", Identity(1000, 1001, (10, 50, 99, 1001), "/home/app")),
        ("app:", Identity(1000, 1001, (10, 50, 99, 1001), "/home/app")),
        # With a group there are no others. The primary group is always among them (CVE-2023-25173).
        ("app:staff", Identity(1000, 50, (50,), "/home/app")),
        ("app:7", Identity(1000, 7, (7,), "/home/app")),
        ("1000:staff", Identity(1000, 50, (50,), "/home/app")),
        # A number is a number, whatever a user or group is called.
        ("1234", Identity(1234, 0, (0,), "/")),
        ("77", Identity(77, 78, (78,), "/home/number")),
        ("app:1234", Identity(1000, 1234, (1234,), "/home/app")),
        # Unknown to passwd: group 0, and the home is the root.
        ("4000", Identity(4000, 0, (0,), "/")),
        ("4000:4001", Identity(4000, 4001, (4001,), "/")),
        ("4294967294", Identity(4294967294, 0, (0,), "/")),
        ("nohome", Identity(5, 5, (5,), "/")),
        ("caf\udce9", Identity(30, 30, (30,), "/cafe")),
    ],
)
def test_user(user: str, expected: Identity) -> None:
    assert identity(user, KNOWN) == expected


@pytest.mark.parametrize(
    ("chown", "expected"),
    [
        ("app", (1000, 1001)),
        ("app:", (1000, 1001)),
        ("app:staff", (1000, 50)),
        ("app:7", (1000, 7)),
        ("1000", (1000, 1000)),
        ("1000:", (1000, 1000)),
        ("1000:staff", (1000, 50)),
        ("1234", (1234, 1234)),
        ("app:1234", (1000, 1234)),
        (":staff", (0, 50)),
        (":", (0, 0)),
        ("0", (0, 0)),
        ("4294967294:4294967294", (4294967294, 4294967294)),
    ],
)
def test_chown(chown: str, expected: tuple[int, int]) -> None:
    assert owner(chown, KNOWN) == expected


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("ap", "unknown user 'ap': the image's /etc/passwd does not have it", "did you mean 'app'?"),
        (
            "somebody",
            "unknown user 'somebody': the image's /etc/passwd does not have it",
            "create it with RUN before this line, or give the user's number",
        ),
        ("minus", "unknown user 'minus': the image's /etc/passwd does not have it", None),
        ("-1", "unknown user '-1': the image's /etc/passwd does not have it", None),
        ("large", "unknown user 'large': the image's /etc/passwd does not have it", None),
        ("app:stuff", "unknown group 'stuff': the image's /etc/group does not have it", "did you mean 'staff'?"),
        ("app:stf:x", "unknown group 'stf:x': the image's /etc/group does not have it", None),
        ("4294967295", "'4294967295' is too large for a user or group number", "the largest is 4294967294"),
        ("99999999999", "'99999999999' is too large for a user or group number", "the largest is 4294967294"),
        ("app:4294967295", "'4294967295' is too large for a user or group number", "the largest is 4294967294"),
        ("9" * 5000, f"unknown user '{'9' * 5000}': the image's /etc/passwd does not have it", None),
        ("٣", "unknown user '٣': the image's /etc/passwd does not have it", None),
    ],
)
def test_who_is_not_there(name: str, message: str, hint: str | None) -> None:
    for function in (identity, owner):
        with pytest.raises(BuildError) as caught:
            function(name, KNOWN)
        assert caught.value.message == message
        assert hint is None or caught.value.hint == hint


def test_an_image_without_passwd() -> None:
    nobody = parse(b"", b"")
    # For --chown, `root` is 0 as in BuildKit; for USER it is a name.
    assert owner("root", nobody) == owner("root:root", nobody) == owner(":root", nobody) == (0, 0)
    assert owner("5:root", nobody) == (5, 0)
    assert owner("root:7", parse(b"root:x:1:2::/:", b"root:x:3:")) == (0, 7)
    with pytest.raises(BuildError, match="unknown user 'root'"):
        identity("root", nobody)
    assert identity("", nobody) == identity("root:0".removeprefix("root"), nobody) == Identity(0, 0, (0,), "/")
    assert identity("5:6", nobody) == Identity(5, 6, (6,), "/")
    assert owner("5", nobody) == (5, 5)
    with pytest.raises(BuildError, match="unknown user 'root'"):
        identity("root", nobody)


text = st.text("ab:0129#, \n", max_size=30)


@settings(max_examples=200, deadline=None)
@given(text.map(str.encode) | st.binary(max_size=40), text.map(str.encode), st.text("ab:019", max_size=6))
def test_any_files_and_any_user(passwd: bytes, group: bytes, user: str) -> None:
    accounts = parse(passwd, group)
    try:
        who = identity(user, accounts)
        uid, gid = owner(user, accounts)
    except BuildError:
        return
    for number in (who.uid, who.gid, *who.groups, uid, gid):
        assert 0 <= number < 2**32 - 1
