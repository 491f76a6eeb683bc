"""MEND beside the plain way: one edit at a time, gradients of the weights themselves."""

import pytest
import torch

from editbench import make_editor
from editbench.gradient_based.normalisation import EPSILON, Normaliser
from tests.methods.rledit.test_editor import randomise
from tests.small_runs import REQUESTS
from tests.tiny_models import tiny_lm

SETTINGS = {"layers": [0, 2], "network": "untrained", "learning_rate": 1e-2, "rank": 3, "blocks": 2}


def plain_gradients(lm, request, names):
    """By module: gradient (d_out, d_in) of the mean NLL of the target's tokens, from autograd."""
    prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
    modules = [lm.model.get_submodule(name) for name in names]
    for module in modules:
        module.weight.requires_grad_(True)
    with torch.enable_grad():
        logits = lm.model(input_ids=torch.tensor([prompt + target[:-1]])).logits[0, len(prompt) - 1 :]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target))
        found = torch.autograd.grad(loss, [module.weight for module in modules])
    for module in modules:
        module.weight.requires_grad_(False)
    return [g if g.shape == lm.weight(f"{n}.weight").shape else g.T for n, g in zip(names, found, strict=True)]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_untrained_a_batch_is_one_step_of_gradient_descent_for_each_edit(architecture):
    """Without training and statistics δ̃ = δ and ũ = u, so that the change is that of the weights' own gradients."""
    lm, other = (tiny_lm(architecture, "float64") for _ in range(2))
    editor = make_editor("mend", lm, **SETTINGS)
    assert len(editor.modules) == 2 * (1 + len(lm.architecture.mlp_in))
    editor.edit(REQUESTS)
    gradients = zip(*(plain_gradients(other, request, list(editor.modules)) for request in REQUESTS), strict=True)
    for name, of_edits in zip(editor.modules, gradients, strict=True):
        found, wanted = editor.ledger.delta(f"{name}.weight"), -1e-2 * sum(of_edits)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6 * float(wanted.abs().max()))


def test_a_trained_network_beside_the_plain_way():
    lm = tiny_lm("llama", "float64")
    editor = make_editor("mend", lm, update_scale=0.5, **SETTINGS)
    randomise(editor.network)
    _, (seen,) = editor.look(REQUESTS)
    for name, (u, d) in seen.items():
        shape, i = editor.network.place[name]
        network, rows = editor.network.shapes[shape], torch.cat([u, d], dim=1)
        statistics = Normaliser.empty(rows)
        statistics.add(rows, False)
        z = (rows - rows.mean(0)) / (rows.std(0) + EPSILON)
        for block in network.blocks:
            z = z + (block.scale[i] * (z @ block.A @ block.B + block.bias) + block.shift[i]).clamp(min=0)
        wanted = -network.learning_rate[i] * sum(
            torch.outer(row[u.shape[1] :], row[: u.shape[1]]) for row in z.detach()
        )
        left, right = editor.factors(name, u, d, statistics)
        assert torch.allclose(left @ right.T, wanted, rtol=1e-6, atol=1e-9)


def test_the_update_is_scaled_where_it_is_applied():
    deltas = []
    for scale in (1.0, 0.5):
        editor = make_editor("mend", tiny_lm("gpt2", "float64"), update_scale=scale, **SETTINGS)
        editor.edit(REQUESTS[:1])
        deltas.append(editor.ledger.delta(editor.lm.mlp_out_name(0)))
    assert torch.allclose(deltas[0], 2 * deltas[1], rtol=1e-9)


def test_an_edit_does_not_depend_on_those_beside_it():
    """Padding and the others' answer lengths change nothing: a batch is the sum of its edits, on the same weights."""
    together = make_editor("mend", tiny_lm("llama", "float64"), **SETTINGS)
    together.edit(REQUESTS)
    alone = []
    for request in REQUESTS:
        editor = make_editor("mend", tiny_lm("llama", "float64"), **SETTINGS)
        editor.edit([request])
        alone.append({name: editor.ledger.delta(f"{name}.weight") for name in editor.modules})
    for name in together.modules:
        total = sum(one[name] for one in alone)
        assert torch.allclose(together.ledger.delta(f"{name}.weight"), total, rtol=1e-6, atol=1e-12)
