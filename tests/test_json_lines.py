"""Rows as strict JSON Lines: every value comes back or is named, and torn or damaged lines are distinguished."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.files import DamagedFile
from editbench.json_lines import append_lines, cut_to, decode, encode, read_lines


def test_numpy_scalars_and_tuples_are_stored_as_plain_values():
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": (1, True), "d": np.float64("nan")}
    assert decode(encode(row).encode()) == {"a": 0.5, "b": 3, "c": [1, True], "d": None, "nonfinite": ["d"]}


def test_python_spelling_of_nan_is_refused_in_reading():
    with pytest.raises(ValueError, match="NaN is not strict JSON"):
        decode(b'{"a": NaN}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),  # with half surrogate pairs
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key != "nonfinite"), json_values, max_size=5))
def test_finite_rows_come_back_as_they_were(row):
    text = encode(row)
    assert "\n" not in text
    assert decode(text.encode()) == row


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "nonfinite"), st.floats(), max_size=5))
def test_every_value_lost_is_named_and_encoding_again_changes_nothing(scores):
    text = encode({"scores": scores})
    row = decode(text.encode())
    lost = sorted(name.removeprefix("scores.") for name, value in scores.items() if not math.isfinite(value))
    assert row.get("nonfinite", []) == sorted(set(lost))
    assert encode(row) == text


def test_lines_are_read_up_to_a_torn_one_and_damage_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.touch()
    append_lines(path, '{"a": 1}\n{"a": 2}\n')
    with open(path, "ab") as file:
        file.write(b'{"a": ')
    assert read_lines(path) == ([{"a": 1}, {"a": 2}], 6)
    cut_to(path, 9)
    cut_to(path, 100)  # a shorter file stays
    assert read_lines(path) == ([{"a": 1}], 0)
    path.write_bytes(b'{"a": 1}\n' + b"[" * 100_000 + b"\n")
    with pytest.raises(DamagedFile, match=r"rows\.jsonl, line 2: damaged"):
        read_lines(path)
    with pytest.raises(DamagedFile, match="other.jsonl is missing"):
        read_lines(tmp_path / "other.jsonl")
