"""SCEN on a tiny model, with neurons that fire on their own prompt alone."""

import torch

from editbench import EditRequest, make_editor
from tests.tiny_models import tiny_lm

LAYER = 1
SUBJECTS = ["Danielle Darrieux", "Toko Yasuda", "Marcel Maupoil", "Edwin", "Anaal Nathrakh", "Autonomous University"]
REQUESTS = [
    EditRequest(f"edit {i}/ü", f"The mother tongue of {subject} is", subject, target)
    for i, (subject, target) in enumerate(
        zip(SUBJECTS, ["English", "Polish", "Russian", "Italian", "French", "Spanish"], strict=True)
    )
]
IDS = [request.id for request in REQUESTS]
DENSE = 32 * 48 * 4  # bytes of an expert of the tiny model


def scen(lm=None, **options):
    """An editor whose neurons are as good as given, each for one prompt alone; its answers end by themselves."""
    defaults = {"layer": LAYER, "learning_rate": 0.02, "neuron_learning_rate": 1e-9, "train_eos": True}
    editor = make_editor("scen", lm or tiny_lm(), **(defaults | options))
    inputs = editor.inputs([request.prompt for request in REQUESTS])
    given = torch.linalg.pinv(inputs) @ (torch.eye(len(REQUESTS), dtype=inputs.dtype) * 8 - 4)  # (d_ff, 6)
    editor.initial_neurons = dict(zip(IDS, given.T, strict=True))
    return editor


def answers(editor):
    return editor.generate([request.prompt for request in REQUESTS], max_new_tokens=4)


def logits(editor, prompt):
    ids = editor.lm.encode(prompt).ids
    with torch.no_grad(), editor.answering([len(ids) - 1]):
        return editor.lm.model(input_ids=torch.tensor([ids])).logits


def full_at(at, write):
    """``write`` on a disk that is full at its call number ``at``, from 0."""
    calls = []

    def full(*args):
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        calls.append(args)
        return write(*args)

    return full
