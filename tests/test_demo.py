"""``editbench demo`` with a short stream: every method, one table, one CSV, and a failure does not sink the rest."""

import csv

from editbench import demo, registry, single_run


def test_the_demo_runs_every_method_and_says_what_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "NEED_A_PATH", ("interim", "memit", "nse", "scen", "finetune"))
    run = single_run.run

    def fails_for_rome(config):
        if config.method.name == "rome":
            raise TypeError("on purpose")
        config.protocol.max_tokens = 16
        config.protocol.metrics = ["exact_match", "agreement"]
        return run(config)

    monkeypatch.setattr(single_run, "run", fails_for_rome)
    assert demo.main(edits=2, results=tmp_path) == 1
    out, errors = capsys.readouterr()
    assert "on purpose" in errors
    assert "unedited" in out
    with (tmp_path / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["unedited"]
    assert rows[0]["locality"] == "1.0"
    assert {"rome", "memit", "nse", "scen", "finetune", "unedited"} <= set(registry.method_entry_points())
