"""``editbench demo`` with a short stream: one table, one CSV, and a failure does not sink the rest."""

import csv

import pytest

from editbench import compose, demo, single_run

APART = ("external_weights", "memit", "nse", "finetune")  # rome fails, the others are one method of each kind


@pytest.mark.slow
def test_the_demo_runs_a_method_of_each_kind_and_says_what_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "NEED_A_PATH", APART)
    run = single_run.run

    def fails_for_rome(overrides):
        config = compose.compose(overrides)
        if config.method.name == "rome":
            raise TypeError("on purpose")
        config.protocol.max_tokens = 16
        config.protocol.metrics = ["exact_match", "agreement"]
        return run(config)

    monkeypatch.setattr(single_run, "run", fails_for_rome)
    assert demo.main(edits=2, results=tmp_path) == 1
    out, errors = capsys.readouterr()
    assert "on purpose" in errors
    assert "unedited" in out and "scen" in out
    with (tmp_path / "leaderboard.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"scen", "unedited"} and {row["status"] for row in rows.values()} == {"done"}
    assert rows["unedited"]["locality"] == "1.0" and rows["scen"]["reliability"] == "1.0"
