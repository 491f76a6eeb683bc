"""Fisher information and penalty beside the plain formulas."""

import pytest
import torch

from editbench.methods.finetune.consolidation import ROW_TOKENS, Consolidation
from tests.tiny_models import LINES, tiny_lm


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_fisher_information_is_the_mean_squared_gradient_of_texts(architecture):
    lm = tiny_lm(architecture, "float64")
    parameter = lm.mlp_out(1).weight.requires_grad_(True)
    found = Consolidation(lm, [parameter], ["", *LINES], 10_000)
    wanted = torch.zeros_like(parameter)
    for line in LINES:
        ids = torch.tensor(lm.encode(line).ids[:ROW_TOKENS])
        loss = torch.nn.functional.cross_entropy(lm.model(input_ids=ids[None, :-1]).logits[0], ids[1:])
        wanted += torch.autograd.grad(loss, [parameter])[0].square() / len(LINES)
    assert torch.allclose(found.fisher[0], wanted, rtol=1e-6, atol=0)
    moved = (parameter + 2).detach()
    assert float(found.penalty([moved])) == pytest.approx(float(2 * wanted.sum()))
    assert float(found.penalty([parameter.detach()])) == 0


def test_texts_are_read_as_far_as_the_tokens_go():
    lm = tiny_lm("gpt2")
    parameter, read = lm.mlp_out(0).weight.requires_grad_(True), []

    def texts():
        for line in LINES:
            read.append(line)
            yield line

    Consolidation(lm, [parameter], texts(), len(lm.encode(LINES[0]).ids) + 1)
    assert read == list(LINES[:2])
    with pytest.raises(ValueError, match="needs plain texts"):
        Consolidation(lm, [parameter], [""], 10)
