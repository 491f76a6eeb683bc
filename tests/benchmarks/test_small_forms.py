"""Benchmarks in their smallest form: that they run, and what their rows have. Times are not tested."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(file for file in (ROOT / "benchmarks").rglob("*.py") if file.stem not in ("__init__", "__main__"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_benchmark_is_imported(file):
    importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.slow
def test_a_method_in_a_stream_of_twenty(tmp_path, capsys):
    from benchmarks.bench_methods import measure

    measure("in_context", 20, 2.0, tmp_path, [])
    line = json.loads(capsys.readouterr().out)
    assert line["method"] == "in_context" and line["edits"] == 20 and line["kept_bytes"] > 0
    assert line["rss_last_mb"] > 100 and 0 < line["disk_mb"] < 10 and line["question_ms"] > 0


@pytest.mark.slow
def test_a_stream_that_is_killed_and_resumed(tmp_path):
    from benchmarks.bench_long_stream import measure

    rows = list(measure("memit", "tiny", 400, tmp_path, []))
    tenths = [row for row in rows if "cpu_ms" in row]
    assert tenths and all(row["rss_mb"] > 100 and 0 < row["disk_mb"] < 10 and row["product_ms"] > 0 for row in tenths)
    whole, leaderboard, report, scored = rows[len(tenths) :]
    assert whole["whole"] == tenths[-1]["edits"] == 400 and whole["resume_cpu_s"] < whole["cpu_s"]
    assert (leaderboard["command"], report["command"], scored["scored"]) == ("leaderboard", "report", 200)
