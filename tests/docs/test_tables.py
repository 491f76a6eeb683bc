"""The tables that ``docs/tables.py`` writes are those of the classes and of the measured lines."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def tables(docs_script):
    return docs_script("tables")


@pytest.mark.parametrize(
    "page",
    ["methods/index.md", "memory.md", "growth.md", "tuning.md", pytest.param("full-size.md", marks=pytest.mark.slow)],
)
def test_tables_are_current(tables, page):
    assert (DOCS / page).read_text(encoding="utf-8") == tables.page(page), "run python docs/tables.py"


def test_rows_of_methods(tables):
    rows = {line.split("`")[1]: line for line in tables.methods_table().splitlines()[2:]}
    assert "| ROME | weights | subject, covariance | 1 |" in rows["rome"]
    assert "| Defer | memory | – | any |" in rows["defer"]


def test_a_row_of_memory(tables, tmp_path, monkeypatch):
    line = {"method": "grace", "edits": 1000, "kept_bytes": 4_000_000, "rss_first_mb": 400.0, "rss_last_mb": 410.4}
    line |= {"disk_mb": 7.0, "edit_cpu_ms": 250.0, "unedited_ms": 4.0, "question_ms": 6.0}
    (tmp_path / "methods.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    monkeypatch.setattr(tables, "LINES", tmp_path / "methods.jsonl")
    wanted = "| grace | 1,000 * | 4.00 | 4,000 | 400, 410 | 7 | 250 | 4.0, 6.0 | 1.50 |"
    assert tables.memory_table().splitlines()[-1] == wanted
    line |= {"edits": 10_000, "changed": ["method.steps=1"]}  # the time of such an edit says nothing
    (tmp_path / "methods.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    wanted = "| grace | 10,000 † | 4.00 | 400 | 400, 410 | 7 | – | 4.0, 6.0 | 1.50 |"
    assert tables.memory_table().splitlines()[-1] == wanted
