"""The edited model without some edits: as if they had never been made."""

import pytest
import torch

from editbench import make_editor, open_run
from editbench.cli import main
from editbench.edited_run.forgetting import forget, plan
from editbench.edited_run.listing import edits_of

SINGLE = ("stream.batch_size=1", "stream.order=file", "protocol.stages=[final]", "stream.evaluate_at=[]")


def changed(run):
    return {name: run.lm.weight(name).clone() for name in run.editor.ledger.changed_weights}


@pytest.mark.parametrize(
    "method", ["finetune", pytest.param("nse", marks=pytest.mark.slow), pytest.param("memit", marks=pytest.mark.slow)]
)
def test_weights_are_those_of_a_stream_that_never_had_the_edit(claimed, method, tmp_path):
    folder = claimed(method, *SINGLE)
    ids = [edit.id for edit in edits_of(folder)]
    planned = plan(folder, [ids[4]])  # the last: what stays is the stream of the first four
    assert (planned.keep, planned.edits) == (4, 0)
    forget(planned, tmp_path / "out")
    shorter = claimed(method, *SINGLE, "stream.edits=4")
    first, second = open_run(tmp_path / "out"), open_run(shorter)
    assert changed(first).keys() == changed(second).keys()
    assert all(torch.equal(tensor, changed(second)[name]) for name, tensor in changed(first).items())


def test_later_edits_are_made_again_on_the_model_without_it(claimed, tmp_path):
    folder = claimed("finetune", *SINGLE)
    ids = [edit.id for edit in edits_of(folder)]
    planned = plan(folder, [ids[1]])
    assert (planned.keep, planned.edits) == (1, 3) and planned.seconds > 0
    forget(planned, tmp_path / "out")
    requests = {record.id: record.request for record in planned.data[1].records}
    again = open_run(tmp_path / "out")
    assert again.editor.ledger.edited_ids == [ids[0], *ids[2:]]
    fresh = open_run(claimed("unedited", *SINGLE))
    method = make_editor("finetune", fresh.lm, hparams=None, **vars(planned.config.method.settings))
    for id in again.editor.ledger.edited_ids:
        method.edit([requests[id]])
    assert all(torch.equal(fresh.lm.weight(name), tensor) for name, tensor in changed(again).items())


@pytest.mark.parametrize("method", ["scen", "retrieval"])
def test_a_memory_beside_the_weights_loses_the_edit_alone(claimed, method, tmp_path):
    folder = claimed(method, *SINGLE)
    edits = edits_of(folder)
    gone = edits[1]
    planned = plan(folder, [gone.id])
    assert planned.edits == 0
    forget(planned, tmp_path / "out")
    run = open_run(tmp_path / "out")
    assert run.editor.ledger.edited_ids == [edit.id for edit in edits if edit is not gone]
    assert run.routes(gone.prompt)[0].id != gone.id
    whole = open_run(folder)
    others = [edit.prompt for edit in edits if whole.routes(edit.prompt)[0].id != gone.id]
    assert others and run.generate(others, max_new_tokens=4) == whole.generate(others, max_new_tokens=4)


def test_the_command_states_the_cost_and_refuses_what_was_never_edited(claimed, tmp_path, capsys):
    folder = claimed("finetune", *SINGLE)
    ids = [edit.id for edit in edits_of(folder)]
    assert main(["forget", str(folder), ids[2], "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "2 edits are made again (about" in said.err and f"without {ids[2]}" in said.out
    assert main(["forget", str(folder), "999", "--out", str(tmp_path / "other")]) == 1
    assert "999" in capsys.readouterr().err and not (tmp_path / "other").exists()
    assert main(["forget", str(folder), ids[2], "--out", str(tmp_path / "out")]) == 1
    assert "is there already" in capsys.readouterr().err
