"""Matrices held in float32 in a model in half precision; and what is computed in float32 there in any case."""

import copy

import pytest
import torch

from editbench.locate_then_edit.covariance import compute_covariance
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.values import ValueConfig, optimise_values
from editbench.model.architectures import module_at
from editbench.model.held_dtype import hold
from editbench.model.hooks import hooked
from editbench.model.likelihood import Query, score_targets
from tests.small_runs import REQUESTS, TEMPLATES
from tests.tiny_models import LINES, tiny_lm

HALF = ["bfloat16", "float16"]


def held(architecture, dtype="bfloat16", layer=1):
    lm = tiny_lm(architecture, dtype)
    name = lm.mlp_out_name(layer)
    hold(lm, [name])
    return lm, name


def outputs(lm):
    ids = torch.tensor([lm.encode(LINES[0]).ids])
    return lm.hidden(ids, torch.ones_like(ids), torch.arange(ids.shape[1])[None])


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])  # gpt2 has a bias and a transposed weight
def test_the_product_is_that_of_the_float32_weight(architecture, dtype):
    lm, name = held(architecture, dtype)
    half, module = lm.model.dtype, lm.mlp_out(1)
    lm.weight(name).add_(1e-4 * torch.randn(lm.weight(name).shape))
    x = torch.randn(2, 3, lm.d_ff(1)).to(half)
    bias = getattr(module, "bias", None)
    wanted = x.double() @ lm.weight(name).double().T + (0 if bias is None else bias.double())
    out = module(x)
    assert (lm.weight(name).dtype, out.dtype, lm.model.dtype) == (torch.float32, half, half)
    assert torch.allclose(out.double(), wanted, rtol=torch.finfo(half).eps, atol=1e-6)  # rounded once, at the end
    exact = module(x.float())
    assert torch.allclose(exact.double(), wanted, rtol=1e-5, atol=1e-5)
    rounded = x.double() @ lm.weight(name).to(half).double().T + (0 if bias is None else bias.double())
    assert not torch.allclose(exact.double(), rounded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt-post", "gemma2"])
def test_an_unedited_model_answers_as_before(architecture):
    lm, _ = held(architecture)
    plain = tiny_lm(architecture, "bfloat16")
    assert torch.allclose(outputs(lm), outputs(plain), rtol=0.05, atol=0.05)
    assert lm.fingerprint == plain.fingerprint  # it is the same model
    assert lm.numerics != plain.numerics and "in float32" not in plain.numerics  # with caches of its own


@pytest.mark.parametrize("dtype", HALF)
def test_small_changes_add_up(dtype):
    sums = []
    for lm, name in (held("llama", dtype), (tiny_lm("llama", dtype), "model.layers.1.mlp.down_proj.weight")):
        weight = lm.weight(name)
        before, small = weight.double(), 1e-4 * weight.double()
        for _ in range(50):
            weight.add_(small.to(weight.dtype))
        sums.append(float((weight.double() - before).norm() / small.norm()))
    assert sums[0] == pytest.approx(50, rel=1e-2)
    assert sums[1] == 0.0


def test_gradients_reach_the_weight_and_what_is_before_it():
    lm, name = held("llama")
    module, x = lm.mlp_out(1), torch.randn(4, lm.d_ff(1)).bfloat16().requires_grad_()
    module.weight.requires_grad_(True)
    module(x).float().square().sum().backward()
    assert module.weight.grad.dtype == torch.float32 and x.grad.dtype == torch.bfloat16
    assert float(module.weight.grad.norm()) > 0 and float(x.grad.float().norm()) > 0


def test_a_copy_computes_with_its_own_weight():
    lm, name = held("llama")
    other = copy.deepcopy(lm.model)
    other.get_parameter(name).data.zero_()
    seen = []
    ids = torch.tensor([lm.encode(LINES[0]).ids])
    for model in (lm.model, other):
        with hooked(module_at(model, name.removesuffix(".weight")), seen.append), torch.no_grad():
            model(input_ids=ids)
    assert float(seen[0].norm()) > 0 and float(seen[1].norm()) == 0


def test_what_is_not_in_half_precision_is_left_alone_and_a_shared_weight_is_refused():
    lm, name = held("llama", "float32")
    assert lm.held == [] and "forward" not in vars(lm.mlp_out(1))
    tied = tiny_lm("gpt2", "bfloat16")
    with pytest.raises(ValueError, match="lm_head.weight is another module's weight too"):
        hold(tied, ["lm_head.weight"])
    lm, name = held("llama")
    forward = lm.mlp_out(1).forward
    hold(lm, [name])
    assert lm.held == [name] and lm.mlp_out(1).forward == forward


# -- in half precision, whatever is held ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF)
def test_likelihoods_are_those_of_a_float32_log_softmax(dtype):
    lm = tiny_lm("llama", dtype)
    prompt, target = lm.encode("Toko Yasuda plays the").ids, lm.continuation("guitar, they say")
    ids = torch.tensor([[*prompt, *target[:-1]]])
    hidden = lm.hidden(ids, torch.ones_like(ids), torch.arange(ids.shape[1])[None])[0, len(prompt) - 1 :]
    log_p = (hidden.double() @ lm.model.lm_head.weight.double().T).log_softmax(-1)
    wanted = -float(log_p[torch.arange(len(target)), target].mean())
    ((score,),) = score_targets(lm, [Query("Toko Yasuda plays the", ("guitar, they say",))])
    assert score.nll == pytest.approx(wanted, rel=1e-6)
    rounded = (hidden @ lm.model.lm_head.weight.T).log_softmax(-1)[torch.arange(len(target)), target].mean()
    assert abs(float(rounded) + wanted) > 1e-4  # what the model's own dtype would give


@pytest.mark.parametrize("dtype", HALF)
def test_values_are_optimised_in_float32(dtype):
    lm = tiny_lm("llama", dtype)
    settings = ValueConfig(steps=3, learning_rate=1e-4)
    (value,) = optimise_values(lm, REQUESTS[:1], TEMPLATES, 1, AT_LAYER, settings)
    assert {value.delta.dtype, value.target.dtype, value.init.dtype, value.keys.dtype} == {torch.float32}
    assert torch.equal(value.target, value.init + value.delta) and float(value.delta.norm()) > 0
    moved = (value.init + value.delta).to(lm.model.dtype) != value.init.to(lm.model.dtype)
    assert float(moved.float().mean()) < 0.9  # the model's dtype has no room for most of these steps


@pytest.mark.parametrize("dtype", HALF)
def test_covariance_is_summed_in_float64(dtype):
    lm, keys = tiny_lm("llama", dtype), []
    found = compute_covariance(lm, LINES[:1], [1])[1]
    with hooked(lm.mlp_out(1), lambda x: keys.append(x.reshape(-1, x.shape[-1]).double()), inputs=True):
        outputs(lm)
    (x,) = keys
    assert found.dtype == torch.float64
    assert torch.allclose(found, x.T @ x / len(x), rtol=1e-5, atol=1e-6 * float(found.abs().max()))


@pytest.mark.parametrize("architecture", ["gemma2", "opt-post"])
@pytest.mark.parametrize("dtype", HALF)
def test_norms_behind_mlps_are_computed_in_float32(architecture, dtype):
    """As the same norm with its parameters in float64."""
    lm = tiny_lm(architecture, dtype)
    norm = lm.post_norm(1)
    x = torch.randn(5, int(lm.config.hidden_size), generator=torch.Generator().manual_seed(0))
    wide = copy.deepcopy(norm.module).double()
    assert torch.allclose(norm(x).double(), wide(x.double()).double(), rtol=1e-5, atol=1e-5)
    assert next(norm.module.parameters()).dtype == lm.model.dtype
