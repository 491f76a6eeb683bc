"""Two methods on the same records: against numbers computed by hand, and refused where they cannot be compared."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import editbench.results.compare as comparing
from editbench.results import ResultsError, RunFolder
from editbench.results.compare import compare_runs, holm, marks
from editbench.results.identity import identify
from editbench.results.leaderboard import collect, collect_folders, group
from editbench.results.summary import summarise
from editbench.results.table_layout import Marks, layout
from editbench.results.tables import to_markdown
from tests.results.runs import HEADLINE, NO_PARTS


def run(root, name, values, *, seed=0, data="d", parts=None, edits=None, collapsed=None):
    """A run whose records have these values of the three headline measures; one number stands for all three."""
    provenance = {
        **{"seed": seed, "model": {"name": "tiny"}, "dataset": {"name": "cf", "hash": data}},
        **{"method": {"name": name.partition("-")[0], "config": {}}, "stream": {"edits": len(values)}},
        "protocol": {"name": "default", "headline": HEADLINE},
        "schema": 1,
    }
    if parts is not NO_PARTS:
        provenance |= identify({"method": name.partition("-")[0], "dataset.hash": data, **(parts or {})})
    rows = []
    for position, value in enumerate(values):
        numbers = value if isinstance(value, tuple) else (value,) * 3
        scores = dict(zip(HEADLINE.values(), numbers, strict=True))
        rows.append({"stage": "final", "edits": edits or len(values), "batch": 0, "record": f"r{position}",
                     "position": position, "status": "scored", "scores": scores})  # fmt: skip
    with RunFolder.create(root, name, "", provenance) as store:
        store.append_scores(rows)
        store.set_status("done", summary={**summarise(rows, HEADLINE), "collapsed": collapsed})
    return store.path


def test_five_wins_of_five(tmp_path):
    result = compare_runs(run(tmp_path, "a", [1.0] * 5), run(tmp_path, "b", [0.0] * 5))
    assert list(result) == ["reliability", "generality", "locality", "score"]
    for one in result.values():
        low = one.pop("low")
        assert one == {"a": 1, "b": 0, "difference": 1, "high": 1, "p_value": 2 / 32, "pairs": 5}
        # As Clopper and Pearson's interval of five of five, stretched from [0, 1] to [-1, 1].
        assert low == pytest.approx(2 * 0.025 ** (1 / 5) - 1, abs=0.04)


def test_a_difference_has_a_width_though_all_pairs_are_alike(tmp_path):
    a, b = (run(tmp_path, name, [1.0] * 30) for name in "ab")
    for one in compare_runs(a, b).values():
        assert one["difference"] == 0 and one["low"] == pytest.approx(-one["high"], abs=0.03)
        assert 0.1 < one["high"] < 0.25


def test_runs_that_ended_after_different_numbers_of_edits_are_refused(tmp_path):
    a, b = run(tmp_path, "a", [1.0] * 5), run(tmp_path, "b", [0.0] * 5, edits=3)
    with pytest.raises(ResultsError, match="the first ended with 5 edits in the model, the second with 3; compare"):
        compare_runs(a, b)
    assert compare_runs(a, b, force=True)["score"]["difference"] == 1


def test_a_run_whose_rows_were_changed_is_refused(tmp_path):
    a, b = run(tmp_path, "a", [1.0] * 5), run(tmp_path, "b", [1.0] * 5)
    (b / "scores.jsonl").write_text((b / "scores.jsonl").read_text().replace(": 1.0", ": 0.0"))
    with pytest.raises(ResultsError, match="b/scores.jsonl is not what the run wrote"):
        compare_runs(a, b)


def test_three_wins_a_loss_and_a_tie(tmp_path):
    a = run(tmp_path, "a", [1.0, 1.0, 1.0, 0.0, 1.0])
    b = run(tmp_path, "b", [0.0, 0.0, 0.0, 1.0, 1.0])
    one = compare_runs(a, b)["reliability"]
    # Of the 16 ways to swap the four that differ, 2 give a difference of ±4/5 and 8 give ±2/5.
    assert one["difference"] == pytest.approx(0.4) and one["p_value"] == 10 / 16
    assert one["low"] < 0 < one["high"]
    back = compare_runs(b, a)["reliability"]
    assert back["difference"] == pytest.approx(-0.4) and back["p_value"] == 10 / 16
    assert compare_runs(a, a)["score"]["p_value"] == 1


def test_the_score_is_tested_as_a_whole(tmp_path):
    a = run(tmp_path, "a", [(1.0, 1.0, 0.5)] * 2)
    b = run(tmp_path, "b", [(1.0, 0.5, 0.5)] * 2)
    result = compare_runs(a, b)
    # a: 3 / (1 + 1 + 2) = 0.75; b: 3 / (1 + 2 + 2) = 0.6. Both swapped: as far; one: no difference.
    assert (result["score"]["a"], result["score"]["b"]) == pytest.approx((0.75, 0.6))
    assert result["score"]["p_value"] == 0.5 and result["reliability"]["p_value"] == 1
    assert result["generality"]["difference"] == 0.5


def test_many_records_are_swapped_at_random_and_the_same_again(tmp_path):
    a = run(tmp_path, "a", [1.0] * 30 + [0.0] * 10)
    b = run(tmp_path, "b", [0.0] * 30 + [1.0] * 10)
    one = compare_runs(a, b)["reliability"]
    exact = 0.00222  # sign test: 2 P(X >= 30), X binomial of 40 and a half
    assert one["p_value"] == pytest.approx(exact, abs=0.0015) and one == compare_runs(a, b)["reliability"]
    # Clopper and Pearson's interval of 30 of 40, stretched from [0, 1] to [-1, 1].
    assert (one["low"], one["high"]) == pytest.approx((0.176, 0.746), abs=0.02)
    assert compare_runs(run(tmp_path, "c", [1.0] * 40), run(tmp_path, "d", [0.0] * 40))["score"]["p_value"] < 0.001


def test_only_pairs_count(tmp_path):
    a = run(tmp_path, "a", [(1.0, None, 1.0), (1.0, None, 1.0), (1.0, None, None)])
    b = run(tmp_path, "b", [(0.0, 1.0, 0.0), (None, 1.0, 0.0), (0.0, 1.0, 1.0)])
    result = compare_runs(a, b)
    assert {name: one["pairs"] for name, one in result.items()} == {"reliability": 2, "locality": 2}


def test_several_seeds_are_averaged_by_record(tmp_path):
    a = [run(tmp_path, f"a-{seed}", values, seed=seed) for seed, values in enumerate(([1.0, 1.0], [0.0, 1.0]))]
    b = [run(tmp_path, f"b-{seed}", [0.0, 0.0], seed=seed) for seed in range(2)]
    one = compare_runs(a, b)["reliability"]
    assert (one["a"], one["b"], one["pairs"]) == (0.75, 0.0, 2) and one["p_value"] == 0.5


def test_several_runs_of_one_seed_count_once(tmp_path):
    a = [run(tmp_path, f"a-{i}", values, seed=seed) for i, (seed, values) in enumerate(
        ((0, [1.0, 1.0]), (0, [0.0, 1.0]), (1, [0.0, 0.0])))]  # fmt: skip
    b = [run(tmp_path, f"b-{seed}", [0.0, 0.0], seed=seed) for seed in range(2)]
    assert compare_runs(a, b)["reliability"]["a"] == 0.375  # of 0.75 and 0, not of 1, 0.5 and 0
    assert compare_runs([*b, b[0]], b)["reliability"]["difference"] == 0


def test_the_spread_over_seeds_is_in_the_interval(tmp_path):
    def runs(name, *shares):
        return [run(tmp_path, f"{name}-{seed}", [1.0] * right + [0.0] * (100 - right), seed=seed)
                for seed, right in enumerate(shares)]  # fmt: skip

    b = runs("b", 50, 50, 50)
    near, far = (compare_runs(runs(f"a{a[0]}", *a), b)["score"] for a in ((70, 70, 70), (55, 70, 85)))
    assert near["difference"] == pytest.approx(far["difference"]) == pytest.approx(0.2)
    assert near["high"] - near["low"] < 0.25 and far["high"] - far["low"] > 0.5
    assert near["low"] > 0 > far["low"]


def test_what_cannot_be_compared_is_refused_by_name_unless_forced(tmp_path):
    a = run(tmp_path, "a", [1.0, 1.0])
    others = {
        "protocol.max_tokens is missing and 5": run(tmp_path, "b", [0.0, 0.0], parts={"protocol.max_tokens": 5}),
        "versions.likelihood is missing and 3": run(tmp_path, "g", [0.0, 0.0], parts={"versions.likelihood": 3}),
        'dataset.hash is "d" and "e"': run(tmp_path, "c", [0.0, 0.0], data="e"),
        "records differ: 0 only in the first, 1 only in the second": run(tmp_path, "d", [0.0, 0.0, 0.0]),
        "the seeds differ: 0 of the first, 7 of the second": run(tmp_path, "h", [0.0, 0.0], seed=7),
        "made before schema 2 and does not say with what": run(tmp_path, "i", [0.0, 0.0], parts=NO_PARTS),
    }
    for reason, other in others.items():
        with pytest.raises(ResultsError, match=reason):
            compare_runs(a, other)
        assert compare_runs(a, other, force=True)["reliability"]["pairs"] == 2
    two = [run(tmp_path, f"j-{seed}", [0.0, 0.0], seed=seed) for seed in (0, 2)]
    with pytest.raises(ResultsError, match="the seeds differ: 0 of the first, 0, 2 of the second"):
        compare_runs(a, two)
    own = {"method.layer": 5, "stream.batch_size": 10, "torch": "2.0", "editbench": "0.2"}
    assert compare_runs(a, run(tmp_path, "e", [0.0, 0.0], parts=own))["reliability"]["pairs"] == 2
    with pytest.raises(ResultsError, match="no record has a headline measure in both"):
        compare_runs(a, run(tmp_path, "f", [(None, None, None)] * 2))
    with pytest.raises(ResultsError, match='no seeds of one method: dataset.hash is "d" and "e"'):
        compare_runs([a, others['dataset.hash is "d" and "e"']], a)


def test_holm_steps_down():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a"}  # 0.01 <= 0.05/3, 0.03 > 0.05/2
    assert holm({"a": 0.01, "b": 0.025, "c": 0.05}) == {"a", "b", "c"}
    assert holm({}) == set()


def test_marks_show_what_is_worse_than_the_best(tmp_path):
    run(tmp_path, "best", [1.0] * 12)
    run(tmp_path, "near", [1.0] * 11 + [0.0])
    run(tmp_path, "far", [0.0] * 12)
    folders = collect_folders(tmp_path)
    rows = list(folders.values())
    table = layout(rows, marks=marks(rows, folders))
    column = table.titles.index("reliability")
    assert {line[0].text: (line[column].bold, line[column].worse) for line in table.lines} == {
        **{"best": (True, False), "near": (False, False), "far": (False, True)}
    }
    text = to_markdown(rows, marks=marks(rows, folders))
    assert r"0.000 \[0, .26" in text and "] † |" in text and "† worse than the best" in text
    assert not any("†" in line for line in layout(rows).legend) and "†" not in to_markdown(rows)


def test_marks_of_grouped_rows_and_of_what_cannot_be_tested(tmp_path):
    for seed in range(2):
        run(tmp_path, f"best-{seed}", [1.0] * 12, seed=seed)
        run(tmp_path, f"far-{seed}", [0.0] * 12, seed=seed)
    run(tmp_path, "other", [0.5] * 12, data="another")
    folders = collect_folders(tmp_path)
    rows = group(list(folders.values()))
    found = marks(rows, folders)
    far = next(row for row in rows if row["method"] == "far")
    assert found.worse == {(far["content_hash"], name) for name in ("reliability", "generality", "locality", "score")}
    assert found.untested == ()  # what is not measured alike is not beside it
    assert any('dataset.hash is "another" and "d"' in text or 'dataset.hash is "d" and "another"' in text
               for text in layout(rows).legend)  # fmt: skip
    shutil.rmtree(tmp_path / "far-1")
    assert "1 of its runs are not in these" in " ".join(marks(rows, collect_folders(tmp_path)).untested)
    assert marks([], {}) == Marks() and marks(collect(tmp_path)[:1], folders) == Marks()


@pytest.mark.parametrize("records", [13, 1_000])
def test_swaps_at_random_are_so_many_and_the_first_swaps_none(records, monkeypatch):
    monkeypatch.setattr(comparing, "_BLOCK", 3_000 * records)  # blocks of 3,000, which do not divide the 10,000
    blocks = list(comparing._signs(records, seed=0))
    assert sum(map(len, blocks)) == comparing._SWAPS + 1
    assert [len(block) for block in blocks] == [1, 3_000, 3_000, 3_000, 1_000]
    assert (blocks[0] == 1).all() and not (blocks[1] == 1).all(axis=1).any()


def test_the_spread_is_of_both_methods_means_over_their_seeds(monkeypatch):
    seen = []

    def note(observed, intervals, variance, freedom, within):
        seen.append((variance.tolist(), freedom))
        return intervals

    monkeypatch.setattr(comparing, "with_spread", note)
    values = np.random.default_rng(0).random((20, 1))
    runs = [np.array([[0.1], [0.3], [0.8]]), np.array([[0.5], [0.7]])]
    comparing._compare(values, values / 2, runs, ["rewrite.exact_match"], seed=0)
    variance = sum(np.var(side, ddof=1) / len(side) for side in runs)
    assert seen == [([pytest.approx(variance)], 1)]
