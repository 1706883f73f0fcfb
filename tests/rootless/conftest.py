"""Users with and without subordinate ids, and what they build from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rootless.rootless_users import Frozen, Machine, UserPybuild, new_account


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rootless")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def machine(room: Path) -> Iterator[Machine]:
    machine = Machine(room)
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def base(room: Path, busybox_base: Path) -> Path:
    """busybox, where users can read it."""
    subprocess.run(["cp", "-a", busybox_base, room / "base"], check=True)
    subprocess.run(["chmod", "-R", "a+rX", room / "base"], check=True)
    return room / "base"


@pytest.fixture(scope="module")
def user(machine: Machine) -> Iterator[UserPybuild]:
    """A user with subordinate ids, and a store for all tests of a module."""
    with new_account(machine.room) as account:
        yield UserPybuild(machine, account)


@pytest.fixture
def new_user(machine: Machine) -> Iterator[UserPybuild]:
    """The same, for one test alone."""
    with new_account(machine.room) as account:
        yield UserPybuild(machine, account)


@pytest.fixture
def frozen(machine: Machine) -> Iterator[UserPybuild]:
    """The same, for tests of what is kept until an account changes."""
    with new_account(machine.room) as account:
        yield Frozen(machine, account)


@pytest.fixture
def plain_user(machine: Machine) -> Iterator[UserPybuild]:
    """A user without subordinate ids."""
    with new_account(machine.room, subordinate=0) as account:
        yield UserPybuild(machine, account)


@pytest.fixture(scope="module")
def solo(machine: Machine) -> Iterator[UserPybuild]:
    """A user without subordinate ids, and a store for all tests of a module."""
    with new_account(machine.room, subordinate=0) as account:
        yield UserPybuild(machine, account)


@pytest.fixture
def context(room: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder that users can read, and that root writes."""
    folder = room / f"context-{abs(hash(request.node.nodeid)):x}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)
