"""The picture of the parts is the source's, and the page names every part and every file that it points to."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def drawing(docs_script):
    return docs_script("architecture_picture")


def test_the_picture_is_current(drawing):
    drawn = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert drawn == drawing.picture(), "run python docs/architecture_picture.py"


def test_a_circle_of_imports_is_an_error(drawing):
    assert drawing.floors({"a": {"b"}, "b": {"c"}, "c": set()}) == {"a": 2, "b": 1, "c": 0}
    with pytest.raises(ValueError, match="a → b → a"):
        drawing.floors({"a": {"b"}, "b": {"a"}})


def test_an_arrow_that_follows_from_others_is_left_out(drawing):
    assert drawing.reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_page_names_what_there_is(drawing):
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = {
        name.rstrip("/")
        for row in re.findall(r"^\| (`.*?) \|", page, re.M)
        for name in re.findall(r"`([a-z_/]+)`", row)
    }
    helpers = {"cli", "console", "demo", "provenance", "registry"}  # the page's text or their names say enough
    assert set(drawing.imports()) - set(drawing.GROUND) - helpers <= named
    for path in re.findall(r"`(methods/memit/[a-z_]+|results/[a-z_]+|locate_then_edit/[a-z_]+|model/[a-z_]+)\.", page):
        assert list(DOCS.parent.glob(f"{path}.py")) or list(DOCS.parent.glob(f"editbench/{path}.py")), path
