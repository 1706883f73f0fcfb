"""Failed comparisons of the helpers say what differs, as those of the tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.language.language_room", "tests.language.language_buildah")
