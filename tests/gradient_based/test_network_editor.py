"""Editors with a network: which one they take, what they say without one, and what they refuse to edit."""

from pathlib import Path

import pytest
import torch

import editbench
from editbench import EditRecord, Resources, load_model, load_records, make_editor
from editbench.costs import NETWORK
from editbench.files import read_tensors
from tests.gradient_based.test_network_training import COMMON, RECORDS, SETTINGS
from tests.small_runs import REQUESTS, logits
from tests.tiny_models import tiny_lm

OTHERS = [RECORDS[0].request.__class__("x", "Lyon is a city in", "Lyon", "Spain")]


def editor_of(method, cache=None, records=RECORDS, **settings):
    known = {"load_training_records": lambda: records} if records else {}
    resources = Resources(cache=cache, dataset="counterfact", **known)
    settings = {**COMMON, "learning_rate": 1e-2, **SETTINGS[method], **settings}
    return make_editor(method, tiny_lm("gpt2"), resources=resources, **settings)


@pytest.mark.parametrize("method", list(SETTINGS))
def test_a_trained_network_is_found_by_what_it_was_trained_on(method, tmp_path):
    file = editor_of(method, tmp_path).train()
    assert editor_of(method, tmp_path).train() == file  # done before
    tensors, facts = read_tensors(file)
    editor = editor_of(method, tmp_path, network="trained", update_scale=0.5)
    state = editor.network.state_dict()
    assert all(
        torch.equal(state[name.removeprefix("network/")], t) for name, t in tensors.items() if "network/" in name
    )
    costs = editor.resources.costs
    assert costs.read[NETWORK] == facts["seconds"] and list(costs.digests) == [f"networks/{file.name}"]
    result = editor.edit(OTHERS)
    assert result.details["network"].startswith(f"networks/{file.name} ")
    untrained = editor_of(method, network="untrained", update_scale=0.5)
    untrained.edit(OTHERS)
    assert not torch.equal(logits(editor), logits(untrained))
    assert editor.footprint().host >= sum(p.numel() * 4 for p in editor.network.parameters())
    with pytest.raises(ValueError, match="another place|a cache"):
        editor_of(method).train()
    with pytest.raises(ValueError, match="method.network is 'trained'; a network is trained from 'untrained'"):
        editor.train()


def test_without_one_the_command_is_named(tmp_path):
    command = "editbench train method=mend model=tiny-gpt2 dataset=counterfact"
    for settings in ({}, {"records": RECORDS[:2]}, {"rank": 3}, {"layers": [0]}):
        with pytest.raises(ValueError, match=f"no network of MEND is known.*{command}") as error:
            editor_of("mend", tmp_path, network="trained", **settings)
        editor_of("mend", tmp_path).train() if not settings else None
        assert "method.network=untrained or a file" in str(error.value)


def test_a_file_is_taken_as_it_is_and_must_fit(tmp_path):
    file = editor_of("mend").train(str(tmp_path / "mine.safetensors"))
    editor = editor_of("mend", records=None, network=str(file))
    assert editor._network_name.startswith("networks/mine.safetensors ")
    with pytest.raises(ValueError, match="mine.safetensors is a network for other modules or settings"):
        editor_of("mend", network=str(file), rank=3)


def test_what_a_network_was_trained_on_is_not_edited(tmp_path):
    editor_of("rledit", tmp_path).train()
    editor = editor_of("rledit", tmp_path, network="trained")
    told = "RLEdit was trained on what record 'other' edits .training record 'b'"
    same = EditRecord(RECORDS[1].request.__class__("other", REQUESTS[1].prompt, REQUESTS[1].subject, "piano")).request
    for call in (editor.prepare, editor.edit):
        with pytest.raises(ValueError, match=told):
            call([same])
    assert editor.edit(OTHERS).applied == ["x"]
    assert not type(editor).prepares(editor.config)


@pytest.mark.parametrize("model", ["pocket", pytest.param("pocket-gpt2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", list(SETTINGS))
def test_the_package_has_networks_of_the_embedded_models(method, model):
    """Those of the settings by hand and the embedded training records, as a run looks for them."""
    records = load_records("counterfact", "pocket", split="train").records
    resources = Resources(load_training_records=lambda: records)
    editor = make_editor(method, load_model(model), resources=resources)
    assert editor._network_name.startswith(f"networks/{model}-counterfact.safetensors ")
    assert make_editor(method, editor.lm)._network_name == editor._network_name  # outside a run


def test_all_shipped_weights_are_small():
    root = Path(editbench.__file__).parents[1]
    files = [*(root / "methods").glob("*/networks/*.safetensors"), *(root / "editbench").rglob("*.safetensors")]
    assert files and sum(file.stat().st_size for file in files) <= 25e6
