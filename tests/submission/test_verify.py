"""True runs are verified at every level; forged ones, whose digests are right, are refused where that is seen."""

import json
import shutil

import pytest

from editbench import cli
from editbench.submission.verify import verify
from tests.small_runs import KINDS, SETTINGS, counterfact_rows, each, save_model
from tests.submission import forging
from tests.tiny_models import tiny_lm

METHODS = each(SETTINGS, fast=KINDS)


@pytest.mark.parametrize("method", METHODS)
def test_a_true_run_is_verified_to_the_bit_at_every_level(claimed, places, method):
    run = claimed(method)
    before = {file: file.stat().st_mtime_ns for file in sorted(run.rglob("*"))}
    verdict = verify(run, 3, places=places)
    assert (verdict.status, verdict.reasons, verdict.exit_status) == ("verified", [], 0)
    assert verdict.seal == {"batches": 3, "edits": 5, "rows": verdict.seal["rows"]}
    scores, edits = verdict.rescored, verdict.reedited
    assert scores["equal"] == scores["scores"] > 50 and scores["differing"] == 0 and scores["equal_weights"]
    assert edits["batches"] == edits["equal"] == 3 and edits["relative_error"] == 0.0
    assert edits["scored_after"]["equal"] == edits["scored_after"]["scores"] > 0
    assert verdict.tolerance["machine"] == "same"
    assert {file: file.stat().st_mtime_ns for file in sorted(run.rglob("*"))} == before


def test_level_2_needs_no_texts_and_tells_what_it_needs(claimed, places):
    run = claimed("nse")
    verdict = verify(run, 2)
    asked = [f"--path {name}=YOURS" for name in ("model.path", "dataset.path", "dataset.plain_path")]
    assert verdict.status == "unknown" and verdict.exit_status == 2 and all(a in verdict.reasons[0] for a in asked)
    given = {name: place for name, place in places.items() if name != "model.texts"}
    assert verify(run, 2, places=given).status == "verified"
    assert "--path model.texts=YOURS" in verify(run, 3, places=given).reasons[0]
    assert "names no path" in verify(run, 2, places={**given, "stream.seed": "x"}).reasons[0]


@pytest.fixture
def forged(claimed, tmp_path):
    """A copy of a run, to forge."""

    def copy(method="finetune", *overrides):
        return forging.copy(claimed(method, *overrides), tmp_path / "forged")

    return copy


def better(row):
    """Only the headline of the first record: one score of many."""
    if row.get("record") == "0" and row["stage"] == "final":
        row["scores"]["rewrite.exact_match"] = 1.0 - row["scores"]["rewrite.exact_match"]


def test_a_forged_row_passes_the_seal_and_fails_the_second_scoring(forged, places):
    run = forged()
    with forging.forging(run):
        forging.edit_rows(run, "scores.jsonl", better)
    assert verify(run).status == "verified"  # what a seal does not prove
    verdict = verify(run, 2, places=places)
    assert (verdict.status, verdict.exit_status) == ("refused", 1)
    assert verdict.reasons[0].startswith("final row of '0': rewrite.exact_match is ")


@pytest.mark.parametrize("method", KINDS)
def test_a_forged_edit_passes_the_seal_and_fails_the_second_scoring(forged, places, method):
    run = forged(method)
    with forging.forging(run):
        forging.edit_ledger(run, lambda tensor: tensor * 3 if tensor.is_floating_point() else tensor)
    assert verify(run).status == "verified"
    for level in (2, 3):
        verdict = verify(run, level, places=places)
        assert verdict.status == "refused", verdict
    assert any("is another edit" in reason for reason in verdict.reasons)


def test_edits_of_other_settings_than_claimed_fail_when_they_are_made_again(forged, places):
    run = forged("finetune", "method.steps=6")
    with forging.forging(run):
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("steps: 6", "steps: 3"))
        forging.edit_info(run, lambda info: info["provenance"]["method"]["config"].update(steps=3))
    assert verify(run, 2, places=places).status == "verified"  # rows and edits are those of each other
    verdict = verify(run, 3, places=places)
    assert verdict.status == "refused" and "edited again, is another edit" in verdict.reasons[0]


def test_another_base_model_is_refused(forged, places, tmp_path):
    lm = tiny_lm("gpt2")
    lm.weight(lm.mlp_out_name(1))[0] += 1.0
    other = str(save_model(lm, tmp_path / "tiny"))
    run = forged("finetune", f"model.path={other}")
    verdict = verify(run, 2, places=places)
    assert verdict.status == "refused" and "the model is another: its hash here is" in verdict.reasons[0]
    assert verify(run, 2, places={**places, "model.path": other}).status == "verified"
    claim = tiny_lm("gpt2").fingerprint
    with forging.forging(run):
        forging.edit_info(run, lambda info: info["provenance"]["model"].update(hash=claim))
    assert verify(run).status == "verified"
    assert verify(run, 2, places=places).status == "refused"


def test_a_bad_edit_that_is_said_to_have_failed_is_found_by_editing_again(forged, places):
    def failed(row):
        if row["batch"] == 0:
            row["failed"] = {row["ids"][0]: "NaN: the loss became NaN"}

    run = forged()
    with forging.forging(run):
        forging.edit_rows(run, "edits.jsonl", failed)
        hidden = json.loads((run / "edits.jsonl").read_text().splitlines()[0])["ids"][0]

        def unscored(row):
            if row.get("record") == hidden:
                row.update(status="failed", scores={}, probes=[], left_out={}, reason="failed: NaN: the loss")

        forging.edit_rows(run, "scores.jsonl", unscored)
    assert verify(run, 2, places=places).status in ("verified", "refused")
    verdict = verify(run, 3, places=places)
    assert verdict.status == "refused" and any("is failed there or here alone" in one for one in verdict.reasons)


def test_single_edits_are_checked_by_editing_again(claimed, places):
    single = ("stream.mode=single", "stream.batch_size=1", "stream.evaluate_at=[]", "stream.edits=3")
    run = claimed("scen", *single)
    assert verify(run).status == "verified"
    verdict = verify(run, 2, places=places)
    assert verdict.status == "unknown" and "only --level 3" in verdict.reasons[0]
    verdict = verify(run, 3, places=places)
    assert (verdict.status, verdict.reasons) == ("verified", [])
    assert verdict.reedited["scored_after"]["rows"] == 3


@pytest.mark.parametrize("method", ["rome", "scen"])
def test_the_shift_of_hidden_states_is_measured_again(claimed, places, tmp_path, method):
    (tmp_path / "data.json").write_text(json.dumps(list(counterfact_rows(30))))
    own = {"dataset.path": str(tmp_path / "data.json")}
    given = (f"dataset.path={own['dataset.path']}", "dataset.split=stream", "protocol.hidden_shift=2")
    run = claimed(method, *given)
    assert verify(run).status == "verified"
    verdict = verify(run, 2, places=places | own)
    assert (verdict.status, verdict.reasons) == ("verified", [])
    assert verdict.rescored["equal"] == verdict.rescored["scores"]
    forged = forging.copy(run, tmp_path / "forged")
    with forging.forging(forged):
        forging.edit_rows(forged, "scores.jsonl", smaller_shift)
    assert "row of 'drift': hidden_shift is" in verify(forged, 2, places=places | own).reasons[0]


def smaller_shift(row):
    if row.get("of") == "drift" and row["stage"] == "final":
        row["scores"]["hidden_shift"] -= 0.5


def test_a_run_in_the_chat_template_is_verified_and_learns_in_it(claimed, places, tmp_path):
    lm = tiny_lm("gpt2")
    lm.tokenizer.chat_template = "<user> {{ messages[-1].content }} <assistant> "
    (tmp_path / "data.json").write_text(json.dumps(list(counterfact_rows(30))))
    own = {"model.path": str(save_model(lm, tmp_path / "chat")), "dataset.path": str(tmp_path / "data.json")}
    given = [f"{name}={place}" for name, place in own.items()]
    split = ("dataset.chat_template=true", "dataset.split=stream")
    run = claimed("wise", *given, *split, "method.irrelevant=[]", "method.irrelevant_from=training")
    verdict = verify(run, 3, places=places | own)
    assert (verdict.status, verdict.reasons) == ("verified", [])


def test_the_sample_follows_from_root_and_nonce(claimed, places):
    run = claimed("finetune")
    one, same, two = (verify(run, 2, sample=3, nonce=nonce, places=places) for nonce in ("a", "a", "b"))
    assert one.nonce == "a" and one.sample == 3 and one.status == two.status == "verified"
    assert one.rescored == same.rescored
    assert len(verify(run, 2, sample=1, places=places).nonce) == 32


def test_a_value_that_nobody_foresaw_decides_nothing(claimed, places, monkeypatch):
    from editbench.submission import rescore

    monkeypatch.setattr(rescore, "drawn", lambda *_: 1 / 0)
    verdict = verify(claimed("finetune"), 2, places=places)
    assert verdict.status == "unknown" and verdict.reasons == ["ZeroDivisionError: division by zero"]


def test_the_command_prints_one_line_and_its_exit_status_is_the_verdict(claimed, places, tmp_path, capsys):
    run = claimed("finetune")
    paths = [text for name, place in places.items() for text in ("--path", f"{name}={place}")]
    assert cli.main(["verify", str(run), "--level", "2", "--sample", "4", "--nonce", "n", *paths]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["status"], found["level"], found["nonce"], found["sample"]) == ("verified", 2, "n", 4)
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "holds no run" in json.loads(capsys.readouterr().out)["reasons"][0]
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "edits.jsonl").write_text("")
    assert cli.main(["verify", str(damaged)]) == 1
    assert "edits.jsonl is not what the run wrote" in json.loads(capsys.readouterr().out)["reasons"][0]
    assert cli.main(["verify", str(run), "--path", "model.path"]) == 2
