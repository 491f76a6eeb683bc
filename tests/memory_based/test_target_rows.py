"""Rows from one layer on against the whole model. Training by them: SCEN's and GRACE's tests."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import TargetRows, prompt_inputs, wide
from editbench.model.hooks import hooked
from tests.edits import edits
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_loss_and_answers(architecture, layer):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in edits(5)]
    at = Projection.of(lm, layer, SECOND)
    data = TargetRows(lm, at, rows)
    with torch.no_grad():
        nll, best = data.nll()
    tokens = iter(best.tolist())
    for i, (prompt, answer) in enumerate(rows):
        seen = []
        with torch.no_grad(), hooked(at.module, seen.append, inputs=True):
            logits = lm.model(input_ids=torch.tensor([[*prompt, *answer[:-1]]]), use_cache=False).logits[0]
        log_p = logits[len(prompt) - 1 :].log_softmax(-1)
        assert float(-log_p[range(len(answer)), answer].mean()) == pytest.approx(float(nll[i]), rel=1e-4)
        assert [next(tokens) for _ in answer] == log_p.argmax(-1).tolist()
        x = seen[0].reshape(-1, at.d_in)
        assert torch.allclose(data.own_inputs(i), x, rtol=1e-4, atol=1e-5)
        assert torch.allclose(data.at_prompt[i], x[len(prompt) - 1], rtol=1e-4, atol=1e-5)
    assert len(data) == 5
    found = prompt_inputs(lm, at, [prompt for prompt, _ in rows])
    assert torch.allclose(found, data.at_prompt, rtol=1e-4, atol=1e-5)


def test_a_change_in_a_higher_layer_is_seen():
    lm = tiny_lm("llama", "float64")
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in edits(2)]
    data = TargetRows(lm, Projection.of(lm, 0, SECOND), rows)
    with torch.no_grad():
        plain, _ = data.nll()
        changed, _ = data.nll(hooked(lm.mlp_out(2), lambda y: 2 * y), highest=2)
        with hooked(lm.mlp_out(2), lambda y: 2 * y):
            wanted, _ = TargetRows(lm, Projection.of(lm, 2, SECOND), rows).nll(highest=2)
    assert torch.allclose(changed, wanted) and not torch.allclose(changed, plain)


def test_training_is_in_float32_or_wider():
    assert (wide(torch.bfloat16), wide(torch.float32), wide(torch.float64)) == (
        torch.float32,
        torch.float32,
        torch.float64,
    )
