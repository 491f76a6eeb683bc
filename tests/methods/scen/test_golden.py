"""SCEN against the published code's numbers: six edits in sequence, their experts, neurons and activations."""

import json
from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from editbench import EditRequest, LanguageModel, make_editor
from tests.golden_edits import FOLDER, furthest, relative

FORMAT = "[INST]{}[/INST]"


class Published(LanguageModel):
    """The published driver puts no space between "[/INST]" and the answer; here one stands before every target."""

    def continuation(self, text, spaced=True):
        before = self.encode("[/INST]").ids
        return self.encode(f"[/INST]{text}").ids[len(before) :]


class Recalled(nn.Module):
    """Takes the place of the embeddings: hidden states by everything that a row holds up to a token."""

    def __init__(self, tensors):
        super().__init__()
        self.table = {}
        hidden = tensors.pop("recalled.hidden")
        self.weight = hidden.new_zeros(1)
        ids, lengths = tensors.pop("recalled.ids").tolist(), tensors.pop("recalled.lengths").tolist()
        start = 0
        for length in lengths:
            for end in range(start + 1, start + length + 1):
                self.table[tuple(ids[start:end])] = hidden[end - 1]
            start += length
        self.padding = torch.zeros(hidden.shape[1])

    def forward(self, ids):
        rows = [[self.table.get(tuple(row[: t + 1]), self.padding) for t in range(len(row))] for row in ids.tolist()]
        return torch.stack([torch.stack(row) for row in rows])


@cache
def gold():
    data = json.loads((FOLDER / "scen-llama" / "data.json").read_text(encoding="utf-8"))
    return data, load_file(FOLDER / "scen-llama" / "tensors.safetensors")


def golden_llama():
    folder = FOLDER / "models" / "llama"
    tensors = load_file(folder / "top.safetensors")
    recalled = Recalled(tensors)
    model = LlamaForCausalLM(AutoConfig.from_pretrained(folder))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert missing == ["model.embed_tokens.weight"] and not unexpected
    model.model.embed_tokens = recalled
    lm = Published(model, AutoTokenizer.from_pretrained(folder), name="golden-llama")
    lm.runs_trees = False  # the recalled states need whole rows
    return lm


@pytest.mark.parametrize("at_once", [1, 6])
@pytest.mark.parametrize("batch", [1, 3, 6])
def test_scen(at_once, batch):
    data, tensors = gold()
    scen = make_editor(
        "scen",
        golden_llama(),
        layer=0,
        lr_after_first=1e-4,
        train_eos=True,
        edits_at_once=at_once,
        **data["config"],
    )
    edits = data["edits"]
    requests = [EditRequest(str(i), FORMAT.format(e["prompt"]), None, e["answer"]) for i, e in enumerate(edits)]
    scen.initial_neurons = {request.id: tensors[f"neuron.{request.id}.init"] for request in requests}
    for start in range(0, len(requests), batch):
        result = scen.edit(requests[start : start + batch])
        for request in requests[start : start + batch]:
            check(scen, request.id, edits[int(request.id)], result, tensors)
    found = scen.activations([FORMAT.format(row["prompt"]) for row in data["activations"]])
    wanted = torch.tensor([row["sigmoid"] for row in data["activations"]])
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert [bool(row.max() > scen.config.theta) for row in found] == [row["fires"] for row in data["activations"]]


def check(scen, id, wanted, result, tensors):
    details = result.details["edits"][id]
    assert furthest(result.losses[id], wanted["expert_losses"]) < 1e-5
    assert abs(details["loss"] - wanted["loss_after"]) < 1e-5
    assert furthest(details["neuron_losses"], wanted["neuron_losses"]) < 1e-5
    assert abs(details["activation"] - wanted["activations"][0]) < 1e-5
    neuron = scen.bank.neurons[scen.bank.ids.index(id)]
    assert relative(neuron, tensors[f"neuron.{id}.weight"]) < 1e-5
    if f"expert.{id}.delta" in tensors:
        delta = scen.bank.fetch(id).delta(torch.float32)
        assert relative(delta, tensors[f"expert.{id}.delta"]) < 1e-4
