"""Post norms: the norm between an MLP and its layer's output is found at load, and the way back through it."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from editbench import LanguageModel
from editbench.model.architectures import ArchitectureError
from editbench.model.post_norms import PostNorm
from tests.oracles import locate as oracle
from tests.tiny_models import LAYERS, TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer

NORMS = {"gemma2": "post_feedforward_layernorm", "gemma3": "post_feedforward_layernorm", "opt-post": "final_layer_norm"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_every_layer_is_known(architecture, dtype):
    lm = tiny_lm(architecture, dtype)
    found = [lm.post_norm(layer) for layer in range(LAYERS)]
    assert [norm and norm.path for norm in found] == [NORMS.get(architecture)] * LAYERS
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


class Unheard(LlamaForCausalLM):
    """An architecture that does with its MLPs' output what the test gives it, in the middle layer."""

    def __init__(self, behind):
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
        super().__init__(LlamaConfig(vocab_size=400, **sizes))
        self.model.layers[1].mlp.behind = behind
        mlp, forward = self.model.layers[1].mlp, self.model.layers[1].mlp.forward
        mlp.forward = lambda x: mlp.behind(forward(x))


class Scaled(nn.Module):
    """Multiplies."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def load(behind):
    torch.manual_seed(0)
    return LanguageModel(Unheard(behind), tiny_tokenizer())


@pytest.mark.parametrize(
    "behind",
    [Scaled(0.0), nn.ReLU(), nn.Linear(32, 32)],
    ids=["ignored", "cut", "mixed"],
)
def test_a_layer_that_changes_its_mlps_output_is_refused_by_name(behind):
    with pytest.raises(
        ArchitectureError, match=r"Unheard: layer 1 \(LlamaDecoderLayer\) .*mlp\.down_proj.*model\.architecture"
    ):
        load(behind)


@pytest.mark.parametrize("factor", [0.22, -1.0, 3.0])
def test_a_factor_is_found_and_its_way_back_is_exact(factor):
    scale, x = load(Scaled(factor)).post_norm(1), torch.randn(4, 32)
    assert scale.path == "mlp.down_proj" and scale.factor == pytest.approx(factor, rel=1e-5)
    assert torch.allclose(scale(scale.towards(x, x)), x) and torch.allclose(scale(x), factor * x, rtol=1e-4)
    assert load(Scaled(factor)).post_norm(0) is None


def test_an_architecture_that_is_in_no_table_may_have_a_norm_there():
    lm = load(nn.RMSNorm(32, eps=1e-5))
    assert [norm and norm.path for norm in map(lm.post_norm, range(3))] == [None, "mlp.behind", None]
    assert load(nn.Identity()).post_norm(1) is None


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0], ids=["there", "near", "far"])
@pytest.mark.parametrize("architecture", NORMS)
def test_the_way_back_is_the_nearest_that_the_norm_can_give(architecture, shift):
    lm = tiny_lm(architecture, "float64")
    norm, generator = lm.post_norm(1), torch.Generator().manual_seed(1)
    x, at = (torch.randn(5, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    y = norm(at) + shift * torch.randn(5, 32, generator=generator, dtype=torch.float64)
    found = norm.towards(x, y)
    for row in range(5):
        wanted = oracle.towards(norm.module, x[row], y[row])
        far, farther = (float((oracle.normalised(norm.module, z) - y[row]).norm()) for z in (found[row], wanted))
        assert far <= farther * (1 + 1e-6) + 1e-5
        if shift == 0:
            assert far < 1e-5 * float(y[row].norm())
        centre = architecture == "opt-post"
        assert float(found[row].std()) == pytest.approx(float(x[row].std()), rel=1e-6) or not centre
        assert float(found[row].norm()) == pytest.approx(float(x[row].norm()), rel=1e-6)


@pytest.mark.parametrize("module", [nn.LayerNorm(31), nn.RMSNorm(31), nn.LayerNorm(32, elementwise_affine=False)])
def test_norms_are_read_off_what_they_do(module):
    width = module.normalized_shape[0]
    norm = PostNorm("norm", module, torch.float32)
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    assert norm.is_norm(x)
    y = norm(x.flip(0))
    assert torch.allclose(norm(norm.towards(x, y)), y, atol=1e-4)
    assert not PostNorm("sum", nn.Linear(width, width), torch.float32).is_norm(x)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_norms_of_any_scale_are_read_off(size):
    for module, centred in ((nn.LayerNorm(32), 1), (nn.RMSNorm(32), 0)):
        module.weight.data.mul_(size)
        norm = PostNorm("norm", module, torch.float32)
        x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
        assert norm.is_norm(x) and norm._affine(x)[2] == centred


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_the_nearest_output_is_found_where_scales_differ_widely(kind):
    generator = torch.Generator().manual_seed(0)
    module = kind(8).double()
    module.weight.data = torch.logspace(-2, 2, 8, dtype=torch.float64)
    norm = PostNorm("norm", module, torch.float64)
    x, tries = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (3, 4000))
    for y in (10 * torch.randn(3, 8, generator=generator, dtype=torch.float64), norm(tries[:3])):
        far = (norm(norm.towards(x, y)) - y).norm(dim=-1)
        assert bool((far <= (norm(tries)[None] - y[:, None]).norm(dim=-1).amin(1) + 1e-4).all())


@pytest.mark.parametrize("size", [6, 7])  # of signs whose mean is zero, and of others
@pytest.mark.parametrize("centred", [True, False])
def test_scale_and_shift_are_those_of_the_module(size, centred):
    torch.manual_seed(0)
    module = nn.LayerNorm(size, eps=1e-12) if centred else nn.RMSNorm(size, eps=1e-12)
    module = module.double().requires_grad_(False)
    module.weight.uniform_(0.5, 2.0)
    shift = torch.zeros(size, dtype=torch.float64)
    if centred:
        shift = module.bias.uniform_(-1.0, 1.0)
    scale, moved, mean_goes = PostNorm("norm", module, torch.float64)._affine(torch.randn(2, size))
    assert torch.allclose(scale, module.weight, rtol=1e-9)
    assert torch.allclose(moved, shift) and mean_goes == centred
