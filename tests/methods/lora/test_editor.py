"""LoRA beside the plain way: the product of two factors written into the weights, step by step, one row at a time."""

import pytest
import torch

from editbench import Ledger, make_editor
from editbench.model.architectures import is_transposed
from tests.edits import edits
from tests.small_runs import REQUESTS, logits, same, weights
from tests.tiny_models import tiny_lm

pytest.importorskip("peft", reason="peft is not installed")
SETTINGS = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "steps": 4, "learning_rate": 1e-2, "stop_loss": 0.0}
MODULES = {"gpt2": ["c_proj"], "llama": ["v_proj", "down_proj"], "opt-post": ["fc2"]}


def plain(lm, start, factors, requests, config):
    """Losses before each step, with the factors trained in place; ``start`` are the unedited weights by module."""
    leaves = [factor.requires_grad_(True) for pair in factors.values() for factor in pair]
    optimiser, losses = torch.optim.AdamW(leaves, lr=config.learning_rate, weight_decay=0.0), []
    for _ in range(config.steps):
        changed = {}
        for name, (down, up) in factors.items():
            weight = start[name] + config.alpha / config.rank * up @ down
            changed[f"{name}.weight"] = weight.T if is_transposed(lm.model.get_submodule(name)) else weight
        loss = 0.0
        for request in requests:
            prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
            ids = torch.tensor([[*prompt, *target[:-1]]])
            out = torch.func.functional_call(lm.model, changed, (), {"input_ids": ids}).logits[0, len(prompt) - 1 :]
            loss = loss + torch.nn.functional.cross_entropy(out, torch.tensor(target)) / len(requests)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize("architecture", MODULES)
def test_lora(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make_editor("lora", lm, modules=MODULES[architecture], layers=[0, 2], **SETTINGS)
    with editor._adapted() as adapters:
        factors = {name: tuple(f.detach().clone() for f in pair) for name, pair in adapters.items()}
    assert factors and all(".1." not in name for name in factors)
    start = {name: other.weight(f"{name}.weight").clone() for name in factors}
    for batch in (edits(5)[:3], edits(5)[3:]):
        found, losses = editor.edit(batch), plain(other, start, factors, batch, editor.config)
        for request in batch:
            assert found.losses[request.id] == pytest.approx(losses, rel=1e-7)
        for name, (down, up) in factors.items():
            wanted = (start[name] + 2.0 * up @ down).detach()
            assert torch.allclose(lm.weight(f"{name}.weight"), wanted, rtol=0, atol=1e-6)
    assert {name.removesuffix(".weight") for name in editor.ledger.changed_weights} == set(factors)


def test_the_model_is_left_as_it_was_found():
    lm = tiny_lm("llama")
    before, modules = weights(lm), [type(module) for module in lm.model.modules()]
    editor = make_editor("lora", lm, **SETTINGS)
    assert same(weights(lm), before)
    editor.edit(REQUESTS)
    assert [type(module) for module in lm.model.modules()] == modules and not hasattr(lm.model, "peft_config")
    assert weights(lm).keys() == before.keys()


def test_dropout_is_drawn_by_the_seed_and_the_number_of_batches():
    found = []
    for _ in range(2):
        editor = make_editor("lora", tiny_lm("llama"), **{**SETTINGS, "dropout": 0.5})
        torch.manual_seed(len(found))
        before = torch.random.get_rng_state()
        editor.edit(REQUESTS[:2])
        assert torch.equal(torch.random.get_rng_state(), before)
        found.append(logits(editor))
    assert torch.equal(*found)
    without = make_editor("lora", tiny_lm("llama"), **SETTINGS)
    without.edit(REQUESTS[:2])
    assert not torch.equal(logits(without), found[0])


def test_the_adapter_does_not_grow_and_only_adapters_are_restored(tmp_path):
    lm = tiny_lm("llama")
    editor = make_editor("lora", lm, ledger=Ledger(lm, tmp_path), **SETTINGS)
    sizes = []
    for request in REQUESTS:
        editor.edit([request])
        sizes.append(editor.footprint().host)
    assert len(set(sizes)) == 1 and sizes[0] > 0 and editor.state_beside_ledger() == {}
    with pytest.raises(ValueError, match="no adapter of rank 2"):
        editor.restore({"facts": torch.zeros(3)})
