"""The side memory against the plain way: whole model, one row at a time, autograd."""

import pytest
import torch

from editbench.memory_based.projection import Projection
from editbench.methods.wise import WISEConfig
from editbench.methods.wise.rows import EditRows
from editbench.methods.wise.training import train_memory
from tests.golden_edits import furthest, relative
from tests.methods.wise.test_rows import rows_of
from tests.oracles import wise as oracle
from tests.tiny_models import tiny_lm

SETTINGS = {"steps": 4, "learning_rate": 0.5, "weight_decay": 0.01, "alpha": 0.2, "beta": 2.0, "gamma": 1.0}


def trained(lm, at, start=None, mask_ratio=0.4, **settings):
    rows, irrelevant = rows_of(lm)
    base = lm.weight(at.weight)
    mask = torch.rand(base.shape, generator=torch.Generator().manual_seed(0)) < mask_ratio
    config = WISEConfig(**{**SETTINGS, "norm_bound": 0.3, **settings})
    data = EditRows(lm, at, rows, irrelevant)
    return train_memory(at, data, base, base if start is None else start, mask, config, None), mask


@pytest.mark.parametrize(("architecture", "projection"), [("gpt2", "first"), ("gpt2", "second"), ("llama", "second")])
def test_an_edit(architecture, projection):
    lm = tiny_lm(architecture, "float64")
    at = Projection.of(lm, 1, projection)
    found, mask = trained(lm, at)
    rows, irrelevant = rows_of(lm)
    wanted, losses = oracle.train(lm, at, rows, irrelevant, mask, 4, 0.5, 0.01, (0.2, 2.0, 1.0), 0.3)
    delta = found.weight - lm.weight(at.weight)
    assert furthest([sum(pair) for pair in found.losses], losses) < 1e-6
    assert relative(delta, wanted) < 1e-6
    assert bool((delta[~mask] == 0).all()) and float(delta.abs().max()) <= 0.3 + 1e-12
    assert found.score == pytest.approx(oracle.score(lm, at, delta, rows[0][0]))


def test_published_decay_reaches_what_the_mask_keeps():
    lm = tiny_lm("gpt2", "float64")
    at = Projection.of(lm, 1, "second")
    found, mask = trained(lm, at, rules="published", steps=1)
    base = lm.weight(at.weight)
    assert torch.allclose(found.weight[~mask], base[~mask] * (1 - 0.5 * 0.01))


def test_training_stops_where_nothing_changes(monkeypatch):
    lm = tiny_lm("gpt2", "float64")
    at = Projection.of(lm, 1, "second")
    base, losses = lm.weight(at.weight), [pair for pair in trained(lm, at)[0].losses]
    monkeypatch.setattr("editbench.methods.wise.training.LOSS_CHANGE", 1e9)
    assert len(trained(lm, at)[0].losses) == 4  # still large
    monkeypatch.setattr("editbench.methods.wise.training.LOSS_BOUND", 1e9)
    found, _ = trained(lm, at)
    assert found.losses == losses[:2] and not torch.equal(found.weight, base)  # without the second step
    published, _ = trained(lm, at, rules="published")
    assert len(published.losses) == 3  # it asks before it notes a step's own loss
