"""The list of a run's edits, and the command."""

import json
from pathlib import Path
from shutil import copy

import pytest

from editbench.cli import main
from editbench.edited_run.listing import edits_of


def test_every_edit_with_its_batch_and_its_scores(claimed):
    folder = claimed("finetune")
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    wanted = {(row["stage"], row["record"]): row["scores"]["rewrite.exact_match"] for row in rows if row.get("record")}
    edits = edits_of(folder)
    assert [edit.number for edit in edits] == [1, 2, 3, 4, 5] and [edit.batch for edit in edits] == [0, 0, 1, 1, 2]
    for edit in edits:
        assert (edit.then, edit.now) == (wanted["immediate", edit.id], wanted["final", edit.id])
        assert edit.status == "edited" and edit.prompt and edit.target


def test_the_last_interim_scores_stand_for_final_ones(claimed):
    folder = claimed("finetune", "protocol.stages=[immediate]")
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    interim = {
        row["record"]: row["scores"]["rewrite.exact_match"]
        for row in rows
        if row["stage"] == "interim" and "record" in row
    }
    assert {edit.id: edit.now for edit in edits_of(folder) if edit.now is not None} == interim


def test_the_command_prints_a_table_or_json(claimed, capsys):
    folder = str(claimed("finetune"))
    assert main(["edits", folder]) == 0
    table = capsys.readouterr().out
    assert "5 of 5 edited" in table and "Person1 Maupoil" in table
    assert main(["edits", folder, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5 and lines[0]["measure"] == "rewrite.exact_match"


def test_records_that_have_changed_are_refused(claimed, places, tmp_path):
    data = Path(copy(places["dataset.path"], tmp_path / "data.json"))
    folder = claimed("finetune", f"dataset.path={data}")
    data.write_text(data.read_text().replace("Person1", "Danuta"))
    with pytest.raises(ValueError, match="are not those that were edited"):
        edits_of(folder)
