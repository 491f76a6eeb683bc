"""Values that are trained together against the plain way: whole model, one edit, autograd."""

import pytest
import torch

from editbench.memory_based.projection import Projection
from editbench.memory_based.target_rows import TargetRows
from editbench.methods.grace import GRACEConfig
from editbench.methods.grace.training import initial_values, replaced_tokens, train_values
from tests.edits import edits
from tests.golden_edits import furthest, relative
from tests.oracles import grace as oracle
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


def rows_of(lm, count=4):
    return [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in edits(count)]


@pytest.mark.parametrize("replacement", ["last", "prompt", "all"])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_values(architecture, replacement):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    rows = rows_of(lm)
    config = GRACEConfig(layer=1, projection="second", steps=4, learning_rate=0.1, replacement=replacement)
    data = TargetRows(lm, Projection.of(lm, 1, "second"), rows)
    start = initial_values(data, [f"edit-{i}" for i in range(len(rows))], 0, config)
    values, losses = train_values(data, start, config)
    module = oracle.projection(lm, 1, "second")
    for i, (prompt, answer) in enumerate(rows):
        assert torch.allclose(data.at_prompt[i], oracle.query(lm, module, prompt), rtol=1e-4, atol=1e-5)
        wanted, of_it = oracle.train_value(lm, module, prompt, answer, start[i], 4, 0.1, replacement)
        assert furthest(losses[i], of_it) < 1e-4 and relative(values[i], wanted) < 1e-3


@pytest.mark.parametrize("layer", [0, 2])
def test_the_first_projection_and_the_last_layer(layer):
    lm = tiny_lm("gpt2", "float64")
    rows = rows_of(lm, 2)
    config = GRACEConfig(layer=layer, projection="first", steps=3, learning_rate=0.1)
    data = TargetRows(lm, Projection.of(lm, layer, "first"), rows)
    start = initial_values(data, ["a", "b"], 0, config)
    values, losses = train_values(data, start, config)
    module = oracle.projection(lm, layer, "first")
    for i, (prompt, answer) in enumerate(rows):
        wanted, of_it = oracle.train_value(lm, module, prompt, answer, start[i], 3, 0.1)
        assert furthest(losses[i], of_it) < 1e-6 and relative(values[i], wanted) < 1e-6


def test_starts():
    lm = tiny_lm("llama")
    at = Projection.of(lm, 1, "second")
    data = TargetRows(lm, at, rows_of(lm, 2))
    cold = GRACEConfig()
    one = initial_values(data, ["a", "b"], 0, cold)
    assert torch.equal(one, initial_values(data, ["a", "b"], 0, cold)) and 0 <= float(one.min()) <= float(one.max()) < 1
    assert not torch.equal(one, initial_values(data, ["a", "b"], 1, cold)) and not torch.equal(one[0], one[1])
    warm = initial_values(data, ["a", "b"], 0, GRACEConfig(value_init="warm"))
    with torch.no_grad():
        assert torch.equal(warm, at.module(data.at_prompt))


def test_replaced_tokens():
    columns, ends = torch.arange(4)[None], torch.tensor([[1], [2]])
    published = {"last": [[1], [2]], "prompt": [[0], [0, 1]], "all": [[0, 1, 2, 3]] * 2}
    for replacement, wanted in published.items():
        found = replaced_tokens(columns, ends, replacement, "published")
        assert [row.nonzero()[:, 0].tolist() for row in found] == wanted
    found = replaced_tokens(columns, ends, "prompt", "sound")
    assert [row.nonzero()[:, 0].tolist() for row in found] == [[0, 1], [0, 1, 2]]
