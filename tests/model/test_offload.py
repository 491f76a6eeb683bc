"""Models with offloaded weights: asked, edited where the weights are in memory, and refused where they are not."""

import re

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

from editbench import LanguageModel
from editbench.model.likelihood import Query, score_targets
from editbench.model.offload import check_in_memory, device_of, in_memory, is_offloaded, stored_tensors
from tests.small_runs import PROMPTS, REQUESTS, SETTINGS, each, editor_of, logits, save_model
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

QUERIES = [Query(r.prompt, (r.target, r.target_true)) for r in REQUESTS]
LOWER = {method: {"layers": [0, 1]} for method in ("melo", "ultraedit", "rledit", "lora")}
"""Settings with which a method leaves the last layer alone."""
ABOVE = ("model.layers.2", "model.norm", "lm_head")


def partly(lm, folder, away=ABOVE):
    """The tiny Llama with some modules on disk, the others in memory."""
    names = ["model.embed_tokens", "model.rotary_emb", *(f"model.layers.{i}" for i in range(3)), *ABOVE[1:]]
    places = {name: "disk" if name in away else "cpu" for name in names}
    return LanguageModel(dispatch_model(lm.model, places, offload_dir=folder), lm.tokenizer, name="partly")


def everything(how):
    def offloaded(lm, folder):
        model = cpu_offload(lm.model) if how == "memory" else disk_offload(lm.model, folder)
        return LanguageModel(model, lm.tokenizer, name="away")

    return offloaded


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "offload", [everything("memory"), everything("disk"), partly], ids=["memory", "disk", "partly"]
)
def test_an_offloaded_model_answers_with_the_same_bits(tmp_path, offload, dtype):
    lm, away = tiny_lm("llama", dtype), offload(tiny_lm("llama", dtype), tmp_path)
    assert is_offloaded(away.model.lm_head) and away.model.lm_head.weight.is_meta
    assert score_targets(away, QUERIES) == score_targets(lm, QUERIES)
    assert away.generate(PROMPTS) == lm.generate(PROMPTS)
    assert (away.fingerprint, away.device) == (lm.fingerprint, lm.device)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_every_architecture_can_be_offloaded(tmp_path, architecture):
    lm, away = tiny_lm(architecture), everything("disk")(tiny_lm(architecture), tmp_path)
    assert away.architecture == lm.architecture and away.runs_trees == lm.runs_trees
    assert score_targets(away, QUERIES) == score_targets(lm, QUERIES)
    assert away.fingerprint == lm.fingerprint


@pytest.mark.parametrize("method", each(SETTINGS, fast=("rome", "scen", "in_context")))
def test_layers_in_memory_are_edited_with_the_same_bits(tmp_path, method):
    """The edited layers are in memory, those above them on disk."""
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed")
    whole = editor_of(method, tiny_lm("llama"), **LOWER.get(method, {}))
    away = editor_of(method, partly(tiny_lm("llama"), tmp_path), **LOWER.get(method, {}))
    unedited = logits(away)
    for editor in (whole, away):
        editor.prepare(REQUESTS)
        editor.edit(REQUESTS[:2])
        editor.edit(REQUESTS[2:])
    assert torch.equal(logits(away), logits(whole))
    assert away.ledger.digest() == whole.ledger.digest()
    away.ledger.rollback()
    assert torch.equal(logits(away), unedited)


@pytest.mark.parametrize(
    ("method", "away"),
    [("rome", "model.layers.1"), ("scen", "model.layers.1"), ("memit", "model.layers.0")]
    + [pytest.param("lora", "model.layers.2", marks=pytest.mark.slow), ("finetune", "model.layers.1")],
)
def test_an_offloaded_layer_is_not_edited_and_the_error_names_it(tmp_path, method, away):
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed")
    lm = partly(tiny_lm("llama"), tmp_path, (away,))
    with pytest.raises(ValueError, match=rf"^{re.escape(away)}\.\S+ of partly is offloaded .*model\.device=cpu"):
        editor_of(method, lm)


def test_what_is_stored_is_read_without_bringing_it_in(tmp_path):
    lm, away = tiny_lm("llama"), partly(tiny_lm("llama"), tmp_path)
    stored = dict(stored_tensors(away.model))
    assert all(torch.equal(stored[name], tensor) for name, tensor in lm.model.state_dict().items())
    assert torch.equal(in_memory(away.model.lm_head), lm.model.lm_head.weight)
    assert device_of(away.model.lm_head) == torch.device("cpu")
    assert device_of(away.layers[2]) == torch.device("cpu")
    assert away.model.lm_head.weight.is_meta and away.layers[2].mlp.down_proj.weight.is_meta


@pytest.mark.parametrize("architecture", ["llama", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_spread_leaves_on_disk_what_has_no_room(tmp_path, monkeypatch, architecture):
    lm = tiny_lm(architecture)
    room = sum(parameter.nbytes for parameter in lm.model.parameters()) * 3 // 4
    monkeypatch.setattr("transformers.integrations.accelerate.get_max_memory", lambda given=None: {"cpu": room})
    away = LanguageModel.load(save_model(lm, tmp_path), device="spread")
    assert "disk" in away.model.hf_device_map.values() and away.layers[2].input_layernorm.weight.is_meta
    assert away.generate(PROMPTS) == lm.generate(PROMPTS) and away.fingerprint == lm.fingerprint


@pytest.mark.parametrize(
    ("away", "message"),
    [
        ("model.layers.1.mlp", r"3 weights of big are on no device .*\(model.layers.1.mlp.gate_proj, .*load it"),
        ("lm_head", r"1 weights of big are on no device .*\(lm_head\)"),
        ("model.layers.2", r"weights of big are on no device .*\(model.layers.2.self_attn.q_proj, .* more\)"),
    ],
)
def test_weights_that_are_nowhere_are_named(away, message):
    lm = tiny_lm("llama")
    check_in_memory(lm.model, "whole")
    lm.model.get_submodule(away).to("meta")
    with pytest.raises(ValueError, match=message):
        LanguageModel(lm.model, lm.tokenizer, name="big")
