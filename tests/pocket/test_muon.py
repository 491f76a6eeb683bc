"""Muon in float32 does what torch's own does in bfloat16."""

import torch

from editbench.pocket.muon import Muon, orthogonal


def test_matrices_become_nearly_orthogonal():
    torch.manual_seed(0)
    for shape in ((2, 16, 48), (2, 48, 16)):
        matrices = torch.randn(*shape)
        values = torch.linalg.svdvals(orthogonal(matrices))
        assert values.min() > 0.6 and values.max() < 1.3
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(orthogonal(matrices).flatten(1), (u @ v).flatten(1)).min() > 0.95


def test_weights_move_as_with_torchs_own():
    torch.manual_seed(0)
    start, gradients = torch.randn(16, 48), torch.randn(3, 16, 48)
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    ours = Muon(weights[:1], lr=0.01, weight_decay=0.1)
    theirs = torch.optim.Muon(weights[1:], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert (weights[0] - start).abs().max() > 0.01
    assert torch.allclose(*weights, atol=0.002)
