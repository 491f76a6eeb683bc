"""SCEN: edits deleted, replaced and rolled back, and inputs of its neurons."""

import pytest
import torch

from editbench import EditRequest
from editbench.ledger import Ledger
from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import prompt_inputs
from editbench.methods.scen import editor as editor_module
from tests.methods.scen.given_neurons import IDS, LAYER, REQUESTS, SUBJECTS, answers, logits, scen
from tests.small_runs import same
from tests.tiny_models import tiny_lm

# -- retire and replace ------------------------------------------------------------------------------------------------


def test_deleting_gives_the_unedited_answer_back():
    lm = tiny_lm()
    editor = scen(lm)
    ids = lm.encode(REQUESTS[0].prompt).ids
    with torch.no_grad():
        before = lm.model(input_ids=torch.tensor([ids])).logits
    editor.edit(REQUESTS[:1])
    assert not torch.equal(logits(editor, REQUESTS[0].prompt), before)
    assert editor.ledger.edited_ids == IDS[:1]
    editor.delete(IDS[0])
    assert editor.ledger.edited_ids == []
    assert torch.equal(logits(editor, REQUESTS[0].prompt), before)
    assert editor.footprint().host == 0 and len(editor.bank) == 0
    with pytest.raises(ValueError, match="holds no edit 'edit 0'"):
        editor.delete("edit 0")


def test_a_newer_edit_of_the_same_fact_replaces_the_older(tmp_path):
    editor = scen(bank_directory=str(tmp_path), expert_steps=60)
    editor.edit(REQUESTS[:3])
    newer = EditRequest("newer", REQUESTS[1].prompt, SUBJECTS[1], "Galician")
    editor.initial_neurons["newer"] = editor.initial_neurons[IDS[1]]
    result = editor.edit([newer])
    assert result.details["edits"]["newer"]["replaced"] == [IDS[1]]
    assert editor.bank.ids == [IDS[0], IDS[2], "newer"] and len(list(tmp_path.iterdir())) == 3
    assert editor.generate(newer.prompt, max_new_tokens=8)[0].strip() == "Galician"
    with pytest.raises(ValueError, match="cannot go back to edit 'edit 1"):
        editor.ledger.rollback(1)
    assert len(editor.ledger) == 2 and len(editor.bank) == 3
    same_id = EditRequest("newer", REQUESTS[4].prompt, SUBJECTS[4], "French")
    editor.edit([same_id, REQUESTS[5]])
    assert editor.bank.ids == [IDS[0], IDS[2], "newer", IDS[5]]
    assert editor.bank.prompts[2] == REQUESTS[4].prompt


@pytest.mark.parametrize("disk", [False, True])
def test_rolling_back_takes_edits_out_of_the_bank(tmp_path, disk):
    places = {"bank_directory": str(tmp_path / "bank")} if disk else {}
    editor = scen(**places)
    editor.edit(REQUESTS[:2])
    before = answers(editor)
    editor.edit(REQUESTS[2:4])
    editor.delete(IDS[2])
    editor.ledger.rollback(1)
    assert editor.bank.ids == editor.ledger.edited_ids == IDS[:2]
    assert answers(editor) == before
    editor.ledger.rollback()
    assert len(editor.bank) == 0 and (not disk or not list((tmp_path / "bank").iterdir()))


def test_what_neurons_see():
    editor = scen()
    prompts = [request.prompt for request in REQUESTS]
    assert [one.id for one in editor.route(prompts)] == [None] * len(prompts)
    editor.edit(REQUESTS[:3])
    seen, activations = editor.route(prompts), editor.activations(prompts)
    assert [one.id for one in seen[:3]] == IDS[:3]
    for one, row in zip(seen, activations, strict=True):
        assert one.activation == row.max().item()
        assert one.id == (editor.bank.ids[int(row.argmax())] if row.max() > editor.config.theta else None)


def test_activations_that_round_to_one_are_no_tie():
    editor = scen()
    editor.edit(REQUESTS[:2])
    prompt = REQUESTS[0].prompt
    x = editor.inputs([prompt])[0]
    with torch.no_grad():
        editor.bank.neurons.copy_(torch.stack([30 * x, 60 * x]) / (x @ x))
    assert editor.activations([prompt]).tolist() == [[1.0, 1.0]]
    assert editor.route([prompt])[0].id == IDS[1]
    assert editor._routing(x[None]).of == [IDS[1]]


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_a_prompt_that_is_too_long_loses_its_beginning_before_a_neuron_sees_it(bos):
    lm = tiny_lm(bos=bos)
    editor = scen(lm)
    editor.edit(REQUESTS[:2])
    text = " ".join([REQUESTS[0].prompt] * lm.max_length)
    ids = lm.encode(text).ids
    kept = [*ids[:bos], *ids[bos - lm.max_length :]]
    assert len(kept) == lm.max_length
    assert torch.equal(editor.inputs([text]), prompt_inputs(lm, Projection.of(lm, LAYER, SECOND), [kept]))
    assert 0 < editor.route([text])[0].activation < 1


def test_rolling_back_behind_a_replacement_keeps_what_stood_there():
    editor = scen()
    editor.edit(REQUESTS[:1])
    newer = EditRequest("newer", REQUESTS[0].prompt, SUBJECTS[0], "Galician")
    editor.edit([newer])
    before = answers(editor)
    editor.edit(REQUESTS[1:2])
    editor.ledger.rollback(2)
    assert editor.bank.ids == ["newer"] and answers(editor) == before
    editor.edit(REQUESTS[:1])  # the older once more: it takes the place back
    assert editor.bank.ids == IDS[:1]
    editor.delete(IDS[0])
    assert editor.ledger.edited_ids == [] and len(editor.bank) == 0
    editor.ledger.rollback()


def test_with_a_ledger_on_disk_replaced_and_deleted_edits_come_back(tmp_path):
    lm = tiny_lm()
    editor = scen(lm, ledger=Ledger(lm, tmp_path))
    editor.edit(REQUESTS[:2])
    before, state = answers(editor), {name: tensor.clone() for name, tensor in editor.state().items()}
    editor.edit([EditRequest("newer", REQUESTS[1].prompt, SUBJECTS[1], "Galician")])
    editor.delete(IDS[0])
    editor.ledger.rollback(1)
    assert editor.bank.ids == editor.ledger.edited_ids == IDS[:2]
    assert same(editor.state(), state) and answers(editor) == before


def test_without_one_a_deleted_edit_does_not_come_back():
    editor = scen()
    editor.edit(REQUESTS[:1])
    editor.edit(REQUESTS[1:2])
    editor.delete(IDS[0])
    with pytest.raises(ValueError, match="cannot go back to edit 'edit 0.*or it was deleted"):
        editor.ledger.rollback(1)
    assert editor.bank.ids == editor.ledger.edited_ids == IDS[1:2]


def test_neurons_do_not_depend_on_how_a_stream_with_a_revision_is_cut_into_batches():
    revised = EditRequest("again", REQUESTS[1].prompt, SUBJECTS[1], "Greek")
    stream, found = [*REQUESTS[:2], revised, REQUESTS[2]], []
    for sizes in ([1, 1, 1, 1], [4], [2, 2], [1, 3]):
        editor, rest = scen(tiny_lm("llama", "float64"), neuron_learning_rate=0.1), list(stream)
        for size in sizes:
            editor.edit(rest[:size])
            del rest[:size]
        found.append(editor.bank.neurons.clone())
    assert all(torch.allclose(one, found[0], rtol=1e-9) for one in found)


# -- ahead -------------------------------------------------------------------------------------------------------------


def trained(editor):
    return {id: editor.bank.fetch(id).delta(torch.float32) for id in editor.bank.ids}


def test_experts_of_a_stream_are_the_same_whatever_its_batches_and_where_it_resumes(monkeypatch):
    sizes = []

    def count(data, *args, original=editor_module.train_experts):
        sizes.append(len(data))
        return original(data, *args)

    monkeypatch.setattr(editor_module, "train_experts", count)
    stream = REQUESTS[:5]
    found = []
    for batches in ([[0], [1], [2], [3], [4]], [[0, 1, 2], [3, 4]], [[3], [4]]):
        editor = scen(edits_at_once=2)
        editor.prepare(stream)
        for batch in batches:
            editor.edit([stream[i] for i in batch])
        found.append(trained(editor))
        assert not editor._ahead or set(editor._ahead) == {stream[2]}  # the resumed one has trained its neighbour too
    assert sizes == [2, 2, 1] * 2 + [2, 1]
    one, together, resumed = found
    assert all(torch.equal(one[id], together[id]) for id in IDS[:5])
    assert all(torch.equal(one[id], resumed[id]) for id in IDS[3:5])
