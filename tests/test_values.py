"""`builder.values.NamedTuple` is `typing.NamedTuple`, but quick to define: the same uses give the same results."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from builder import values


class Ours(values.NamedTuple):
    """A value."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2


class Theirs(typing.NamedTuple):
    """A value."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_uses(kind: type[Ours]) -> None:
    one: Any = kind("a")
    assert one == ("a", 3, ())
    assert (one.name, one.size, one.tags, one.double) == ("a", 3, (), 6)
    assert kind(name="b", tags=("x",)) == kind("b", 3, ("x",))
    assert one._replace(size=4) == kind("a", 4)
    assert type(one._replace(size=4)) is kind
    assert repr(one) == f"{kind.__name__}(name='a', size=3, tags=())"
    assert one._asdict() == {"name": "a", "size": 3, "tags": ()}
    assert kind._make(["a", 1, ()]) == kind("a", 1)
    assert hash(one) == hash(("a", 3, ()))
    assert pickle.loads(pickle.dumps(one)) == one
    assert type(copy.deepcopy(one)) is kind
    assert kind._fields == ("name", "size", "tags")
    match one:
        case kind(name, size=size):
            assert (name, size) == ("a", 3)


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize(("args", "named"), [((), {}), (("a", 1, (), 4), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})])
def test_misuses(kind: type[Ours], args: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        kind(*args, **named)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_frozen(kind: type[Ours]) -> None:
    one = kind("a")
    with pytest.raises(AttributeError):
        one.name = "b"  # type: ignore[misc]  # the point of the test
    with pytest.raises(AttributeError):
        one.extra = 1  # type: ignore[attr-defined]  # the point of the test
    # typing.NamedTuple raises TypeError since Python 3.13.
    with pytest.raises((TypeError, ValueError)):
        one._replace(other=1)  # type: ignore[call-arg]  # the point of the test


def test_defaults_come_last() -> None:
    make: Any = type(values.NamedTuple)
    with pytest.raises(TypeError):
        make("Bad", (values.NamedTuple,), {"__annotations__": {"a": "int", "b": "int"}, "a": 1})
