"""Many runs become one table, and none of them can sink it. Runs of several seeds become one row."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from editbench.results import ResultsError, RunFolder
from editbench.results.columns import mapping_in
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.intervals import t_quantile
from editbench.results.leaderboard import _ratio, collect, group, read_row, read_stages
from editbench.results.schema import FORMAT, RUN_FILE, SCHEMA, SCORES_FILE
from editbench.results.selection import where
from editbench.results.summary import summarise
from editbench.results.table_layout import layout
from editbench.results.tables import print_table, to_markdown
from tests.results.runs import HEADLINE, write_fixed_run, write_run


def plain(rows, width=260) -> str:
    """The printed table."""
    text = io.StringIO()
    print_table(rows, Console(file=text, width=width))
    return text.getvalue()


def test_a_row_holds_what_the_run_measured(tmp_path):
    write_fixed_run(tmp_path, "a")
    (row,) = collect(tmp_path)
    expected = {
        "run": "a", "status": "done", "method": "rome", "model": "tiny", "dataset": "counterfact", "protocol": "memit",
        "edits": 2, "batch_size": 1, "seed": 0, "score": 0.5, "score_n": 2, "reliability": 0.5, "reliability_n": 2,
        "scored": 2, "unsupported": 0, "failed": 0,
        "immediate.rewrite.exact_match": 0.5, "final.subject_fact.agreement": 0.125,
        "final.subject_fact.agreement_n": 2, "final.texts.plain.perplexity": 5.0, "perplexity_before": 4.0,
        "perplexity_after": 5.0, "perplexity_ratio": 1.25, "edit_seconds": 3.0, "evaluation_seconds": None,
        "seconds_per_edit": 3.0, "peak_rss_bytes": 10, "footprint_device_bytes": 7, "footprint_disk_bytes": None,
        "edits_made": 1, "bytes_per_edit": 8.0, "cached": "covariance",
        "editbench": "0.1.0", "commit": "1234567", "model_hash": "12e4567", "reason": None,
        "metrics": json.dumps({name: {"range": [0.0, 1.0]} for name in sorted(HEADLINE.values())}),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert 0 < row["reliability_low"] < 0.1 and 0.9 < row["locality_high"] < 1


def test_perplexity_before_may_come_from_a_checkpoint_at_zero_edits(tmp_path):
    path = write_fixed_run(tmp_path, "a")
    with RunFolder.open(path) as store:
        rows = store.scores()
        rows[0]["stage"] = "interim"
        store.set_status("done", summary=summarise(rows, HEADLINE))
    assert read_row(path)["perplexity_before"] == 4.0


def test_runs_that_did_not_end_well_are_listed_and_sink_nobody(tmp_path):
    write_fixed_run(tmp_path, "done")
    write_fixed_run(tmp_path, "failed", status="failed", reason="CUDA out of memory\nTraceback")
    write_fixed_run(tmp_path, "killed", status="running")
    for name, content in {"scores": None, "empty": "", "foreign": '{"format": 99}', "shape": "..."}.items():
        path = write_fixed_run(tmp_path, name)
        if name == "scores":
            (path / SCORES_FILE).write_bytes((path / SCORES_FILE).read_bytes().replace(b"0.5", b"0.9"))
        elif name == "shape":
            info = json.loads((path / RUN_FILE).read_text())
            shape = {"provenance": {"model": "a name"}, "summary": {"final": [1], "interim": 3}, "costs": "none"}
            (path / RUN_FILE).write_text(json.dumps({**info, **shape}))
        else:
            (path / RUN_FILE).write_text(content)
    (write_fixed_run(tmp_path, "headless") / RUN_FILE).unlink()
    (tmp_path / "reference").mkdir()
    (tmp_path / "README.md").touch()
    with RunFolder.create(tmp_path, "running", ""):
        rows = {row["run"]: row for row in collect(tmp_path)}
    statuses = {run: row["status"] for run, row in rows.items()}
    assert statuses == {
        "done": "done", "failed": "failed", "killed": "interrupted", "running": "running", "scores": "damaged",
        "empty": "damaged", "foreign": "damaged", "headless": "damaged", "shape": "damaged",
    }  # fmt: skip
    assert rows["done"]["score"] == 0.5
    assert rows["failed"]["reason"] == "CUDA out of memory\nTraceback" and rows["failed"]["method"] == "rome"
    assert rows["killed"]["reason"] == "the process that wrote it has gone"
    assert rows["scores"]["score"] is None and rows["scores"]["method"] == "rome"
    assert "scores.jsonl is not what the run wrote" in rows["scores"]["reason"]
    assert rows["shape"]["score"] is rows["shape"]["model"] is None
    table, markdown = plain(list(rows.values())), to_markdown(list(rows.values()))
    for text in (table, markdown):
        assert "failed: failed: CUDA out of memory" in text and "Traceback" not in text
        assert "killed: interrupted: the process that wrote it has gone" in text
    write_csv(list(rows.values()), tmp_path / "all.csv")
    assert {row["run"]: row["status"] for row in read_csv(tmp_path / "all.csv")} == statuses


def test_a_run_of_another_format_is_one_line_with_the_reason(tmp_path):
    path = write_fixed_run(tmp_path, "old")
    info = json.loads((path / RUN_FILE).read_text())
    (path / RUN_FILE).write_text(json.dumps({**info, "format": FORMAT - 1}))
    (row,) = collect(tmp_path)
    assert row["status"] == "damaged" and f"format {FORMAT - 1}" in row["reason"]
    (line,) = layout([row]).lines
    assert line[-1].text.startswith("old: damaged: ") and line[-1].text.count("\n") == 0
    assert plain([row]).count("old: damaged: ") == 1


def test_a_folder_that_may_not_be_read_is_listed_as_damaged(tmp_path, monkeypatch):
    path = write_fixed_run(tmp_path, "secret")
    is_file, read_bytes = Path.is_file, Path.read_bytes

    def guarded(method):
        def call(self, *args):
            if self.parent == path:
                raise PermissionError(13, "Permission denied")
            return method(self, *args)

        return call

    monkeypatch.setattr(Path, "is_file", guarded(is_file))
    monkeypatch.setattr(Path, "read_bytes", guarded(read_bytes))
    (row,) = collect(tmp_path)
    assert row["status"] == "damaged" and "Permission denied" in row["reason"]


def test_several_roots_are_merged_without_duplicates(tmp_path):
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
    write_fixed_run(tmp_path / "one", "a")
    shutil.copytree(tmp_path / "one" / "a", tmp_path / "two" / "a")
    write_fixed_run(tmp_path / "one", "b", rate=0.25)
    write_fixed_run(tmp_path / "two", "b", rate=0.75)
    rows = collect(tmp_path / "one", tmp_path / "two", tmp_path / "one")
    assert [(row["run"], row["score"]) for row in rows] == [("a", 0.5), ("b", 0.25), ("b", 0.75)]


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="is not a folder; give the folder"):
        collect(tmp_path / "nowhere")


def _write_slowly(root, index):
    about = {"method": {"name": f"m{index}"}, "protocol": {"headline": HEADLINE}}
    with RunFolder.create(root, f"run{index:02}", "", about) as store:
        for batch in range(10):
            scores = dict.fromkeys(HEADLINE.values(), index / 32)
            common = {"edits": batch + 1, "batch": batch, "record": str(batch), "position": batch, "status": "scored"}
            store.append_scores([{"stage": stage, "scores": scores, **common} for stage in ("immediate", "final")])
            store.append_edit({"batch": batch, "ids": [str(batch)], "seconds": 0.0})
            store.set_status("running")
        store.set_status("done", summary=summarise(store.scores(), HEADLINE))


@pytest.mark.slow
def test_runs_can_be_written_at_once_while_the_leaderboard_is_built(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_slowly, args=(tmp_path, index)) for index in range(20)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        rows = collect(tmp_path)
        assert {row["status"] for row in rows} <= {"running", "done"}, [row["reason"] for row in rows]
        write_csv(rows, tmp_path / "leaderboard.csv")
    for writer in writers:
        writer.join()
    rows = collect(tmp_path)
    write_csv(rows, tmp_path / "leaderboard.csv")
    assert {row["run"]: (row["status"], row["reliability"], row["scored"]) for row in rows} == {
        f"run{index:02}": ("done", index / 32, 10) for index in range(20)
    }
    assert [row["run"] for row in read_csv(tmp_path / "leaderboard.csv")] == [row["run"] for row in rows]
    for folder in tmp_path.glob("run*/"):
        assert len((folder / "edits.jsonl").read_text().splitlines()) == 10


# --- start-up ---


def test_importing_the_results_imports_nothing_slow():
    code = (
        "import sys, editbench.results.leaderboard, editbench.results.tables, editbench.results.reference;"
        "print(sorted({'torch', 'pandas', 'rich', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- seeds ---

DECIDING = ("method", "model", "protocol", "batch_size", "method_config", "model_hash", "data_hash")


def row(run, seed, score, **more):
    """A leaderboard row, as far as these tests need one."""
    common = {"status": "done", "method": "rome", "model": "tiny", "dataset": "cf", "protocol": "p", "edits": 10}
    interval = {"score_low": 0.0, "score_high": 1.0, "score_n": 10, "content_hash": f"h{run}"}
    made = {**common, **more}
    digests = {"identity": f"i {[made.get(name) for name in DECIDING]}", "comparable_group": "c", "schema": SCHEMA}
    return {"run": run, "seed": seed, "seeds": 1, "score": score, "reason": None, **digests, **interval, **made}


def test_the_interval_over_seeds_has_the_records_part_and_the_spread_between_seeds():
    runs = [row(run, seed, score, score_low=score - 0.02, score_high=score + 0.01)
            for run, seed, score in (("c", 2, 0.9), ("a", 0, 0.5), ("b", 1, 0.7))]  # fmt: skip
    (merged,) = group(runs)
    assert merged["score"] == pytest.approx(0.7)
    between = 0.2**2 / 3  # the standard deviation of 0.5, 0.7, 0.9 is 0.2
    for end, reach in (("low", -0.02), ("high", 0.01)):
        variance = between + (reach / 1.959964) ** 2
        half = t_quantile(2 * (variance / between) ** 2) * math.sqrt(variance)
        assert merged[f"score_{end}"] == pytest.approx(np.clip(0.7 + math.copysign(half, reach), 0, 1))
    assert (merged["seeds"], merged["seed"], merged["run"], merged["score_n"]) == (3, "0, 1, 2", "a, b, c", 10)
    assert merged["content_hash"] == "ha, hb, hc" and merged["edits"] == 10 and merged["status"] == "done"


def test_seeds_that_agree_are_no_surer_than_one_of_them():
    (merged,) = group([row(str(seed), seed, 1.0, score_low=0.96, score_high=1.0) for seed in range(5)])
    assert (merged["score_low"], merged["score_high"]) == pytest.approx((0.96, 1.0))


def test_only_shares_end_at_0_and_1_and_a_run_without_interval_leaves_none():
    share, other = {"range": [0, 1]}, {"range": None}
    for metrics, high in (
        ({"agreement": share}, 1.0),
        ({"exact_match": other, "free_text.agreement": share}, 1.0),
        ({"exact_match": share}, None),
        ({"agreement": other}, None),
        ({}, None),
    ):
        name = "final.free_text.agreement"
        runs = [row(str(seed), seed, 0.5, metrics=json.dumps(metrics), **{name: v, f"{name}_low": v, f"{name}_high": v})
                for seed, v in enumerate((0.9, 1.0))]  # fmt: skip
        (merged,) = group(runs)
        assert merged[f"{name}_high"] == pytest.approx(high or 0.95 + 12.7062 * 0.05, abs=1e-4)
        runs[1][f"{name}_low"] = None
        assert group(runs)[0][f"{name}_high"] is None


def test_one_seed_keeps_its_own_interval_and_repeats_of_a_seed_count_once():
    (merged,) = group([row("a", 0, 0.5)])
    assert (merged["score"], merged["score_low"], merged["score_high"], merged["seeds"]) == (0.5, 0.0, 1.0, 1)
    (merged,) = group([row("a", 0, 0.4), row("b", 0, 0.6), row("c", 1, 0.9)])
    assert merged["score"] == pytest.approx(0.7) and merged["seeds"] == 2
    (two,) = group([row("a", 0, 0.5), row("c", 1, 0.9)])
    assert merged["score_high"] == two["score_high"]


@pytest.mark.parametrize("name", ["method", "edits", "protocol", "method_config", "batch_size", "identity", "schema"])
def test_nothing_but_the_seed_may_differ(name):
    assert len(group([row("a", 0, 0.5, **{name: "1"}), row("b", 1, 0.7, **{name: "2"})])) == 2


def test_by_adds_columns_and_orders_the_rows():
    rows = [row(f"{method}{seed}{gpu}", seed, 0.5, method=method, gpu=gpu)
            for gpu in ("x", "y") for seed in (0, 1) for method in ("rome", "memit")]  # fmt: skip
    assert [(one["method"], one["gpu"], one["seeds"]) for one in group(rows)] == [
        ("memit", "x, y", 2),
        ("rome", "x, y", 2),
    ]
    assert [(one["gpu"], one["method"]) for one in group(rows, ["gpu", "method"])] == [
        *[("x", "memit"), ("x", "rome")],
        *[("y", "memit"), ("y", "rome")],
    ]
    with pytest.raises(ResultsError, match="no column 'metod'; did you mean 'method'"):
        group(rows, ["metod"])


def test_a_figure_that_a_seed_lacks_is_a_mean_over_the_others_and_says_so():
    rows = [row(f"{method}{seed}", seed, 0.5, method=method, perplexity_ratio=1.0 + seed) for method in ("a", "b")
            for seed in range(3)]  # fmt: skip
    rows[0]["perplexity_ratio"] = None
    lacking, complete = group(rows)
    assert lacking["perplexity_ratio"] == pytest.approx(2.5)
    assert mapping_in(lacking, "missing") == {"perplexity_ratio": 1}
    assert complete["perplexity_ratio"] == pytest.approx(2.0) and complete["missing"] is None
    complete["perplexity_ratio"] = 3.0
    table = layout([lacking, complete])
    column = table.titles.index("perplexity ratio")
    assert [(line[0].text, line[column].text, line[column].bold) for line in table.lines] == [
        ("a", "2.500 (2 of 3 seeds)", False),  # the lowest, but it is not known what the third would be
        ("b", "3.000", False),
    ]
    nowhere = group([row("a", 0, 0.5, perplexity_ratio=None), row("b", 1, 0.7, perplexity_ratio=None)])
    assert nowhere[0]["perplexity_ratio"] is None and mapping_in(nowhere[0], "missing") == {}


def test_counts_are_of_one_seed_and_peaks_are_the_highest():
    costs = [
        {"scored": 9, "unsupported": 1, "peak_rss_bytes": 5, "edit_seconds": 2.0, "score_n": 9},
        {"scored": 10, "unsupported": 0, "peak_rss_bytes": 7, "edit_seconds": 4.0, "score_n": 10},
    ]
    (merged,) = group([row(str(seed), seed, 0.5, **one) for seed, one in enumerate(costs)])
    assert (merged["scored"], merged["score_n"], merged["unsupported"]) == (9, 9, 1)  # the worst seed's
    assert (merged["peak_rss_bytes"], merged["edit_seconds"], merged["schema"]) == (7, 3.0, SCHEMA)


def test_runs_that_do_not_say_what_they_were_made_with_stay_alone():
    rows = [row(str(seed), seed, 0.5, identity=None, comparable_group=None, schema=1) for seed in range(2)]
    assert [one["seeds"] for one in group([*rows, row("new", 2, 0.5)])] == [1, 1, 1]


def test_what_looks_like_a_seed_and_is_none_is_named(tmp_path):
    made = {"stream.order": "shuffled", "model.templates": "sampled"}
    write_run(tmp_path, "a", seed=0, parts=made)
    write_run(tmp_path, "b", seed=1, parts=made)
    write_run(tmp_path, "c", seed=2, parts={"stream.order": "file", "model.templates": ["{}"]})
    write_run(tmp_path, "d", seed=3, parts={**made, "torch": "2.0"})
    rows = group(collect(tmp_path))
    assert {(one["run"], one["seeds"]) for one in rows} == {("d", 1), ("a, b", 2), ("c", 1)}
    text = " ".join(layout(rows).legend)
    assert 'stream.order is "shuffled" and "file"' in text or 'stream.order is "file" and "shuffled"' in text
    assert "model.templates is" in text and "neither averaged nor compared" in text
    assert "are not averaged: torch is" in text


@pytest.mark.parametrize("methods", [("rome", "memit"), ("memit", "rome")])
def test_rows_with_other_seeds_do_not_compete(tmp_path, methods):
    for method, seeds in zip(methods, ((0,), (0, 2)), strict=True):
        for seed in seeds:
            write_run(tmp_path, f"{method}-{seed}", method=method, seed=seed, edits=20, rate=0.4 + 0.1 * len(seeds))
    table = layout(group(collect(tmp_path), ["method"]))
    assert not any(cell.bold for line in table.lines for cell in line)
    assert f"Rows with other seeds are not compared: 0 of {methods[0]}; 0, 2 of {methods[1]}." in table.legend


def test_a_run_that_failed_keeps_its_row():
    rows = group([row("a", 0, 0.5), row("b", 1, None, status="failed", reason="out of memory"), row("c", 2, 0.7)])
    assert [(one["run"], one["seeds"], one["status"]) for one in rows] == [("a, c", 2, "done"), ("b", 1, "failed")]


def test_grouped_rows_go_through_tables_and_csv(tmp_path):
    for seed in range(3):
        write_run(tmp_path, f"rome-{seed}", seed=seed, edits=20)
    write_run(tmp_path, "memit-0", method="memit", edits=20)
    rows = group(collect(tmp_path), ["method"])
    table = layout(rows)
    assert "seeds" in table.titles and "Means over seeds" in table.legend[-1]
    seeds, score = table.titles.index("seeds"), table.titles.index("score")
    assert {line[0].text: (line[seeds].text, "[" in line[score].text) for line in table.lines} == {
        **{"rome": ("3", True), "memit": ("1", True)}
    }
    assert "Means over seeds" in to_markdown(rows)
    write_csv(rows, tmp_path / "grouped.csv")
    again = read_csv(tmp_path / "grouped.csv")
    assert [one["seed"] for one in again] == [0, "0, 1, 2"] and again[1]["seeds"] == 3
    assert again[1]["score"] == rows[1]["score"] and again[1]["method_config"] == '{"layer": 5}'
    assert where(rows, ["seeds=3"]) == [rows[1]]


def test_the_control_does_not_compete():
    rows = [row("a", 0, 0.5), row("b", 0, 0.7, method="unedited"), row("c", 0, 0.6, method="memit")]
    table = layout(rows)
    bold = {line[0].text for line in table.lines if line[table.titles.index("score")].bold}
    assert bold == {"memit"}


def test_namesakes_are_told_apart_by_their_settings():
    rows = [
        row("a", 0, 0.5, method_config='{"layer": 5, "steps": 20}'),
        row("b", 0, 0.7, method_config='{"layer": 3, "steps": 20}'),
    ]
    assert [line[0].text for line in layout(rows).lines] == ["rome (layer=3)", "rome (layer=5)"]
    assert [line[0].text for line in layout(rows[:1]).lines] == ["rome"]


def test_nothing_is_a_multiple_of_zero():
    assert _ratio(3.0, 2.0) == 1.5
    assert _ratio(3.0, 0.0) is None


def test_rows_of_a_stage_have_its_scores_under_its_name(tmp_path):
    folder = write_run(tmp_path, "a", edits=8, evaluate_at=(2, 4))
    (final,), interim = read_stages(folder, "final"), read_stages(folder, "interim")
    assert final == read_row(folder)
    assert [row["edits"] for row in interim] == [2, 4] and [row["reliability_n"] for row in interim] == [2, 4]
    (immediate,) = read_stages(folder, "immediate")
    assert (
        immediate["immediate.rewrite.exact_match"] == immediate["reliability"] == final["immediate.rewrite.exact_match"]
    )
    assert not any(name.startswith("final.") for name in immediate)
    assert immediate["perplexity_after"] is None and final["perplexity_after"] == 6.0
    (before,) = read_stages(folder, "before")
    assert before["perplexity_after"] == 4.0 and before["reliability"] is None
