"""Users and groups of an image: names to numbers, from its own /etc/passwd and /etc/group, never the host's.

The two rules differ as they do in BuildKit: USER is runc's (an unknown number is a user of group 0 whose home is `/`),
`--chown` is the reference's (a bare number is its own group).
"""

from __future__ import annotations

from builder.errors import BuildError, did_you_mean
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.engine.roots import Root, Roots

_MAX_ID = 2**32 - 2


class Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


class Accounts(NamedTuple):
    users: tuple[Account, ...]
    groups: tuple[Group, ...]


class Identity(NamedTuple):
    """Who a command runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def of_image(roots: Roots, root: Root) -> Accounts:
    """Those that the file system knows."""
    return parse(roots.read(root, b"etc/passwd"), roots.read(root, b"etc/group"))


def parse(passwd: bytes, group: bytes) -> Accounts:
    """Lines that are not of the form that passwd(5) and group(5) give are passed over, as libc does."""
    users = []
    for fields in _lines(passwd, 6):
        if _in_range(fields[2]) and _in_range(fields[3]):
            users.append(Account(fields[0], int(fields[2]), int(fields[3]), fields[5]))
    groups = []
    for fields in _lines(group, 3):
        if _in_range(fields[2]):
            members = tuple(name for name in (fields[3] if len(fields) > 3 else "").split(",") if name)
            groups.append(Group(fields[0], int(fields[2]), members))
    return Accounts(tuple(users), tuple(groups))


def identity(user: str, accounts: Accounts) -> Identity:
    """USER `name`, `uid`, `name:group`, ... Raises BuildError for a name that the image does not have."""
    name, colon, group = user.partition(":")
    name = name or "0"
    account = _find(name, accounts)
    if account is None:
        if not _is_id(name):
            raise _unknown("user", name, [known.name for known in accounts.users], "/etc/passwd")
        account = Account("", _number(name), 0, "/")
    if colon and group:
        gid = group_number(group, accounts)
        return Identity(account.uid, gid, (gid,), account.home or "/")
    extra = {known.gid for known in accounts.groups if account.name and account.name in known.members}
    # The primary group is among them, as in containerd since CVE-2023-25173: else a file that the group is denied could be
    # read by dropping the group.
    return Identity(account.uid, account.gid, tuple(sorted({account.gid, *extra})), account.home or "/")


def owner(chown: str, accounts: Accounts) -> tuple[int, int]:
    """`--chown=user[:group]` as uid and gid. Raises BuildError for a name that the image does not have.

    `root` is 0 whatever the image says (moby/buildkit, client/llb/fileop.go, WithUser).
    """
    name, colon, group = chown.partition(":")
    if _is_id(name):
        uid = gid = _number(name)
    elif name == "root" or (not name and colon):
        uid = gid = 0
    else:
        account = _find(name, accounts)
        if account is None:
            raise _unknown("user", name, [known.name for known in accounts.users], "/etc/passwd")
        uid, gid = account.uid, account.gid
    if group == "root":
        return uid, 0
    return uid, group_number(group, accounts) if group else gid


def _find(name: str, accounts: Accounts) -> Account | None:
    """A number is never a name (runc's rule), also where a user is called so."""
    if _is_id(name):
        return next((account for account in accounts.users if account.uid == int(name)), None)
    return next((account for account in accounts.users if account.name == name), None)


def group_number(name: str, accounts: Accounts) -> int:
    """Raises BuildError for a name that the image does not have."""
    if _is_id(name):
        return _number(name)
    for group in accounts.groups:
        if group.name == name:
            return group.gid
    raise _unknown("group", name, [group.name for group in accounts.groups], "/etc/group")


def _number(text: str) -> int:
    if int(text) > _MAX_ID:
        raise BuildError(f"'{text}' is too large for a user or group number", hint=f"the largest is {_MAX_ID}")
    return int(text)


def _unknown(what: str, name: str, known: list[str], file: str) -> BuildError:
    return BuildError(
        f"unknown {what} '{name}': the image's {file} does not have it",
        hint=did_you_mean(name, known) or f"create it with RUN before this line, or give the {what}'s number",
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _in_range(text: str) -> bool:
    return _is_id(text) and int(text) <= _MAX_ID


def _lines(data: bytes, least: int) -> list[list[str]]:
    rows = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            rows.append(fields)
    return rows
