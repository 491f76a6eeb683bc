"""Gate and side network against the plain way, and as a state."""

import pytest
import torch

from editbench.memory_based.projection import Projection
from editbench.memory_based.target_rows import TargetRows
from editbench.methods.defer import DeferConfig
from editbench.methods.defer.networks import Networks, train
from tests.golden_edits import furthest, relative
from tests.oracles import defer as oracle
from tests.oracles.grace import query
from tests.small_runs import PROMPTS, REQUESTS, architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("architecture", architectures([a for a in TINY_ARCHITECTURES if not a.startswith("opt")]))
def test_training(architecture):
    lm = tiny_lm(architecture, "float64")  # some of the gate's gradients nearly cancel: float32 has no sign for them
    at, rates = Projection.of(lm, 1, "second"), (0.02, 0.1)
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in REQUESTS[:3]]
    start = Networks.initial(at, 4, 0, lm.weight(at.weight))
    keys = [query(lm, at.module, prompt) for prompt, _ in rows]
    others = [query(lm, at.module, lm.encode(prompt).ids) for prompt in (PROMPTS[4], "Rivers")]
    config = DeferConfig(layer=1, width=4, steps=5, learning_rate=rates[0], gate_learning_rate=rates[1])
    found, losses = train(start, at, TargetRows(lm, at, rows), torch.stack(others), config)
    wanted, of_it = oracle.train(lm, at.module, rows, keys, others, start.tensors.values(), 5, rates)
    assert furthest(losses.mean(1).tolist(), of_it) < 1e-4
    for part, plain in zip(found.tensors.values(), wanted, strict=True):
        assert relative(part, plain) < 1e-3
    opens = [float(oracle.gate_of(found.gate, key.to(found.gate))) for key in keys]
    assert furthest(found.opens(torch.stack(keys)).tolist(), opens) < 1e-5


def test_at_the_start_nothing_is_added_and_the_gate_is_undecided():
    at = Projection.of(tiny_lm(), 1, "second")
    start = Networks.initial(at, 3, 0, torch.zeros(1))
    assert start.a.shape == (at.d_in, 3) and start.a.any()
    assert start.b.shape == (3, at.d_out) and not start.b.any()
    assert start.opens(torch.randn(2, at.d_in)).tolist() == [0.5, 0.5]


def test_a_state_has_the_shapes_of_the_layer():
    at = Projection.of(tiny_lm(), 1, "second")
    own, other = (Networks.initial(at, width, 0, torch.zeros(1)) for width in (3, 4))
    assert torch.equal(Networks.of(own.tensors, own).a, own.a)
    with pytest.raises(ValueError, match="not the state of a gate and a side network"):
        Networks.of(other.tensors, own)
