"""The CSV of the leaderboard: any cell comes back, and none can trick a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.results import ResultsError
from editbench.results.columns import COLUMNS, HEAD_COLUMNS, TAIL_COLUMNS
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.leaderboard import collect, to_frame
from editbench.results.selection import where
from tests.results.runs import write_fixed_run as write_run


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


def test_json_is_json_for_every_reader_and_what_acts_is_spelt_out(tmp_path):
    facts = json.dumps({"title": "‖ΔW‖ in nats", "note": "a\x1b"})  # escaped by JSON itself: "\\u2016"
    write_csv([{"run": "a\x1b[31m \\x1b", "metrics": facts}], tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        (raw,) = csv.DictReader(file)
    assert json.loads(raw["metrics"])["title"] == "‖ΔW‖ in nats"
    assert raw["run"] == "'a\\x1b[31m \\x5cx1b"
    assert read_csv(tmp_path / "out.csv")[0]["run"] == "a\x1b[31m \\x1b"


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
    readme = (Path(__file__).parents[2] / "results" / "README.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", readme, re.MULTILINE))
    documented = {name: meaning for name, meaning in documented.items() if "." not in name}
    assert list(documented) == list(COLUMNS)
    assert documented == {name: column.meaning for name, column in COLUMNS.items()}
