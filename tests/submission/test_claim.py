"""A claim is copied without following a link, and its seal, summary and counts are checked without a model."""

import json
import os

import pytest

from editbench.results import RunFolder
from editbench.submission.claim import CannotSay, Refused, check_seal, copy_of, read_claim
from editbench.submission.verify import main, verify
from tests.submission import forging


@pytest.fixture
def forged(claimed, tmp_path):
    return forging.copy(claimed("finetune"), tmp_path / "forged")


def test_a_claim_is_read_from_a_copy(claimed, tmp_path):
    run = claimed("finetune")
    (run / "notes.txt").write_text("mine")
    claim = read_claim(copy_of(run, tmp_path / "copy"))
    assert not (claim.folder / "notes.txt").exists() and not (claim.folder / "run.lock").exists()
    assert check_seal(claim)["rows"] == {"before": 1, "immediate": 5, "interim": 2 + 3, "final": 5 + 3}
    assert [claim.kept_after(batch) for batch in (-1, 0, 1, 2)] == [0, 1, 2, 3]
    assert [row["record"] for row in claim.records("interim", 2)] == claim.edits[0]["ids"]


@pytest.mark.parametrize(
    "told",
    [
        {"edits": 3, "low": 1, "condition": "perplexity_ratio > 100"},
        {"edits": 5, "low": 5, "condition": "nonfinite"},
    ],
)
def test_a_collapse_that_the_rows_do_not_show_is_refused(forged, told):
    with forging.forging(forged):
        forging.edit_info(forged, lambda info: info["summary"].update(collapsed=told))
    verdict = verify(forged)
    assert verdict.status == "refused" and "of a collapse, the rows and stream.stop_when None" in verdict.reasons[0]


def test_a_sample_without_rows_is_refused(forged, capsys):
    with pytest.raises(ValueError, match="sample is 0; it must be at least 1"):
        verify(forged, level=2, sample=0)
    assert main(str(forged), 2, -5, None, []) == 2
    assert "--sample is -5; it must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "scores.jsonl", "ledger/index.jsonl", "ledger"])
def test_links_and_what_is_no_file_are_refused(forged, tmp_path, name):
    (forged / name).rename(tmp_path / "elsewhere")
    (forged / name).symlink_to(tmp_path / "elsewhere")
    assert verify(forged).status == "refused"
    (forged / name).unlink()
    os.mkfifo(forged / name)
    assert verify(forged).status in ("refused", "unknown")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("scores.jsonl", lambda row: row.get("record") == "1" and row.update(record="9"), "the stage immediate"),
        ("scores.jsonl", lambda row: row["stage"] == "interim" and row.update(edits=3), "at evaluation points"),
        ("edits.jsonl", lambda row: row.update(ids=row["ids"][:1]), "edits: 3 found, 5 in the stream"),
        ("edits.jsonl", lambda row: row.update(ids=["0", "0"][: len(row["ids"])]), "different edits: 1 found"),
    ],
)
def test_rows_that_do_not_fit_the_stream_are_refused_though_sealed(forged, name, change, reason):
    with forging.forging(forged):
        forging.edit_rows(forged, name, change)
    verdict = verify(forged)
    assert verdict.status == "refused" and reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda info: info["provenance"]["method"].update(name="rome"), "says 'rome' of method.name"),
        (lambda info: info["provenance"]["method"]["config"].update(steps=99), "of method, config.yaml"),
        (lambda info: info["provenance"].update(seed=7), "says 7 of seed"),
        (lambda info: info["provenance"]["stream"].update(edits=6), "edits: 5 found, 6 in the stream"),
        (lambda info: info["provenance"]["protocol"].update(name="better"), "of protocol"),
        (lambda info: info["provenance"].pop("method"), "a value that no run writes"),
        (lambda info: info["provenance"].update(versions=[]), "a value that no run writes"),
    ],
)
def test_a_run_json_that_says_other_than_the_config_is_refused(forged, change, reason):
    with forging.forging(forged):
        forging.edit_info(forged, change)
    verdict = verify(forged)
    assert verdict.status == "refused" and reason in verdict.reasons[0], verdict


def test_a_summary_that_is_not_that_of_the_rows_is_refused(forged):
    with RunFolder.open(forged) as folder:
        summary = json.loads(json.dumps(folder.info["summary"]))
        summary["final"]["score"] = 1.0
        folder.set_status("done", summary=summary)
    assert verify(forged).reasons == ["the summary in run.json is not that of the rows (final)"]


def test_a_config_with_aliases_is_refused(forged):
    with forging.forging(forged):
        (forged / "config.yaml").write_text("a: &a [1]\n" + (forged / "config.yaml").read_text() + "b: *a\n")
    assert "has aliases" in verify(forged).reasons[0]


def test_what_has_not_finished_or_is_of_another_format_claims_nothing(forged, tmp_path):
    with RunFolder.open(forged) as folder:
        folder.set_status("failed", "on purpose")
    with pytest.raises(CannotSay, match="it is failed, and claims no result"):
        read_claim(copy_of(forged, tmp_path / "a"))
    (forged / "run.json").write_text('{"format": 1}')
    with pytest.raises(CannotSay, match="its format is 1; this editbench reads 2"):
        read_claim(copy_of(forged, tmp_path / "b"))
    (forged / "run.json").write_text("{")
    with pytest.raises(Refused):
        read_claim(copy_of(forged, tmp_path / "c"))
