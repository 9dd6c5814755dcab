"""Plain data crosses a wall unchanged, and nothing else does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.plain import NotPlain, decode, encode, same

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
_KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
PLAIN = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(_KEYS)
        | st.frozensets(_KEYS)
        | st.dictionaries(_KEYS, inner)
    ),
    max_leaves=20,
)


class Everything(int):
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@given(PLAIN)
def test_what_is_encoded_comes_back(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_a_value_or_refused(data: bytes) -> None:
    try:
        encode(decode(data))
    except NotPlain:
        pass


@pytest.mark.parametrize("value", [Everything(7), object(), [Everything(7)], len, bytearray(b"x")])
def test_what_is_no_plain_data_is_refused(value: object) -> None:
    with pytest.raises(NotPlain):
        encode(value)


def test_what_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotPlain):
        encode(ring)


@pytest.mark.parametrize(("left", "right"), [(1, True), (1, 1.0), ([1], (1,)), ({1}, frozenset({1})), ("1", 1)])
def test_types_count(left: object, right: object) -> None:
    assert not same(left, right)


def test_nan_is_itself_and_zero_has_no_sign() -> None:
    assert same(float("nan"), float("nan"))
    assert same(-0.0, 0.0)
    assert same({1: 2, 3: 4}, {3: 4, 1: 2})
