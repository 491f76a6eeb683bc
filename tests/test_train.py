"""``editbench train`` as a user calls it, on a tiny model, and the runs that use what it trained."""

import json

import pytest

from editbench import single_run, train
from editbench.datasets.disjoint import CrossingError
from editbench.results.leaderboard import read_row
from tests.small_runs import counterfact_rows
from tests.test_editing_loop import lines, tiny_folder  # noqa: F401


@pytest.fixture
def overrides(tmp_path, tiny_folder):  # noqa: F811
    """Of both commands, on a file of 40 records, of which 4 are for training."""
    data = tmp_path / "records.json"
    data.write_text(json.dumps(list(counterfact_rows(40))))
    method = ["method=mend", "method.layers=[0,1]", "method.rank=2", "method.learning_rate=0.01", "method.batch=2"]
    return [
        f"model.path={tiny_folder}",
        f"cache={tmp_path / 'cache'}",
        "dataset=counterfact",
        f"dataset.path={data}",
        *method,
    ]


def run(overrides, tmp_path, *more):
    own = [
        f"results.dir={tmp_path / 'results'}",
        "stream.edits=3",
        "protocol.metrics=[exact_match,agreement,nll_contrast]",
    ]
    return single_run.run([*overrides, *own, *more])


def test_a_run_uses_what_was_trained_and_names_the_command_before(overrides, tmp_path, capsys):
    split = "dataset.split=stream"
    with pytest.raises(ValueError, match="editbench train method=mend model=tiny dataset=counterfact"):
        run(overrides, tmp_path, split)
    assert train.main(overrides) == 0
    printed = capsys.readouterr().out.splitlines()
    records = len(json.loads((tmp_path / "records.json").read_text()))
    assert printed[0].startswith("training mend for tiny: ") and "of counterfact, split train" in printed[0]
    assert 0 < int(printed[0].split(": ")[1].split()[0]) < records
    assert printed[1].startswith("losses of epoch 1 of 1: edit ") and printed[-2].startswith("network: ")
    assert printed[-1].startswith("editbench run ") and "method=mend" in printed[-1]
    folder = run(overrides, tmp_path, split, "results.rerun=true").folder
    (file,) = (tmp_path / "cache" / "networks").glob("*.safetensors")
    assert lines(folder, "edits.jsonl")[0]["details"]["network"].startswith(f"networks/{file.name} ")
    assert any(f"networks/{file.name}" in line.get("cached", {}) for line in lines(folder, "chain.jsonl"))
    assert read_row(folder)["status"] == "done"
    assert train.main([*overrides, "--out", str(tmp_path / "mine.safetensors")]) == 0
    assert (tmp_path / "mine.safetensors").read_bytes() != b"" and "method.network=" in capsys.readouterr().out


def test_a_stream_of_all_records_is_refused_since_it_has_the_training_ones(overrides, tmp_path):
    with pytest.raises(CrossingError, match="the method learns from the training record"):
        run(overrides, tmp_path, "stream.edits=40")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("dataset.split=stream", "a method is trained on the records of dataset.split=train, and no others"),
        ("dataset.split=tune", "leave it out"),
        ("stream.edits=3", "stream.edits belongs to a run: a training takes all records; leave it out"),
        ("dataset.limit=3", "dataset.limit belongs to a run"),
        ("method.network=untrained", "a training begins with a new one: leave it out"),
        ("method.rnk=3", "method.rnk"),
    ],
)
def test_what_does_not_belong_to_a_training_is_refused_by_name(overrides, capsys, more, told):
    assert train.main([*overrides, more]) == 1
    assert told in capsys.readouterr().err


def test_a_method_without_anything_to_train_is_told_those_that_have(overrides, capsys):
    assert train.main([o for o in overrides if not o.startswith("method")] + ["method=rome"]) == 1
    assert "rome has nothing to train; methods that have: mend, rledit" in capsys.readouterr().err


def test_an_interruption_says_that_the_command_goes_on(overrides, monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", stop)
    assert train.main(overrides) == 130
    assert "The same command goes on from the last saved state." in capsys.readouterr().err
