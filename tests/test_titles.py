"""Names with titles."""

from __future__ import annotations

from pathlib import Path

import pytest

from editbench import titles


@pytest.mark.parametrize("kind", ["models", "datasets", "protocols", "experiments", "trackers", "metrics"])
def test_everything_has_a_title_of_one_line(kind: str) -> None:
    for facts in titles.listed(kind):
        assert 3 <= len(facts["title"]) < 220 and "\n" not in facts["title"], facts["name"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A title. More words.\nkey: 1\n", "A title"),
        (
            "# @package _global_\n# NSE (Jiang et al. 2024), in\n# two lines. And more\na: 1\n",
            "NSE (Jiang et al. 2024), in two lines",
        ),
        ("key: 1\n", ""),
    ],
)
def test_title_of_a_file(text: str, title: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert titles.title_in(file) == title
