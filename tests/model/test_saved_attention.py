"""The attention that keeps what a fused one keeps."""

import torch

from editbench.model import saved_attention
from editbench.model.saved_attention import saving_attention
from tests.tiny_models import tiny_lm


def test_queries_keys_values_and_the_output_are_kept():
    kept = []
    q, k = (torch.zeros(1, heads, 5, 8, requires_grad=True) for heads in (4, 2))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape), lambda _: None):
        out, weights = saved_attention._attend(torch.nn.Identity(), q, k, k + 0, None, scaling=1.0)
    assert out.shape == (1, 5, 4, 8) and weights is None
    assert kept == [q.shape, k.shape, k.shape, out.shape]


def test_the_model_attends_as_before_afterwards():
    lm = tiny_lm("llama")
    ids = torch.tensor([[5, 6, 7]])
    before, own = lm.model(ids).logits, lm.config._attn_implementation
    with saving_attention(lm.config):
        assert lm.config._attn_implementation == saved_attention.NAME
    assert lm.config._attn_implementation == own and torch.equal(lm.model(ids).logits, before)
