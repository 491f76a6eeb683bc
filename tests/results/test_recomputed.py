"""What run.json says of its own scores is not believed; a hostile run harms no row but its own."""

from __future__ import annotations

import os

import pytest

from editbench.fetched import cache_folder
from editbench.results import RunFolder
from editbench.results.leaderboard import collect, collect_folders, group, read_row
from editbench.results.report import write_report
from editbench.results.run_folder import check_score_row, read_info
from editbench.results.summary import summarise
from editbench.results.table_layout import layout
from tests.results.runs import HEADLINE, write_fixed_run, write_run


def ended(root, name, rows, **changes):
    """A run, sealed, with rows and parts of run.json as given; rows need not fit the schema."""
    path = write_fixed_run(root, name, **changes.pop("run", {}))
    with RunFolder.open(path) as folder:
        folder.set_status("running")
        folder._append("scores.jsonl", rows)
        folder.seal(9)
        folder.info = {**folder.info, **changes.pop("info", {})}
        folder.set_status("done", summary=changes.pop("summary", {"final": None}))
    return path


def test_scores_of_run_json_are_not_believed(tmp_path):
    path = write_fixed_run(tmp_path, "a", rate=0.5)
    honest = read_row(path)
    with RunFolder.open(path) as folder:
        folder.set_status("running")
        boasted = summarise([{**row, "scores": dict.fromkeys(row["scores"], 1.0)} for row in folder.scores()], HEADLINE)
        folder.set_status("done", summary=boasted)
    assert read_info(path)["summary"]["final"]["score"] == 1.0
    row = read_row(path)
    assert (row["status"], row["score"]) == ("done", honest["score"]) == ("done", 0.5)
    kept = list((cache_folder() / "summaries").glob("*.json"))
    for file in kept:  # a damaged one is computed again
        file.write_text(file.read_text().replace("0.5", "0.6"))
    assert read_row(path)["score"] == 0.5
    assert read_row(path) == row


ROW = {"stage": "final", "edits": 2, "batch": 1, "record": "x", "position": 0, "status": "scored", "scores": {}}
BAD_ROWS = [
    {"stage": "final"},
    {**ROW, "scores": {"a": "b"}},
    {**ROW, "scores": {"a": []}},
    {**ROW, "status": "fine"},
    {**ROW, "left_out": 3},
    {**ROW, "probes": 3},
    {**ROW, "probes": [{"kind": 3, "prompt": []}]},
    {"stage": "final", "edits": 2, "batch": 1, "of": "ability.x", "scores": {"a": 1}, "stderr": 3, "n": "y"},
    {"stage": "interim", "edits": None, "batch": 1, "of": "drift", "scores": {}, "ranges": {"a": 3}},
    {"stage": "final", "edits": 2, "batch": 1, "of": "drift", "scores": {}, "ranges": {"a": [3]}},
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_row_that_no_run_writes_damages_its_run_and_no_table(tmp_path, bad):
    write_fixed_run(tmp_path, "honest")
    ended(tmp_path, "hostile", [bad])
    rows = {row["run"]: row for row in collect(tmp_path)}
    assert rows["honest"]["status"] == "done" and rows["hostile"]["status"] == "damaged"
    assert rows["hostile"]["reason"] and rows["hostile"]["score"] is None


@pytest.mark.parametrize(
    "info",
    [
        {"provenance": {"protocol": 3}},
        {"provenance": {"protocol": {"headline": ["x"]}}},
        {"provenance": {"method": [], "model": 7, "stream": "x", "parts": 3, "schema": "x"}},
        {"metrics": {"exact_match": 3}},
        {"metrics": {"exact_match": {"range": "ab"}}},
        {"metrics": {"exact_match": {"range": [1, 0], "title": 5, "digits": "x"}}},
        {"costs": [1]},
    ],
)
def test_a_value_of_a_wrong_type_in_run_json_stops_no_table(tmp_path, info):
    write_fixed_run(tmp_path, "honest")
    ended(tmp_path, "hostile", [], info=info, summary=[3] if "costs" in info else {"final": None})
    rows = collect(tmp_path)
    assert [row["status"] for row in rows if row["run"] == "honest"] == ["done"] and len(rows) == 2
    layout(rows)
    group(rows)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '{"a": 1e999}', '{"a": ' + "9" * 400 + "}"),
        *('{"a": NaN}', "[]", "", "\0"),
    ],
)
def test_a_file_of_hostile_json_stops_no_table(tmp_path, text):
    write_fixed_run(tmp_path, "honest")
    hostile = write_fixed_run(tmp_path, "hostile")
    for name in ("run.json", "manifest.json", "scores.jsonl", "chain.jsonl"):
        whole = (hostile / name).read_bytes()
        (hostile / name).write_text(text + "\n")
        rows = {row["run"]: row["status"] for row in collect(tmp_path)}
        assert rows == {"honest": "done", "hostile": "damaged"}, name
        (hostile / name).write_bytes(whole)


def test_a_huge_file_is_not_read(tmp_path):
    path = write_fixed_run(tmp_path, "a")
    os.truncate(path / "run.json", 1 << 40)  # sparse
    assert "more than" in read_row(path)["reason"]
    os.truncate(path / "run.json", 0)


def test_terminal_escapes_are_shown_as_text_in_every_table(tmp_path):
    from editbench.results.csv_files import read_csv, write_csv
    from editbench.results.tables import to_latex, to_markdown

    evil = "ro\x1b[31mme\u202e\x07"
    write_fixed_run(tmp_path, "a", method=evil, model=evil, status="failed", reason=f"{evil}\x1b]0;x\x07")
    rows = collect(tmp_path)
    write_csv(rows, tmp_path / "out.csv")
    shown = [to_markdown(rows), to_latex(rows), (tmp_path / "out.csv").read_text()]
    shown += [cell.text for line in layout(rows).lines for cell in line]
    for text in shown:
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "\\x1b[31m" in layout(rows).lines[0][0].text
    assert read_csv(tmp_path / "out.csv")[0]["method"] == evil


def test_copies_are_no_seeds(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, f"honest-{seed}", seed=seed)
    assert [row["seeds"] for row in group(collect(tmp_path))] == [2]
    for seed in (2, 3):
        (tmp_path / "copies").mkdir(exist_ok=True)
        row = {**ROW, "probes": [{"kind": "rewrite", "prompt": "p", "nll": 0.1}]}
        ended(tmp_path / "copies", f"copy-{seed}", [row], run={"seed": seed})
    rows = collect(tmp_path / "copies")
    assert [row["seeds"] for row in group(rows)] == [1, 1]
    told = "copy-2 and copy-3 have equal final rows under different seeds: copies are not averaged."
    assert told in layout(rows).legend


def test_a_report_beside_a_hostile_run_is_written(tmp_path):
    pytest.importorskip("plotly")
    write_fixed_run(tmp_path, "honest")
    ended(tmp_path, "hostile", [{**ROW, "probes": [{"kind": 3, "prompt": []}]}])
    write_report(collect_folders(tmp_path), tmp_path / "report.html")
    assert "honest" in (tmp_path / "report.html").read_text()


def test_rows_that_a_run_writes_pass():
    check_score_row({"stage": "final", "edits": 1, "batch": 0, "of": "drift", "scores": {"a": None}})
