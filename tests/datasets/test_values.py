"""Values written as text: JSON, and what pandas and NumPy write into cells."""

import pytest

from editbench.datasets.values import Decoder, unwritten


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["a", 1]', ["a", 1]),
        ('{"a": {"b": null}}', {"a": {"b": None}}),
        ("[{'prompt': 'x is', 'target': \"y's\"}]", [{"prompt": "x is", "target": "y's"}]),
        ("['a' 'b']", ["a", "b"]),  # NumPy's
        ("[{'a': nan}]", [{"a": None}]),
        ("  ('a', 'b')", "  ('a', 'b')"),
        ("[sic] he said", "[sic] he said"),
        ("{}", {}),
        (["a"], ["a"]),
        (7, 7),
    ],
)
def test_what_a_cell_holds(text, value):
    assert unwritten(text) == value


@pytest.mark.parametrize("text", ["[{'a': f()}]", "[{'a': 1]", '{"a": 1', "[{'a': {1, 2}}]"])
def test_what_looks_like_objects_and_is_none_is_refused(text):
    with pytest.raises(ValueError, match="looks like objects and cannot be read"):
        unwritten(text)


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(ValueError, match="has the key 'a' twice"):
        unwritten('[{"a": 1, "a": 2}]')
    decoder = Decoder()
    decoder.decode('{"b": 1, "c": {"b": 2}}')
    assert decoder.repeated() is None
    decoder.decode('[{"b": 1, "b": 2}]')
    assert decoder.repeated() == "b" and decoder.repeated() is None
