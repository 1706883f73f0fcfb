"""What several commands are tried with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Pybuild


@pytest.fixture
def program(pybuild: Pybuild, busybox_base: Path) -> Pybuild:
    """With an image `base` in its store."""
    assert pybuild("import", busybox_base, "base").returncode == 0
    return pybuild
