"""Reference figures: what agrees, what differs, and what is refused by name."""

from __future__ import annotations

import json

import pytest

from editbench.results import ResultsError
from editbench.results.csv_files import write_csv
from editbench.results.leaderboard import collect
from editbench.results.reference import KEY, compare
from editbench.results.schema import SCHEMA
from editbench.results.table_layout import layout
from tests.results.runs import write_fixed_run as write_run


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


def test_a_relative_reference_of_0_differs_from_all_but_0(tmp_path):
    write_run(tmp_path, "a")
    rows = collect(tmp_path)

    def found(row):
        differences = compare([row], reference(tmp_path, perplexity_after=0.0))
        return next((d["difference"], d["verdict"]) for d in differences if d["measure"] == "perplexity_after")

    assert found(rows[0]) == (None, "differs")
    assert found({**rows[0], "perplexity_after": 0.0}) == (0.0, "same")


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
