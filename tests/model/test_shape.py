"""Shapes: sizes from the config alone, and what a backward pass keeps, beside a pass of a real model."""

import pytest
import torch

from editbench.config import ModelConfig
from editbench.model.architectures import module_at, text_config
from editbench.model.shape import LOGITS, Shape
from tests.full_size import config_folder
from tests.tiny_models import tiny_lm


def test_a_folder_with_a_config_alone_is_enough(tmp_path):
    shape = Shape.of(ModelConfig(str(config_folder(tmp_path, "llama-3-8b")), dtype="bfloat16"))
    assert shape.parameters == 8_030_261_248 and shape.bytes == 2 * shape.parameters
    assert (shape.layers, shape.width, shape.vocabulary, shape.inputs(5)) == (32, 4096, 128_256, 14_336)
    assert shape.keys == 2 * 8 * 128 and shape.covariance(5) == 8 * 14_336**2
    assert shape.projections(0)["mlp.gate_proj"] == (4096, 14_336) and shape.projection(0, "first") == (4096, 14_336)
    assert shape.linear(["q_proj", "v_proj"], [3]) == [(4096, 4096), (4096, 1024)]
    assert len(shape.linear(["mlp.down_proj"])) == 32


def test_a_model_that_is_not_to_be_had_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at 'some/where': there is no such folder, and the hub"):
        Shape.of(ModelConfig("some/where"))
    with pytest.raises(FileNotFoundError, match="no model could be planned from"):
        Shape.of(ModelConfig(str(tmp_path)))


def saved_for_real(lm, tokens=12):
    """Bytes that a backward pass through the frozen decoder keeps, by token and layer."""
    own, kept = {p.untyped_storage()._cdata for p in lm.model.parameters()}, {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    lm.model.requires_grad_(False)
    entering = torch.zeros((1, tokens, lm.config.hidden_size), dtype=lm.model.dtype, requires_grad=True)
    decoder = module_at(lm.model, lm.architecture.decoder)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        decoder(inputs_embeds=entering, use_cache=False)
    return sum(s.nbytes() for place, s in kept.items() if place not in own) / tokens / lm.n_layers


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_backward_pass_keeps_is_that_of_a_real_one(name, dtype):
    lm = tiny_lm(name, dtype)
    shape = Shape.of_config(lm.config, dtype)
    assert shape.saved == pytest.approx(saved_for_real(lm), rel=0.15)
    assert text_config(shape.model)._attn_implementation == text_config(lm.model)._attn_implementation


def test_passes_take_more_with_tokens_layers_and_answers():
    shape = Shape.of_config(tiny_lm("llama").config, "float32")
    whole = shape.training(100, 10, 3)
    assert whole - shape.training(100, 10, 2) == pytest.approx(100 * shape.saved, abs=1)
    assert whole - shape.training(100, 0, 3) == LOGITS * 10 * shape.vocabulary * 4
    assert shape.training(100, 10, 3, beside=50) - whole == 50 * 3 * shape.keys * 4
    half = Shape.of_config(tiny_lm("llama").config, "bfloat16")
    assert half.working(0) == 4 * half.vocabulary * half.width  # its head, in float32
    assert shape.working(0) == 0 and shape.scoring(10) > shape.working(10) > 0
