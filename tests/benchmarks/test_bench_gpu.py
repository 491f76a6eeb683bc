"""The benchmark of full sizes, on a small model on the CPU: every part is a row, and every row a line of the table."""

import json
import math

import pytest

from benchmarks import bench_gpu
from benchmarks.gpu import parts
from benchmarks.gpu.measuring import tenths
from benchmarks.gpu.settings import batch_of, config_of, measured_methods, nearest
from benchmarks.gpu.table import table

SMALL = ["--shapes", "small", "--device", "cpu", "--dtypes", "float32", "--batch", "2", "--edits", "2", "--steps", "2"]
FACTS = {"gpu": "Card", "torch": "2", "transformers": "5", "date": "2026-11-26", "shape": "llama-3-8b"}


@pytest.mark.slow
def test_every_method_is_measured(tmp_path):
    names, out = measured_methods(), tmp_path / "rows.json"
    bench_gpu.main([*SMALL, "--parts", ",".join([*names, "evaluation"]), "--out", str(out)])
    rows = {row["what"]: row for row in json.loads(out.read_text(encoding="utf-8"))}
    assert {name: row["error"] for name, row in rows.items() if "error" in row} == {}
    assert set(rows) == {
        *names,
        "hash of all weights",
        "covariance",
        "evaluation, together",
        "evaluation, one at a time",
    }
    for name in names:
        row = rows[name]
        assert row["applied"] == row["edits"] and row["edits"] in (batch_of(name, 2), 2), name
        assert row["seconds_per_edit"] > 0 and row["batch"] == batch_of(name, 2), name
        assert row["foreseen_gb"] > 0 and row["peak_gb"] is None, name
    assert out.with_suffix(".md").read_text(encoding="utf-8").count("|  |\n") == len(rows)  # no memory without a GPU


@pytest.mark.slow
def test_a_long_stream_is_measured_by_tenths(tmp_path, capsys):
    out = tmp_path / "rows.json"
    bench_gpu.main([*SMALL, "--parts", "ultraedit", "--growth", "40", "--out", str(out)])
    grown = json.loads(out.read_text(encoding="utf-8"))[-1]
    assert (grown["what"], grown["edits"], len(grown["seconds_by_tenth"])) == ("ultraedit, growth", 40, 10)
    assert grown["flat"] == (grown["ratio"] <= parts.FLAT) and grown["gb_by_tenth"] == []
    assert "longest : shortest tenth" in capsys.readouterr().out


@pytest.fixture
def without_a_model(monkeypatch):
    monkeypatch.setattr(bench_gpu, "random_lm", lambda *_: None)
    monkeypatch.setattr(parts, "hashing", lambda lm: {"what": "hash of all weights", "seconds": 1.0})
    monkeypatch.setattr(parts, "covariance", lambda lm: ({"what": "covariance", "seconds": 1.0}, {}))


def test_a_part_that_fails_is_a_row_with_its_error(without_a_model, monkeypatch, capsys):
    def fail(method, *_):
        raise ValueError(f"{method} cannot")

    monkeypatch.setattr(parts, "edits", fail)
    bench_gpu.main([*SMALL, "--parts", "rome,memit"])
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [row.get("error") for row in rows] == [None, None, "ValueError: rome cannot", "ValueError: memit cannot"]
    assert "| rome | 0.8 | failed |  |" in out and "memit (small, float32): ValueError: memit cannot" in out


def test_no_part_begins_when_time_is_up(without_a_model, capsys):
    bench_gpu.main([*SMALL, "--parts", "rome", "--minutes", "0"])
    assert "TimeoutError: the 0 minutes were used up" in capsys.readouterr().out


def test_what_was_not_measured_is_blank_and_a_missed_aim_is_named():
    facts = {**FACTS, "dtype": "bfloat16", "peak_gb": 18.24, "foreseen_gb": 17.3}
    rows = [{**facts, "what": "rome", "seconds_per_edit": 2.42}, {**facts, "what": "memit", "seconds_per_edit": 0.063}]
    rows.append({**facts, "dtype": "float32", "what": "rome", "seconds_per_edit": 3.0})
    lines = table(rows).splitlines()
    assert "| rome | 0.8 | 2.42 (missed) | 18.2 (17.3) | 3 | 18.2 (17.3) |" in lines
    assert "| memit | 0.08 | 0.063 | 18.2 (17.3) |  |  |" in lines and "| nse | 0.08 |  |  |  |  |" in lines
    assert lines[-1] == "Card, 2026-11-26, torch 2, transformers 5."


def test_tenths_are_means_of_equal_parts():
    assert tenths([float(i) for i in range(20)]) == [2 * i + 0.5 for i in range(10)]
    assert tenths([1.0, 2.0]) == [1.0, 2.0] and tenths([]) == []
    assert math.isclose(sum(tenths([1.0] * 33)), 10)


def test_settings_are_those_of_the_nearest_published_model():
    assert nearest("rome", "llama-2-13b") == "llama-3-8b" and nearest("scen", "small") == "llama-2-7b"
    assert nearest("rome", "llama-2-7b") == "llama-2-7b" and nearest("melo", "llama-3-8b") is None
    assert config_of("memit", "llama-3-8b").layers == [4, 5, 6, 7, 8] and config_of("memit", "small").stop_loss == 0
    assert config_of("wise", "llama-3-8b", steps=3).steps == 3
    assert {name for name in measured_methods() if batch_of(name, 100) == 1} == {"rome", "finetune", "lora", "wise"}


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_gpu.main(["--parts", "roem"])
    assert "'roem' is none of" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(bench_gpu, "on_gpu", lambda: False)
    with pytest.raises(SystemExit):
        bench_gpu.main(["--shapes", "small"])
    assert "no GPU is here; --device cpu" in capsys.readouterr().err
