"""Orders of methods under two seeds, metrics or settings, beside SciPy's τ and orders made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from editbench import cli
from editbench.results import ResultsError
from editbench.results.intervals import DRAWS, weighted_means
from editbench.results.leaderboard import collect_folders
from editbench.results.rank_stability import agreements, kendall
from tests.results.runs import NO_PARTS
from tests.results.test_compare import run


def share(right, of=20):
    """A record each: the first ``right`` are right."""
    return [1.0] * right + [0.0] * (of - right)


def of_seeds(root, *shares):
    """For each seed, a run of each method with this number of right records."""
    for seed, by_method in enumerate(shares):
        for method, right in by_method.items():
            run(root, f"{method}-{seed}", share(right), seed=seed)
    return collect_folders(root)


def test_tau_is_scipys_with_ties():
    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 4, (7, 30)).astype(float) for _ in range(2))
    assert kendall(a, b) == pytest.approx([kendalltau(x, y).statistic for x, y in zip(a.T, b.T, strict=True)])
    assert np.isnan(kendall(np.ones((3, 1)), np.arange(3.0)[:, None])).all()


def test_weighted_means_are_of_the_records_that_have_a_number():
    values = np.array([[1.0, 0.0], [0.0, np.nan], [1.0, np.nan]])
    found = weighted_means(values, seed=3)
    assert found.shape == (2, 1 + DRAWS) and found[:, 0].tolist() == [pytest.approx(2 / 3), 0.0]
    assert (found[1] == 0).all() and found[0, 1:].mean() == pytest.approx(2 / 3, abs=0.02)
    assert found[0, 1:].std() == pytest.approx(np.sqrt(2 / 9 / 4), abs=0.02)  # Rubin's: variance over R + 1
    assert (weighted_means(values, seed=3) == found)[0].all()


def test_the_same_order_of_two_seeds_and_one_pair_that_changes_places(tmp_path):
    [same] = agreements(of_seeds(tmp_path / "same", *[{"rome": 18, "memit": 12, "nse": 2}] * 2), "seed")
    assert (same.a, same.b, same.measure, same.methods, same.tau) == ("0", "1", "score", 3, 1.0)
    assert same.order_a == same.order_b == "rome > memit > nse" and same.reversed == []
    assert same.task["dataset"] == "cf" and "seed" not in same.task
    assert (same.low, same.high) == (1.0, 1.0)  # each better method is right wherever the worse one is

    orders = {"rome": 18, "memit": 12, "nse": 2}, {"rome": 12, "memit": 18, "nse": 2}
    [changed] = agreements(of_seeds(tmp_path / "changed", *orders), "seed")
    assert changed.tau == pytest.approx(1 / 3) and changed.reversed == ["rome, memit"]


def test_a_run_that_collapsed_is_in_no_order(tmp_path):
    for seed in (0, 1):
        for method, right in {"rome": 18, "memit": 12, "nse": 2}.items():
            collapsed = {"edits": 3, "low": 1, "condition": "nonfinite"} if method == "nse" and seed else None
            run(tmp_path, f"{method}-{seed}", share(right), seed=seed, collapsed=collapsed)
    [found] = agreements(collect_folders(tmp_path), "seed")
    assert found.order_a == found.order_b == "rome > memit"


def test_an_order_that_rests_on_a_few_records_has_a_wide_interval(tmp_path):
    for seed, turn in enumerate((1, -1)):
        run(tmp_path, f"rome-{seed}", share(11)[::turn], seed=seed)
        run(tmp_path, f"memit-{seed}", share(10)[::-turn], seed=seed)
        run(tmp_path, f"nse-{seed}", share(2), seed=seed)
    [one] = agreements(collect_folders(tmp_path), "seed")
    assert (one.tau, one.low, one.high) == (1.0, pytest.approx(1 / 3), 1.0)


def test_runs_of_the_same_records_are_weighted_alike(tmp_path):
    [one] = agreements(of_seeds(tmp_path, *[{"rome": 9, "memit": 9, "nse": 2}] * 2), "seed")
    assert one.order_a == "memit = rome > nse" and (one.tau, one.low, one.high) == (1.0, 1.0, 1.0)


def test_all_methods_equal_is_no_order(tmp_path):
    [one] = agreements(of_seeds(tmp_path, {"rome": 9, "memit": 9}, {"rome": 9, "memit": 2}), "seed")
    assert (one.tau, one.low, one.high) == (None, None, None)


def test_two_metrics_are_compared_within_the_same_runs_over_their_seeds(tmp_path):
    for seed in range(2):
        run(tmp_path, f"rome-{seed}", [(1.0, 0.5, 0.2)] * 9, seed=seed)
        run(tmp_path, f"memit-{seed}", [(0.6, 0.5, 0.9)] * 9, seed=seed)
    found = agreements(collect_folders(tmp_path), "metric", ["reliability", "locality", "rewrite.exact_match"])
    assert [(one.a, one.b, one.tau) for one in found] == [
        *(("reliability", "locality", -1.0), ("reliability", "rewrite.exact_match", 1.0)),
        ("locality", "rewrite.exact_match", -1.0),
    ]
    with pytest.raises(ResultsError, match="name two or more"):
        agreements(collect_folders(tmp_path), "metric", ["score"])
    with pytest.raises(ResultsError, match=r"has no rewrite\.nothing; its rows have locality"):
        agreements(collect_folders(tmp_path), "seed", ["rewrite.nothing"])


def test_what_cannot_be_ordered_is_refused(tmp_path):
    run(tmp_path, "rome-a", share(3), parts={"method.layer": 1})
    run(tmp_path, "rome-b", share(5), parts={"method.layer": 2})
    run(tmp_path, "memit-a", share(5))
    with pytest.raises(ResultsError, match="rome has runs with different settings for one task .*choose with --where"):
        agreements(collect_folders(tmp_path), "seed")
    alone = {folder: row for folder, row in collect_folders(tmp_path).items() if row["run"] != "rome-b"}
    with pytest.raises(ResultsError, match="no two values of seed have two methods in common"):
        agreements(alone, "seed")
    with pytest.raises(ResultsError, match="no column 'sed'; did you mean 'seed'"):
        agreements(alone, "sed")


def test_other_settings_are_not_taken_for_another_seed(tmp_path):
    for seed in range(2):
        run(tmp_path, f"rome-{seed}", share(3), seed=seed, parts={"method.layer": 1 + seed})
        run(tmp_path, f"memit-{seed}", share(5), seed=seed)
        run(tmp_path, f"nse-{seed}", share(7), seed=seed)
    runs = collect_folders(tmp_path)
    with pytest.raises(ResultsError, match=r"rome has runs .*\(rome-0, rome-1\): method.layer is 1 and 2: choose with"):
        agreements(runs, "seed")
    [one] = agreements({folder: row for folder, row in runs.items() if row["method"] != "rome"}, "seed")
    assert one.methods == 2
    [one] = agreements({folder: row | {"hparams": str(row["seed"])} for folder, row in runs.items()}, "hparams")
    assert one.methods == 3  # what is varied may change the settings


def test_seeds_of_runs_that_do_not_say_how_they_were_made_are_not_compared(tmp_path):
    for seed in range(2):
        for method in ("rome", "memit"):
            run(tmp_path, f"{method}-{seed}", share(3), seed=seed, parts=NO_PARTS)
    with pytest.raises(ResultsError, match="no run of schema 1 says with what it was made: choose with --where"):
        agreements(collect_folders(tmp_path), "seed")


def test_the_command_shows_table_and_orders(tmp_path, capsys):
    of_seeds(tmp_path, {"rome": 18, "memit": 12}, {"rome": 12, "memit": 18})
    assert cli.main(["ranks", f"results.dir={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "rome, memit" in shown and "score, 0: rome > memit" in shown and "score, 1: memit > rome" in shown
    assert cli.main(["ranks", f"results.dir={tmp_path}", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["tau"], line["methods"], line["task"]["dataset"]) == (-1.0, 2, "cf")
