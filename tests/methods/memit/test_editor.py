"""MEMIT beside the plain way of doing the same, and the values that it reaches, also behind norms."""

import pytest
import torch

from editbench import Resources, make_editor
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.values import optimise_values
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import ARCHITECTURES, LAYERS, NORMED, VALUE, agree, distances, make
from tests.oracles import locate as oracle
from tests.small_runs import architectures, covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_memit(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make("memit", lm, layers=LAYERS, covariance_weight=2.0)
    for batch in (edits(6)[:4], edits(6)[4:]):
        editor.edit(batch)
        oracle.memit(other, batch, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS)


@pytest.mark.parametrize("layers", [[1], [0, 1]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("architecture", architectures(["llama", *NORMED]))
def test_memit_reaches_its_values(architecture, count, layers):
    """With next to no C against it, and keys of the bare prompts alone, nothing but reach keeps H from Z."""
    lm, requests = tiny_lm(architecture, "float64", bos=True), edits(count)
    resources = {"templates": TEMPLATES[:1], "covariance": covariance(lm)}
    editor = make_editor("memit", lm, resources=Resources(**resources), layers=layers, covariance_weight=1e-6, **VALUE)
    values = optimise_values(lm, requests, TEMPLATES[:1], layers[-1], AT_LAYER, editor.config)
    targets = torch.stack([value.target for value in values], 1)
    begun = distances(lm, requests, targets, layers[-1])
    editor.edit(requests)
    assert bool((distances(lm, requests, targets, layers[-1]) < 0.01 * begun).all())


@pytest.mark.parametrize("layers", [[1, 2, 3, 4], [2, 4]], ids=["four", "apart"])
@pytest.mark.parametrize("architecture", architectures(NORMED))
def test_a_deep_model_reaches_its_values(architecture, layers):
    lm, requests = tiny_lm(architecture, "float64", bos=True, layers=6), edits(12)
    resources = Resources(templates=TEMPLATES[:1], covariance=covariance(lm))
    editor = make_editor("memit", lm, resources=resources, layers=layers, covariance_weight=1e-6, **VALUE)
    values = optimise_values(lm, requests, TEMPLATES[:1], layers[-1], AT_LAYER, editor.config)
    targets = torch.stack([value.target for value in values], 1)
    begun = distances(lm, requests, targets, layers[-1])
    editor.edit(requests)
    assert bool((distances(lm, requests, targets, layers[-1]) < 0.01 * begun).all())
