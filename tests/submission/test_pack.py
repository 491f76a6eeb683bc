"""What is packed is verified first, one method at a time; what would be refused is not packed."""

import json

import pytest

from editbench import cli
from editbench.submission.pack import submit, unofficial
from editbench.submission.verify import verify
from tests.submission import forging


def test_runs_of_several_seeds_are_packed_as_they_are(claimed, tmp_path, capsys):
    runs = [claimed("finetune", f"stream.seed={seed}") for seed in range(3)]
    out = tmp_path / "all" / "mine"
    assert cli.main(["submit", *map(str, runs), "--out", str(out)]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about == {"folder": str(out), **json.loads((out / "submission.json").read_text())}
    assert about["method"] == "finetune" and [one["seed"] for one in about["runs"]] == [0, 1, 2]
    assert about["official"] and about["unofficial_because"] == [] and about["against"] is None
    for run, one in zip(runs, about["runs"], strict=True):
        assert verify(out / "runs" / one["run"]).root == one["root"] == verify(run).root
        assert 0 < one["ledger_bytes"] < one["bytes"]
    assert [path.name for path in out.parent.iterdir()] == ["mine"]
    assert list((out / "verdicts").iterdir()) == []  # where `verify … >>` writes
    first = sorted(run.name for run in runs)[0]
    assert verify(out).reasons == [f"{out} holds no run; give a run's folder, as {out / 'runs' / first}"]


def test_what_would_not_be_verified_is_not_packed(claimed, tmp_path):
    run = claimed("finetune")
    forged = forging.copy(run, tmp_path / "forged")
    (forged / "scores.jsonl").write_text("")
    for runs, reason in (
        ([forged], f"{forged} would not be verified: .*scores.jsonl is not what the run wrote"),
        ([tmp_path], "would not be verified: .* holds no run"),
        ([run, claimed("nse")], "differ in more than their seed"),
        ([run, run], "another of the runs is called"),
        ([run, forging.copy(run, tmp_path / "again")], "a run was given twice"),
    ):
        with pytest.raises(ValueError, match=reason):
            submit(runs, tmp_path / "out" / "mine")
    assert list((tmp_path / "out").iterdir()) == []
    submit([run], tmp_path / "out" / "mine")
    with pytest.raises(ValueError, match="is there already"):
        submit([run], tmp_path / "out" / "mine")


def test_a_file_that_only_some_runs_have_is_packed(claimed, tmp_path):
    run = claimed("finetune", "dataset.path=pocket", "dataset.plain_path=null", "protocol.hidden_shift=2")
    submit([run], tmp_path / "mine")
    assert (tmp_path / "mine" / "runs" / run.name / "hidden_shift.safetensors").is_file()
    assert verify(tmp_path / "mine" / "runs" / run.name).status == "verified"


def test_an_entry_is_official_by_its_seeds_and_its_settings():
    def of(seeds, hparams="tuned", tuning=None):
        method = {"hparams": hparams, **({"tuning": tuning} if tuning else {})}
        return unofficial([{"seed": seed, "method": method} for seed in seeds])

    assert of([0, 1, 2], tuning={"trials": 30, "overlap": 0}) == of([0, 1, 2], "published") == []
    assert of([0, 0, 1], "published") == ["2 of 3 seeds"]
    assert of([0, 1, 2]) == ["hparams tuned: the records that they were found on are not declared"]
    assert of([0, 1, 2], "by_hand") == ["hparams by_hand: the records that they were found on are not declared"]
    assert of([0, 1, 2], tuning={"trials": 30, "overlap": 2}) == ["tuned on 2 of these edits"]


def test_no_seed_may_edit_what_the_settings_were_found_on():
    def run(seed, overlap):
        return {"seed": seed, "method": {"hparams": "tuned", "tuning": {"trials": 30, "overlap": overlap}}}

    assert unofficial([run(0, 0), run(1, 3), run(2, 1)]) == ["tuned on 3 of these edits"]
    without = {"seed": 1, "method": {"hparams": "tuned"}}
    undeclared = "hparams tuned: the records that they were found on are not declared"
    assert unofficial([run(0, 0), without, {**without, "seed": 2}]) == [undeclared]
