"""Devices by name, and models whose weights are on none."""

import pytest
import torch

from editbench import LanguageModel
from editbench.foresight import check_device
from editbench.model.devices import check_in_memory, float64_device, in_float64, moved_to, usable_device
from editbench.model.loading import load_pretrained
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


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="for machines without an Apple GPU")
@pytest.mark.parametrize("refuse", [usable_device, check_device])
def test_an_apple_gpu_that_is_not_there_is_one_line(refuse):
    with pytest.raises(ValueError, match=r"device mps .* the GPU of an Apple computer, .* use auto or cpu$") as error:
        refuse("mps")
    assert "\n" not in str(error.value)


def test_auto_is_never_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == torch.device("cpu")


def test_float64_is_taken_where_it_exists():
    assert float64_device(torch.device("mps")) == torch.device("cpu")
    assert [float64_device(torch.device(name)).type for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    x = torch.arange(3.0)
    assert in_float64(x).dtype == torch.float64 and torch.equal(in_float64(x), x.double())
    assert moved_to(x.double(), x.bfloat16()).dtype == moved_to(x, x.bfloat16()).dtype == torch.bfloat16


def test_a_float64_model_on_an_apple_gpu_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr("editbench.model.loading.usable_device", torch.device)
    with pytest.raises(ValueError, match=r"device mps has no float64; give model.dtype=float32, or model.device=cpu"):
        load_pretrained("nowhere", "float64", "mps", None, None)


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
