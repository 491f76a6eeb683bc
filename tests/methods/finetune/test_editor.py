"""FT-L beside the plain way of doing the same: the whole model at each step, one row at a time."""

import pytest
import torch

from editbench import make_editor
from tests.edits import edits
from tests.small_runs import weights
from tests.tiny_models import tiny_lm

SETTINGS = {"layer": 1, "steps": 4, "learning_rate": 1e-2, "norm_bound": 5e-3, "stop_loss": 0.0}


def plain(lm, requests, config):
    """Losses before each step; the weight is trained in place, with the bound around its first value."""
    parameter = lm.mlp_out(config.layer).weight.requires_grad_(True)
    first, losses = parameter.detach().clone(), []
    optimiser = torch.optim.Adam([parameter], lr=config.learning_rate, weight_decay=config.weight_decay)
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
                parameter.clamp_(first - config.norm_bound, first + config.norm_bound)
    parameter.requires_grad_(False)
    return losses


@pytest.mark.parametrize("bound", [5e-3, None])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt-post"])
def test_finetune(architecture, bound):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    before = weights(lm)
    editor = make_editor("finetune", lm, **SETTINGS | {"norm_bound": bound})
    for batch in (edits(5)[:3], edits(5)[3:]):
        found, losses = editor.edit(batch), plain(other, batch, editor.config)
        for request in batch:
            assert found.losses[request.id] == pytest.approx(losses, rel=1e-7)
    name = lm.mlp_out_name(1)
    assert torch.allclose(lm.weight(name), other.weight(name), rtol=0, atol=1e-6)
    moved = {key for key, tensor in weights(lm).items() if not torch.equal(tensor, before[key])}
    assert moved == {name}
    if bound is not None:
        assert float(editor.ledger.delta(name).abs().max()) <= 2 * bound * (1 + 1e-9)


def test_training_stops_below_the_loss():
    editor = make_editor("finetune", tiny_lm("llama"), **SETTINGS | {"steps": 50, "norm_bound": None, "stop_loss": 3.0})
    losses = editor.edit(edits(1)).losses["edit-0"]
    assert losses[-1] < 3.0 <= min(losses[:-1])
