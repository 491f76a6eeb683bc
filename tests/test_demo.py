"""``editbench demo`` with a short stream: one table, one CSV, and a failure does not sink the rest."""

import csv

import pytest

from editbench import compose, demo, plugins, registry, single_run

APART = ("external_weights", "memit", "nse")  # rome fails, the others are one method of each kind and the control
METHODS = set(plugins.entry_points(plugins.METHODS))


def test_the_demo_is_asked_for_every_method_that_needs_no_path(tmp_path, monkeypatch, capsys):
    asked = []

    def refuses(overrides):
        asked.append(dict(override.split("=") for override in overrides))
        raise ValueError("not now")

    monkeypatch.setattr(single_run, "run", refuses)
    assert demo.main(edits=2, results=tmp_path) == 1
    assert {one["method"] for one in asked} == METHODS - {"external_weights"}
    assert {(one["stream.edits"], one["results.dir"]) for one in asked} == {("2", str(tmp_path))}
    assert capsys.readouterr().err.count("not now") == len(asked)


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
    assert "unedited" in out and "scen" in out and "finetune" in out
    with (tmp_path / "leaderboard.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"finetune", "scen", "unedited"} and {row["status"] for row in rows.values()} == {"done"}
    assert {row["edits"] for row in rows.values()} == {"2"}
    assert rows["unedited"]["locality"] == "1.0" and rows["scen"]["reliability"] == "1.0"
    assert float(rows["finetune"]["reliability"]) > float(rows["unedited"]["reliability"])
    assert {"rome", *rows, *APART} == METHODS
    kinds = {name: registry.load_method(name).kind for name in METHODS}
    assert {kinds[name] for name in rows} == set(kinds.values())
