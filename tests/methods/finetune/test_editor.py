"""FT-L beside the plain way of doing the same: the whole model at each step, one row at a time."""

import pytest
import torch

from editbench import Resources, make_editor
from tests.edits import edits
from tests.small_runs import weights
from tests.tiny_models import LINES, tiny_lm

SETTINGS = {"layer": 1, "steps": 4, "learning_rate": 1e-2, "norm_bound": 5e-3, "stop_loss": 0.0}


def plain(lm, requests, config):
    """Losses before each step; weight and bias are trained in place, with the bound around their first values."""
    trained = [p.requires_grad_(True) for p in lm.mlp_out(config.layer).parameters()][: 1 + config.train_bias]
    first, losses = [p.detach().clone() for p in trained], []
    optimiser = torch.optim.Adam(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    for _ in range(config.steps):
        optimiser.zero_grad()
        loss = 0.0
        for request in requests:
            prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
            out = lm.model(input_ids=torch.tensor([[*prompt, *target[:-1]]])).logits[0, len(prompt) - 1 :]
            loss = loss + torch.nn.functional.cross_entropy(out, torch.tensor(target)) / len(requests)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
        if config.norm_bound is not None:
            with torch.no_grad():
                for p, start in zip(trained, first, strict=True):
                    p.clamp_(start - config.norm_bound, start + config.norm_bound)
    lm.model.requires_grad_(False)
    return losses


@pytest.mark.parametrize(("bound", "bias"), [(5e-3, True), (None, True), (None, False)])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt-post"])
def test_finetune(architecture, bound, bias):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    before = weights(lm)
    editor = make_editor("finetune", lm, **SETTINGS | {"norm_bound": bound, "train_bias": bias})
    for batch in (edits(5)[:3], edits(5)[3:]):
        found, losses = editor.edit(batch), plain(other, batch, editor.config)
        for request in batch:
            assert found.losses[request.id] == pytest.approx(losses, rel=1e-7)
    name = lm.mlp_out_name(1)
    names = {name, name.replace("weight", "bias")} if bias and architecture != "llama" else {name}
    assert {key for key, tensor in weights(lm).items() if not torch.equal(tensor, before[key])} == names
    for one in names:
        assert torch.allclose(lm.weight(one), other.weight(one), rtol=0, atol=1e-6)
        if bound is not None:
            assert float(editor.ledger.delta(one).abs().max()) <= 2 * bound * (1 + 1e-9)
    editor.ledger.rollback(0)
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(lm).items())


def test_training_stops_below_the_loss():
    editor = make_editor("finetune", tiny_lm("llama"), **SETTINGS | {"steps": 50, "norm_bound": None, "stop_loss": 3.0})
    losses = editor.edit(edits(1)).losses["edit-0"]
    assert losses[-1] < 3.0 <= min(losses[:-1])


def test_replayed_edits_are_trained_with_the_new_ones():
    """The same losses as one batch of both; drawn by the seed, without the prompts that are edited now."""
    settings = SETTINGS | {"norm_bound": None}
    lm = tiny_lm("llama", "float64")
    editor = make_editor("finetune", lm, replay=8, **settings)
    first, second = edits(4)[:2], edits(4)[2:]
    editor.edit(first)
    other = tiny_lm("llama", "float64")
    other.mlp_out(1).weight.data.copy_(lm.mlp_out(1).weight)
    found = editor.edit(second).losses[second[0].id]
    assert found == pytest.approx(plain(other, [*second, *first], editor.config), rel=1e-7)
    assert torch.allclose(lm.weight(lm.mlp_out_name(1)), other.weight(other.mlp_out_name(1)), rtol=0, atol=1e-6)
    assert [r.id for r in editor._replayed(first)] and not {r.id for r in editor._replayed(first)} & {
        "edit-0",
        "edit-1",
    }
    editor.ledger.rollback(1)
    assert {r.id for r in editor._replayed(second)} == {"edit-0", "edit-1"}


def test_consolidation_holds_the_weight_where_plain_text_needs_it():
    changes = []
    for ewc in (0.0, 1e4):
        lm = tiny_lm("llama")
        resources = Resources(texts=LINES)
        editor = make_editor("finetune", lm, resources=resources, ewc=ewc, **SETTINGS | {"norm_bound": None})
        for request in edits(3):
            editor.edit([request])
        changes.append(editor.ledger.delta(lm.mlp_out_name(1)))
    fisher = editor._consolidation.fisher[0].double()
    assert float((fisher * changes[1].square()).sum()) < 0.9 * float((fisher * changes[0].square()).sum())
    assert editor.footprint().host == 2 * fisher.numel() * 4


@pytest.mark.parametrize("objective", ["prompt_last", "text"])
def test_other_objectives_train_other_tokens(objective):
    lm = tiny_lm("llama")
    editor = make_editor("finetune", lm, objective=objective, **SETTINGS)
    losses = editor.edit(edits(2)).losses["edit-0"]
    assert (
        losses[-1]
        < losses[0]
        != make_editor("finetune", tiny_lm("llama"), **SETTINGS).edit(edits(2)).losses["edit-0"][0]
    )
