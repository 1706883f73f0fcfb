"""A registry for each module's tests, and one for those that change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.registry_server import RegistryServer


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Without authentication."""
    with RegistryServer(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def secured(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RegistryServer]:
    """With the authentication that the test's parameter names."""
    with RegistryServer(tmp_path / "secured", request.param) as running:
        yield running
