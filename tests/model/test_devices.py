"""Devices by name, and models whose weights are on none."""

import pytest
import torch

from editbench import LanguageModel
from editbench.model.devices import check_in_memory, usable_device
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("name", ["auto", "cpu", "CPU", " cpu "])
def test_names_of_devices(name):
    assert usable_device(name).type in ("cpu", "cuda" if name == "auto" else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("name", [0, "0", "cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_one_line(name):
    with pytest.raises(
        ValueError, match=f"device {name} cannot be used here .* finds 0 GPUs: use auto or cpu"
    ) as error:
        usable_device(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "message"), [("gpu", "unknown device 'gpu'"), ("meta", "has no memory")])
def test_what_is_no_device_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        usable_device(name)


@pytest.mark.parametrize(
    ("away", "message"),
    [
        ("model.layers.1.mlp", r"3 weights of big are offloaded .*\(model.layers.1.mlp.gate_proj, .*model.dtype"),
        ("lm_head", r"1 weights of big are offloaded .*\(lm_head\)"),
        ("model.embed_tokens", r"1 weights of big are offloaded .*\(model.embed_tokens\)"),
        ("model.layers.2", r"weights of big are offloaded .*\(model.layers.2.self_attn.q_proj, .* more\)"),
    ],
)
def test_offloaded_weights_are_named(away, message):
    lm = tiny_lm("llama")
    check_in_memory(lm.model, "whole")
    lm.model.get_submodule(away).to("meta")
    with pytest.raises(ValueError, match=message):
        LanguageModel(lm.model, lm.tokenizer, name="big")
