"""The figure of long streams is that of the measured rows, and its curves are of whole tenths."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script(docs_script):
    return docs_script("growth_picture")


def test_the_figure_is_current(script):
    assert (DOCS / "growth.svg").read_text(encoding="utf-8") == script.picture(), "run python docs/growth_picture.py"


def test_rows_before_a_kill_are_left_out_and_times_are_beside_the_machines(script, tmp_path, monkeypatch):
    rows = [(1000, 4.0, 2.0), (2000, 5.0, 2.5), (2030, 9.0, 2.0), (2000, 8.0, 2.0), (3000, 6.0, 2.0), (4000, 4.0, 2.0)]
    lines = [
        {"model": "tiny", "method": "scen", "edits": edits, "cpu_ms": ms, "product_ms": product, "rss_mb": 100 + edits}
        for edits, ms, product in rows
    ]
    measured = tmp_path / "growth.jsonl"
    measured.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"model": "tiny", "method": "scen"}]))
    monkeypatch.setattr(script, "LINES", measured)
    ((key, own),) = script.tenths().items()
    assert key == ("tiny", "scen") and [row["edits"] for row in own] == [1000, 2000, 3000, 4000]
    assert script.relative_time(own) == [(0.25, 1.0), (0.5, 1.0), (0.75, 1.5), (1.0, 1.0)]
    drawn = script.picture()
    assert drawn.count('class="curve"') == 2 and "a tiny Llama" in drawn and "the embedded Llama" not in drawn
