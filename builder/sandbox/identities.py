"""Who a process believes to be, where its user namespace has a single user: the rules of setuid(2) and its kin, on values.

Where the kernel keeps it: a limit that nothing uses (RLIMIT_LOCKS, dead since Linux 2.4.25) is inherited by fork, kept by exec
and shared by threads, exactly as an identity is, and another process may set it. It holds the number of the identity; all
that this module knows beside is which identity has which number. Commands see that limit as unlimited, and set it in vain.

Part of the fork server's program.
"""

from __future__ import annotations

import errno

_KEEP = 0xFFFFFFFF
"""-1 as uid_t: leave it."""


class Ids:
    """An identity. `users` and `groups` are real, effective, saved, and that of the file system, as credentials(7) has them;
    `keeps` is prctl's PR_SET_KEEPCAPS; `kept` that capabilities were kept so, and `able` that the process has put them into
    effect since: it may change who it is although it is not root."""

    __slots__ = ("able", "extra", "groups", "keeps", "kept", "key", "users")

    def __init__(
        self,
        users: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: tuple[int, int, int, int] = (0, 0, 0, 0),
        extra: tuple[int, ...] = (),
        *,
        keeps: bool = False,
        kept: bool = False,
        able: bool = False,
    ) -> None:
        self.users = users
        self.groups = groups
        self.extra = extra
        self.keeps = keeps
        self.kept = kept
        self.able = able
        self.key = (users, groups, extra, keeps, kept, able)

    @property
    def privileged(self) -> bool:
        return self.users[1] == 0 or self.able

    def with_users(self, users: tuple[int, int, int, int]) -> Ids:
        kept, able = self.kept, self.able
        if 0 in self.users[:3] and 0 not in users[:3]:
            # capabilities(7), "Effect of user ID changes on capabilities".
            kept, able = self.keeps, False
        return Ids(users, self.groups, self.extra, keeps=self.keeps, kept=kept, able=able)

    def with_groups(self, groups: tuple[int, int, int, int]) -> Ids:
        return Ids(self.users, groups, self.extra, keeps=self.keeps, kept=self.kept, able=self.able)

    def with_extra(self, extra: tuple[int, ...]) -> Ids:
        if not self.privileged:
            _refuse()
        return Ids(self.users, self.groups, extra, keeps=self.keeps, kept=self.kept, able=self.able)

    def with_keeps(self, keeps: bool) -> Ids:
        return Ids(self.users, self.groups, self.extra, keeps=keeps, kept=self.kept, able=self.able)

    def with_able(self, able: bool) -> Ids:
        return Ids(self.users, self.groups, self.extra, keeps=self.keeps, kept=self.kept, able=able)

    def executing(self, owner: int | None, group: int | None) -> Ids:
        """After execve(2) of a program that is set-user-id (to `owner`) or set-group-id (to `group`), None for not."""
        user = self.users[1] if owner is None else owner
        its_group = self.groups[1] if group is None else group
        users, groups = (self.users[0], user, user, user), (self.groups[0], its_group, its_group, its_group)
        if users == self.users and groups == self.groups and not (self.keeps or self.kept or self.able):
            return self
        return Ids(users, groups, self.extra)

    def owns(self, uid: int) -> bool:
        return self.users[3] in (0, uid)

    def in_group(self, gid: int) -> bool:
        return gid == self.groups[3] or gid in self.extra


def set_one(old: tuple[int, int, int, int], new: int, *, privileged: bool) -> tuple[int, int, int, int]:
    """setuid(2), setgid(2)."""
    _valid(new)
    if privileged:
        return new, new, new, new
    if new not in (old[0], old[2]):
        _refuse()
    return old[0], new, old[2], new


def set_two(old: tuple[int, int, int, int], real: int, effective: int, *, privileged: bool) -> tuple[int, int, int, int]:
    """setreuid(2), setregid(2)."""
    if not privileged:
        if real != _KEEP and real not in old[:2]:
            _refuse()
        if effective != _KEEP and effective not in old[:3]:
            _refuse()
    new_real = old[0] if real == _KEEP else real
    new_effective = old[1] if effective == _KEEP else effective
    saved = new_effective if real != _KEEP or (effective != _KEEP and effective != old[0]) else old[2]
    return new_real, new_effective, saved, new_effective


def set_three(
    old: tuple[int, int, int, int], real: int, effective: int, saved: int, *, privileged: bool
) -> tuple[int, int, int, int]:
    """setresuid(2), setresgid(2)."""
    wanted = (real, effective, saved)
    if not privileged and any(each != _KEEP and each not in old[:3] for each in wanted):
        _refuse()
    new = [before if each == _KEEP else each for each, before in zip(wanted, old)]
    return new[0], new[1], new[2], new[1]


def set_files(old: tuple[int, int, int, int], new: int, *, privileged: bool) -> tuple[int, int, int, int]:
    """setfsuid(2), setfsgid(2): no error, the old one stays."""
    if new == _KEEP or not (privileged or new in old):
        return old
    return old[0], old[1], old[2], new


def _valid(number: int) -> None:
    if number == _KEEP:
        raise OSError(errno.EINVAL, "")


def _refuse() -> None:
    raise OSError(errno.EPERM, "")


_MOST_REMEMBERED = 1 << 20
"""Supplementary groups of all identities together, each identity counting for some, too: about 100 MB."""
_WEIGHT = 8


class Known:
    """Identities by their numbers; 0 is root's, with which a command starts."""

    def __init__(self) -> None:
        self._room = _MOST_REMEMBERED
        self._by_number = [Ids()]
        self._numbers = {self._by_number[0].key: 0}

    def __getitem__(self, number: int) -> Ids:
        """A process that plays with the limit itself gets root's, or another's that somebody had: it lies to itself alone."""
        return self._by_number[number] if number < len(self._by_number) else self._by_number[0]

    def number(self, ids: Ids) -> int:
        """ENOMEM, which setgroups(2) knows, for a command that takes on more identities than anybody needs: they are remembered
        outside of it, where no limit of its own counts."""
        known = self._numbers.get(ids.key)
        if known is None:
            self._room -= _WEIGHT + len(ids.extra)
            if self._room < 0:
                raise OSError(errno.ENOMEM, "")
            known = self._numbers[ids.key] = len(self._by_number)
            self._by_number.append(ids)
        return known
