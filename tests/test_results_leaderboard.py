"""Many runs become one table; none of them can sink it, and none can trick a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from editbench.results import ResultsError, RunFolder
from editbench.results.columns import HEAD_COLUMNS, TAIL_COLUMNS
from editbench.results.identity import identify
from editbench.results.leaderboard import COLUMNS, collect, read_csv, read_row, to_frame, where, write_csv
from editbench.results.reference import KEY, compare
from editbench.results.schema import RUN_FILE, SCHEMA, SCORES_FILE
from editbench.results.summary import summarise
from editbench.results.tables import layout, print_table, to_markdown

HEADLINE = {
    "reliability": "rewrite.exact_match",
    "generality": "paraphrase.exact_match",
    "locality": "locality.agreement",
}


NO_PARTS = {"of": "runs of schema 1"}


def write_run(
    root,
    run,
    *,
    method="rome",
    edits=2,
    rate=0.5,
    status="done",
    reason=None,
    model="tiny",
    constants="tuned",
    seed=0,
    parts=None,
    unsupported=0,
) -> Path:
    """A small run, as a session writes it."""
    provenance = {
        "editbench": "0.1.0",
        "commit": "1234567",
        "model": {"name": model, "hash": "12e4567"},
        "dataset": {"name": "counterfact", "hash": "00123"},
        "stream": {"edits": edits, "batch_size": 1, "hash": "s"},
        "method": {"name": method, "hparams": constants, "config": {}},
        "protocol": {"name": "memit", "headline": HEADLINE},
        "seed": seed,
    }
    if parts is not NO_PARTS:
        made = {"method": method, "model.hash": "12e4567", "stream.edits": edits, "versions.exact_match": 1}
        provenance |= identify({**made, **(parts or {})})
    else:
        provenance["schema"] = 1
    scores = {**dict.fromkeys(HEADLINE.values(), rate), "subject_fact.agreement": 0.125}
    rows = [_texts("before", 0, 4.0), _texts("final", edits, 5.0)]
    for position in range(edits):
        out = position >= edits - unsupported
        done = {"status": "unsupported", "scores": {}} if out else {"status": "scored", "scores": scores}
        common = {"record": f"r{position}", "position": position, **done}
        rows.append({"stage": "immediate", "edits": position + 1, "batch": position, **common})
        rows.append({"stage": "final", "edits": edits, "batch": edits - 1, **common})
    with RunFolder.create(root, run, "seed: 0\n", provenance) as store:
        store.append_scores(rows)
        store.seal(edits - 1)
        if status != "running":
            costs = {"edit_seconds": 3.0, "edits_made": 1, "cached": ["covariance"], "peak_rss_bytes": 10}
            costs["footprint"] = {"device": 7, "host": 1}
            summary = summarise(store.scores(), HEADLINE) if status == "done" else None
            store.set_status(status, reason, summary=summary, costs=costs)
    return store.path


def _texts(stage, edits, perplexity):
    return {
        "stage": stage,
        "edits": edits,
        "batch": edits - 1,
        "of": "perplexity.plain",
        "scores": {"perplexity": perplexity},
    }


def plain(rows, width=260) -> str:
    """The printed table."""
    text = io.StringIO()
    print_table(rows, Console(file=text, width=width))
    return text.getvalue()


# --- collecting ---


def test_a_row_holds_what_the_run_measured(tmp_path):
    write_run(tmp_path, "a")
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
        "shares": "locality.agreement, paraphrase.exact_match, rewrite.exact_match",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert 0 < row["reliability_low"] < 0.1 and 0.9 < row["locality_high"] < 1


def test_perplexity_before_may_come_from_a_checkpoint_at_zero_edits(tmp_path):
    path = write_run(tmp_path, "a")
    with RunFolder.open(path) as store:
        rows = store.scores()
        rows[0]["stage"] = "interim"
        store.set_status("done", summary=summarise(rows, HEADLINE))
    assert read_row(path)["perplexity_before"] == 4.0


def test_runs_that_did_not_end_well_are_listed_and_sink_nobody(tmp_path):
    write_run(tmp_path, "done")
    write_run(tmp_path, "failed", status="failed", reason="CUDA out of memory\nTraceback")
    write_run(tmp_path, "killed", status="running")
    for name, content in {"scores": None, "empty": "", "foreign": '{"format": 2}', "shape": "..."}.items():
        path = write_run(tmp_path, name)
        if name == "scores":
            (path / SCORES_FILE).write_bytes((path / SCORES_FILE).read_bytes().replace(b"0.5", b"0.9"))
        elif name == "shape":
            info = json.loads((path / RUN_FILE).read_text())
            shape = {"provenance": {"model": "a name"}, "summary": {"final": [1], "interim": 3}, "costs": "none"}
            (path / RUN_FILE).write_text(json.dumps({**info, **shape}))
        else:
            (path / RUN_FILE).write_text(content)
    (write_run(tmp_path, "headless") / RUN_FILE).unlink()
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


def test_a_folder_that_may_not_be_read_is_listed_as_damaged(tmp_path, monkeypatch):
    path = write_run(tmp_path, "secret")
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
    write_run(tmp_path / "one", "a")
    shutil.copytree(tmp_path / "one" / "a", tmp_path / "two" / "a")
    write_run(tmp_path / "one", "b", rate=0.25)
    write_run(tmp_path / "two", "b", rate=0.75)
    rows = collect(tmp_path / "one", tmp_path / "two", tmp_path / "one")
    assert [(row["run"], row["score"]) for row in rows] == [("a", 0.5), ("b", 0.25), ("b", 0.75)]


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="is not a folder; give the folder"):
        collect(tmp_path / "nowhere")


def _write_slowly(root, index):
    with RunFolder.create(root, f"run{index:02}", "", {"method": {"name": f"m{index}"}}) as store:
        for batch in range(10):
            scores = dict.fromkeys(HEADLINE.values(), index / 32)
            common = {"edits": batch + 1, "batch": batch, "record": str(batch), "position": batch, "status": "scored"}
            store.append_scores([{"stage": stage, "scores": scores, **common} for stage in ("immediate", "final")])
            store.append_edit({"batch": batch, "ids": [str(batch)], "seconds": 0.0})
            store.set_status("running")
        store.set_status("done", summary=summarise(store.scores(), HEADLINE))


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


# --- choosing ---


def test_where_chooses_by_columns(tmp_path):
    rows = [
        {"run": "a", "method": "rome", "edits": 100, "final.x": 0.5},
        {"run": "b", "method": "rome", "edits": 10},
        {"run": "c", "method": None, "edits": 100},
    ]
    assert [row["run"] for row in where(rows, ["method=rome", "edits=100"])] == ["a"]
    assert [row["run"] for row in where(rows, ["edits=10", "final.x="])] == ["b"]
    assert [row["run"] for row in where(rows, ["final.x=0.50"])] == ["a"]
    assert [row["run"] for row in where(rows, ["method="])] == ["c"]
    assert where(rows, []) == rows
    with pytest.raises(ResultsError, match="no column 'metod'; did you mean 'method'"):
        where(rows, ["metod=rome"])
    with pytest.raises(ResultsError, match="not of the form column=value"):
        where(rows, ["rome"])


# --- CSV ---


def test_the_csv_has_the_documented_columns_in_order(tmp_path):
    write_run(tmp_path, "a")
    rows = collect(tmp_path)
    write_csv(rows, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    header = next(csv.reader(io.StringIO(text)))
    head, tail = list(HEAD_COLUMNS), list(TAIL_COLUMNS)
    measures = header[len(head) : -len(tail)]
    assert header == [*head, *measures, *tail]
    assert measures == sorted(measures)
    assert {name.split(".")[0] for name in measures} == {"immediate", "final"}
    assert header[0] == "run" and header[-1] == "reason"
    assert read_csv(tmp_path / "out.csv") == [{name: rows[0].get(name) for name in header}]
    assert list(to_frame(rows).columns) == header and to_frame(rows).loc[0, "edits"] == 2


def test_an_empty_leaderboard_has_a_header(tmp_path):
    write_csv([], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().strip() == ",".join(COLUMNS)
    assert read_csv(tmp_path / "out.csv") == []


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=", "'=1", "-", "+5"])
def test_formulas_are_made_harmless(tmp_path, text):
    write_csv([{"run": text, "method": "rome", "score": -0.5, "seed": -1}], tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        (raw,) = csv.DictReader(file)
    assert raw["run"] == f"'{text}"
    assert (raw["method"], raw["score"], raw["seed"]) == ("rome", "-0.5", "-1")
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["run"], row["score"], row["seed"]) == (text, -0.5, -1)


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("\r\n\t'\",=-1e. "))
numbers = st.none() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(text=texts, number=numbers)
def test_any_cell_comes_back_from_the_csv(tmp_path_factory, text, number):
    path = tmp_path_factory.getbasetemp() / "cell.csv"
    write_csv([{"run": "a", "reason": text, "score": number}], path)
    (row,) = read_csv(path)
    assert (row["run"], row["reason"], row["score"]) == ("a", text or None, number)


def test_versions_and_hashes_are_not_taken_for_numbers(tmp_path):
    texts = {"model_hash": "12e4567", "data_hash": "00123", "commit": "1234567", "python": "3.10"}
    write_csv([texts], tmp_path / "out.csv")
    (row,) = read_csv(tmp_path / "out.csv")
    assert {name: row[name] for name in texts} == texts
    assert where([row], ["python=3.1"]) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1\n"])
def test_a_file_that_is_no_leaderboard_is_an_error(tmp_path, content):
    (tmp_path / "out.csv").write_bytes(content)
    with pytest.raises(ResultsError, match=r"out\.csv"):
        read_csv(tmp_path / "out.csv")
    with pytest.raises(ResultsError, match="cannot read"):
        read_csv(tmp_path / "missing.csv")


def test_the_readme_documents_every_column():
    readme = (Path(__file__).parent.parent / "results" / "README.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", readme, re.MULTILINE))
    documented = {name: meaning for name, meaning in documented.items() if "." not in name}
    assert list(documented) == list(COLUMNS)
    assert documented == {name: column.meaning for name, column in COLUMNS.items()}


# --- tables ---


def test_the_best_of_each_comparable_group_is_bold(tmp_path):
    write_run(tmp_path, "a", method="rome", rate=0.5)
    write_run(tmp_path, "b", method="memit", rate=0.75)
    write_run(tmp_path, "c", method="grace", rate=0.25, edits=1)
    write_run(tmp_path, "d", method="nse", rate=1.0, status="failed", reason="x")
    table = layout(collect(tmp_path))
    lines, column = table.lines, table.titles.index("score")
    assert [(line[0].text, line[3].text, line[column].text, line[column].bold) for line in lines] == [
        ("grace", "1", "0.250 [.006, .982]", False),  # nothing to compare it with
        ("memit", "2", "0.750 [.112, .963]", True),
        ("rome", "2", "0.500 [.075, .925]", False),
        ("nse", "2", "—", False),
    ]
    assert r"**0.750 \[.112, .963]**" in to_markdown(collect(tmp_path))
    ratio = table.titles.index("perplexity ratio")
    assert [line[ratio].bold for line in lines] == [False, True, True, False]  # a tie
    assert lines[1][table.titles.index("other facts")].text == "0.125"  # no range is known here, and all are alike


def test_a_narrow_terminal_gets_one_run_upright_and_several_without_intervals(tmp_path):
    write_run(tmp_path, "a")
    assert "0.500 [.075, .925]" in plain(collect(tmp_path))
    upright = plain(collect(tmp_path), width=40)
    assert re.search(r"^score +0.500 \[.075, .925\] *$", upright, re.MULTILINE) and "…" not in upright
    write_run(tmp_path, "b")
    narrow = plain(collect(tmp_path), width=80)
    assert "0.500" in narrow and "[" not in narrow and "…" not in narrow


def test_names_cannot_break_the_tables(tmp_path):
    write_run(tmp_path, "a", method="[bold]x[/]", model="a|b\n<script>")
    rows = collect(tmp_path)
    assert "[bold]x[/]" in plain(rows)
    lines = to_markdown(rows).splitlines()
    assert len(lines) == 3 and "a\\|b \\<script>" in lines[2]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(layout(rows).titles) + 1}


def test_the_note_counts_records_that_are_in_no_average():
    row = {"run": "a", "status": "done", "schema": SCHEMA, "unsupported": 12, "failed": 0, "skipped": 1}
    assert layout([row]).lines[0][-1].text == "a: 12 unsupported, 1 skipped"


def test_few_survivors_do_not_win(tmp_path):
    """2 of 10 records edited, all right, is no better than 10 of 10, nearly all right."""
    write_run(tmp_path, "survivors", method="rome", rate=1.0, edits=10, unsupported=8)
    write_run(tmp_path, "all", method="memit", rate=0.75, edits=10)
    write_run(tmp_path, "others", method="nse", rate=0.5, edits=10)
    rows = collect(tmp_path)
    by_run = {row["run"]: row for row in rows}
    assert {run: (row["score"], row["coverage"]) for run, row in by_run.items()} == {
        **{"survivors": (1.0, 0.2), "all": (0.75, 1.0), "others": (0.5, 1.0)}
    }
    assert by_run["survivors"]["score_penalised"] == pytest.approx(3 / (5 + 5 + 1))  # of 0.2, 0.2 and 1
    assert by_run["all"]["score_penalised"] == pytest.approx(0.75)
    table = layout(rows)
    assert [line[0].text for line in table.lines] == ["memit", "nse", "rome"]
    bold = {title: [line[0].text for line in table.lines if line[table.titles.index(title)].bold]
            for title in ("reliability", "generality", "locality", "score", "penalised score")}  # fmt: skip
    assert bold == dict.fromkeys(bold, ["memit"])
    assert table.lines[2][table.titles.index("coverage")].text == "0.20"
    assert table.lines[2][-1].text == "survivors: 8 unsupported, never the best: coverage is below 0.95"
    assert [line[0].text for line in layout([by_run["all"], by_run["others"]]).lines] == ["memit", "nse"]
    assert "coverage" not in layout([by_run["all"], by_run["others"]]).titles  # nothing to tell


def test_of_equal_penalised_scores_that_of_most_records_stands_first(tmp_path):
    write_run(tmp_path, "few", method="a", rate=0.0, edits=4, unsupported=2)
    write_run(tmp_path, "all", method="b", rate=0.0, edits=4)
    assert [line[0].text for line in layout(collect(tmp_path)).lines] == ["b", "a"]


def test_records_left_out_for_a_reason_in_the_data_count_against_no_method(tmp_path):
    path = write_run(tmp_path, "a", edits=4)
    with RunFolder.open(path) as store:
        rows = store.scores()
        for row in rows:
            if row.get("record") == "r3":
                row.update(status="skipped", scores={}, reason="skipped: a later edit overwrites it")
        store.set_status("done", summary=summarise(rows, HEADLINE))
    row = read_row(path)
    assert (row["scored"], row["skipped"], row["coverage"], row["score_penalised"]) == (3, 1, 1.0, 0.5)


def test_a_method_that_could_edit_nothing_has_a_penalised_score_of_0(tmp_path):
    row = read_row(write_run(tmp_path, "a", edits=3, unsupported=3))
    assert (row["score"], row["coverage"], row["score_penalised"]) == (None, 0.0, 0.0)


def test_rows_that_were_not_measured_alike_do_not_compete(tmp_path):
    write_run(tmp_path, "a", method="rome", rate=0.5)
    write_run(tmp_path, "b", method="memit", rate=0.75)
    write_run(tmp_path, "c", method="nse", rate=1.0, parts={"versions.exact_match": 2})
    write_run(tmp_path, "d", method="finetune", rate=1.0, seed=1)
    write_run(tmp_path, "e", method="scen", rate=1.0, parts=NO_PARTS)
    write_run(tmp_path, "f", method="memit", rate=1.0, parts={"model.hash": "another"})
    table = layout(collect(tmp_path))
    score = table.titles.index("score")
    assert [line[-1].text for line in table.lines if line[0].text == "scen"] == [
        "e: made before schema 2 and not compared; run it again"
    ]
    assert [line[score].bold for line in table.lines if line[0].text == "memit"].count(True) == 1
    assert {line[0].text for line in table.lines if line[score].bold} == {"memit"}
    assert table.legend == [
        "a and c are not compared: versions.exact_match is 1 and 2.",
        'b and f are neither averaged nor compared: model.hash is "12e4567" and "another".',
        "Only runs of one seed are compared; --by method,dataset makes one row of all seeds.",
    ]


# --- reference figures ---


def reference(tmp_path, **changes):
    key = {
        "method": "rome",
        "hparams": "tuned",
        "model": "tiny",
        "dataset": "counterfact",
        "protocol": "memit",
        "edits": 2,
    }
    row = {
        **key,
        "batch_size": 1,
        "seed": 0,
        "score": 0.52,
        "reliability": 0.5,
        "locality": 0.4,
        "perplexity_after": 4.0,
        "schema": SCHEMA,
    }
    made = {"method": "rome", "model.hash": "12e4567", "stream.edits": 2, "versions.exact_match": 1}
    row["parts"] = json.dumps({**made, "torch": "another"})
    write_csv([{**row, **changes}], tmp_path / "reference.csv")
    return tmp_path / "reference.csv"


def test_compare_with_reference_figures(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", method="memit")
    rows = collect(tmp_path)
    differences = compare(rows, reference(tmp_path))
    assert {d["measure"]: d["verdict"] for d in differences if d["run"] == "a"} == {
        "score": "same",  # 0.5 and 0.52: just within the tolerance
        "reliability": "same",
        "generality": "no reference",
        "locality": "differs",
        "perplexity_before": "no reference",
        "perplexity_after": "differs",
    }
    assert {d["verdict"] for d in differences if d["run"] == "b"} == {"no reference"}
    write_run(tmp_path, "c", constants="published")  # other constants: not the reference's run
    rows = collect(tmp_path)
    assert {d["verdict"] for d in compare(rows[2:], reference(tmp_path))} == {"no reference"}
    assert sorted(line[0].text for line in layout(rows).lines) == ["memit", "rome", "rome, published"]
    by_measure = {d["measure"]: d for d in differences if d["run"] == "a"}
    assert by_measure["locality"]["difference"] == pytest.approx(0.1)
    assert by_measure["perplexity_after"]["difference"] == pytest.approx(0.25)  # relative
    assert by_measure["locality"]["key"] == dict(
        zip(KEY, ("rome", "tuned", "tiny", "counterfact", "memit", "2", "1", "0"), strict=True)
    )
    wide = compare(rows[:1], reference(tmp_path), tolerance=0.1, perplexity_tolerance=0.25)
    assert {d["verdict"] for d in wide} == {"same", "no reference"}


def test_a_reference_that_was_made_otherwise_is_refused_by_name(tmp_path):
    write_run(tmp_path, "a")
    rows = collect(tmp_path)

    def reasons(**changes):
        return {(d["verdict"], d["reason"]) for d in compare(rows, reference(tmp_path, **changes))}

    parts = {"method": "rome", "model.hash": "12e4567", "stream.edits": 2, "versions.exact_match": 1}
    other = json.dumps({**parts, "versions.exact_match": 2, "stream.order": "file"})
    assert reasons(parts=other) == {("refused", 'stream.order is missing and "file"; versions.exact_match is 1 and 2')}
    assert reasons(parts=json.dumps({**parts, "model.device": "cuda"})) != {}  # another machine is what it is for
    assert {verdict for verdict, _ in reasons(parts=json.dumps({**parts, "model.device": "cuda"}))} == {
        *("same", "differs", "no reference")
    }
    assert reasons(schema=1) == {("refused", "it has schema 2, the reference has schema 1; make the older one again")}
    old = tmp_path / "reference.csv"
    lines = [line.split(",") for line in reference(tmp_path).read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name in (*KEY, "score")]
    old.write_text("\n".join(",".join(line[i] for i in keep) for line in lines))  # as before there was a schema
    assert {d["reason"] for d in compare(rows, old)} == {
        "it has schema 2, the reference has schema 1; make the older one again"
    }


def test_compare_tells_what_was_not_measured(tmp_path):
    write_run(tmp_path, "a", status="failed", reason="x")
    assert {d["verdict"] for d in compare(collect(tmp_path), reference(tmp_path))} == {"not measured"}


def test_an_ambiguous_reference_is_an_error(tmp_path):
    path = reference(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1] * 2)
    with pytest.raises(ResultsError, match="has two rows for"):
        compare([], path)
    path.write_text("method,score\nrome,0.5\n")
    with pytest.raises(ResultsError, match="lacks the columns"):
        compare([], path)


# --- start-up ---


def test_importing_the_results_imports_nothing_slow():
    code = (
        "import sys, editbench.results.leaderboard, editbench.results.tables, editbench.results.reference;"
        "print(sorted({'torch', 'pandas', 'rich', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_narrow_terminal_says_where_the_intervals_are(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name)
    rows = collect(tmp_path)
    assert "Too narrow for the 95 % intervals" in plain(rows, width=100)
    assert "Too narrow" not in plain(rows, width=400)


def test_rows_of_several_seeds_say_which_seed_they_are(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name)
    rows = collect(tmp_path)
    assert "seed" not in layout(rows).titles
    rows[1]["seed"] = 1
    titles = layout(rows).titles
    assert sorted(line[titles.index("seed")].text for line in layout(rows).lines) == ["0", "1"]


def test_a_coverage_of_nothing_is_shown(tmp_path):
    write_run(tmp_path, "a")
    (row,) = collect(tmp_path)
    assert "coverage" not in layout([row]).titles
    assert {"coverage", "penalised score"} <= set(layout([{**row, "coverage": 0.0}]).titles)
