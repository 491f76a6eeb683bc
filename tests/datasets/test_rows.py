"""Fields of a row, what none has asked for, and rows whose fields have other names."""

from editbench.datasets.rows import Row, RowError, make_row, make_text_row, type_name


def test_texts_are_found_in_lists_and_numbers_are_written_out():
    row = Row("f:1", "0", {"a": [["x", " "], [1962.0, 3]], "b": 1.5, "c": "", "d": float("nan")})
    assert row.several("a") == ["x", "1962", "3"] and row.text("b") == "1.5"
    assert row.several("c") == row.several("d") == row.several("e") == []
    assert not row.has("d") and row.has("c") and not row.filled("c")


def test_fields_that_nothing_has_asked_for_are_named_by_their_path():
    fields = {"id": 3, "a": "x", "b": "y", "none": None, "empty": [], "list": [{"p": 1, "q": 2}, {"p": 1, "r": 3}]}
    row = make_row("f:1", 0, fields)
    row.text("a")
    for child in row.children("list"):
        child.text("p")
    assert row.id == "3" and row.unread() == ["b", "list.q", "list.r"]


def test_fields_get_their_names_here():
    row = Row("f:1", "0", {"new": {"str": "x"}, "a.b": "y", "old": "z"})
    named = row.renamed({"target": "new.str", "prompt": "a.b", "subject": "nowhere.at.all"})
    assert named.fields == {"new": {"str": "x"}, "old": "z", "target": "x", "prompt": "y", "subject": None}
    assert row.renamed({}) is row


def test_what_is_no_record():
    assert isinstance(make_row("f:1", 0, ["x"]), RowError) and type_name(["x"]) == "a list"
    assert make_text_row("f:1", 4, "x").fields == {"text": "x"}
