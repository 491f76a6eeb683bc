"""Columns: their facts, and the names that scripts rely on, as literal lists in `golden/`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from editbench import cli
from editbench.results.columns import COLUMNS, column, measure, split
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.leaderboard import collect
from tests.results.runs import write_fixed_run, write_run

GOLDEN = Path(__file__).parent / "golden"
EXACT = {
    "title": "exact match",
    "range": [0, 1],
    "higher_is_better": True,
    "digits": 2,
    "tolerance": 0.05,
    "seeds": "max",
}


@pytest.fixture
def runs(tmp_path):
    """A finished run, one with all kinds of scores of the model, and one that failed."""
    write_fixed_run(tmp_path, "plain", seed=1)
    write_run(tmp_path, "of_model", evaluate_at=(4,))
    write_fixed_run(tmp_path, "failed", status="failed", reason="out of memory")
    return tmp_path


def test_the_header_of_the_csv_is_the_golden_one(runs):
    headers = {}
    for row in collect(runs):
        write_csv([row], runs / "out.csv")
        (headers[str(row["run"])], *_) = csv.reader(io.StringIO((runs / "out.csv").read_text(encoding="utf-8")))
    assert headers == json.loads((GOLDEN / "csv_header.json").read_text())


def test_the_keys_of_json_output_are_the_golden_ones(runs, capsys):
    assert cli.main(["leaderboard", str(runs), "--where", "run=plain", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert cli.main(["leaderboard", str(runs), "--where", "run=plain", "--by", "method", "--json"]) == 0
    grouped = json.loads(capsys.readouterr().out)
    assert cli.main(["compare", str(runs / "plain"), str(runs / "plain"), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert {
        "leaderboard": list(row),
        "leaderboard --by": list(grouped),
        "compare": list(compared),
        "compare measures": list(compared["measures"]),
        "compare measure": list(compared["measures"]["score"]),
    } == json.loads((GOLDEN / "json_keys.json").read_text())
    assert row["parts"]["method"] == "rome" and row["metrics"]["rewrite.exact_match"] == {"range": [0.0, 1.0]}


def test_every_column_has_a_title_and_a_meaning():
    for name, one in COLUMNS.items():
        assert one.title and one.meaning, name
        assert one.digits is not None or one.seeds == "list", name


def test_a_metric_s_columns_follow_from_its_facts():
    facts = {"exact_match": EXACT}
    one = column("final.rewrite.exact_match", facts)
    assert (one.title, one.digits, one.range, one.higher_is_better) == ("edits: exact match", 2, (0, 1), True)
    assert (one.tolerance, one.seeds, one.log) == (0.05, "max", False)
    low, count = (column(f"immediate.paraphrase.exact_match_{end}", facts) for end in ("low", "n"))
    assert (low.seeds, low.digits, low.tolerance) == ("interval", 2, None)
    assert (count.seeds, count.digits, count.tolerance) == ("min", 0, None)


def test_a_metric_without_facts_has_the_defaults():
    one = column("final.rewrite.mine", {"exact_match": EXACT})
    assert (one.title, one.digits, one.range, one.higher_is_better) == ("rewrite.mine", 3, None, None)
    assert (one.tolerance, one.seeds) == (None, "mean")


def test_a_metric_may_end_as_an_interval_does():
    facts = {"recall_low": {"title": "recall", "digits": 1}}
    assert split("final.rewrite.recall_low", facts) == ("final.rewrite.recall_low", "")
    assert split("final.rewrite.recall_low_high", facts) == ("final.rewrite.recall_low", "high")
    assert split("final.rewrite.recall_low") == ("final.rewrite.recall", "low")


def test_scores_of_the_model_have_facts_too():
    assert column("final.texts.edited.perplexity_mean").title == "edited PPL, mean"
    assert measure("plain.perplexity").log and measure("plain.perplexity").higher_is_better is False
    ranges = {"ability.sst2.acc": {"range": [0, 1]}}
    assert column("final.ability.sst2.acc_high", ranges).range == (0, 1)
    assert measure("drift.weight_change.h.0.w").title == "drift.weight_change.h.0.w"


def test_the_facts_of_metrics_survive_the_csv(tmp_path):
    row = {"run": "a", "metrics": json.dumps({"exact_match": EXACT}), "final.rewrite.exact_match": 0.5}
    write_csv([row], tmp_path / "out.csv")
    (again,) = read_csv(tmp_path / "out.csv")
    assert json.loads(again["metrics"]) == {"exact_match": EXACT}
