"""An adapter of PEFT is merged, or refused with its file and what in it does not fit."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from editbench.methods.external_weights.adapter import CONFIG, PICKLE, WEIGHTS
from tests.methods.external_weights.test_editor import REQUESTS, editor_of
from tests.tiny_models import tiny_lm

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def save_adapter(folder, kind="LoraConfig", **settings):
    """Save an adapter of the tiny Llama with random weights; the model with it."""
    import peft

    settings = settings or {"r": 2, "target_modules": ["down_proj"], "init_lora_weights": False}
    wrapped = peft.get_peft_model(tiny_lm("llama").model, getattr(peft, kind)(**settings))
    wrapped.save_pretrained(folder)
    return wrapped


def set_config(folder, **changes):
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def set_keys(folder, change):
    """Save the adapter's tensors under the keys that ``change`` makes of theirs; None leaves one out."""
    tensors = {change(key): tensor for key, tensor in load_file(folder / WEIGHTS).items()}
    save_file({key: tensor for key, tensor in tensors.items() if key is not None}, folder / WEIGHTS)


def test_an_adapter_without_peft_is_refused(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install editbench\[peft\]"):
        editor_of(tiny_lm("gpt2"), tmp_path).prepare(REQUESTS)


@needs_peft
def test_an_adapter_is_merged(tmp_path):
    wanted = save_adapter(tmp_path / "adapter").merge_and_unload()
    lm = tiny_lm("llama")
    changed = editor_of(lm, tmp_path / "adapter").edit(REQUESTS).details["changed_weights"]
    assert changed == [lm.mlp_out_name(layer) for layer in range(lm.n_layers)]
    for name, parameter in wanted.named_parameters():
        assert torch.equal(lm.model.get_parameter(name), parameter), name


@needs_peft
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda key: key.replace("model.layers", "x.layers"),
            f"{WEIGHTS} holds keys that are no part of the model: .*x.layers.0.mlp.down_proj.lora_A.weight, .* 3 more",
        ),
        (
            lambda key: None if "layers.0" in key else key,
            f"{WEIGHTS} lacks keys that {CONFIG} asks for: .*layers.0.mlp.down_proj.lora_A.*; give the adapter",
        ),
    ],
    ids=["renamed", "partial"],
)
def test_keys_that_do_not_fit_are_named(tmp_path, change, message):
    save_adapter(tmp_path)
    set_keys(tmp_path, change)
    lm = tiny_lm("llama")
    with pytest.raises(ValueError, match=message):
        editor_of(lm, tmp_path).edit(REQUESTS)
    assert lm.fingerprint == tiny_lm("llama").fingerprint


@needs_peft
def test_sizes_that_do_not_fit_are_told_with_the_folder(tmp_path):
    save_adapter(tmp_path)
    set_config(tmp_path, r=4)
    with pytest.raises(ValueError, match=f"adapter {tmp_path} does not fit tiny-llama: .*size mismatch") as error:
        editor_of(tiny_lm("llama"), tmp_path).edit(REQUESTS)
    assert "\n" not in str(error.value)


@needs_peft
def test_an_adapter_of_another_base_is_warned_of(tmp_path, caplog):
    save_adapter(tmp_path)
    for base, warned in (("org/Tiny-Llama", False), ("org/other", True)):
        set_config(tmp_path, base_model_name_or_path=base)
        editor_of(tiny_lm("llama"), tmp_path).edit(REQUESTS)
        assert (f"names the base model {base}" in caplog.text) is warned


@needs_peft
def test_what_cannot_be_merged_is_refused_before_the_first_edit(tmp_path):
    def refused(message):
        with pytest.raises(ValueError, match=message):
            editor_of(tiny_lm("llama"), tmp_path).prepare(REQUESTS)

    save_adapter(tmp_path, "PromptTuningConfig", num_virtual_tokens=2, task_type="CAUSAL_LM")
    refused(f"{CONFIG} is of the kind PROMPT_TUNING, which lies beside the weights")
    save_adapter(tmp_path)
    editor_of(tiny_lm("llama"), tmp_path).prepare(REQUESTS)
    tensors = load_file(tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).unlink()
    refused(rf"adapter {tmp_path} has no weights \({WEIGHTS}\) beside {CONFIG}")
    torch.save(tensors, tmp_path / PICKLE)
    refused(f"its weights in {PICKLE}, a pickle, which can run code; save them as safetensors")
    set_config(tmp_path, peft_type="FOO")
    refused(f"{CONFIG} says peft_type 'FOO', which peft .* does not know")
    (tmp_path / CONFIG).write_text("{")
    refused(f"{tmp_path / CONFIG} cannot be read as JSON")
