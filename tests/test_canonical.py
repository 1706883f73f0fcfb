"""Our JSON beside Python's: the same text out, the same value in, and a ValueError for all else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_a_value_is_the_same_text_and_comes_back(value: object) -> None:
    for ascii_only in (True, False):
        text = canonical.dumps(value, ascii_only=ascii_only)
        assert text == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only)
        assert canonical.loads(text) == value


@given(st.text(alphabet='{}[]",:0123456789.-+eE \t\r\ntruefalsnN\\uInity\x00', max_size=30))
def test_any_text_is_read_as_json_reads_it_or_refused(text: str) -> None:
    def refuse(name: str) -> float:
        raise ValueError(name)

    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(ValueError):
            canonical.loads(text)
    else:
        assert canonical.loads(text) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        canonical.dumps([value])


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes has no form in JSON"):
        canonical.dumps({"a": b""})
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError):
        canonical.dumps(circle)
