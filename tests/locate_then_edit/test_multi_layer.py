"""Writing into several layers: a transform of each layer's update, beside plain oracles, and its rollback."""

import pytest
import torch

from editbench import Ledger
from editbench.ledger import Dense, LowRank
from editbench.locate_then_edit.multi_layer import EditKeys, write_layers
from tests.edits import TEMPLATES, edits
from tests.oracles import locate as oracle
from tests.tiny_models import tiny_lm

LAYERS = [0, 1]
KEPT = 0.4
ARCHITECTURES = ("gpt2", "llama", "gemma2")


def covariance(lm):
    generator, out = torch.Generator().manual_seed(0), {}
    for layer in LAYERS:
        x = torch.randn(lm.d_ff(layer), 200, generator=generator, dtype=torch.float64)
        out[layer] = x @ x.T / 100
    return out


def goals(lm, requests):
    """Z (d, n): hidden states with a seeded vector added."""
    hidden = oracle.hidden(lm, requests, LAYERS[-1])
    return hidden + 0.3 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1), dtype=hidden.dtype)


def write(lm, requests, targets, transform=None, ledger=None):
    matrices = covariance(lm)

    def solve(layer, keys):
        return torch.linalg.solve(matrices[layer] + keys.double() @ keys.double().T, keys.double())

    ledger = ledger or Ledger(lm)
    with ledger.transaction([r.id for r in requests]) as transaction:
        write_layers(EditKeys.of(lm, requests, TEMPLATES, LAYERS), targets, solve, lm, transaction, transform)
    return ledger


def keep_largest(weight, update):
    """RECT: of ΔW, the share of numbers with the largest |ΔW / W|."""
    ratio = (update / weight).abs()
    least = ratio.flatten().sort(descending=True).values[round(KEPT * ratio.numel()) - 1]
    return torch.where(ratio >= least, update, torch.zeros_like(update))


def weights(lm):
    return [lm.weight(lm.mlp_out_name(layer)).clone() for layer in LAYERS]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_identity_gives_the_low_rank_result(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    requests = edits(4)
    plain = write(other, requests, goals(other, requests))
    dense = write(lm, requests, goals(lm, requests), lambda weight, update: update)
    assert all(isinstance(change, LowRank) for change in plain.entries[0].changes)
    assert all(isinstance(change, Dense) for change in dense.entries[0].changes)
    for ours, theirs in zip(weights(lm), weights(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_sparse_update_agrees_with_the_oracle(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    requests, matrices = edits(4), covariance(lm)
    targets, kept = goals(other, requests), round(KEPT * 32 * 48)
    ledger = write(lm, requests, goals(lm, requests), keep_largest)
    for done, layer in enumerate(LAYERS):
        keys = oracle.keys(other, requests, TEMPLATES, layer)
        residual = oracle.share(other, requests, layer, LAYERS[-1], len(LAYERS) - done, targets)
        update = residual @ torch.linalg.inv(matrices[layer] + keys @ keys.T).mm(keys).T
        weight = other.weight(other.mlp_out_name(layer))
        order = sorted(
            ((i, j) for i in range(32) for j in range(48)), key=lambda at: -abs(float(update[at] / weight[at]))
        )
        for at in order[kept:]:
            update[at] = 0
        weight.add_(update)
        assert int((ledger.delta(lm.mlp_out_name(layer)) != 0).sum()) == kept
    for ours, theirs in zip(weights(lm), weights(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_transformed_update_is_rolled_back_to_the_bit(architecture, dtype):
    lm = tiny_lm(architecture, dtype, bos=True)
    before, seen, requests = weights(lm), [], edits(4)

    def look(weight, update):
        seen.append((weight.dtype, update.dtype, weight.shape, update.shape))
        weight.zero_()  # a copy: the model keeps its own
        return update * 0.5

    ledger = write(lm, requests[:2], goals(lm, requests[:2]), look)
    once = weights(lm)
    write(lm, requests[2:], goals(lm, requests[2:]), look, ledger)
    assert set(seen) == {(torch.float32, torch.float32, (32, 48), (32, 48))}
    assert not any(torch.equal(a, b) for a, b in zip(weights(lm), once, strict=True))
    ledger.rollback(1)
    assert all(torch.equal(a, b) for a, b in zip(weights(lm), once, strict=True))
    ledger.rollback(0)
    assert all(torch.equal(a, b) for a, b in zip(weights(lm), before, strict=True))
